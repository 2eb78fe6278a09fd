"""Counters: increments and decrements, and what every node holds in the end.

Refutes: increments that are lost or counted twice, and nodes that never agree on the total; with ``linearizable=true``
also reads without all that was acknowledged before.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from harness.checkers.convergence import Convergence
from harness.checkers.split_brain import SplitBrain
from harness.checkers.total import Total
from harness.generator import Generator, Stream
from harness.operation import Operation
from harness.options import Number, Seconds
from harness.verdict import Checker
from harness.workload import Workload
from harness.workloads.final import every_node_reads


class CounterWorkload(Workload):
    """Clients add to counters and subtract from them; in the end all nodes must hold what was acknowledged."""

    class Options(msgspec.Struct, frozen=True):
        """How many counters, and what is asked of reads."""

        keys: Annotated[int, Number(1, 10_000), "counters"] = 5
        settle: Annotated[float, Seconds(0.001, 3600, zero="none"), "quiet time before the final reads"] = 10.0
        linearizable: Annotated[bool, "whether each read has to show all that was acknowledged before"] = False

    name: ClassVar[str] = "counter"
    functions: ClassVar[frozenset[str] | None] = frozenset({"increment", "read", "read-local"})
    reads: ClassVar[frozenset[str]] = frozenset({"read", "read-local"})

    def __init__(self, options: Options) -> None:
        self._options = options
        self.settle = options.settle
        self._keys = [f"c{key}" for key in range(options.keys)]

    def generator(self, rng: random.Random) -> Generator:
        def draw() -> Operation:
            key = rng.choice(self._keys)
            if rng.random() < 0.25:
                return Operation("read", key)
            return Operation("increment", key, rng.randint(1, 5) * rng.choice((1, 1, -1)))

        return Stream(draw)

    def final(self) -> Generator:
        return every_node_reads("read-local", self._keys, self.settle)

    def checkers(self) -> Mapping[str, Checker]:
        return {
            "split-brain": SplitBrain(),
            "total": Total("read-local", linearizable=self._options.linearizable),
            "convergence": Convergence("read-local"),
        }
