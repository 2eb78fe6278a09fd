"""Whatever stands in the fields of a history, every checker has a verdict on it, or refuses it in one sentence."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from harness.errors import HistoryError
from harness.history import History, from_events
from harness.operation import LEADERSHIP, MONITOR, NEMESIS, ROLE, Event, ServedBy
from harness.plugins import load, names
from harness.roles import Answer
from harness.verdict import Budget, Checker
from harness.workload import Workload
from tests.random_runs import cases

ODD: Sequence[Any] = (
    *(10**30, -(10**30), 10**400, 2**63, 2**63 - 1, 2**62, -5, 1.5, 1e300, 1e18, "x", ""),
    *([], {}, {"a": 1}, [1, [2, [3]]], [10**30, 1], [1, 10**30], [None, 3], ["a", 10**30], [1.5, "b"], [{"a": []}]),
)
PLAIN: Sequence[Any] = (1, 2, 3, 5.0, None, True, False, [1], [1, 2])
NODES = ("n1", "n2")
WORKLOADS: Mapping[str, type[Workload]] = {name: load("workloads", name) for name in names("workloads")}
FUNCTIONS = sorted({frozenset(workload.functions or ()) for workload in WORKLOADS.values()}, key=sorted)


def value(rng: random.Random) -> Any:
    return rng.choice(PLAIN if rng.random() < 0.5 else ODD)


def odd(rng: random.Random) -> list[Event]:
    """What clients of one workload ask and are answered, by chance; what nodes say that they are; final reads."""
    functions = sorted(rng.choice(FUNCTIONS))
    events = [Event(0, 0, MONITOR, "info", LEADERSHIP, value=rng.choice(("primary", "forwarded", "none")))]
    now, open_ = 1, dict[int, Event]()
    for _ in range(rng.randint(2, 24) if functions else 0):
        now += rng.choice((1, 1000, 10**8))
        process, node = rng.randrange(3), rng.choice(NODES)
        if rng.random() < 0.1:
            term = rng.choice((1, 2, None, 10**30)) if rng.random() < 0.2 else 1
            said = Answer(rng.choice(("primary", "replica", None)), now - 1, now, term, rng.choice((None, now - 1)))
            events.append(Event(0, now, MONITOR, "info", ROLE, None, said, node))
        elif (asked := open_.pop(process, None)) is None:
            key = rng.choice(("k", "l", 1, None))
            open_[process] = Event(0, now, process, "invoke", rng.choice(functions), key, value(rng), node)
            events.append(open_[process])
        else:
            served = ServedBy(node, rng.choice((None, 1, 2))) if rng.random() < 0.5 else None
            kind: Any = rng.choice(("ok", "ok", "ok", "fail", "info"))
            answer = value(rng) if rng.random() < 0.8 else asked.value
            events.append(Event(0, now, process, kind, asked.f, asked.key, answer, asked.node, served_by=served))
    events.append(Event(0, now + 1, NEMESIS, "ok", "heal"))
    for f in functions if rng.random() < 0.5 else ():
        for node in NODES:
            now += 2
            events.append(Event(0, now, 7, "invoke", f, "k", None, node))
            events.append(Event(0, now + 1, 7, "ok", f, "k", value(rng), node))
    return events


def histories(seed: int, number: int) -> list[History]:
    """As a file has them."""
    rng = random.Random(seed)
    return [from_events(msgspec.json.decode(msgspec.json.encode(odd(rng)), type=list[Event])) for _ in range(number)]


@pytest.mark.parametrize("name", sorted({*names("checkers")} - {"transactions"}))
def test_a_checker_judges_odd_values_or_refuses_them(name: str) -> None:
    checker: type[Checker] = load("checkers", name)
    seen: Counter[str] = Counter()
    said: list[str] = []
    for history in histories(13, cases(300)):
        try:
            verdict = checker().check(history, Budget(seconds=2.0))
            checker().blind(history)
        except HistoryError as refusal:
            said.append(str(refusal))
        else:
            msgspec.json.encode(verdict)
            seen[verdict.validity] += 1
    assert all(len(sentence) < 500 and "\n" not in sentence for sentence in said)
    # A model of registers knows functions by their names, and refuses nearly all of these histories.
    assert seen["valid"] or seen["unknown"] or name == "linearizable", seen
