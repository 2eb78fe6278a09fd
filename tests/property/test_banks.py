"""Banks against the definition: what a read may show, what can have been paid out, and who spent what."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from harness.checkers.bank import Bank
from harness.history import History
from harness.verdict import Budget
from tests.random_runs import CASES, FOREVER, Done, RefusedError, adds_up, cases, done, run

ACCOUNTS = ("a", "b", "c")
MOVES = ("transfer", "withdraw", "deposit")


def random_bank(rng: random.Random, wrong: float, steps: int) -> History:
    """With ``wrong`` half of a transfer is lost, or all of it, reads show two moments, other accounts or none, and
    withdrawals find an old balance.
    """
    balances = dict.fromkeys(ACCOUNTS, 20)
    before = dict(balances)
    begun = opened = False

    def draw(rng: random.Random, process: int) -> tuple[str, Any] | None:
        nonlocal begun
        if not begun:
            begun = True
            return "init", dict(balances)
        f = rng.choice(("read", "read", *MOVES, "withdraw"))
        amount, one, other = rng.choice((3, 5, 12)), *rng.sample(ACCOUNTS, 2)
        if f == "transfer":
            return f, {"from": one, "to": other, "amount": amount}
        return (f, None) if f == "read" else (f, {"account": one, "amount": amount})

    def apply(f: str, argument: Any, now: int, process: int) -> Any:
        nonlocal before, opened
        if f == "init":
            opened = True
            return argument
        if not opened and f == "read":
            return {}
        if not opened:
            raise RefusedError
        if f == "read" and rng.random() < wrong / 3:
            return {}
        if f == "read":
            mixed = rng.random() < wrong
            shown: dict[str, Any] = {
                name: rng.choice((balances, before))[name] if mixed else balances[name] for name in ACCOUNTS
            }
            if rng.random() < wrong / 3:
                shown[rng.choice(("d", *ACCOUNTS))] = rng.choice((0, None))  # one that is new, or empty, or missing
            return shown
        found = dict(before if rng.random() < wrong else balances)
        before = dict(balances)
        answer = dict(argument)
        losing, gaining = argument.get("from", argument.get("account")), argument.get("to", argument.get("account"))
        if f != "deposit":
            if found[losing] < argument["amount"] and rng.random() >= wrong:
                raise RefusedError
            answer["balance"] = found[losing] - argument["amount"]
            if f == "transfer" and rng.random() < wrong / 3:
                return answer
            balances[losing] = answer["balance"]
        if f != "withdraw" and rng.random() >= wrong / 3:
            balances[gaining] += argument["amount"]
        return answer

    return run(rng, draw, apply, steps=steps)


def effects(one: Done) -> list[tuple[str, int]]:
    """What an operation does to which account."""
    how = one.argument
    if one.f == "transfer":
        return [(how["from"], -how["amount"]), (how["to"], how["amount"])]
    return [(how["account"], how["amount"] if one.f == "deposit" else -how["amount"])]


def reads(history: History) -> list[Done]:
    """The reads that are judged: an empty one only if the bank had certainly been opened before. What has no balance
    is no account.
    """
    opened = min((one.ret for one in done(history, "init") if one.type == "ok"), default=FOREVER)
    judged = []
    for one in done(history, "read"):
        if one.type == "ok":
            held = {name: balance for name, balance in one.answer.items() if balance is not None}
            if held or one.call > opened:
                judged.append(one if len(held) == len(one.answer) else replace(one, answer=held))
    return judged


def wrong_total(history: History, read: Done) -> bool:
    paid = [one for one in done(history, "withdraw", "deposit") if one.type != "fail"]
    certain = 60 + sum(effects(one)[0][1] for one in paid if one.type == "ok" and one.ret < read.call)
    may = [effects(one)[0][1] for one in paid if one.call < read.ret and one.ret > read.call]
    return not adds_up(sum(read.answer.values()) - certain, may)


def wrong_balances(history: History) -> int:
    """How many reads whose total is right show a balance that no choice of what may have been done adds up to."""
    if not init_known(history):
        return 0
    moves = [one for one in done(history, *MOVES) if one.type != "fail"]
    found = 0
    for read in reads(history):
        if set(read.answer) == set(ACCOUNTS) and not wrong_total(history, read):
            for account in ACCOUNTS:
                mine = [(one, by) for one in moves for name, by in effects(one) if name == account]
                certain = 20 + sum(by for one, by in mine if one.type == "ok" and one.ret < read.call)
                may = [by for one, by in mine if one.call < read.ret and one.ret > read.call]
                if not adds_up(read.answer[account] - certain, may):
                    found += 1
                    break
    return found


def overdrafts(history: History) -> int:
    """The reads that show less than nothing, and the accounts from which more was taken than they can have held."""
    found: int = sum(min(read.answer.values(), default=0) < 0 for read in reads(history))
    moves = [one for one in done(history, *MOVES) if one.type != "fail"]
    if not init_known(history):
        return found  # nothing says what the accounts held
    for account in ACCOUNTS:
        mine = [(one, by) for one in moves for name, by in effects(one) if name == account]
        for one, by in mine:
            if one.type == "ok" and by < 0:
                spent = -sum(b for other, b in mine if b < 0 and other.type == "ok" and other.ret <= one.ret)
                if spent > 20 + sum(b for other, b in mine if b > 0 and other.call < one.ret):
                    found += 1
                    break
    return found


def init_known(history: History) -> bool:
    return any(one.type != "fail" for one in done(history, "init"))


def spent_twice(history: History) -> int:
    """Pairs, one behind the other, that found the same balance although too little can have come in between."""
    moves = [one for one in done(history, *MOVES) if one.type != "fail"]
    found = 0
    for account in ACCOUNTS:
        groups: dict[int, list[Done]] = {}
        for one in moves:
            if one.type == "ok" and (account, -one.argument["amount"]) in effects(one):
                groups.setdefault(one.answer["balance"] + one.argument["amount"], []).append(one)
        for group in groups.values():
            for one, other in itertools.pairwise(sorted(group, key=lambda x: x.call)):
                begin, end = min(one.call, other.call), max(one.ret, other.ret)
                came = sum(
                    by
                    for each in moves
                    for name, by in effects(each)
                    if name == account and by > 0 and each.call < end and not (each.type == "ok" and each.ret < begin)
                )
                found += came < min(one.argument["amount"], other.argument["amount"])
    return found


@pytest.mark.parametrize("wrong", [0.0, 0.15])
def test_the_rules_of_a_bank(wrong: float) -> None:
    rng = random.Random(f"bank/{wrong}")
    seen: Counter[str] = Counter()
    for _ in range(CASES):
        history = random_bank(rng, wrong, rng.randint(8, 60))
        expected = {
            "wrong total": sum(wrong_total(history, read) for read in reads(history)),
            "wrong balance": wrong_balances(history),
            "overdraft": overdrafts(history),
            "spent twice": spent_twice(history),
            "wrong accounts": sum(set(read.answer) != set(ACCOUNTS) for read in reads(history) if init_known(history)),
        }
        verdict = Bank(60).check(history, Budget())
        assert verdict.total == sum(expected.values()), list(history.events())
        kinds = {kind for kind, number in expected.items() if number}
        assert {anomaly.kind for anomaly in verdict.anomalies} == kinds
        assert wrong or not kinds
        seen.update(kinds)
    assert not wrong or min(seen[kind] for kind in expected) > CASES // 100, seen


def test_without_a_total_init_says_it_or_a_read_that_nothing_disturbs() -> None:
    rng = random.Random("bank/unknown")
    for _ in range(cases(1000)):
        history = random_bank(rng, 0.0, rng.randint(8, 60))
        assert not Bank().check(history, Budget()).total
