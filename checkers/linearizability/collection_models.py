"""Models of counters, sets, queues and stacks."""

from __future__ import annotations

import collections
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from harness.checkers.linearizability.model import Call, Model, State, number, same
from harness.columns import hashable
from harness.errors import HistoryError
from harness.words import show


class Counter(Model):
    """A number: add or inc/dec by the argument (or 1), and read. What a change answers is not looked at.

    It may be the amount, the number before or the number after, as stores have it: which of them, no history says.
    """

    functions = frozenset({"add", "inc", "dec", "read"})
    reads = frozenset({"read"})
    answers_in_result = functions
    begins = "a whole number, such as 5"

    def __init__(self, initial: Any = None) -> None:
        if not (initial is None or type(initial) is int):
            raise ValueError(initial)
        self._initial = initial or 0

    def init(self) -> State:
        return self._initial

    def refuse(self, call: Call) -> None:
        if call.f != "read" and call.argument is not None:
            number(call)

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f == "read":
            return [state] if same(state, 0 if call.result is None else call.result) else []
        amount = 1 if call.argument is None else number(call)
        return [state - amount if call.f == "dec" else state + amount]


class Set(Model):
    """A set: add and remove an element, read all of them."""

    functions = frozenset({"add", "remove", "read"})
    reads = frozenset({"read"})
    answers_in_result = frozenset({"read"})
    begins = "a list of elements, such as [1, 2]"

    def __init__(self, initial: Any = None) -> None:
        self._initial = frozenset(elements(initial))

    def init(self) -> State:
        return self._initial

    def refuse(self, call: Call) -> None:
        if call.f == "read" and not isinstance(call.result, tuple | frozenset | None):
            raise HistoryError(f"a read of a set answers with a list of elements, not with {show(call.result)}")

    def parts(self, call: Call) -> Iterable[Hashable]:
        return call.result or () if call.f == "read" else [call.argument]

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f == "read":
            elements = frozenset(call.result or ())
            return [state] if elements == state and len(elements) == len(call.result or ()) else []
        return [state | {call.argument} if call.f == "add" else state - {call.argument}]


class _Queue(Model):
    """What all queues have in common: what is put in, and what an answer says was taken out."""

    functions = frozenset({"enqueue", "dequeue"})
    answers_in_result = frozenset({"dequeue"})

    def parts(self, call: Call) -> Iterable[Hashable]:
        if call.f in self.answers_in_result:
            return [] if call.crashed else [call.result]
        return [call.argument]


class FifoQueue(_Queue):
    """A queue: dequeue answers with the oldest element; with nothing (null) if it is empty."""

    begins = "a list of elements, the oldest first, such as [1, 2]"

    def __init__(self, initial: Any = None) -> None:
        self._initial = elements(initial)

    def init(self) -> State:
        return self._initial

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f == "enqueue":
            return [(*state, call.argument)]
        return self._take(state, call, 0)

    @staticmethod
    def _take(state: State, call: Call, end: int) -> Iterable[State]:
        if not state:
            return [state] if call.crashed or call.result is None else []
        taken, left = state[end], state[1:] if end == 0 else state[:-1]
        return [left] if call.crashed or same(taken, call.result) else []

    def prepared(self, calls: Sequence[tuple[Call, float, float]]) -> Model:
        elements = [*self._initial, *(call.argument for call, _, _ in calls if call.f == "enqueue")]
        crashed = any(call.crashed for call, _, _ in calls if call.f == "dequeue")
        if type(self) is not FifoQueue or None in elements or len(set(elements)) < len(elements):
            return self
        taken = {call.result: (start, ret) for call, start, ret in calls if call.f == "dequeue" and not call.crashed}
        return _OrderedQueue(self._initial, taken, crashed)


class _OrderedQueue(FifoQueue):
    """The same for unique elements: refuses an order in which they cannot be taken as they were.

    ``taken`` is when each element was; any other one stays, unless a dequeue ``crashed`` that may have taken it.
    """

    foresees = True

    def __init__(self, initial: Any, taken: dict[Any, tuple[float, float]], crashed: bool) -> None:
        super().__init__(initial)
        self._taken = taken
        self._crashed = crashed

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f == "enqueue" and state:
            new = self._taken.get(call.argument)
            if new is not None and not all(self._may_precede(element, new) for element in state):
                return []
        return super().step(state, call)

    def _may_precede(self, element: Any, new: tuple[float, float]) -> bool:
        """Whether an element that is in the queue can be taken before one that is taken in the interval ``new``."""
        mine = self._taken.get(element)
        return self._crashed if mine is None else mine[0] <= new[1]


class Stack(FifoQueue):
    """A stack: pop answers with the newest element; with nothing (null) if it is empty."""

    functions = frozenset({"push", "pop"})
    answers_in_result = frozenset({"pop"})

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f == "push":
            return [(*state, call.argument)]
        return self._take(state, call, -1)


class UnorderedQueue(_Queue):
    """A bag: dequeue answers with any element that is in it; with nothing (null) if it is empty."""

    begins = "a list of elements, such as [1, 2]"

    def __init__(self, initial: Any = None) -> None:
        self._initial = frozenset(collections.Counter(elements(initial)).items())

    def init(self) -> State:
        return self._initial

    def step(self, state: State, call: Call) -> Iterable[State]:
        counts = dict(state)
        if call.f == "enqueue":
            counts[call.argument] = counts.get(call.argument, 0) + 1
            return [frozenset(counts.items())]
        if not counts:
            return [state] if call.crashed or call.result is None else []
        return [self._without(counts, e) for e in counts if call.crashed or same(e, call.result)]

    @staticmethod
    def _without(counts: dict[Any, int], element: Any) -> State:
        left = {**counts, element: counts[element] - 1}
        return frozenset(item for item in left.items() if item[1])


def elements(initial: Any) -> tuple[Any, ...]:
    """What a collection begins with. Raises ``ValueError`` if that is no list."""
    if initial is not None and not isinstance(initial, list | tuple):
        raise ValueError(initial)
    begun: tuple[Any, ...] = hashable(initial or ())
    return begun
