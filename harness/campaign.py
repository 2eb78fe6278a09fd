"""Campaigns: one experiment under many seeds, in parallel, resumable; failures are told apart by their anomalies."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from pathlib import Path

import msgspec
from msgspec.structs import replace

from harness.errors import UsageError
from harness.experiment import Experiment
from harness.verdict import Verdict

_AHEAD = 4
"""How many seeds are handed to the executor before the first of them is done, for each worker."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of one seed: ``signatures`` name its kinds of anomalies, ``directory`` holds the run if it failed."""

    seed: int
    validity: str
    reason: str = ""
    signatures: tuple[str, ...] = ()
    directory: str = ""


Files = Mapping[str, bytes]
"""A run's directory as it travels between machines: contents by relative path."""
RunSeed = Callable[[Experiment, Path], tuple[Verdict, Path]]
"""Runs an experiment below a folder, and gives its verdict and its directory. Must be importable by workers."""


def signatures(verdict: Verdict) -> tuple[str, ...]:
    """The kinds of anomalies that each checker found, as words: ``linearizable: stale read``."""
    found = {f"{name}: {anomaly.kind}" for name, part in verdict.parts.items() for anomaly in part.anomalies}
    found |= {f"{name}: invalid" for name, p in verdict.parts.items() if p.validity == "invalid" and not p.anomalies}
    return tuple(sorted(found))


def run_one(run: RunSeed, experiment: Experiment, below: Path | None) -> tuple[Outcome, Files]:
    """Run one seed in a folder of its own, below one or in the worker's temporary one.

    The files of a run that did not pass come along.
    """
    with tempfile.TemporaryDirectory(prefix="splitbrain-hunt-", dir=below) as folder:
        verdict, directory = run(experiment, Path(folder))
        outcome = Outcome(experiment.seed, verdict.validity, verdict.reason[:500], signatures(verdict))
        if verdict.validity == "valid":
            return outcome, {}
        files = {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}
        return outcome, files


class Campaign:
    """The seeds of one experiment and what came of them, kept in ``directory`` so that it can be resumed."""

    def __init__(self, experiment: Experiment, directory: Path) -> None:
        self.experiment = replace(experiment, seed=0)
        self.directory = directory
        self._results = directory / "results.jsonl"
        self._running = directory / "running"
        self.outcomes: dict[int, Outcome] = {}
        self._begin()

    @staticmethod
    def name(experiment: Experiment) -> str:
        """A folder name that is the same for the same experiment, whatever its seed."""
        digest = hashlib.sha256(msgspec.json.encode(replace(experiment, seed=0))).hexdigest()[:8]
        return f"{Path(experiment.target.partition(':')[0]).stem}-{experiment.workload}-{digest}"

    def _begin(self) -> None:
        kept = self.directory / "experiment.json"
        mine = msgspec.json.format(msgspec.json.encode(self.experiment)) + b"\n"
        if kept.exists() and kept.read_bytes() != mine:
            raise UsageError(f"{self.directory} holds a campaign of another experiment; name another --directory")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"the campaign's directory {self.directory} cannot be made: {error.strerror}") from None
        kept.write_bytes(mine)
        self.tidy()
        if self._results.exists():
            for line in self._results.read_bytes().splitlines():
                try:
                    outcome = msgspec.json.decode(line, type=Outcome)
                except msgspec.MsgspecError:
                    continue  # the line that a killed campaign was writing
                self.outcomes[outcome.seed] = outcome

    def run(
        self, seeds: Iterable[int], run: RunSeed, executor: Executor, workers: int, *, elsewhere: bool = False
    ) -> Iterator[Outcome]:
        """Run the seeds that were not run yet, and give each outcome as it is known.

        Unless the workers are ``elsewhere``, on machines without this directory, runs go on inside it, so that a
        campaign that is killed leaves nothing anywhere else.
        """
        below = None if elsewhere else self._running
        if below is not None:
            below.mkdir(exist_ok=True)
        left = iter([seed for seed in seeds if seed not in self.outcomes])
        running: set[Future[tuple[Outcome, Files]]] = set()
        try:
            while True:
                for seed in left:
                    running.add(executor.submit(run_one, run, replace(self.experiment, seed=seed), below))
                    if len(running) >= workers * _AHEAD:
                        break
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield self._keep(*future.result())
        finally:
            for future in running:
                future.cancel()

    def tidy(self) -> None:
        """Remove what runs that never ended have left; no worker may be busy any more."""
        shutil.rmtree(self._running, ignore_errors=True)

    def _keep(self, outcome: Outcome, files: Files) -> Outcome:
        if files:
            directory = self.directory / f"seed-{outcome.seed}"
            for name, data in files.items():
                path = directory / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            outcome = replace(outcome, directory=str(directory))
        self.outcomes[outcome.seed] = outcome
        with self._results.open("ab") as file:
            file.write(msgspec.json.encode(outcome) + b"\n")
        return outcome

    def groups(self) -> dict[tuple[str, ...], list[Outcome]]:
        """The outcomes that are not valid, by what was found; each group in the order of seeds."""
        found: dict[tuple[str, ...], list[Outcome]] = {}
        for _, outcome in sorted(self.outcomes.items()):
            if outcome.validity != "valid":
                found.setdefault(outcome.signatures or (outcome.validity,), []).append(outcome)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))
