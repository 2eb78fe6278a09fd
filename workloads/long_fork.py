"""Long fork: registers are written once each, one in a transaction, and others read a whole group of them.

All who read a group must have seen its writes in one order. Where one has seen the first write and not the second, and
another the second and not the first, there is none: the history has gone two ways, and for longer than under snapshot
isolation two transactions may (Sovran et al., "Transactional storage for geo-replicated systems", SOSP 2011). Replicas
that serve reads show it. A register that is written once has two versions only, whose order is known.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from harness.checkers.split_brain import SplitBrain
from harness.checkers.transactions import Transactional
from harness.generator import Generator, Stream
from harness.operation import Operation
from harness.options import Number, Share
from harness.verdict import Checker
from harness.workload import Answers, Workload
from harness.workloads.transactions import FUNCTIONS, MODEL, READS, Model


class LongFork(Workload):
    """Clients write fresh registers and read groups of them; all must have seen the writes in one order."""

    class Options(msgspec.Struct, frozen=True):
        """Which groups there are, how often they are read, and what is promised."""

        groups: Annotated[int, Number(1, 10_000), "groups that are in use at a time"] = 3
        keys: Annotated[int, Number(2, 100), "registers in a group"] = 2
        read: Annotated[float, Share(0, 0.999), "share of transactions that read"] = 0.8
        after: Annotated[int, Number(0, 10_000), "how often a group is read once all of it was written"] = 5
        model: Annotated[Model, MODEL] = "strict-serializable"

    name: ClassVar[str] = "long-fork"
    functions: ClassVar[frozenset[str] | None] = FUNCTIONS
    answers: ClassVar[Answers] = {"txn": (list, tuple)}
    reads: ClassVar[frozenset[str]] = READS

    def __init__(self, options: Options) -> None:
        self._options = options

    def generator(self, rng: random.Random) -> Generator:
        options = self._options
        begun = 0

        def group() -> _Group:
            nonlocal begun
            keys = list(range(begun + 1, begun + options.keys + 1))
            begun += options.keys
            rng.shuffle(keys)
            return _Group(keys)

        groups = [group() for _ in range(options.groups)]

        def draw() -> Operation:
            at = rng.randrange(len(groups))
            if not groups[at].unwritten and groups[at].read_since >= options.after:
                groups[at] = group()
            now = groups[at]
            if now.unwritten and rng.random() >= options.read:
                return Operation("txn", None, [["w", now.unwritten.pop(), 1]])
            now.read_since += not now.unwritten
            return Operation("txn", None, [["r", key, None] for key in rng.sample(now.keys, len(now.keys))])

        return Stream(draw)

    def final(self) -> None:
        """Who reads when all is over has seen everything."""

    def checkers(self) -> Mapping[str, Checker]:
        return {
            "split-brain": SplitBrain(),
            "transactions": Transactional("rw-register", models=[self._options.model]),
        }


class _Group:
    """Registers that are read together; which of them nobody was told to write yet, in the order in which it comes."""

    def __init__(self, keys: list[int]) -> None:
        self.keys, self.unwritten = keys, list(keys)
        self.read_since = 0
        """How often it was read since it was written as a whole."""
