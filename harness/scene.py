"""What happened around an anomaly: its operations and those beside them, the faults and the primaries meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from harness.broken_axis import BrokenAxis
from harness.columns import Ints
from harness.history import INFO, NEVER, TYPES, Operations
from harness.packed import TRANSACTION
from harness.periods import Period
from harness.roles import PRIMARY, Sighting
from harness.verdict import Anomaly, Witness
from harness.words import asks, key_named, named, operation, show

_STEPS: Final = 16
"""The most micro-operations of a transaction that are written out."""
_ELEMENTS: Final = 12
"""The most elements of a list that are."""
_LOOKED_AT: Final = 20_000
"""The most transactions in the time of an anomaly that are looked through for those on its keys."""
_RELATED: Final = 12
"""The most operations of an anomaly between which it is said which came before which."""
_SILENCE: Final = 2_000_000_000
"""Nanoseconds between two signs of a primary after which it is not drawn as one any more."""


class Act(NamedTuple):
    """An operation of a scene. ``mark`` names it, if the anomaly rests on it: T35 or A.

    ``link`` is the index of its invocation, where that is known.
    """

    op: Witness
    mark: str
    link: int | None

    @property
    def words(self) -> str:
        """What it did."""
        return in_words(self.op)


class Before(NamedTuple):
    """Something leads from one operation of an anomaly to another, by their numbers, and why."""

    source: int
    target: int
    why: str


class Reign(NamedTuple):
    """A node said again and again, from ``start`` to ``end`` (ns), that it is primary, in ``term`` if it told."""

    node: str
    term: int | None
    start: int
    end: int


@dataclass(frozen=True)
class Scene:
    """An anomaly and what was around it. ``others`` are operations beside ``acts``, a sample of ``beside``."""

    anomaly: Anomaly
    axis: BrokenAxis
    acts: Sequence[Act]
    others: Sequence[Act]
    beside: int
    faults: Sequence[Period]
    reigns: Sequence[Reign]
    orders: Sequence[Before]
    """Which operation was over before which began, as few as say it all."""
    seen: Sequence[Before]
    """Which operation shows what which one had written; the edges of a cycle."""


class Scenes:
    """The scenes of one run's anomalies."""

    def __init__(self, operations: Operations, periods: Sequence[Period], sightings: Sequence[Sighting]) -> None:
        self._operations = operations
        self._periods = periods
        self._reigns = reigns(sightings)
        history = operations.history
        self._row = np.full(len(history), -1, dtype=np.int64)
        self._row[operations.invoked] = np.arange(len(operations))
        done = operations.completed >= 0
        self._row[operations.completed[done]] = np.flatnonzero(done)
        self._keys = {repr(key): code for code, key in enumerate(history.keys)}
        index = history.index
        self._event = None if index is None else {int(number): at for at, number in enumerate(index)}

    def scene(self, anomaly: Anomaly, most: int = 300) -> Scene | None:
        """What was around an anomaly, with at most so many other operations; None if it rests on no operations."""
        if not anomaly.operations:
            return None
        rows = [self._of(op) for op in anomaly.operations]
        acts = [
            Act(op, mark(anomaly, number), None if row is None else self._link(row))
            for number, (op, row) in enumerate(zip(anomaly.operations, rows, strict=True))
        ]
        start = min(op.call for op in anomaly.operations)
        end = max(op.call if op.ret is None else op.ret for op in anomaly.operations)
        around = max((end - start) // 8, 1000)
        spans = [(op.call, op.call if op.ret is None else op.ret) for op in anomaly.operations]
        axis = BrokenAxis(spans, max(start - around, 0), end + around)
        beside = self._beside(anomaly, axis, {row for row in rows if row is not None})
        chosen = beside[np.linspace(0, len(beside) - 1, most).astype(np.int64)] if len(beside) > most else beside
        return Scene(
            anomaly,
            axis,
            acts,
            [Act(self._witness(row), "", self._link(row)) for row in chosen.tolist()],
            len(beside),
            [p for p in self._periods if p.start <= axis.end and p.end >= axis.start],
            [r for r in self._reigns if r.start <= axis.end and r.end >= axis.start],
            _orders(anomaly.operations),
            _seen(anomaly),
        )

    def _of(self, op: Witness) -> int | None:
        """The row of an operation that an anomaly carries."""
        if op.index is None:
            return None
        event = op.index if self._event is None else self._event.get(op.index, -1)
        row = int(self._row[event]) if 0 <= event < len(self._row) else -1
        return row if row >= 0 else None

    def _link(self, row: int) -> int:
        return self._operations.history.index_of(int(self._operations.invoked[row]))

    def _witness(self, row: int) -> Witness:
        at = self._operations
        return Witness(
            int(at.process[row]),
            at.name(row),
            at.key_name(row),
            at.done(row),
            int(at.call[row]),
            None if at.ret[row] == NEVER else int(at.ret[row]),
            TYPES[at.type[row]],
            at.node_name(row),
            self._link(row),
        )

    def _beside(self, anomaly: Anomaly, axis: BrokenAxis, but: set[int]) -> Ints:
        """The rows of the other operations on the anomaly's keys meanwhile, in the order of their invocations."""
        at = self._operations
        if not len(at):
            return np.zeros(0, dtype=np.int64)
        open_ = at.type == INFO
        meanwhile = (at.call <= axis.end) & np.where(open_, at.call >= axis.start, at.ret >= axis.start)
        own = {op.key for op in anomaly.operations if isinstance(op.key, str | int)} | {_plain_key(anomaly.key)}
        codes = [self._keys[repr(key)] for key in own if key is not None and repr(key) in self._keys]
        if codes:
            rows = np.flatnonzero(meanwhile & np.isin(at.key, codes))
        else:
            touched = {repr(edge.key) for edge in anomaly.edges if edge.key is not None}
            rows = np.flatnonzero(meanwhile)[:_LOOKED_AT]
            if touched:
                rows = np.array([row for row in rows.tolist() if touched & _keys_of(at, row)], dtype=np.int64)
        return rows[~np.isin(rows, list(but))] if but else rows


def mark(anomaly: Anomaly, number: int) -> str:
    """What texts and pictures call an operation of an anomaly: T35, or a letter."""
    op = anomaly.operations[number]
    if op.index is not None and (anomaly.edges or op.f == TRANSACTION):
        return f"T{op.index}"
    letter = chr(ord("A") + number % 26)
    return letter if number < 26 else f"{letter}{number // 26}"


def found_instead(anomaly: Anomaly) -> str:
    """What a correct store could have done, in a sentence; empty if nobody knows."""
    if not anomaly.possible:
        return ""
    values = " or ".join(show(value) for value in anomaly.possible)
    return f"In a correct store {mark(anomaly, len(anomaly.operations) - 1)} could only have found {values}."


def in_words(op: Witness) -> str:
    """An operation in a few words; a transaction by what it did to each key: ``r 16 nil; append 4 7``."""
    if op.f == TRANSACTION and isinstance(op.value, list | tuple) and op.value:
        told = "; ".join(map(_step, op.value[:_STEPS]))
        more = len(op.value) - _STEPS
        return f"{told}; {more} more" if more > 0 else told
    if isinstance(op.value, list | tuple) and len(op.value) > _ELEMENTS:
        return f"{named(op.f)} {_plain(op.value)}"
    return operation(op.f, op.value, answered=op.type == "ok")


def reigns(sightings: Sequence[Sighting]) -> list[Reign]:
    """From when to when each node said that it is primary, in the order in which they began."""
    found: list[Reign] = []
    last: dict[str, int] = {}
    for sighting in sightings:
        if sighting.role != PRIMARY:
            if sighting.role is not None:
                last.pop(sighting.node, None)
            continue
        at = last.get(sighting.node)
        goes_on = at is not None and sighting.start - found[at].end <= _SILENCE
        # Some learn only after a while which term it is.
        if at is not None and goes_on and found[at].term in (None, sighting.term):
            found[at] = found[at]._replace(end=max(sighting.end, found[at].end), term=sighting.term)
        else:
            last[sighting.node] = len(found)
            found.append(Reign(sighting.node, sighting.term, sighting.start, sighting.end))
    return sorted(found, key=lambda reign: reign.start)


def _orders(operations: Sequence[Witness]) -> list[Before]:
    """Each operation that was over before another began, with none between them."""
    if len(operations) > _RELATED:
        return []
    before = [[a.ret is not None and a.ret < b.call for b in operations] for a in operations]
    every = range(len(operations))
    return [
        Before(a, b, "certainly before")
        for a in every
        for b in every
        if before[a][b] and not any(before[a][c] and before[c][b] for c in every)
    ]


def _seen(anomaly: Anomaly) -> list[Before]:
    """The edges of a cycle, or which answer shows what which operation had written."""
    operations = anomaly.operations
    if anomaly.edges:
        at = {op.index: number for number, op in enumerate(operations)}
        return [
            Before(
                at[edge.source],
                at[edge.target],
                edge.kind if edge.key is None else f"{edge.kind} {key_named(edge.key)}",
            )
            for edge in anomaly.edges
            if edge.source in at and edge.target in at
        ]
    if len(operations) > _RELATED:
        return []
    return [
        Before(a, b, "was read by")
        for a, one in enumerate(operations)
        for b, other in enumerate(operations)
        if a != b and _written(one) is not None and _shows(other, _written(one)) and one.key == other.key
    ]


def _written(op: Witness) -> Any:
    """The value that an operation wrote, None if it wrote none."""
    if op.f == TRANSACTION or asks(op.f) or op.type == "fail":
        return None
    return op.value[1] if op.f == "cas" and isinstance(op.value, list | tuple) and len(op.value) == 2 else op.value


def _shows(op: Witness, value: Any) -> bool:
    """Whether an operation found a value."""
    if op.f == "cas" and isinstance(op.value, list | tuple) and len(op.value) == 2:
        return bool(op.value[0] == value)
    if not asks(op.f) or op.type != "ok":
        return False
    return bool(op.value == value) or (isinstance(op.value, list | tuple) and value in op.value)


def _plain_key(key: Any) -> Any:
    return key if isinstance(key, str | int) else None


def _keys_of(operations: Operations, row: int) -> set[str]:
    """The keys that a transaction touches, as text."""
    steps = operations.argument(row)
    if not isinstance(steps, list | tuple):
        return set()
    return {repr(step[1]) for step in steps if isinstance(step, list | tuple) and len(step) > 1}


def _step(step: Any) -> str:
    """One micro-operation of a transaction, as the field writes it."""
    if not isinstance(step, list | tuple):
        return show(step)
    return " ".join(named(part) if number == 0 else _plain(part) for number, part in enumerate(step))


def _plain(value: Any) -> str:
    """A value in a micro-operation; of a long list the end."""
    if value is None:
        return "nil"
    if isinstance(value, list | tuple):
        left_out = "... " if len(value) > _ELEMENTS else ""
        return f"[{left_out}{' '.join(map(_plain, value[-_ELEMENTS:]))}]"
    return named(value) if isinstance(value, str) else show(value)
