"""Campaigns: one experiment under many seeds, in parallel, resumable; failures are told apart by their anomalies."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from harness.errors import HistoryError, MissingError, SplitbrainError, UsageError, field
from harness.experiment import Experiment
from harness.verdict import Verdict

AHEAD: Final = 4
"""How many seeds are handed to the executor before the first of them is done, for each worker."""
_DIED: Final = "the process that ran it died"


class SeedResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of one seed: ``signatures`` name its kinds of anomalies, ``directory`` holds a run that did not pass.

    ``code`` is the fingerprint of the code that it is an outcome of. A run that broke is ``unknown``, and ``reason``
    says what broke it.
    """

    seed: int
    validity: str
    reason: str = ""
    signatures: tuple[str, ...] = ()
    directory: str = ""
    code: str = ""


Files = Mapping[str, bytes]
"""A run's directory as it travels between machines: contents by relative path."""
RunSeed = Callable[[Experiment, Path], tuple[Verdict, Path]]
"""Runs an experiment below a folder, and gives its verdict and its directory. Must be importable by workers."""
Connect = Callable[[], AbstractContextManager[Executor]]
"""Makes the executor that runs seeds; made again when a seed has killed one of its processes."""


def signatures(verdict: Verdict) -> tuple[str, ...]:
    """The kinds of anomalies that each checker found, as words: ``linearizable: stale read``."""
    kinds = {f"{name}: {anomaly.kind}" for name, part in verdict.parts.items() for anomaly in part.anomalies}
    kinds |= {f"{name}: invalid" for name, p in verdict.parts.items() if p.validity == "invalid" and not p.anomalies}
    return tuple(sorted(kinds))


def run_one(run: RunSeed, experiment: Experiment, below: Path | None) -> tuple[SeedResult, Files]:
    """Run one seed in a folder of its own, below one or in the worker's temporary one.

    The files of a run that did not pass come along. A run that breaks is an outcome like any other, ``unknown``, but
    for what every other seed would meet as well: ``UsageError`` and ``MissingError`` are raised.
    """
    with tempfile.TemporaryDirectory(prefix="splitbrain-hunt-", dir=below) as folder:
        try:
            verdict, directory = run(experiment, Path(folder))
        except (Exception, SystemExit) as error:
            if isinstance(error, UsageError | MissingError) and not isinstance(error, HistoryError):
                raise
            return _broken(experiment.seed, error, Path(folder))
        outcome = SeedResult(experiment.seed, verdict.validity, verdict.reason[:500], signatures(verdict))
        return outcome, {} if verdict.validity == "valid" else _files(directory)


def _broken(seed: int, error: BaseException, folder: Path) -> tuple[SeedResult, Files]:
    """The outcome of a run that broke, and what it had written below a folder."""
    reason = str(error) if isinstance(error, SplitbrainError) else f"{type(error).__name__}: {error}"
    directory = next((path for path in sorted(folder.iterdir()) if path.is_dir()), folder)
    # The sentence names the directory where the run went on; what is kept of it has another place.
    reason = reason.replace(f"; the run's directory is {directory}", "")
    return SeedResult(seed, "unknown", reason[:500]), _files(directory)


def _files(directory: Path) -> Files:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


