"""What happened around an anomaly: its operations and those beside them, the faults and the primaries meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np

from harness.broken_axis import BrokenAxis
from harness.columns import Ints, hashable
from harness.drawing import edge_label
from harness.history import INFO, Operations
from harness.packed import TRANSACTION
from harness.periods import Period
from harness.roles import Sighting, Span, spans
from harness.verdict import Anomaly, Witness
from harness.witness import witness
from harness.words import asks, named, operation, show

_STEPS: Final = 16
"""The most micro-operations of a transaction that are written out."""
_ELEMENTS: Final = 12
"""The most elements of a list that are."""
_LOOKED_AT: Final = 20_000
"""The most transactions in the time of an anomaly that are looked through for those on its keys."""
_RELATED: Final = 12
"""The most operations of an anomaly between which it is said which came before which."""


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


@dataclass(frozen=True)
class Scene:
    """An anomaly and what was around it. ``others`` are operations beside ``acts``, a sample of ``beside``.

    They are those on the keys of the anomaly (``on_keys``), or any where it is about none. Of the operations
    ``meanwhile`` so many were ``looked_at`` for that: the first ones.
    """

    anomaly: Anomaly
    axis: BrokenAxis
    acts: Sequence[Act]
    others: Sequence[Act]
    beside: int
    on_keys: bool
    looked_at: int
    meanwhile: int
    faults: Sequence[Period]
    reigns: Sequence[Span]
    """Who certainly was primary."""
    orders: Sequence[Before]
    """Which operation was over before which began, as few as say it all."""
    seen: Sequence[Before]
    """Which operation shows what which one had written; the edges of a cycle."""

    @property
    def by_process(self) -> dict[int, list[Act]]:
        """``acts`` by their processes, in the order in which they began."""
        processes: dict[int, list[Act]] = {}
        for act in sorted(self.acts, key=lambda act: act.op.call):
            processes.setdefault(act.op.process, []).append(act)
        return processes

    @property
    def others_are(self) -> str:
        """What ``others`` are, in words."""
        return "others on the same keys" if self.on_keys else "others at the same time"


class _Beside(NamedTuple):
    """The rows of the operations beside an anomaly; the rest as in ``Scene``."""

    rows: Ints
    on_keys: bool
    looked_at: int
    meanwhile: int


class Scenes:
    """The scenes of one run's anomalies."""

    def __init__(self, operations: Operations, periods: Sequence[Period], sightings: Sequence[Sighting]) -> None:
        self._operations = operations
        self._periods = periods
        self._reigns = [span for span in spans(sightings) if span.leads]
        self._until = np.where(operations.type == INFO, operations.call, operations.ret)
        # Of all operations up to each when the last was over: it never steps back, so that it can be searched.
        self._all_until = np.maximum.accumulate(self._until)

    @cached_property
    def _codes(self) -> dict[Any, int]:
        """The keys of the history, each with its code."""
        return {key: code for code, key in enumerate(self._operations.history.keys) if key is not None}

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
        times = [(op.call, op.call if op.ret is None else op.ret) for op in anomaly.operations]
        axis = BrokenAxis(times, max(start - around, 0), end + around)
        beside = self._beside(anomaly, axis, [row for row in rows if row is not None])
        number = len(beside.rows)
        chosen = beside.rows[np.linspace(0, number - 1, most).astype(np.int64)] if number > most else beside.rows
        return Scene(
            anomaly,
            axis,
            acts,
            [Act(witness(self._operations, row), "", self._link(row)) for row in chosen.tolist()],
            number,
            beside.on_keys,
            beside.looked_at,
            beside.meanwhile,
            [p for p in self._periods if p.start <= axis.end and p.end >= axis.start],
            [r for r in self._reigns if r.start <= axis.end and r.end >= axis.start],
            _orders(anomaly.operations),
            _seen(anomaly),
        )

    def _of(self, op: Witness) -> int | None:
        """The row of an operation that an anomaly carries, by its invocation or its completion."""
        if op.index is None:
            return None
        at = self._operations
        index = at.history.index
        events = [op.index] if index is None else np.flatnonzero(index == op.index)[:1].tolist()
        if not events or not 0 <= events[0] < len(at.history):
            return None
        row = int(np.searchsorted(at.invoked, events[0]))
        rows = [row] if row < len(at) and at.invoked[row] == events[0] else np.flatnonzero(at.completed == events[0])
        return int(rows[0]) if len(rows) else None

    def _link(self, row: int) -> int:
        return self._operations.history.index_of(int(self._operations.invoked[row]))

    def _beside(self, anomaly: Anomaly, axis: BrokenAxis, own: Sequence[int]) -> _Beside:
        """The other operations meanwhile, on the anomaly's keys if it is about any, in the order of their invocations.

        ``own`` are the rows of those of the anomaly.
        """
        at = self._operations
        first, end = np.searchsorted(self._all_until, axis.start), np.searchsorted(at.call, axis.end, side="right")
        rows = first + np.flatnonzero(self._until[first:end] >= axis.start)
        meanwhile = looked_at = len(rows)
        keys = {hashable(key) for key in (anomaly.key, *(op.key for op in anomaly.operations))}
        codes = [self._codes[key] for key in keys if key in self._codes]
        touched = _touched(anomaly)
        if codes:
            rows = rows[np.isin(at.key[rows], codes)]
        elif touched:
            rows = rows[:_LOOKED_AT]
            looked_at = len(rows)
            rows = np.array([row for row in rows.tolist() if touched & _keys_of(at, row)], dtype=np.int64)
        return _Beside(rows[~np.isin(rows, own)], bool(codes or touched), looked_at, meanwhile)


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
            Before(at[edge.source], at[edge.target], edge_label(edge))
            for edge in anomaly.edges
            if edge.source in at and edge.target in at
        ]
    if len(operations) > _RELATED:
        return []
    return [
        Before(a, b, "was read by")
        for a, write in enumerate(operations)
        for b, read in enumerate(operations)
        if a != b and _written(write) is not None and _shows(read, _written(write)) and write.key == read.key
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


def _touched(anomaly: Anomaly) -> set[str]:
    """The keys that an anomaly of transactions is about, as text."""
    if not anomaly.edges and not any(op.f == TRANSACTION for op in anomaly.operations):
        return set()
    return {repr(key) for key in (anomaly.key, *(edge.key for edge in anomaly.edges)) if key is not None}


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
