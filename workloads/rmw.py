"""Read-modify-write of registers: whoever writes a key has read it before in the same transaction.

So every write names the version that it takes the place of, and all versions of a key are known in their order, with
registers only (Wei et al., "Efficient black-box checking of snapshot isolation with mini-transactions", ICDE 2025).
Where two transactions have read one version and have both written the next, one of them is a lost update.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from harness.checkers.split_brain import SplitBrain
from harness.checkers.transactions import Transactional
from harness.errors import UsageError, option
from harness.generator import Generator, Stream, sleep, then
from harness.operation import Operation
from harness.options import Number, Share
from harness.verdict import Checker
from harness.workload import Answers, Workload
from harness.workloads.transactions import FUNCTIONS, MODEL, READS, Model, Places, check_lengths, read_all


class ReadModifyWrite(Workload):
    """Clients read some registers and then write some of these; no update may be lost."""

    class Options(msgspec.Struct, frozen=True):
        """Which registers there are, what the transactions are like, and what is promised."""

        keys: Annotated[int, Number(1, 10_000), "registers that are in use at a time"] = 5
        writes: Annotated[int, Number(1, 10_000), "writes after which another register takes a register's place"] = 100
        shortest: Annotated[int, Number(1, 100), "the fewest registers of a transaction"] = 1
        longest: Annotated[int, Number(1, 100), "the most registers of a transaction"] = 3
        read: Annotated[float, Share(0, 1), "share of registers that are read and left as they are"] = 0.4
        model: Annotated[Model, MODEL] = "strict-serializable"

    name: ClassVar[str] = "rmw"
    functions: ClassVar[frozenset[str] | None] = FUNCTIONS
    answers: ClassVar[Answers] = {"txn": (list, tuple)}
    reads: ClassVar[frozenset[str]] = READS
    settle: float = 1.0
    """A replica that is asked in the end has had the time to hear of the last writes."""

    def __init__(self, options: Options) -> None:
        check_lengths(options.shortest, options.longest)
        if options.longest > options.keys:
            raise UsageError(f"{option('longest')} is {options.longest}, but {option('keys')} is {options.keys}")
        self._options = options
        self._places = Places(options.keys, options.writes)

    def generator(self, rng: random.Random) -> Generator:
        options = self._options
        self._places = places = Places(options.keys, options.writes)

        def draw() -> Operation:
            chosen = rng.sample(range(len(places)), rng.randint(options.shortest, options.longest))
            written = [place for place in chosen if rng.random() >= options.read]
            for place in written:
                places.make_room(place)
            reads: list[list[Any]] = [["r", places.key(place), None] for place in chosen]
            writes: list[list[Any]] = [["w", *places.write(place)] for place in written]
            return Operation("txn", None, reads + writes)

        return Stream(draw)

    def final(self) -> Generator:
        """Every register is read, so that an acknowledged value is missed where an older one is still there."""
        return then(sleep(self.settle), read_all(range(1, self._places.begun + 1)))

    def checkers(self) -> Mapping[str, Checker]:
        return {
            "split-brain": SplitBrain(),
            "transactions": Transactional("rmw", models=[self._options.model]),
        }
