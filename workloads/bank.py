"""A bank: money is moved between accounts and paid out, and everybody may ask for all balances at one moment.

A withdrawal reads a balance and writes a smaller one, which two automats may do at once: the race that pays out one
balance twice. Refutes: transfers of which one half is lost, reads of two moments, overdrafts, and that race.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from harness.checkers.bank import Bank
from harness.checkers.split_brain import SplitBrain
from harness.generator import Generator, Stream, each_process, limit, repeat, then, until_ok
from harness.operation import Operation
from harness.options import Number
from harness.verdict import Checker
from harness.workload import Answers, Workload

_TRIES = 20


class BankWorkload(Workload):
    """Clients transfer, withdraw and deposit, and read all balances."""

    class Options(msgspec.Struct, frozen=True):
        """How many accounts, what each holds, how much is moved, and how often each function is invoked."""

        accounts: Annotated[int, Number(2, 1000), "accounts"] = 5
        balance: Annotated[int, Number(0, 1_000_000), "what each account holds at first"] = 100
        most: Annotated[int, Number(1, 1_000_000), "the most that is moved at once"] = 40
        read: Annotated[float, Number(0.001, 1000), "weight of reads"] = 2.0
        transfer: Annotated[float, Number(0.001, 1000, zero="none"), "weight of transfers"] = 2.0
        withdraw: Annotated[float, Number(0.001, 1000, zero="none"), "weight of withdrawals"] = 1.0
        deposit: Annotated[float, Number(0.001, 1000, zero="none"), "weight of deposits"] = 1.0

    name: ClassVar[str] = "bank"
    functions: ClassVar[frozenset[str] | None] = frozenset({"init", "balances", "transfer", "withdraw", "deposit"})
    answers: ClassVar[Answers] = {"balances": (dict,), "withdraw": (dict,), "transfer": (dict,)}
    reads: ClassVar[frozenset[str]] = frozenset({"balances"})

    def __init__(self, options: Options) -> None:
        self._options = options
        self._accounts = [f"a{number}" for number in range(options.accounts)]

    def generator(self, rng: random.Random) -> Generator:
        options = self._options
        weights = {
            "balances": options.read,
            "transfer": options.transfer,
            "withdraw": options.withdraw,
            "deposit": options.deposit,
        }
        functions, shares = list(weights), list(weights.values())

        def draw() -> Operation:
            function = rng.choices(functions, shares)[0]
            if function == "balances":
                return Operation("balances", "bank")
            account, other = rng.sample(self._accounts, 2)
            amount = rng.randint(1, options.most)
            if function == "transfer":
                return Operation(function, "bank", {"from": account, "to": other, "amount": amount})
            return Operation(function, "bank", {"account": account, "amount": amount})

        begin = Operation("init", "bank", dict.fromkeys(self._accounts, options.balance))
        return then(until_ok(repeat(begin)), Stream(draw))

    def final(self) -> Generator:
        return each_process(lambda: until_ok(limit(_TRIES, repeat(Operation("balances", "bank")))))

    def checkers(self) -> Mapping[str, Checker]:
        return {"split-brain": SplitBrain(), "bank": Bank(self._options.accounts * self._options.balance)}
