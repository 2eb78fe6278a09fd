"""What clients ask for, in parts of which each is of one key, or of several keys of one shard; and their answers.

A transaction falls apart by its keys. So does a bank: each account is a key of its own, ``bank/a1``, and the bank
itself holds only which accounts there are, so that a transfer goes from one shard to another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from harness.targets.reference.placement import LEVEL
from harness.targets.reference.state import Answer
from harness.targets.reference.transactions import parse

BANKS = frozenset({"OPEN", "MOVE", "HGETALL"})
"""The commands of a bank."""
Parts = list[list[str]]
"""Commands that are executed together, or not at all."""


def of_transaction(text: str, shard: Callable[[str], int]) -> tuple[Parts, Callable[[Sequence[Answer]], Answer]]:
    """A transaction's parts, one for each shard, and what their answers are together."""
    steps = parse(text)
    places: dict[int, list[int]] = {}
    for at, (_, key, _) in enumerate(steps):
        places.setdefault(shard(str(key)), []).append(at)

    def joined(answers: Sequence[Answer]) -> Answer:
        whole: list[Any] = [None] * len(steps)
        for some, answer in zip(places.values(), answers, strict=True):
            for at, step in zip(some, json.loads(str(answer)), strict=True):
                whole[at] = step
        return json.dumps(whole, separators=(",", ":"))

    return [["TXN", json.dumps([steps[at] for at in some])] for some in places.values()], joined


def of_opening(bank: str, accounts: Sequence[str]) -> Parts:
    """What opens a bank: who has an account, and what each holds at first."""
    roster = [word for name in accounts[::2] for word in (name, "0")]
    each = [["OPEN", _account(bank, name), name, of] for name, of in zip(accounts[::2], accounts[1::2], strict=False)]
    return [["OPEN", bank, *roster], *each]


def of_move(bank: str, amount: str, losing: str, gaining: str) -> Parts:
    """What moves an amount; the first answer is what is left."""
    taken = [["MOVE", _account(bank, losing), amount, losing, ""]] if losing else []
    given = [["MOVE", _account(bank, gaining), amount, "", gaining]] if gaining else []
    return taken + given


def of_balances(bank: str, roster: Sequence[str]) -> Parts:
    """What asks for all balances, of those who have an account."""
    return [["HGETALL", _account(bank, name)] for name in roster[::2]]


def _account(bank: str, name: str) -> str:
    return f"{bank}{LEVEL}{name}"
