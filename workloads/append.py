"""Lists: unique elements are appended, and lists are read whole.

All reads of a list form a tree of prefixes, which is a path in a store that keeps its promise: a fork is two histories
of one list, each of which somebody has seen. Refutes: two primaries that both accept writes, acknowledged appends that
are lost, appends that are done twice, and reads of what was never appended or had certainly failed; with
``linearizable=true`` also appends that stand before one that had been acknowledged when they were invoked.

A read costs as much as its list is long, so that a full list is left alone and another one begun in its place.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

import msgspec

from harness.checkers.branches import Branches
from harness.checkers.split_brain import SplitBrain
from harness.generator import Generator, Stream, phases
from harness.operation import Event, Operation
from harness.options import Number
from harness.verdict import Checker
from harness.workload import Answers, Workload

_ROUNDS = 3
"""How often every list is read in the end, by whichever clients are free."""
_FINAL_TRIES = 20
"""How often lists are read again that nobody could read in the end."""


class Append(Workload):
    """Clients append unique elements to lists and read them whole; all reads of a list must lie on one path."""

    class Options(msgspec.Struct, frozen=True):
        """How many lists are in use at a time, how long they get, and how often each function is invoked."""

        keys: Annotated[int, Number(1, 10_000), "lists that are in use at a time"] = 10
        length: Annotated[int, Number(1, 1000), "elements after which another list takes a list's place"] = 100
        read: Annotated[float, Number(0.001, 1000), "weight of reads"] = 1.0
        append: Annotated[float, Number(0.001, 1000), "weight of appends"] = 1.0
        linearizable: Annotated[bool, "whether appends that follow one another must stand in that order"] = False

    name: ClassVar[str] = "append"
    functions: ClassVar[frozenset[str]] = frozenset({"append", "read-list"})
    answers: ClassVar[Answers] = {"read-list": (list, tuple)}
    reads: ClassVar[frozenset[str]] = frozenset({"read-list"})

    def __init__(self, options: Options) -> None:
        self._options = options
        self._begun = options.keys
        """How many lists there are so far."""

    def generator(self, rng: random.Random) -> Generator:
        functions, weights = ["read-list", "append"], [self._options.read, self._options.append]
        current = list(range(1, self._options.keys + 1))
        length = [0] * len(current)
        appended = 0

        def draw() -> Operation:
            nonlocal appended
            function = rng.choices(functions, weights)[0]
            at = rng.randrange(len(current))
            if function == "read-list":
                return Operation("read-list", f"k{current[at]}")
            if length[at] == self._options.length:
                self._begun += 1
                current[at], length[at] = self._begun, 0
            length[at] += 1
            appended += 1
            return Operation("append", f"k{current[at]}", appended)

        return Stream(draw)

    def final(self) -> Generator:
        """Every list is read several times, by different clients as a rule; then again those that nobody could read."""
        unread = dict.fromkeys(f"k{key}" for key in range(1, self._begun + 1))

        def learn(event: Event) -> None:
            if event.type == "ok":
                unread.pop(event.key, None)

        def reads(rounds: int) -> Generator:
            left: Iterator[str] | None = None

            def draw() -> Operation | None:
                nonlocal left
                left = iter([*unread] * rounds) if left is None else left
                key = next(left, None)
                return None if key is None else Operation("read-list", key)

            return Stream(draw, learn)

        return phases(reads(_ROUNDS), *(reads(1) for _ in range(_FINAL_TRIES)))

    def checkers(self) -> Mapping[str, Checker]:
        return {"split-brain": SplitBrain(), "branches": Branches(linearizable=self._options.linearizable)}
