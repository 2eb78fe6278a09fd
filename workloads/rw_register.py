"""Transactions on registers: each writes unique values to some and reads some.

A read tells one version, and who wrote it; which version came first is told only by transactions that read and then
write the same key. Where it is not told, a solver looks for an order that the model allows. It is what every store with
keys and values can do; but ``list-append`` and ``rmw`` show more of what went wrong, and are decided faster.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from harness.checkers.split_brain import SplitBrain
from harness.checkers.transactions import Transactional
from harness.generator import Generator, Stream, sleep, then
from harness.options import Number, Share
from harness.verdict import Checker
from harness.workload import Answers, Workload
from harness.workloads.transactions import (
    FUNCTIONS,
    MODEL,
    READS,
    Model,
    Places,
    check_lengths,
    read_all,
    read_or_write,
)


class RwRegister(Workload):
    """Clients write registers and read them, several at once; what they saw must fit the model."""

    class Options(msgspec.Struct, frozen=True):
        """Which registers there are, what the transactions are like, and what is promised."""

        keys: Annotated[int, Number(1, 10_000), "registers that are in use at a time"] = 5
        writes: Annotated[int, Number(1, 10_000), "writes after which another register takes a register's place"] = 50
        shortest: Annotated[int, Number(1, 100), "the fewest micro-operations of a transaction"] = 1
        longest: Annotated[int, Number(1, 100), "the most micro-operations of a transaction"] = 4
        read: Annotated[float, Share(0, 1), "share of reads"] = 0.5
        model: Annotated[Model, MODEL] = "strict-serializable"

    name: ClassVar[str] = "rw-register"
    functions: ClassVar[frozenset[str] | None] = FUNCTIONS
    answers: ClassVar[Answers] = {"txn": (list, tuple)}
    reads: ClassVar[frozenset[str]] = READS
    settle: float = 1.0
    """A replica that is asked in the end has had the time to hear of the last writes."""

    def __init__(self, options: Options) -> None:
        check_lengths(options.shortest, options.longest)
        self._options = options
        self._places = Places(options.keys, options.writes)

    def generator(self, rng: random.Random) -> Generator:
        options = self._options
        self._places = Places(options.keys, options.writes)
        lengths = (options.shortest, options.longest)
        return Stream(lambda: read_or_write(rng, self._places, "w", lengths, options.read))

    def final(self) -> Generator:
        """Every register is read, so that an acknowledged value is missed where an older one is still there."""
        return then(sleep(self.settle), read_all(range(1, self._places.begun + 1)))

    def checkers(self) -> Mapping[str, Checker]:
        # What the order in sessions, or in time, says of versions holds only in a store that respects it: where it does
        # not, versions would be cyclic, which is no fault of weaker models.
        return {
            "split-brain": SplitBrain(),
            "transactions": Transactional("rw-register", models=[self._options.model], versions=["wfr"]),
        }