class Campaign:
    """The seeds of one experiment and what came of them, kept in ``directory`` so that it can be resumed.

    ``code`` is the fingerprint of the code that runs them: outcomes of other code do not count, and are ``outdated``.
    """

    def __init__(self, experiment: Experiment, directory: Path, code: str = "") -> None:
        self.experiment = replace(experiment, seed=0)
        self.directory = directory
        self.code = code
        self._results = directory / "results.jsonl"
        self._running = directory / "running"
        self.outcomes: dict[int, SeedResult] = {}
        self.outdated: dict[int, SeedResult] = {}
        self._begin()

    @staticmethod
    def name(experiment: Experiment) -> str:
        """A folder name that is the same for the same experiment, whatever its seed."""
        digest = hashlib.sha256(msgspec.json.encode(replace(experiment, seed=0))).hexdigest()[:8]
        return f"{experiment.title}-{digest}"

    def _begin(self) -> None:
        kept = self.directory / "experiment.json"
        encoded = msgspec.json.format(msgspec.json.encode(self.experiment)) + b"\n"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if kept.exists() and kept.read_bytes() != encoded:
                raise UsageError(
                    f"{self.directory} holds a campaign of another experiment; name another {field('directory')}"
                )
            kept.write_bytes(encoded)
        except OSError as error:
            raise UsageError(f"the campaign's directory {self.directory} cannot be made: {error.strerror}") from None
        self.tidy()
        if self._results.exists():
            for line in self._results.read_bytes().splitlines():
                try:
                    outcome = msgspec.json.decode(line, type=SeedResult)
                except msgspec.MsgspecError:
                    continue  # the line that a killed campaign was writing
                (self.outcomes if outcome.code == self.code else self.outdated)[outcome.seed] = outcome
        self.outdated = {seed: old for seed, old in self.outdated.items() if seed not in self.outcomes}

    def run(
        self,
        seeds: Iterable[int],
        run: RunSeed,
        connect: Connect,
        workers: int,
        *,
        ahead: int = AHEAD,
        elsewhere: bool = False,
    ) -> Generator[SeedResult, None, None]:
        """Run the seeds that were not run yet, and give each outcome as it is known.

        Unless the workers are ``elsewhere``, on machines without this directory, runs go on inside it, so that a
        campaign that is killed leaves nothing anywhere else. Close the iterator to stop at once.
        """
        below = None if elsewhere else self._running

        def submit(executor: Executor, seed: int) -> Future[tuple[SeedResult, Files]]:
            return executor.submit(run_one, run, replace(self.experiment, seed=seed), below)

        left = deque(seed for seed in seeds if seed not in self.outcomes)
        while left:
            busy: dict[Future[tuple[SeedResult, Files]], int] = {}
            self._make_room()
            try:
                with connect() as executor:
                    while left or busy:
                        while left and len(busy) < workers * ahead:
                            busy[submit(executor, left[0])] = left[0]
                            left.popleft()
                        done, _ = wait(busy, return_when=FIRST_COMPLETED)
                        for future in done:
                            result = future.result()
                            del busy[future]
                            yield self._keep(*result)
            except BrokenExecutor:
                # One of them has taken a worker down, and all that were under way with it: each has another try alone.
                for seed in sorted(busy.values()):
                    yield self._keep(*self._alone(seed, submit, connect))

    def _alone(
        self, seed: int, submit: Callable[[Executor, int], Future[tuple[SeedResult, Files]]], connect: Connect
    ) -> tuple[SeedResult, Files]:
        self._make_room()
        try:
            with connect() as executor:
                return submit(executor, seed).result()
        except BrokenExecutor:
            folder = next(self._running.iterdir(), self._running)
            return _broken(seed, SplitbrainError(_DIED), folder)

    def _make_room(self) -> None:
        """An empty folder for runs that go on."""
        self.tidy()
        self._running.mkdir()

    def tidy(self) -> None:
        """Remove what runs that never ended have left; no worker may be busy any more."""
        shutil.rmtree(self._running, ignore_errors=True)

    def _keep(self, outcome: SeedResult, files: Files) -> SeedResult:
        directory = self.directory / f"seed-{outcome.seed}"
        shutil.rmtree(directory, ignore_errors=True)  # of a run of other code
        if files:
            for name, data in files.items():
                path = directory / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            outcome = replace(outcome, directory=str(directory))
        outcome = replace(outcome, code=self.code)
        self.outcomes[outcome.seed] = outcome
        self.outdated.pop(outcome.seed, None)
        with self._results.open("ab") as file:
            file.write(msgspec.json.encode(outcome) + b"\n")
        return outcome

    def groups(self, seeds: Iterable[int]) -> list[list[SeedResult]]:
        """The outcomes of these seeds that are not valid, together those in which the same was found, in order.

        Those that are unknown for the same reason, whatever figures it mentions, are together as well. The largest
        group comes first.
        """
        groups: dict[tuple[str, ...], list[SeedResult]] = {}
        for seed in sorted(seeds):
            outcome = self.outcomes.get(seed)
            if outcome is not None and outcome.validity != "valid":
                alike = outcome.signatures or (outcome.validity, re.sub(r"\d+(\.\d+)?", "#", outcome.reason))
                groups.setdefault(alike, []).append(outcome)
        return sorted(groups.values(), key=len, reverse=True)
