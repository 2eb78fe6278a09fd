"""Transactions on lists: each appends unique elements to some and reads some whole.

A read of a list tells all versions that the list has had, and who wrote each, so that what depends on what is known for
certain. Refutes every isolation: which anomalies there are says which models a store keeps, and which it does not. The
idea is Elle's (Kyle Kingsbury, Peter Alvaro: "Elle: Inferring Isolation Anomalies from Experimental Observations",
2020).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from harness.checkers.lost_transactions import LostTransactions
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


class ListAppend(Workload):
    """Clients append to lists and read them, several at once; what they saw must fit the model."""

    class Options(msgspec.Struct, frozen=True):
        """Which lists there are, what the transactions are like, and what is promised."""

        keys: Annotated[int, Number(1, 10_000), "lists that are in use at a time"] = 5
        writes: Annotated[int, Number(1, 10_000), "appends after which another list takes a list's place"] = 50
        shortest: Annotated[int, Number(1, 100), "the fewest micro-operations of a transaction"] = 1
        longest: Annotated[int, Number(1, 100), "the most micro-operations of a transaction"] = 4
        read: Annotated[float, Share(0, 1), "share of reads"] = 0.5
        model: Annotated[Model, MODEL] = "strict-serializable"

    name: ClassVar[str] = "list-append"
    functions: ClassVar[frozenset[str] | None] = FUNCTIONS
    answers: ClassVar[Answers] = {"txn": (list, tuple)}
    reads: ClassVar[frozenset[str]] = READS
    settle: float = 1.0
    """A replica that is asked in the end has had the time to hear of the last appends."""

    def __init__(self, options: Options) -> None:
        check_lengths(options.shortest, options.longest)
        self._options = options
        self._places = Places(options.keys, options.writes)

    def generator(self, rng: random.Random) -> Generator:
        options = self._options
        self._places = Places(options.keys, options.writes)
        lengths = (options.shortest, options.longest)
        return Stream(lambda: read_or_write(rng, self._places, "append", lengths, options.read))

    def final(self) -> Generator:
        """Every list is read, so that an acknowledged element that is in none is found missing."""
        return then(sleep(self.settle), read_all(range(1, self._places.begun + 1)))

    def checkers(self) -> Mapping[str, Checker]:
        return {
            "split-brain": SplitBrain(),
            "transactions": Transactional("list-append", models=[self._options.model]),
            "lost": LostTransactions(),
        }
