"""One example of every anomaly, and runs of a strict serializable database in which one of them is hidden."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.history import History, from_events
from harness.operation import Event
from tests.transactions.databases import Load, Serial, run

Micro = list[Any]


@dataclass(frozen=True)
class One:
    """A transaction of an example: who, what it did, from when to when."""

    process: int
    steps: Sequence[Micro]
    call: int
    ret: int
    type: str = "ok"


@dataclass(frozen=True)
class Example:
    """Transactions that show an anomaly, and whatever else must be found in them."""

    transactions: Sequence[One]
    also: frozenset[str] = frozenset()


def r(key: str, *elements: int) -> Micro:
    """A read of a list."""
    return ["r", key, list(elements)]


def a(key: str, element: int) -> Micro:
    """An append."""
    return ["append", key, element]


def together(*transactions: Sequence[Micro], failed: int = -1) -> tuple[One, ...]:
    """All at the same time, of as many processes; one of them may have failed."""
    return tuple(
        One(at, steps, at, 100 + at, "fail" if at == failed else "ok") for at, steps in enumerate(transactions)
    )


READER: Final = 9


def _two(process: int, first: Sequence[Micro], then: Sequence[Micro], *others: One) -> tuple[One, ...]:
    """One after the other, by the process 0 and by ``process``; the others at the same time as both."""
    return (One(0, first, 1, 10), One(process, then, 20, 30), *others)


def _ordered(process: int) -> dict[str, Example]:
    """Cycles that need the order of one process (0), or real time."""
    later = "process" if process == 0 else "realtime"
    reader = One(READER, [r("x", 2, 1)], 2, 50)
    fork = (One(3, [a("x", 1)], 0, 60), One(4, [r("x", 1), r("y")], 3, 70))
    skew = One(3, [a("y", 1), r("x")], 0, 60)
    return {
        f"G0-{later}": Example(_two(process, [a("x", 1)], [a("x", 2)], reader)),
        f"G1c-{later}": Example(_two(process, [r("x", 1)], [a("x", 1)])),
        f"G-single-item-{later}": Example(_two(process, [a("x", 1)], [r("x")])),
        f"G-nonadjacent-item-{later}": Example(_two(process, [a("y", 1)], [r("x")], *fork)),
        f"G2-item-{later}": Example(_two(process, [a("x", 1)], [r("y")], skew)),
    }


EXAMPLES: Final[dict[str, Example]] = {
    "G0": Example(together([a("x", 1), a("y", 1)], [a("x", 2), a("y", 2)], [r("x", 1, 2), r("y", 2, 1)])),
    "G1a": Example(together([a("x", 1)], [r("x", 1)], failed=0)),
    "G1b": Example(together([a("x", 1), a("x", 2)], [r("x", 1)])),
    "G1c": Example(together([a("x", 1), r("y", 1)], [a("y", 1), r("x", 1)])),
    "dirty-update": Example(together([a("x", 1)], [a("x", 2)], [r("x", 1, 2)], failed=0), frozenset({"G1a"})),
    "lost-update": Example(together([r("x"), a("x", 1)], [r("x"), a("x", 2)], [r("x", 1, 2)])),
    "G-single-item": Example(together([a("x", 1), a("y", 1)], [r("x", 1), r("y")])),
    "G-nonadjacent-item": Example(together([a("x", 1)], [a("y", 1)], [r("x", 1), r("y")], [r("x"), r("y", 1)])),
    "G2-item": Example(together([r("x"), r("y"), a("x", 1)], [r("x"), r("y"), a("y", 1)])),
    "internal": Example(together([r("x"), a("x", 1), r("x")])),
    "future-read": Example(together([r("x", 1), a("x", 1)])),
    "duplicate-elements": Example(together([a("x", 1)], [r("x", 1, 1)])),
    "incompatible-order": Example(together([a("x", 1)], [a("x", 2)], [r("x", 1, 2)], [r("x", 2, 1)])),
    "garbage-read": Example(together([r("x", 99)])),
    **_ordered(0),
    **_ordered(1),
}
"""Of each anomaly's name one that shows it."""


def got(key: str, value: int | None = None) -> Micro:
    """A read of a register."""
    return ["r", key, value]


def w(key: str, value: int) -> Micro:
    """A write."""
    return ["w", key, value]


@dataclass(frozen=True)
class Between:
    """Transactions on registers that one level allows, and another one does not."""

    allowed: str
    refuted: str
    transactions: Sequence[One]


REGISTERS: Final[dict[str, Between]] = {
    "a read of what failed": Between("", "read-committed", together([w("x", 1)], [got("x", 1)], failed=0)),
    "an intermediate read": Between("", "read-committed", together([w("x", 1), w("x", 2)], [got("x", 1)])),
    "a value of nobody": Between("", "read-committed", _two(0, [w("x", 1)], [got("x", 99)])),
    "two that read each other": Between(
        "", "read-committed", together([w("x", 1), got("y", 1)], [w("y", 1), got("x", 1)])
    ),
    "half of a commit, and nothing of what came with it": Between(
        "", "read-committed", together([w("x", 1), w("y", 1)], [got("y", 1), got("x")])
    ),
    "a commit between two reads": Between(
        "read-committed", "read-atomic", together([w("x", 1), w("y", 1)], [got("x"), got("y", 1)])
    ),
    "an effect without its cause": Between(
        "read-atomic", "causal", together([w("x", 1)], [got("x", 1), w("y", 1)], [got("y", 1), got("x")])
    ),
    "a lost update": Between("causal", "snapshot-isolation", together([got("x"), w("x", 1)], [got("x"), w("x", 2)])),
    "a long fork": Between(
        "causal",
        "snapshot-isolation",
        together([w("x", 1)], [w("y", 1)], [got("x", 1), got("y")], [got("x"), got("y", 1)]),
    ),
    "a write skew": Between(
        "snapshot-isolation", "serializable", together([got("x"), w("y", 1)], [got("y"), w("x", 1)])
    ),
    "a session that misses its own write": Between(
        "serializable", "strong-session-serializable", _two(0, [w("x", 1)], [got("x")])
    ),
    "a stale read": Between("strong-session-serializable", "strict-serializable", _two(1, [w("x", 1)], [got("x")])),
}
"""Of each two levels something between them."""


def alone(example: Example | Between) -> History:
    """An example and nothing else."""
    return from_events(_events(example, 0, 0))


def hidden(rng: random.Random, example: Example | Between, transactions: int) -> History:
    """An example, on keys of its own, amid a run of a serial database."""
    history = run(
        rng, Serial(rng), Load(lists=isinstance(example, Example)), transactions=transactions, clients=4, crash=0.02
    )
    events = list(history.events())
    middle = rng.randrange(len(events) + 1)
    since = events[middle].time if middle < len(events) else events[-1].time + 1
    for event in events[middle:]:
        event.time += 200  # the clients wait meanwhile: calls and returns stay where they are
    busy = 1 + max(event.process for event in events if isinstance(event.process, int))
    return from_events(events[:middle] + _events(example, since, busy) + events[middle:])


def _events(example: Example | Between, since: int, process: int) -> list[Event]:
    events = []
    for one in example.transactions:
        asked = [[f, key, None if f == "r" else value] for f, key, value in one.steps]
        answer = [list(step) for step in one.steps] if one.type == "ok" else asked
        who = process + one.process
        events.append(Event(0, since + one.call, who, "invoke", "txn", value=asked))
        events.append(Event(0, since + one.ret, who, one.type, "txn", value=answer))  # type: ignore[arg-type]
    return sorted(events, key=lambda event: event.time)
