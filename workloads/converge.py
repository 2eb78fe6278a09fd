"""Registers in stores without one order of writes: unique writes and deletes, and what every node holds in the end.

A process sees what it reads and overwrites it, so that some values are certainly overwritten. Refutes: nodes that never
agree, values that come back after they were overwritten or deleted, and writes that vanish. ``causal=false`` asks only
that nodes agree: for last-write-wins by wall clocks, and for asynchronous replication, which promise no more.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from harness.checkers.convergence import Convergence
from harness.checkers.overwritten import Overwritten
from harness.generator import Generator, Stream
from harness.operation import Operation
from harness.options import Number, Seconds
from harness.verdict import Checker
from harness.workload import Workload
from harness.workloads.final import every_node_reads


class Converge(Workload):
    """Clients write, delete and read registers; in the end all nodes must hold the same, and nothing overwritten."""

    class Options(msgspec.Struct, frozen=True):
        """How many registers, how often each function is invoked, and what is asked of the nodes in the end."""

        keys: Annotated[int, Number(1, 10_000), "registers"] = 20
        settle: Annotated[float, Seconds(0.001, 3600, zero="none"), "quiet time before the final reads"] = 10.0
        causal: Annotated[bool, "whether what was seen and overwritten has to stay so"] = True
        read: Annotated[float, Number(0.001, 1000, zero="none"), "weight of reads"] = 2.0
        write: Annotated[float, Number(0.001, 1000), "weight of writes"] = 2.0
        delete: Annotated[float, Number(0.001, 1000, zero="none"), "weight of deletes"] = 0.3

    name: ClassVar[str] = "converge"
    functions: ClassVar[frozenset[str] | None] = frozenset({"read", "write", "delete", "read-local"})
    reads: ClassVar[frozenset[str]] = frozenset({"read", "read-local"})

    def __init__(self, options: Options) -> None:
        self._options = options
        self.settle = options.settle
        self._keys = [f"k{key}" for key in range(options.keys)]
        self._weights = {"read": options.read, "write": options.write, "delete": options.delete}

    def generator(self, rng: random.Random) -> Generator:
        functions, weights = list(self._weights), list(self._weights.values())
        written = 0

        def draw() -> Operation:
            nonlocal written
            function = rng.choices(functions, weights)[0]
            key = rng.choice(self._keys)
            if function != "write":
                return Operation(function, key)
            written += 1
            return Operation("write", key, written)

        return Stream(draw)

    def final(self) -> Generator:
        return every_node_reads("read-local", self._keys, self.settle)

    def checkers(self) -> Mapping[str, Checker]:
        agreement: dict[str, Checker] = {"convergence": Convergence("read-local")}
        return agreement | {"overwritten": Overwritten("read-local")} if self._options.causal else agreement
