"""Cash machines: two withdrawals of 800 at once, through two machines, from an account that holds 1,000.

The smallest bank in which something can go wrong: each machine alone may pay out, both together may not. Every account
is used once, and was opened some time before, so that nothing but the withdrawals is on its way. Refutes: a store that
reads a balance and writes a smaller one without keeping others from doing the same meanwhile, and one whose former
primary still pays out.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

import msgspec

from harness.checkers.bank import Bank
from harness.checkers.split_brain import SplitBrain
from harness.errors import UsageError, option
from harness.generator import Generator, Stream, operations
from harness.operation import Operation
from harness.options import Number
from harness.verdict import Checker
from harness.workload import Answers, Workload
from harness.workloads.bank import BankWorkload

_AHEAD: Final = 8
"""How many accounts are opened before they are used."""
_ACCOUNT: Final = "account"


class AtmWorkload(Workload):
    """Machines pay out from one account at once; together no more than it holds."""

    class Options(msgspec.Struct, frozen=True):
        """What an account holds, what each machine is asked for, and how many machines there are."""

        balance: Annotated[int, Number(0, 1_000_000), "what each account holds"] = 1000
        amount: Annotated[int, Number(1, 1_000_000), "what is withdrawn at each machine"] = 800
        machines: Annotated[int, Number(2, 100), "how many withdraw from an account at once"] = 2

    name: ClassVar[str] = "atm"
    functions: ClassVar[frozenset[str] | None] = frozenset({"init", "balances", "withdraw"})
    answers: ClassVar[Answers] = {name: BankWorkload.answers[name] for name in ("balances", "withdraw")}
    reads: ClassVar[frozenset[str]] = BankWorkload.reads

    def __init__(self, options: Options) -> None:
        balance, amount, machines = options.balance, options.amount, options.machines
        if not amount <= balance < machines * amount:
            raise UsageError(
                f"{option('balance', balance)}, {option('amount', amount)} and {option('machines', machines)} can show "
                "no double payment: an account must hold enough for one machine, and too little for all of them"
            )
        self._options = options
        self._opened = 0

    def generator(self, rng: random.Random) -> Generator:
        options = self._options
        self._opened = 0
        waiting: list[Operation] = []
        """What is invoked next, the last one first."""

        def draw() -> Operation:
            if not waiting:
                used = self._opened - _AHEAD
                self._opened += 1
                if used >= 0:
                    withdrawal = Operation("withdraw", _bank(used), {"account": _ACCOUNT, "amount": options.amount})
                    waiting.extend([Operation("balances", _bank(used)), *[withdrawal] * options.machines])
                waiting.append(Operation("init", _bank(self._opened - 1), {_ACCOUNT: options.balance}))
            return waiting.pop()

        return Stream(draw)

    def final(self) -> Generator:
        """Every account is read once more."""
        return operations(Operation("balances", _bank(number)) for number in range(self._opened))

    def checkers(self) -> Mapping[str, Checker]:
        return {"split-brain": SplitBrain(), "bank": Bank()}


def _bank(number: int) -> str:
    """Each account is a bank of its own."""
    return f"atm{number}"
