"""Unique identifiers: everybody asks for one, and nobody may be given what somebody else was given.

Refutes: sequences that are kept by two nodes at once, or that forget after a failover how far they had come.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from harness.checkers.split_brain import SplitBrain
from harness.checkers.unique_ids import UniqueIds
from harness.generator import Generator, Stream
from harness.operation import Operation
from harness.options import Number
from harness.verdict import Checker
from harness.workload import Workload


class UniqueIdsWorkload(Workload):
    """Clients ask sequences for identifiers."""

    class Options(msgspec.Struct, frozen=True):
        """How many sequences."""

        keys: Annotated[int, Number(1, 10_000), "sequences"] = 1

    name: ClassVar[str] = "unique-ids"
    functions: ClassVar[frozenset[str] | None] = frozenset({"generate"})
    reads: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, options: Options) -> None:
        self._keys = [f"ids{key}" for key in range(options.keys)]

    def generator(self, rng: random.Random) -> Generator:
        return Stream(lambda: Operation("generate", rng.choice(self._keys)))

    def final(self) -> Generator | None:
        return None

    def checkers(self) -> Mapping[str, Checker]:
        return {"split-brain": SplitBrain(), "unique-ids": UniqueIds()}
