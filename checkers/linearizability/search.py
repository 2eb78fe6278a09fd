"""The search over one partition of a history: numbers its operations, fills in what the model says, runs the kernel."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from harness.checkers.linearizability.models import Call, Model
from harness.columns import Ints
from harness.errors import SplitbrainError, UsageError
from harness.history import NEVER
from harness.verdict import Budget

_FUEL = 200_000
_DEPTH_FIRST_ROWS = 6
"""Depth first gives way to breadth first after this many rows for each operation, and 20,000 more."""


class Timed(NamedTuple):
    """An operation and when it was open; ``ret`` is ``NEVER`` for a crashed one. ``row`` is the caller's number."""

    call: Call
    start: int
    ret: int
    row: int


@dataclass
class Outcome:
    """What the search found: linearizable or not, or how far it got and why it ended.

    ``furthest`` is the operation whose return no partial linearization got past. ``order`` is a linearization, where
    one was found depth first: the caller's rows in the order in which they took effect.
    """

    verdict: Literal["linearizable", "impossible", "time", "memory"]
    furthest: Timed | None = None
    returns_passed: int = 0
    order: list[int] | None = None
    expanded: int = 0


def prepared(model: Model, operations: Sequence[Timed]) -> Model:
    """The model that is best for a partition: it gives the same verdict, but may get stuck elsewhere."""
    return model.prepared([(op.call, op.start, op.ret) for op in operations])


def search(
    model: Model,
    operations: Sequence[Timed],
    budget: Budget,
    *,
    depth_first: bool | None = None,
    prepare: bool = True,
) -> Outcome:
    """Decide one partition. ``depth_first`` forces one order of search; by default depth first is tried first.

    Without ``prepare`` the model is asked as it is: slower, but then no order gets past the operation that is at fault.
    Raises ``UsageError`` where the model fails.
    """
    problem = _Problem(prepared(model, operations) if prepare else model, operations)
    if not len(problem.live):
        return Outcome("linearizable")
    deadline = time.monotonic() + budget.seconds
    if depth_first is not False:
        limit = None if depth_first else _DEPTH_FIRST_ROWS * len(operations) + 20_000
        outcome = problem.run(True, deadline, budget.bytes, limit)
        if outcome is not None:
            return outcome
    outcome = problem.run(False, deadline, budget.bytes, None)
    assert outcome is not None
    return outcome


