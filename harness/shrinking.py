"""Shrinking: from a failing simulated run to the few faults and operations that it takes to fail.

The run becomes an explicit timetable, from which parts are left out as long as what remains still fails: delta
debugging (Zeller & Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002). Whatever is left out changes
what happens afterwards, so every candidate is tried with several seeds, which decide latencies and elections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from harness.experiment import Experiment
from harness.history import MONITOR_PROCESS, NEMESIS_PROCESS, History
from harness.periods import HEAL, START, fault_action
from harness.timetable import Fault, Planned, Timetable
from harness.verdict import Verdict
from harness.words import count

SEEDS: Final = 6
"""How many seeds a candidate is tried with."""
_MARGIN: Final = 0.5
"""Seconds of operations that a shrunk run goes on after its last step."""
_GAP: Final = (0.05, 0.3, 1.0)
"""Seconds to which pauses between two steps are cut, the shortest that still fails."""


def timetable_of(history: History, workers: int) -> Timetable:
    """What was done in a run and when: faults by their plans, operations by their workers."""
    started: dict[str, tuple[float, Any]] = {}
    faults, healed = [], float(history.time[-1]) / 1e9 if len(history) else 0.0
    for event in history.special(NEMESIS_PROCESS):
        at, (action, name) = event.time / 1e9, fault_action(event.f)
        if event.type != "invoke":
            continue
        if action == HEAL:
            healed = at
            break
        if action == START:
            started[name] = (at, event.value)
        elif name in started:
            begun, plan = started.pop(name)
            faults.append(Fault(name, begun, at, plan or {}))
    faults += [Fault(name, begun, healed, plan or {}) for name, (begun, plan) in started.items()]
    operations = history.operations()
    steps = [
        Planned(
            float(history.time[operations.invoked[row]]) / 1e9,
            int(operations.process[row]) % workers,
            operations.name(row),
            operations.key_name(row),
            operations.argument(row),
        )
        for row in range(len(operations))
    ]
    last_observed = [e.time / 1e9 for e in history.special(MONITOR_PROCESS) if e.f == "recovered"]
    end = last_observed[0] if last_observed else healed
    return Timetable(
        tuple(sorted(faults, key=lambda fault: fault.start)),
        tuple(step for step in steps if step.at < end),
        tuple(step for step in steps if step.at >= end),
    )


@dataclass
class Shrinker:
    """Finds smaller experiments that still fail, within ``seconds``.

    An experiment fails if one of ``checkers`` calls it invalid. ``best`` is the smallest so far, None before any has
    failed; it stays when the search is interrupted.
    """

    checkers: frozenset[str]
    seconds: float
    say: Callable[[str], None] = lambda _: None
    tried: int = 0
    best: Experiment | None = None
    _run: Callable[[Experiment], Verdict] = field(init=False)
    _began: float = field(default_factory=time.monotonic)

    def shrink(
        self, run: Callable[[Experiment], Verdict], experiment: Experiment, history: History, verdict: Verdict
    ) -> Experiment | None:
        """The smallest experiment that was found; None if not even the explicit timetable of the run has failed.

        ``run`` runs an experiment and gives its verdict.
        """
        self._run = run
        best = self._attempt(_with(experiment, timetable_of(history, experiment.concurrency)), seeds=4 * SEEDS)
        if best is None:
            return None
        best = self._keep_only(best, verdict)
        before: Timetable | None = None
        while before != best.timetable and not self.is_over():
            before = best.timetable
            best = self._less(best, "faults")
            best = self._less(best, "operations")
            best = self._less(best, "final")
            best = self._sooner(best)
        self._simpler(best)
        return self.best

    def is_over(self) -> bool:
        """Whether its time is."""
        return time.monotonic() - self._began > self.seconds

    def _attempt(self, candidate: Experiment, seeds: int = SEEDS) -> Experiment | None:
        """The candidate with a seed with which it fails."""
        for seed in _near(candidate.seed, seeds):
            if self.is_over():
                return None
            self.tried += 1
            seeded = replace(candidate, seed=seed)
            parts = self._run(seeded).parts
            if any(name in self.checkers and part.validity == "invalid" for name, part in parts.items()):
                self.best = seeded
                self.say(describe(seeded))
                return seeded
        return None

    def _keep_only(self, best: Experiment, verdict: Verdict) -> Experiment:
        """Leave out at once what has nothing to do with the anomalies: other keys, and what came after them."""
        timetable = best.timetable
        assert timetable is not None
        # What is about the store as a whole names no key to keep.
        for anomaly in sorted(verdict.anomalies, key=lambda anomaly: anomaly.key is None)[:5]:
            operations = tuple(operation for operation in timetable.operations or () if operation.key == anomaly.key)
            final = tuple(operation for operation in timetable.final if operation.key == anomaly.key)
            ends = [witness.ret or witness.call for witness in anomaly.operations]
            end = max(ends, default=0) / 1e9 + 0.001
            for candidate in (
                Timetable(
                    tuple(fault for fault in timetable.faults if fault.start < end),
                    tuple(operation for operation in operations if operation.at <= end),
                    (),
                ),
                Timetable(timetable.faults, operations, final),
            ):
                if (failing := self._attempt(_with(best, candidate))) is not None:
                    return failing
        return best

    def _less(self, best: Experiment, what: str) -> Experiment:
        """Leave out parts of one field of the timetable: halves first, then smaller and smaller chunks."""
        timetable = best.timetable
        assert timetable is not None
        items: Sequence[Any] = getattr(timetable, what) or ()
        size = len(items)
        while size >= 1 and items:
            at = 0
            while at < len(items) and not self.is_over():
                fewer = (*items[:at], *items[at + size :])
                candidate = _with(best, replace(timetable, **{what: fewer}))
                if (failing := self._attempt(candidate)) is not None:
                    best, items = failing, fewer
                    timetable = best.timetable
                    assert timetable is not None
                else:
                    at += size
            size //= 2
        return best

    def _sooner(self, best: Experiment) -> Experiment:
        """Cut the pauses between steps, all at once or each by itself."""
        for gap in _GAP:
            assert best.timetable is not None
            moments = sorted(_moments(best.timetable))
            shorter = _with(best, _moved(best.timetable, _squeeze(moments, gap)))
            if shorter.time < 0.9 * best.time and (failing := self._attempt(shorter)) is not None:
                return failing
        for number in range(len(moments)):
            assert best.timetable is not None
            moments = sorted(_moments(best.timetable))
            shorter = _with(best, _moved(best.timetable, _squeeze(moments, _GAP[0], only=number)))
            if shorter.time < 0.9 * best.time and (failing := self._attempt(shorter)) is not None:
                best = failing
        return best

    def _simpler(self, best: Experiment) -> Experiment | None:
        """Fewer clients: workers are numbered anew, each keeping its node."""
        timetable = best.timetable
        assert timetable is not None
        workers = sorted({operation.worker for operation in (*(timetable.operations or ()), *timetable.final)})
        numbers: dict[int, int] = {}
        for worker in workers:
            free = (n for n in range(worker % best.nodes, best.concurrency, best.nodes) if n not in numbers.values())
            numbers[worker] = next(free)

        def renumbered(steps: Sequence[Planned]) -> tuple[Planned, ...]:
            return tuple(replace(step, worker=numbers[step.worker]) for step in steps)

        fewer = replace(timetable, operations=renumbered(timetable.operations or ()), final=renumbered(timetable.final))
        clients = max(numbers.values(), default=0) + 1
        return self._attempt(replace(_with(best, fewer), concurrency=clients))


def describe(experiment: Experiment) -> str:
    """How large an experiment with a timetable is."""
    timetable = experiment.timetable
    assert timetable is not None
    operations = len(timetable.operations or ()) + len(timetable.final)
    size = [(len(timetable.faults), "fault"), (operations, "operation"), (experiment.concurrency, "client")]
    return f"{', '.join(count(number, noun) for number, noun in size)}, {experiment.time:.1f} s"


def _with(experiment: Experiment, timetable: Timetable) -> Experiment:
    """The experiment with this timetable, and as long as it takes."""
    return replace(experiment, timetable=timetable, time=round(max(_moments(timetable), default=0.0) + _MARGIN, 3))


def _moments(timetable: Timetable) -> Iterator[float]:
    yield from (operation.at for operation in timetable.operations or ())
    for fault in timetable.faults:
        yield fault.start
        yield fault.stop


def _squeeze(moments: Sequence[float], gap: float, only: int | None = None) -> dict[float, float]:
    """Each moment as it is after pauses longer than ``gap`` were cut to it, or ``only`` the one before a moment."""
    new: dict[float, float] = {}
    before = now = 0.0
    for number, moment in enumerate(moments):
        pause = moment - before
        now += min(pause, gap) if only in (None, number) else pause
        before = moment
        new[moment] = round(now, 6)
    return new


def _moved(timetable: Timetable, new: dict[float, float]) -> Timetable:
    operations = tuple(replace(operation, at=new[operation.at]) for operation in timetable.operations or ())
    faults = tuple(replace(fault, start=new[fault.start], stop=new[fault.stop]) for fault in timetable.faults)
    return replace(timetable, operations=operations, faults=faults)


def _near(seed: int, count: int) -> Iterator[int]:
    """The seed itself, then others."""
    yield seed
    yield from (other for other in range(count) if other != seed)
