"""Write skew: each transaction reads both registers of a pair and writes one of them.

Think of two doctors of whom one must stay on call, or of two accounts that together must not be overdrawn: whoever
changes one row has looked at both. Under snapshot isolation two of them may do so at once, as they write different
rows, and each has seen what the other has not yet changed (Berenson et al., "A critique of ANSI SQL isolation levels",
1995, anomaly A5B). Whoever writes a register has read it, so that all versions are known in their order.

Refutes serializability; where two write the same register, and one of the updates is lost, snapshot isolation as well.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from harness.checkers.split_brain import SplitBrain
from harness.checkers.transactions import Transactional
from harness.generator import Generator, Stream, sleep, then
from harness.operation import Operation
from harness.options import Number, Share
from harness.verdict import Checker
from harness.workload import Answers, Workload
from harness.workloads.transactions import FUNCTIONS, MODEL, READS, Model, read_all


class WriteSkew(Workload):
    """Clients read pairs of registers and write one of the two; nobody may do so on what has been changed meanwhile."""

    class Options(msgspec.Struct, frozen=True):
        """Which pairs there are, how often they are only read, and what is promised."""

        pairs: Annotated[int, Number(1, 10_000), "pairs of registers that are in use at a time"] = 2
        writes: Annotated[int, Number(1, 10_000), "writes after which another pair takes a pair's place"] = 50
        read: Annotated[float, Share(0, 1), "share of transactions that only read"] = 0.2
        model: Annotated[Model, MODEL] = "strict-serializable"

    name: ClassVar[str] = "write-skew"
    functions: ClassVar[frozenset[str] | None] = FUNCTIONS
    answers: ClassVar[Answers] = {"txn": (list, tuple)}
    reads: ClassVar[frozenset[str]] = READS
    settle: float = 1.0
    """A replica that is asked in the end has had the time to hear of the last writes."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._begun = options.pairs
        """How many pairs there are so far: pair n is the registers 2n - 1 and 2n."""

    def generator(self, rng: random.Random) -> Generator:
        options = self._options
        pairs, written = list(range(1, options.pairs + 1)), [0] * options.pairs
        self._begun = options.pairs

        def draw() -> Operation:
            at = rng.randrange(len(pairs))
            if written[at] == options.writes:
                self._begun += 1
                pairs[at], written[at] = self._begun, 0
            both = [2 * pairs[at] - 1, 2 * pairs[at]]
            rng.shuffle(both)
            steps: list[list[Any]] = [["r", key, None] for key in both]
            if rng.random() >= options.read:
                written[at] += 1
                steps.append(["w", rng.choice(both), written[at]])
            return Operation("txn", None, steps)

        return Stream(draw)

    def final(self) -> Generator:
        """Every register is read, so that an acknowledged value is missed where an older one is still there."""
        return then(sleep(self.settle), read_all(range(1, 2 * self._begun + 1)))

    def checkers(self) -> Mapping[str, Checker]:
        return {
            "split-brain": SplitBrain(),
            "transactions": Transactional("rmw", models=[self._options.model]),
        }
