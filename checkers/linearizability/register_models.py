"""Models of registers: one, several that change together, and strings and lists by key."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Final

import msgspec

from harness.checkers.linearizability.model import UNKNOWN, Call, Model, State, pair, same
from harness.columns import hashable
from harness.errors import HistoryError
from harness.words import show


class Register(Model):
    """A register with read and write."""

    functions = frozenset({"read", "write"})
    reads = frozenset({"read"})
    answers_in_result = frozenset({"read"})
    begins = "what each register holds, such as 0"

    def __init__(self, initial: Any = None) -> None:
        self._initial = hashable(initial)

    def init(self) -> State:
        return self._initial

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f == "read":
            return [state] if same(state, call.result) else []
        return [call.argument]

    def overwrites(self, call: Call) -> bool:
        return call.f == "write"


class CasRegister(Register):
    """A register with read, write and cas ``[expected, new]``; a failed cas is no operation."""

    functions = frozenset({"read", "write", "cas"})

    def refuse(self, call: Call) -> None:
        if call.f == "cas":
            pair(call)

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f != "cas":
            return super().step(state, call)
        expected, new = pair(call)
        return [new] if same(state, expected) else []


class MultiRegister(Model):
    """Several registers changed together: ``txn`` takes ``[["r", k, null], ["w", k, v], ...]``, answers with reads."""

    functions = frozenset({"txn", "read", "write"})
    reads = frozenset({"read"})
    answers_in_result = frozenset({"read", "txn"})
    begins = 'an object of keys and values, such as {"x": 0}'
    steps = frozenset({"r", "w"})

    def __init__(self, initial: Any = None) -> None:
        if initial is not None and not isinstance(initial, dict):
            raise ValueError(initial)
        # JSON has keys of text only: "1" is meant for a key 1 as well.
        held = {key: hashable(value) for name, value in (initial or {}).items() for key in (name, *_also(name))}
        self._initial = frozenset(held.items())

    def init(self) -> State:
        return self._initial

    def partition(self, call: Call) -> Hashable:
        return None

    def steps_of(self, call: Call) -> Iterable[str]:
        return [f for f, _, _ in self._steps(call)]

    def observes(self, call: Call) -> bool:
        return call.f == "read" or all(f == "r" for f, _, _ in self._steps(call))

    def step(self, state: State, call: Call) -> Iterable[State]:
        values = dict(state)
        for f, key, value in self._steps(call):
            if f == "r":
                if value is not UNKNOWN and not same(self._held(values.get(key)), self._held(value)):
                    return []
            else:
                values[key] = self._changed(values.get(key), value)
        return [frozenset(values.items())]

    @staticmethod
    def _held(value: Any) -> Any:
        """What a key holds, where ``value`` is what was written to it, or read: None if nothing was."""
        return value

    @staticmethod
    def _changed(_held: Any, value: Any) -> Any:
        """What a key holds after a step that is no read."""
        return value

    def _steps(self, call: Call) -> list[tuple[str, Any, Any]]:
        """The micro-operations (f, key, value): those of the answer where there is one."""
        answered = isinstance(call.result, tuple)
        given = call.result if answered else call.argument
        if call.f != "txn" and not _are_pairs(given):
            return [(call.f[0], call.key, call.result if call.f == "read" else call.argument)]
        if not isinstance(given, tuple):
            raise HistoryError(f"a txn takes a list of steps [f, key, value], not {show(given)}")
        steps = []
        for step in given:
            if not isinstance(step, tuple) or len(step) not in (2, 3):
                raise HistoryError(f"a step of a txn is [f, key, value], not {show(step)}")
            named = (call.f, *step) if len(step) == 2 else step
            f = _SHORT.get(str(named[0]), str(named[0]))
            steps.append((f, named[1], UNKNOWN if f == "r" and not answered else named[2]))
        return steps


class ListAppend(MultiRegister):
    """Several lists changed together: ``txn`` takes ``[["r", k, null], ["append", k, v], ...]``, answers with reads.

    A key that nothing was appended to holds the empty list, or nothing.
    """

    functions = frozenset({"txn"})
    reads = frozenset()
    answers_in_result = frozenset({"txn"})
    begins = 'an object of keys and lists, such as {"x": [1, 2]}'
    steps = frozenset({"r", "append"})

    def __init__(self, initial: Any = None) -> None:
        super().__init__(initial)
        if not all(isinstance(held, tuple) for _, held in self._initial):
            raise ValueError(initial)

    @staticmethod
    def _held(value: Any) -> Any:
        return () if value is None else value

    @staticmethod
    def _changed(held: Any, value: Any) -> Any:
        return (*(held or ()), value)


_SHORT: Final = {"read": "r", "write": "w"}


def _also(name: Any) -> list[Any]:
    """The key that a text may stand for, besides itself."""
    try:
        meant = msgspec.json.decode(name)
    except (msgspec.DecodeError, TypeError):
        return []
    return [hashable(meant)]


def _are_pairs(given: Any) -> bool:
    """Whether a value is a list of ``[key, value]``, as read and write of several registers take them."""
    return (
        isinstance(given, tuple) and bool(given) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in given)
    )


class KeyValue(Model):
    """Strings by key: get, put, append and delete. A key that was never written holds the empty string, or nothing."""

    functions = frozenset({"get", "put", "append", "delete", "read", "write"})
    reads = frozenset({"get", "read"})
    answers_in_result = frozenset({"get", "read"})
    begins = 'what each key holds, such as "a"'

    def __init__(self, initial: Any = None) -> None:
        self._initial = "" if initial is None else hashable(initial)

    def init(self) -> State:
        return self._initial

    def step(self, state: State, call: Call) -> Iterable[State]:
        if call.f in self.reads:
            return [state] if same(state, "" if call.result is None else call.result) else []
        if call.f in ("put", "write"):
            return ["" if call.argument is None else call.argument]
        if call.f == "delete":
            return [""]
        return [str(state) + str(call.argument)]

    def overwrites(self, call: Call) -> bool:
        return call.f in ("put", "write", "delete")

    def prepared(self, calls: Sequence[tuple[Call, float, float]]) -> Model:
        return _SeenKeyValue(self._initial, {call.result for call, _, _ in calls if call.f in self.reads})


class _Unseen:
    """A value that no get ever answered with, however it goes on."""


class _SeenKeyValue(KeyValue):
    """The same, but values that are not the beginning of any answer are all one: nobody will ever tell them apart."""

    def __init__(self, initial: Any, answers: set[Any]) -> None:
        super().__init__(initial)
        texts = [answer for answer in answers if isinstance(answer, str)]
        self._beginnings = {text[:end] for text in texts for end in range(len(text) + 1)} | answers | {""}

    def step(self, state: State, call: Call) -> Iterable[State]:
        if state is _Unseen and call.f in self.reads:
            return []
        if state is _Unseen and call.f == "append":
            return [state]
        return [after if after in self._beginnings else _Unseen for after in super().step(state, call)]
