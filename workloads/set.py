"""Sets: unique elements are added and removed, and every node says in the end what it holds.

A process removes only what it has added or seen itself, by the same node. Refutes: acknowledged elements that are lost
("lost"), elements that nobody added, removed elements that come back ("resurrected"), nodes that never agree.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from checkers.convergence import Convergence
from checkers.elements import Elements
from harness.errors import UsageError
from harness.generator import Generator, Stream
from harness.operation import Event, Operation
from harness.verdict import Checker
from workloads.final import every_node_reads


class SetWorkload:
    """Clients add, remove and read elements of sets; in the end all nodes must hold what was added and not removed."""

    class Options(msgspec.Struct, frozen=True):
        """``keys`` sets, ``settle`` seconds before the final reads, weights of the functions."""

        keys: int = 5
        settle: float = 10.0
        add: float = 3.0
        remove: float = 1.0
        members: float = 1.0

    name: ClassVar[str] = "set"
    reads: ClassVar[frozenset[str]] = frozenset({"members", "members-local"})

    def __init__(self, options: Options) -> None:
        if options.keys < 1 or options.add <= 0 or min(options.remove, options.members) < 0:
            raise UsageError("the workload set needs at least 1 key, add above 0, and no weight below 0")
        self._options = options
        self._keys = [f"s{number}" for number in range(options.keys)]
        self._weights = {"add": options.add, "remove": options.remove, "members": options.members}

    def generator(self, rng: random.Random) -> Generator:
        functions, weights = list(self._weights), list(self._weights.values())
        removable: list[tuple[str, int]] = []
        added = 0

        def draw() -> Operation:
            nonlocal added
            function = rng.choices(functions, weights)[0]
            key = rng.choice(self._keys)
            if function == "members":
                return Operation("members", key)
            if function == "remove" and removable:
                key, element = removable.pop(rng.randrange(len(removable)))
                return Operation("remove", key, element)
            added += 1
            return Operation("add", key, added)

        def learn(event: Event) -> None:
            if event.type == "ok" and event.f == "add":
                removable.append((event.key, event.value))

        return Stream(draw, learn)

    def final(self) -> Generator:
        return every_node_reads("members-local", self._keys, self._options.settle)

    def checkers(self) -> Mapping[str, Checker]:
        return {"elements": Elements("members-local"), "convergence": Convergence("members-local")}