class _Problem:
    """One partition as arrays, with the part of the model's transitions that was asked for so far."""

    def __init__(self, model: Model, operations: Sequence[Timed]) -> None:
        from harness.checkers.linearizability import kernel

        self._kernel = kernel
        self._model = model
        kinds: dict[Call, int] = {}
        self.live = sorted((op for op in operations if op.ret != NEVER), key=lambda op: op.ret)
        crashed = [op for op in operations if op.ret == NEVER and not model.observes(op.call)]
        self._kind = np.array([kinds.setdefault(op.call, len(kinds)) for op in self.live], dtype=np.int64)
        self._set_crashed(crashed, kinds)
        self._calls = list(kinds)
        flags = [
            kernel.OBSERVES * model.observes(call)
            | kernel.OVERWRITES * (model.overwrites(call) and not model.observes(call))
            for call in self._calls
        ]
        self._flags = np.array(flags, dtype=np.int64)
        start = np.array([op.start for op in self.live], dtype=np.int64)
        ret = np.array([op.ret for op in self.live], dtype=np.int64)
        lists = kernel.pending_lists(start, ret, self._kind, max(len(kinds), 1))
        self._slot, self._bounds, self._entries, self._previous, slots = lists
        self._words = max(1, -(-int(slots) // kernel.BITS))
        self._states: dict[Hashable, int] = {model.init(): 0}
        self._state_list: list[Any] = list(self._states)
        self._table_key = np.zeros(1 << 10, dtype=np.int64)
        self._table_value = np.zeros(1 << 10, dtype=np.int64)
        self._entered = 0
        self._pool = np.zeros(64, dtype=np.int64)
        self._pooled = 0

    def _set_crashed(self, crashed: list[Timed], kinds: dict[Call, int]) -> None:
        """Crashed operations by kind: the first return at which each of them can be used."""
        by_kind: dict[int, list[int]] = {}
        returns = np.array([op.ret for op in self.live], dtype=np.int64)
        self._crashed_rows: list[list[int]] = []
        rows: dict[int, list[int]] = {}
        for op in sorted(crashed, key=lambda op: op.start):
            kind = kinds.setdefault(op.call, len(kinds))
            by_kind.setdefault(kind, []).append(int(np.searchsorted(returns, op.start)))
            rows.setdefault(kind, []).append(op.row)
        self._crash_kind = np.array(list(by_kind), dtype=np.int64)
        self._crash_bounds = np.cumsum([0, *(len(events) for events in by_kind.values())]).astype(np.int64)
        self._crash_event = np.array([event for events in by_kind.values() for event in events], dtype=np.int64)
        self._crashed_rows = list(rows.values())

    def run(self, depth_first: bool, deadline: float, most_bytes: int, most_rows: int | None) -> Outcome | None:
        """Search in one order; None when ``most_rows`` did not suffice."""
        kernel = self._kernel
        store = _Store(1 + 2 * self._words + len(self._crash_kind), 1 << 12)
        fuel = _FUEL
        store.registers[kernel.FUEL] = fuel
        while True:
            with np.errstate(over="ignore"):
                outcome = kernel.explore(
                    depth_first, self._slot, self._kind, self._bounds, self._entries, self._previous,
                    self._flags, np.int64(len(self._calls)),
                    self._crash_kind, self._crash_bounds, self._crash_event,
                    self._table_key, self._table_value, self._pool, self._words,
                    *store.arrays(),
                )  # fmt: skip
            if outcome == kernel.LINEARIZABLE:
                order = self._order(store) if depth_first else None
                return Outcome("linearizable", None, len(self.live), order, store.expanded)
            if outcome == kernel.IMPOSSIBLE:
                return self._stuck("impossible", store)
            if outcome == kernel.NEED:
                for state, kind in store.needs[: store.registers[kernel.NEEDS]].tolist():
                    self._answer(state, kind)
            elif outcome == kernel.FULL:
                if most_rows is not None and len(store.rows) > most_rows:
                    return None
                if 2 * store.bytes > most_bytes:
                    return self._stuck("memory", store)
                store.grow(depth_first)
            else:
                store.registers[kernel.FUEL] = fuel
            if time.monotonic() > deadline:
                return self._stuck("time", store)

    def _step(self, state: Any, call: Call) -> list[Hashable]:
        try:
            after = list(self._model.step(state, call))
            hash(tuple(after))
        except SplitbrainError:
            raise
        except Exception as error:  # it can be anybody's code
            name, why = type(self._model).__name__, f"{type(error).__name__}: {error}"
            raise UsageError(f"the model {name} failed at {call.f} of {call.argument!r}: {why}") from error
        return after

    def _answer(self, state: int, kind: int) -> None:
        """Ask the model for one transition and enter it into the table."""
        kernel = self._kernel
        numbers = []
        for after in self._step(self._state_list[state], self._calls[kind]):
            number = self._states.setdefault(after, len(self._states))
            if number == len(self._state_list):
                self._state_list.append(after)
            numbers.append(number)
        if not numbers:
            value = kernel.ILLEGAL
        elif len(numbers) == 1:
            value = numbers[0]
        else:
            value = -(self._pooled + 3)
            if self._pooled + len(numbers) + 1 > len(self._pool):
                self._pool = np.concatenate([self._pool, np.zeros(len(self._pool) + len(numbers), dtype=np.int64)])
            self._pool[self._pooled] = len(numbers)
            self._pool[self._pooled + 1 : self._pooled + 1 + len(numbers)] = numbers
            self._pooled += len(numbers) + 1
        if 2 * self._entered > len(self._table_key):
            self._grow_table()
        self._enter(self._table_key, self._table_value, state, kind, value)
        self._entered += 1

    def _enter(self, keys: Ints, values: Ints, state: int, kind: int, value: int) -> None:
        count = np.int64(len(self._calls))
        with np.errstate(over="ignore"):
            self._kernel.store(keys, values, np.int64(state), np.int64(kind), count, np.int64(value))

    def _grow_table(self) -> None:
        keys = np.zeros(4 * len(self._table_key), dtype=np.int64)
        values = np.zeros(4 * len(self._table_key), dtype=np.int64)
        for at in np.flatnonzero(self._table_key).tolist():
            state, kind = divmod(int(self._table_key[at]) - 1, len(self._calls))
            self._enter(keys, values, state, kind, int(self._table_value[at]))
        self._table_key, self._table_value = keys, values

    def _stuck(self, verdict: Literal["impossible", "time", "memory"], store: _Store) -> Outcome:
        event = min(int(store.registers[self._kernel.FURTHEST]), len(self.live) - 1)
        return Outcome(verdict, self.live[event], event, None, store.expanded)

    def _order(self, store: _Store) -> list[int]:
        """The changes in the order in which they took effect on the way to the last row, as the caller's rows."""
        row = int(store.registers[self._kernel.ROWS]) - 1
        steps: list[int] = []
        while row >= 0:
            step, parent = int(store.row_step[row]), int(store.row_parent[row])
            if step <= -2:
                used = int(store.rows[parent, 1 + 2 * self._words - 2 - step])
                steps.append(self._crashed_rows[-2 - step][used])
            elif step >= 0:
                event = int(store.row_event[parent])
                for entry in self._entries[self._bounds[event] : self._bounds[event + 1]].tolist():
                    if self._slot[entry] == step:
                        steps.append(self.live[entry].row)
            row = parent
        return steps[::-1]


class _Store:
    """The arrays that the kernel keeps its configurations in."""

    def __init__(self, width: int, capacity: int) -> None:
        from harness.checkers.linearizability import kernel

        self.rows = np.zeros((capacity, width), dtype=np.int64)
        self._kernel = kernel
        self._width = width
        self._columns = {
            "event": np.zeros(capacity, dtype=np.int64),
            "flag": np.zeros(capacity, dtype=np.int64),
            "next": np.zeros(capacity, dtype=np.int64),
            "code": np.zeros(capacity, dtype=np.int64),
            "parent": np.full(capacity, -1, dtype=np.int64),
            "step": np.full(capacity, -1, dtype=np.int64),
        }
        self._head = np.full(2 * capacity, -1, dtype=np.int64)
        self._stamp = np.full(2 * capacity, -1, dtype=np.int64)
        self._stack = np.zeros(capacity + 8, dtype=np.int64)
        self._following = np.zeros(capacity + 8, dtype=np.int64)
        self.needs = np.zeros((256, 2), dtype=np.int64)
        self.registers = np.zeros(8, dtype=np.int64)
        # The one row to begin with: initial state, nothing done.
        self.registers[kernel.STACK] = self.registers[kernel.ROWS] = 1

    @property
    def row_event(self) -> Ints:
        """The return that each row waits for."""
        return self._columns["event"]

    @property
    def row_parent(self) -> Ints:
        """The row that each row came from."""
        return self._columns["parent"]

    @property
    def row_step(self) -> Ints:
        """What was done to come from the parent: a slot, -2 - the number of a crashed kind, or -1 for nothing."""
        return self._columns["step"]

    @property
    def expanded(self) -> int:
        """How many configurations were looked at."""
        return int(self.registers[self._kernel.EXPANDED])

    @property
    def bytes(self) -> int:
        """The memory in use."""
        arrays = [self.rows, *self._columns.values(), self._head, self._stamp, self._stack, self._following]
        return sum(array.nbytes for array in arrays)

    def arrays(self) -> tuple[Any, ...]:
        """Everything, in the order that the kernel takes it."""
        columns = self._columns
        return (
            self.rows, columns["event"], columns["flag"], columns["next"], columns["code"],
            columns["parent"], columns["step"],
            self._head, self._stamp, self._stack, self._following, self.needs, self.registers,
        )  # fmt: skip

    def grow(self, depth_first: bool) -> None:
        """Double the room for configurations; those that are there stay."""
        used = int(self.registers[self._kernel.ROWS])
        capacity = 2 * len(self.rows)
        rows = np.zeros((capacity, self._width), dtype=np.int64)
        rows[:used] = self.rows[:used]
        self.rows = rows
        for name, column in self._columns.items():
            larger = np.full(capacity, -1, dtype=np.int64)
            larger[:used] = column[:used]
            self._columns[name] = larger
        for name in ("_stack", "_following"):
            larger = np.zeros(capacity + 8, dtype=np.int64)
            old = getattr(self, name)
            larger[: len(old)] = old
            setattr(self, name, larger)
        self._head = np.full(2 * capacity, -1, dtype=np.int64)
        self._stamp = np.full(2 * capacity, -1, dtype=np.int64)
        columns = self._columns
        self._kernel.relink(
            columns["event"], columns["next"], columns["code"], self._head, self._stamp, self.registers, depth_first
        )
