"""Sets: unique elements are added and removed, and every node says in the end what it holds.

Any process removes, once, what an add of was acknowledged to anybody; whether that must count depends on what its node
had heard (see the checker ``elements``). Refutes: acknowledged elements that are lost
("lost"), elements that nobody added ("phantom") or that are there twice, removed elements that come back
("resurrected"), nodes that never agree; with ``linearizable=true`` also reads that miss what was there ("stale").
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from harness.checkers.convergence import Convergence
from harness.checkers.elements import Elements
from harness.checkers.split_brain import SplitBrain
from harness.generator import Generator, Stream
from harness.operation import Event, Operation
from harness.options import Number, Seconds
from harness.verdict import Checker
from harness.workload import Answers, Workload
from harness.workloads.final import every_node_reads


class SetWorkload(Workload):
    """Clients add, remove and read elements of sets; in the end all nodes must hold what was added and not removed."""

    class Options(msgspec.Struct, frozen=True):
        """How many sets, and how often each function is invoked."""

        keys: Annotated[int, Number(1, 10_000), "sets"] = 5
        settle: Annotated[float, Seconds(0.001, 3600, zero="none"), "quiet time before the final reads"] = 10.0
        add: Annotated[float, Number(0.001, 1000), "weight of additions"] = 3.0
        remove: Annotated[float, Number(0.001, 1000, zero="none"), "weight of removals"] = 1.0
        members: Annotated[float, Number(0.001, 1000, zero="none"), "weight of reads"] = 1.0
        linearizable: Annotated[bool, "whether each read has to show all that was acknowledged before"] = False

    name: ClassVar[str] = "set"
    functions: ClassVar[frozenset[str] | None] = frozenset({"add", "remove", "members", "members-local"})
    answers: ClassVar[Answers] = dict.fromkeys(("members", "members-local"), (list, tuple, set, frozenset))
    reads: ClassVar[frozenset[str]] = frozenset({"members", "members-local"})

    def __init__(self, options: Options) -> None:
        self._options = options
        self.settle = options.settle
        self._keys = [f"s{key}" for key in range(options.keys)]
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
        return every_node_reads("members-local", self._keys, self.settle)

    def checkers(self) -> Mapping[str, Checker]:
        return {
            "split-brain": SplitBrain(),
            "elements": Elements("members-local", linearizable=self._options.linearizable),
            "convergence": Convergence("members-local"),
        }
