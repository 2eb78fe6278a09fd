"""Models of locks and semaphores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.checkers.linearizability.model import Call, Model, State, number, same, whole
from harness.columns import hashable
from harness.errors import HistoryError
from harness.words import show


class Mutex(Model):
    """A lock: acquire succeeds only while nobody holds it, release only while somebody does."""

    functions = frozenset({"acquire", "release"})
    answers_in_result = frozenset()
    begins = "true if somebody holds it, or false"

    def __init__(self, initial: Any = None) -> None:
        if not isinstance(initial, bool | None):
            raise ValueError(initial)
        self._initial = bool(initial)

    def init(self) -> State:
        return self._initial

    def step(self, state: State, call: Call) -> Iterable[State]:
        wanted = call.f == "acquire"
        return [wanted] if state != wanted else []


class ReentrantMutex(Model):
    """A lock that its owner, named by the value, may acquire again, and must release as often."""

    functions = frozenset({"acquire", "release"})
    answers_in_result = frozenset()
    begins = 'the owner that holds it, such as "a"'

    def __init__(self, initial: Any = None) -> None:
        self._initial = (None, 0) if initial is None else (hashable(initial), 1)

    def init(self) -> State:
        return self._initial

    def refuse(self, call: Call) -> None:
        if call.argument is None and not call.crashed:
            raise HistoryError(
                f"{call.f} names no owner, which this lock needs: neither invocation nor completion does"
            )

    def step(self, state: State, call: Call) -> Iterable[State]:
        owner, depth = state
        # An operation that crashed may not have said whose it is: it can be anybody's, as can a lock taken so.
        mine = None in (owner, call.argument) or same(owner, call.argument)
        if depth and not mine:
            return []
        whose = call.argument if owner is None else owner
        if call.f == "acquire":
            return [(whose, depth + 1)]
        return [] if depth == 0 else [(whose, depth - 1) if depth > 1 else (None, 0)]


class FencedLock(Model):
    """A lock whose acquire answers with a fencing token, higher than every one before it."""

    functions = frozenset({"acquire", "release"})
    answers_in_result = frozenset({"acquire"})
    begins = "the last token that was given out, a whole number such as 7"

    def __init__(self, initial: Any = None) -> None:
        self._initial = (False, whole(initial, 0))

    def init(self) -> State:
        return self._initial

    def refuse(self, call: Call) -> None:
        if call.f == "acquire" and not call.crashed and type(call.result) is not int:
            raise HistoryError(f"acquire answers with a fencing token, a whole number, not with {show(call.result)}")

    def step(self, state: State, call: Call) -> Iterable[State]:
        held, token = state
        if call.f == "release":
            return [(False, token)] if held else []
        if held:
            return []
        if call.crashed:
            # Nobody saw the token, but it was a higher whole number.
            return [(True, token + 1)]
        return [(True, call.result)] if call.result > token else []


class Semaphore(Model):
    """``permits`` units: acquire and release take the argument's number of them, or one."""

    functions = frozenset({"acquire", "release"})
    answers_in_result = frozenset()
    begins = "the number of all permits, such as 3"

    def __init__(self, permits: Any = None) -> None:
        self._permits = whole(permits, 2)

    def init(self) -> State:
        return 0

    def refuse(self, call: Call) -> None:
        if call.argument is not None:
            number(call)

    def step(self, state: State, call: Call) -> Iterable[State]:
        amount = 1 if call.argument is None else number(call)
        after = state + amount if call.f == "acquire" else state - amount
        return [after] if 0 <= after <= self._permits else []
