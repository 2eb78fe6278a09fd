"""Queues: what goes in must come out, once, and in its order.

The rules are those of Jepsen's total-queue, by intervals, and the patterns of Henzinger, Sezgin and Vafeiadis
("Aspect-Oriented Linearizability Proofs", CONCUR 2013) for queues whose elements are unique.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.checkers.findings import Findings
from harness.checkers.timeline import begins, select
from harness.columns import hashable
from harness.errors import HistoryError
from harness.history import FAIL, INFO, NEVER, OK, History, Operations
from harness.verdict import Budget, Checker, Verdict
from harness.witness import witness
from harness.words import count, named, show, whereabouts


@dataclass
class _Queue:
    """What happened to one queue. Moments are places in the history; an unknown outcome ends after all of them."""

    put: dict[Any, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By element the enqueues that did not fail."""
    taken: dict[Any, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By element the operations that were answered with it, once for each time."""
    empty: list[int] = field(default_factory=list)
    """The operations that found the queue empty."""
    unknown: list[int] = field(default_factory=list)
    """The dequeues of unknown outcome: each may have taken one element, at any time after its invocation."""
    bottomless: list[int] = field(default_factory=list)
    """The drains of unknown outcome, which may have taken any number."""


class Queue(Checker):
    """Judges queues: ``enqueue``, ``dequeue``, which is answered with an element or nothing, and ``drain``.

    A drain is answered with all the elements that it took until the queue was empty. A dequeue that failed with the
    error "empty" has found nothing as well. Elements are lost only where the queue was found empty after them; where it
    never was, the verdict is unknown if elements may be left in it. ``fifo`` asks that what was enqueued before comes
    out before, for elements that are enqueued once.
    """

    def __init__(self, *, fifo: bool = True) -> None:
        self._fifo = fifo

    def check(self, history: History, budget: Budget) -> Verdict:
        operations: Operations = history.operations()
        findings = Findings(operations)
        evidence = dict.fromkeys(("enqueued", "dequeued", "recovered", "left"), 0)
        moments = _Moments(operations)
        for key, queue in _queues(operations).items():
            judge = _Judge(operations, moments, queue, "The queue" if key is None else f"Queue {named(key)}", findings)
            judge.phantoms_and_duplicates()
            left = judge.lost()
            judge.falsely_empty()
            if self._fifo:
                judge.overtaken()
            evidence["enqueued"] += sum(len(rows) for rows in queue.put.values())
            evidence["dequeued"] += sum(len(rows) for rows in queue.taken.values())
            evidence["recovered"] += sum(
                all(moments.unknown[row] for row in queue.put[element])
                for element in queue.taken
                if element in queue.put
            )
            evidence["left"] += left
        why = f"the queue was not found empty in the end, and {count(evidence['left'], 'element')} may be left in it"
        return findings.verdict("wrong element", evidence, why if evidence["left"] else "")

    def blind(self, history: History) -> str:
        """Why nothing could have been wrong; empty where something could."""
        operations: Operations = history.operations()
        asked = select(operations, "dequeue", "drain")
        return "" if (operations.type[asked] == OK).any() else "nothing was dequeued"


def _queues(operations: Operations) -> dict[Any, _Queue]:
    queues: dict[int, _Queue] = defaultdict(_Queue)
    rows = select(operations, "enqueue")
    rows = rows[operations.type[rows] != FAIL]
    value = operations.history.value
    for row, key, event in zip(
        rows.tolist(), operations.key[rows].tolist(), operations.told[rows].tolist(), strict=True
    ):
        queues[key].put[hashable(value[event])].append(row)
    rows = select(operations, "dequeue")
    types, keys = operations.type[rows].tolist(), operations.key[rows].tolist()
    for row, kind, key, event in zip(rows.tolist(), types, keys, operations.completed[rows].tolist(), strict=True):
        if kind == INFO:
            queues[key].unknown.append(row)
        elif kind == OK and value[event] is not None:
            queues[key].taken[hashable(value[event])].append(row)
        elif kind == OK or (operations.error(row) or "").strip(":") == "empty":
            queues[key].empty.append(row)
    rows = select(operations, "drain")
    for row, key in zip(rows.tolist(), operations.key[rows].tolist(), strict=True):
        queue = queues[key]
        if operations.type[row] == INFO:
            queue.bottomless.append(row)
        elif operations.type[row] == OK:
            elements = operations.result(row)
            if not isinstance(elements, list | tuple):
                line = operations.history.line_of(int(operations.completed[row]))
                raise HistoryError(f"a drain is answered with a list of elements, not {str(elements)[:40]}", line=line)
            for element in elements:
                queue.taken[hashable(element)].append(row)
            queue.empty.append(row)
    return {operations.history.keys[key]: queue for key, queue in queues.items()}


class _Moments:
    """Columns of all operations as lists, which are faster to look into one by one."""

    def __init__(self, operations: Operations) -> None:
        self.invoked: list[int] = operations.invoked.tolist()
        self.completed: list[int] = operations.completed.tolist()
        self.acknowledged: list[bool] = (operations.type == OK).tolist()
        self.unknown: list[bool] = (operations.type == INFO).tolist()


class _Judge:
    """One queue, held against each rule."""

    def __init__(
        self, operations: Operations, moments: _Moments, queue: _Queue, title: str, findings: Findings
    ) -> None:
        self._operations, self._queue, self._title, self._findings = operations, queue, title, findings
        self._lost = False
        self._invoked: list[int] = moments.invoked
        self._completed: list[int] = moments.completed
        self._acknowledged: list[bool] = moments.acknowledged
        self._empty = np.array(queue.empty, dtype=np.int64)
        unknown = np.array(sorted(queue.unknown), dtype=np.int64)
        self._unknown = begins(operations, unknown)
        bottomless = begins(operations, np.array(queue.bottomless, dtype=np.int64))
        self._bottomless = int(bottomless.min()) if len(bottomless) else NEVER
        """From when on anything may have been taken by a drain that was never answered."""
        once = [(e, rows[0]) for e, rows in queue.put.items() if len(rows) == 1]
        self._names = [element for element, _ in once]
        self._put = np.array([row for _, row in once], dtype=np.int64)
        first = [self._first(queue.taken[e]) if e in queue.taken else -1 for e in self._names]
        self._take = np.array(first, dtype=np.int64)
        acknowledged = operations.type[self._put] == OK
        self._put_call = begins(operations, self._put)
        self._put_ret = np.where(acknowledged, operations.completed[self._put], NEVER)
        taken = self._take >= 0
        self._take_call = np.where(taken, operations.invoked[self._take], NEVER)
        self._take_ret = np.where(taken, operations.completed[self._take], NEVER)

    def _first(self, rows: list[int]) -> int:
        """The operation that returned first."""
        return rows[0] if len(rows) == 1 else min(rows, key=self._completed.__getitem__)

    def _add(self, kind: str, text: str, rows: list[int]) -> None:
        self._findings.add(kind, f"{self._title}: {text}", rows)

    def phantoms_and_duplicates(self) -> None:
        """Each element comes out at most as often as it went in, and never before."""
        invoked, completed = self._invoked, self._completed
        did = self._findings.did
        for element, answered in self._queue.taken.items():
            puts = self._queue.put.get(element, ())
            if len(answered) == 1 and len(puts) == 1 and completed[answered[0]] > invoked[puts[0]]:
                continue
            takes = sorted(answered, key=self._completed.__getitem__)
            for number, take in enumerate(takes):
                if puts and number < len(puts) and completed[take] > invoked[puts[number]]:
                    continue
                kind = "duplicated" if 0 < len(puts) <= number else "phantom"
                if self._findings.enough(kind):
                    continue
                if not puts:
                    self._add(kind, f"{did(take)}. Nobody enqueued {show(element)}.", [take])
                elif kind == "duplicated":
                    times = "once" if len(puts) == 1 else f"{len(puts)} times"
                    before = ", ".join(did(row) for row in takes[:number][:3])
                    text = f"{before}, and {did(take)} again. But {show(element)} was enqueued {times} only."
                    self._add(kind, text, [*puts[:2], *takes[:number][:3], take])
                else:
                    self._add(kind, f"{did(take)}. But only later {did(puts[number])}.", [take, puts[number]])

    def lost(self) -> int:
        """Acknowledged elements that never came out, though the queue was found empty; how many may be left in it."""
        operations, queue = self._operations, self._queue
        missing: list[tuple[int, int, Any]] = []
        for element, puts in queue.put.items():
            out = len(queue.taken.get(element, ()))
            if out >= len(puts):
                continue
            acknowledged = [row for row in puts if self._acknowledged[row]]
            short = len(acknowledged) - out
            if short > 0:
                # Those that came out may be any of them: of those that did not, the latest are meant.
                latest = sorted(acknowledged, key=self._completed.__getitem__)[-short:]
                missing += [(self._completed[row], row, element) for row in latest]
        missing.sort(key=lambda item: item[0])
        moments = np.array([moment for moment, _, _ in missing], dtype=np.int64)
        last_seen_empty = max((self._invoked[row] for row in queue.empty), default=-1)
        left = int((moments > last_seen_empty).sum())
        if not len(self._empty) or not missing:
            return left
        inside = np.searchsorted(moments, operations.invoked[self._empty])
        ended = operations.completed[self._empty]
        takers = np.searchsorted(self._unknown, ended)
        lost = np.where(ended > self._bottomless, 0, inside - takers)
        worst = int(lost.argmax())
        if lost[worst] <= 0:
            return left
        self._lost = True
        row, excused = int(self._empty[worst]), int(takers[worst])
        for _, put, element in missing[: int(lost[worst])]:
            if self._findings.enough("lost"):
                continue
            text = (
                f"{self._findings.did(put)}, and that was acknowledged. Nobody was ever answered with {show(element)}, "
                f"yet {self._found_empty(row)}: it is lost."
            )
            if excused:
                text += (
                    f" {count(excused, 'dequeue')} without an answer may have taken as many elements, but "
                    f"{int(inside[worst])} are missing."
                )
            self._add("lost", text, [put, row])
        return left

    def falsely_empty(self) -> None:
        """Nobody may find the queue empty while some element is in it for certain, from before until after."""
        inside = (self._put_ret < self._take_call) & (self._take_call != NEVER)
        if not inside.any() or not len(self._empty):
            return
        rows = np.flatnonzero(inside)
        rows = rows[np.argsort(self._put_ret[rows])]
        starts, until = self._put_ret[rows], np.maximum.accumulate(self._take_call[rows])
        fresh = np.concatenate([[True], starts[1:] > until[:-1]])
        begin = np.flatnonzero(fresh)
        end = until[np.concatenate([begin[1:], [len(rows)]]) - 1]
        call, ret = self._operations.invoked[self._empty], self._operations.completed[self._empty]
        at = np.searchsorted(starts[begin], call) - 1
        wrong = np.flatnonzero((at >= 0) & (end[at] > ret))
        for attempt in wrong.tolist():
            if self._findings.enough("falsely empty"):
                continue
            there = rows[(starts < ret[attempt]) & (self._take_call[rows] > call[attempt])][:3].tolist()
            shown = [int(row) for element in there for row in (self._put[element], self._take[element])]
            names = ", ".join(show(self._names[element]) for element in there)
            takes = "; ".join(map(self._findings.did, shown))
            text = (
                f"{self._found_empty(int(self._empty[attempt]))}. Yet at each moment of that something was in it: "
                f"{names} ({takes})."
            )
            self._add("falsely empty", text, [*shown, int(self._empty[attempt])])

    def overtaken(self) -> None:
        """What was enqueued before comes out before."""
        self._within_drains()
        taken = np.flatnonzero(self._take_ret != NEVER)
        taken = taken[np.argsort(self._put_call[taken])]
        if not len(taken):
            return
        ret = self._take_ret[taken][::-1]
        soonest = np.minimum.accumulate(ret)
        which = np.maximum.accumulate(np.where(ret == soonest, np.arange(len(ret)), 0))
        after = np.searchsorted(self._put_call[taken], self._put_ret)
        there = after < len(taken)
        back = len(taken) - 1 - np.minimum(after, len(taken) - 1)
        due = np.where(there, soonest[back], NEVER)
        by = taken[::-1][which[back]]
        wrong = np.flatnonzero((due < self._take_call) & (self._take_call != NEVER))
        for element in wrong.tolist():
            self._overtaken(element, int(by[element]))
        if self._lost:
            return
        waiting = np.flatnonzero((self._take_call == NEVER) & (due != NEVER) & (due < self._bottomless))
        used = 0
        for element in waiting[np.argsort(due[waiting])].tolist():
            if used < len(self._unknown) and self._unknown[used] < due[element]:
                used += 1
            else:
                self._overtaken(element, int(by[element]))

    def _overtaken(self, element: int, by: int) -> None:
        if self._findings.enough("reordered"):
            return
        did = self._findings.did
        rows = [int(self._put[element]), int(self._put[by]), int(self._take[by])]
        text = f"{did(rows[0])}, and only then {did(rows[1])}. Yet {did(rows[2])}, "
        if self._take[element] >= 0:
            rows.append(int(self._take[element]))
            text += f"and only then {did(rows[3])}: {show(self._names[by])} has overtaken {show(self._names[element])}."
        else:
            text += f"and {show(self._names[element])} had not come out by then, nor did it later: it was overtaken."
        self._add("reordered", text, rows)

    def _within_drains(self) -> None:
        """The elements that one drain has taken stand in their order."""
        number = {element: at for at, element in enumerate(self._names)}
        for row in self._queue.empty:
            elements = self._operations.result(row)
            if not isinstance(elements, list | tuple):
                continue
            known = [number[e] for e in map(hashable, elements) if e in number]
            if len(known) < 2:
                continue
            order = np.array(known, dtype=np.int64)
            acknowledged = self._put_ret[order][::-1]
            soonest = np.minimum.accumulate(acknowledged)[::-1]
            for at in np.flatnonzero(soonest[1:] < self._put_call[order[:-1]]).tolist():
                if self._findings.enough("reordered"):
                    continue
                first = at + 1 + int(self._put_ret[order[at + 1 :]].argmin())
                element, later = int(order[first]), int(order[at])
                did = self._findings.did
                text = (
                    f"{did(int(self._put[element]))}, and only then {did(int(self._put[later]))}. Yet {did(row)}: "
                    f"{show(self._names[later])} has overtaken {show(self._names[element])}."
                )
                self._add("reordered", text, [int(self._put[element]), int(self._put[later]), row])

    def _found_empty(self, row: int) -> str:
        """Who found the queue empty, and when."""
        op, at = witness(self._operations, row), self._findings.clock.at
        where = whereabouts(op.node, op.server, "on")
        ret = int(self._operations.ret[row])
        return f"process {op.process}{where} found the queue empty from {at(op.call)} to {at(ret)}"
