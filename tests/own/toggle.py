"""A model of one's own: a light switch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from harness.checkers.linearizability.model import UNKNOWN, Call, Model, State


class Toggle(Model):
    """``toggle`` answers whether the light is on afterwards, ``look`` whether it is."""

    functions: ClassVar[frozenset[str]] = frozenset({"toggle", "look"})
    reads: ClassVar[frozenset[str]] = frozenset({"look"})

    def init(self) -> State:
        return False

    def step(self, state: State, call: Call) -> Iterable[State]:
        after = not state if call.f == "toggle" else state
        return [after] if call.result in (UNKNOWN, after) else []
