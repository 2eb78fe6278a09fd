"""A hunt: which seeds are run where, and what has come of them."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event

from harness.assembly import NOTHING, assemble, check_environment_name, choose_environment, refuse_missing_programs
from harness.campaign import AHEAD, Campaign, RunSeed, SeedResult
from harness.conduct import simulate
from harness.errors import UsageError, field
from harness.executors import connect, size
from harness.experiment import Experiment
from harness.fingerprint import fingerprint
from harness.isolated import run_in_a_process
from harness.own import Own
from harness.plain_files import write_whole
from harness.run_directory import RunDirectory
from harness.verdict import EXIT_CODES, Validity, Verdict


class Hunt:
    """One experiment under seeds 0 to ``seeds`` - 1, as far as they were run; ``go`` runs those that were not.

    Results are kept in ``directory``, which is named after the experiment where none is given; another hunt of the same
    experiment goes on from there. Raises ``UsageError`` and ``MissingError`` for what every seed would meet.
    """

    def __init__(
        self,
        experiment: Experiment,
        seeds: int,
        directory: Path | None = None,
        executor: str | None = None,
        own: Own = NOTHING,
    ) -> None:
        if seeds < 1:
            raise UsageError(f"{field('seeds', seeds)}: a hunt has one seed or more")
        parts = assemble(experiment, own)
        check_environment_name(experiment.environment)
        if experiment.environment != "auto":
            parts.suit(experiment, parts.environment(experiment))
        if choose_environment(experiment.environment, experiment.image)[0] == "local":
            refuse_missing_programs(parts.target)
        self.experiment = experiment
        self.seeds = range(seeds)
        self.interrupted = False
        """Whether it ended before all seeds were run, and not for a failure that it was to stop at."""
        self._simulated = experiment.environment == "simulation"
        cores = os.cpu_count() or 1
        self._executor = executor or (f"processes:{cores}" if self._simulated else "threads:1")
        self._workers = size(self._executor) or cores
        folder = directory or Path("hunts") / Campaign.name(experiment)
        self._campaign = Campaign(experiment, folder, fingerprint(experiment))

    @property
    def directory(self) -> Path:
        """Where results are kept, and the runs that did not pass."""
        return self._campaign.directory

    @property
    def outcomes(self) -> list[SeedResult]:
        """What has come of the seeds, as far as they were run, in their order."""
        return [self._campaign.outcomes[seed] for seed in self.seeds if seed in self._campaign.outcomes]

    @property
    def outdated(self) -> int:
        """How many of the seeds were run by other code, and are to be run again."""
        return sum(seed in self.seeds for seed in self._campaign.outdated)

    @property
    def groups(self) -> list[list[SeedResult]]:
        """What did not pass, together where the same was found; the largest group first."""
        return self._campaign.groups(self.seeds)

    @property
    def validity(self) -> Validity:
        """Invalid if any seed is; else unknown if any is, or none was run, or the hunt was interrupted; else valid."""
        kinds = {outcome.validity for outcome in self.outcomes}
        if self.interrupted or not kinds:
            kinds.add("unknown")
        return "invalid" if "invalid" in kinds else "unknown" if "unknown" in kinds else "valid"

    @property
    def exit_code(self) -> int:
        """What the command line ends with."""
        return EXIT_CODES[self.validity]

    def go(self) -> Generator[SeedResult, None, None]:
        """Run the seeds that were not run yet, and give each result as it is known. Close it to stop at once."""
        stopped = Event()

        @contextmanager
        def connected() -> Iterator[Executor]:
            with connect(self._executor) as executor:
                try:
                    yield executor
                except BaseException:
                    stopped.set()
                    raise

        run: RunSeed = run_directly if self._simulated else run_in_a_process
        if not self._simulated and self._executor.startswith("threads"):
            # A thread is waited for; the run in it is aborted. Processes are killed, and their runs with them.
            run = partial(run_in_a_process, stopped=stopped)
        try:
            yield from self._campaign.run(
                self.seeds,
                run,
                connected,
                self._workers,
                # A real run takes long: none waits behind another one.
                ahead=AHEAD if self._simulated else 1,
                elsewhere=self._executor.startswith("dask"),
            )
        finally:
            self._campaign.tidy()

    @property
    def report(self) -> Path:
        """The page that shows every seed, once it was written."""
        return RunDirectory(self.directory).report

    def write_report(self) -> str:
        """Write the page, and the report of the first run of each group, where it has none: the others are alike.

        Why one could not be written, in a sentence; empty if all were. What was found does not depend on it.
        """
        from harness.report import write_report_again
        from harness.report.hunt_page import hunt_page

        try:
            for directory in (RunDirectory(Path(group[0].directory)) for group in self.groups if group[0].directory):
                if directory.verdict.is_file() and not directory.report.is_file():
                    write_report_again(directory.path)
            write_whole(self.report, hunt_page(self).encode())
        except Exception as error:
            return f"the report of the hunt could not be made: {type(error).__name__}: {error}"
        return ""


def run_directly(experiment: Experiment, runs: Path) -> tuple[Verdict, Path]:
    """Run a simulated experiment in this process, without a report: whoever hunts wants few of them."""
    outcome = simulate(experiment, runs)
    return outcome.verdict, outcome.directory
