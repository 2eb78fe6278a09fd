"""Small random histories of transactions: of databases of every level, with some answers wrong."""

from __future__ import annotations

import random
from typing import Any, Final

from harness.history import History, from_events
from harness.operation import Event
from tests.transactions.databases import (
    Database,
    Load,
    OldReads,
    OldSnapshots,
    Optimistic,
    ParallelSnapshots,
    ReadCommitted,
    ReadUncommitted,
    Replicated,
    Serial,
    SessionSnapshots,
    Snapshot,
    Unlocked,
    run,
)

FOR_LISTS: Final[tuple[type[Database], ...]] = (
    Serial,
    Optimistic,
    OldReads,
    Snapshot,
    OldSnapshots,
    SessionSnapshots,
    ParallelSnapshots,
    ReadCommitted,
    ReadUncommitted,
    Unlocked,
)
FOR_REGISTERS: Final[tuple[type[Database], ...]] = (*FOR_LISTS, Replicated)


def of_lists(rng: random.Random, *, most: int = 7) -> History:
    """At most so many transactions on lists."""
    load = Load(keys=rng.choice((1, 2, 2, 3)), longest=rng.choice((1, 2, 2, 3, 4)), reads=rng.choice((0.3, 0.5, 0.7)))
    if rng.random() < 0.5:
        return wrong(rng, _run(rng, FOR_LISTS, load, most), lists=True)
    return scattered(rng, _run(rng, (Serial,), load, most), lists=True)


def of_registers(rng: random.Random, *, most: int = 7, reads_first: bool = False) -> History:
    """At most so many transactions on registers; ``reads_first``: each key is read before it is written."""
    load = Load(
        lists=False,
        keys=rng.choice((1, 2, 2, 3)),
        longest=rng.choice((1, 2, 2, 3, 4)),
        reads=rng.choice((0.3, 0.5, 0.7)),
        reads_first=reads_first,
    )
    if rng.random() < 0.5:
        return wrong(rng, _run(rng, FOR_REGISTERS, load, most), lists=False)
    return scattered(rng, _run(rng, (Serial,), load, most), lists=False)


def _run(rng: random.Random, kinds: tuple[type[Database], ...], load: Load, most: int) -> History:
    return run(
        rng,
        rng.choice(kinds)(rng),
        load,
        transactions=rng.randint(3, most),
        clients=rng.randint(2, 5),
        crash=rng.choice((0.0, 0.1, 0.3)),
        fail=rng.choice((0.0, 0.15)),
    )


def wrong(rng: random.Random, history: History, *, lists: bool) -> History:
    """The same, half of the time with one or two answers that are wrong; now and then a crash says what it read."""
    events = list(history.events())
    written: dict[Any, list[Any]] = {}
    for event in events:
        if event.type == "invoke":
            for f, key, value in event.value:
                if f != "r":
                    written.setdefault(key, []).append(value)
    reads = [
        (event, at) for event in events if event.type == "ok" for at, step in enumerate(event.value) if step[0] == "r"
    ]
    for _ in range(rng.choice((0, 0, 1, 2)) if reads else 0):
        event, at = rng.choice(reads)
        _, key, value = event.value[at]
        other = _other(rng, (value or []) if lists else value, written.get(key, []))
        event.value = [["r", key, other] if place == at else step for place, step in enumerate(event.value)]
    for event in events:
        if event.type == "info" and rng.random() < 0.1:
            event.value = [[f, key, _guess(rng, f, value, reads, key)] for f, key, value in event.value]
    return from_events(events)


def scattered(rng: random.Random, history: History, *, lists: bool) -> History:
    """The same transactions; each key has some order of versions, and every read sees some version. What a transaction
    has written itself it reads, mostly.
    """
    events = list(history.events())
    orders: dict[Any, list[Any]] = {}
    for event in events:
        if event.type == "ok" or (event.type == "info" and rng.random() < 0.6):
            for f, key, value in event.value:
                if f != "r":
                    orders.setdefault(key, []).append(value)
    for order in orders.values():
        for _ in range(rng.choice((0, 0, 1, 2, 4)) if len(order) > 1 else 0):
            at = rng.randrange(len(order) - 1)
            order[at : at + 2] = reversed(order[at : at + 2])
    jitter = rng.choice((0.0, 0.2, 0.5))
    for number, event in enumerate(events):
        if event.type != "ok":
            continue
        when = number / len(events) + rng.uniform(-0.3, 0.3)
        own: dict[Any, int] = {}
        answer = []
        for f, key, value in event.value:
            order = orders.get(key, [])
            if f != "r":
                own[key] = order.index(value) + 1
            elif key not in own or rng.random() < 0.03:
                length = round((when + rng.uniform(-jitter, jitter)) * len(order))
                own[key] = min(max(length, 0), len(order))
            seen = order[: own[key]]
            read = seen if lists else seen[-1] if seen else None
            answer.append([f, key, read if f == "r" else value])
        event.value = answer
    return from_events(events)


def _guess(rng: random.Random, f: str, value: Any, reads: list[tuple[Event, int]], key: Any) -> Any:
    """What a crashed transaction may have read: what somebody has."""
    seen = [event.value[at][2] for event, at in reads if event.value[at][1] == key]
    return rng.choice(seen) if f == "r" and seen else value


def _other(rng: random.Random, value: Any, written: list[Any]) -> Any:
    if not isinstance(value, list):  # what nobody wrote may be the initial value: planted.py has what certainly is not
        return rng.choice(written) if written and (rng.random() < 0.7 or value is not None) else None
    some = rng.choice(written) if written and rng.random() < 0.95 else 99
    change = rng.randrange(6)
    if change == 0:
        return value[:-1]
    if change == 1:
        return [*value, some]
    if change == 2:
        return rng.sample(value, len(value))
    if change == 3:
        at = rng.randint(0, len(value))
        return [*value[:at], some, *value[at:]]
    if change == 4:
        return value[: rng.randint(0, len(value))]
    return [element for element in value if rng.random() < 0.7]
