"""Locks against the definition, operation by operation and pair by pair."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from harness.checkers.lock import Lock
from harness.history import History
from harness.verdict import Budget
from tests.random_runs import CASES, FOREVER, Done, RefusedError, done, run

ALL = ("acquire", "release", "write")


def random_lock(rng: random.Random, wrong: float, steps: int, ttl: int | None = None) -> History:
    """A lock; with ``wrong`` it is given to two, tokens go back, and old ones are accepted.

    With ``ttl``, in ns, it ends by itself so long after it was given, or after the last write of its holder, from which
    it takes no write any more.
    """
    holder: int | None = None
    until = FOREVER
    tokens = newest = 0
    held: dict[int, int] = {}

    def draw(rng: random.Random, process: int) -> tuple[str, Any] | None:
        if process not in held:
            return "acquire", None if ttl is None else ttl / 1e9
        if rng.random() < 0.4:
            held.pop(process)
            return "release", None
        return "write", [held[process], 7]

    def apply(f: str, argument: Any, now: int, process: int) -> Any:
        nonlocal holder, tokens, newest, until
        if now >= until:
            holder = None
        if f == "acquire":
            if holder is not None and rng.random() >= wrong:
                return False
            tokens = max(1, tokens - 1) if rng.random() < wrong else tokens + 1
            holder, held[process] = process, tokens
            until = FOREVER if ttl is None else now + ttl
            return tokens
        if f == "release":
            if holder == process:
                holder = None
            return argument
        if holder == process and ttl is not None:
            until = now + ttl
        elif ttl is not None and rng.random() >= wrong:
            held.pop(process, None)
            raise RefusedError
        if argument[0] < newest and rng.random() >= wrong:
            held.pop(process, None)
            raise RefusedError
        newest = max(newest, argument[0])
        return argument

    # The lock of a client that is gone stays locked: none crashes but after a release.
    return run(rng, draw, apply, steps=steps, crash=0.02, fail=0.0)


def holds(history: History, *, due: bool) -> list[tuple[Done, int]]:
    """Each acquisition, and until when its holder certainly believed in it; or was right to, in what is ``due``."""
    operations = done(history, *ALL)
    found = []
    for one in operations:
        if one.f == "acquire" and one.type == "ok" and one.answer is not False:
            later = [other for other in operations if other.process == one.process and other.call > one.call]
            ends = [other.call for other in later if other.f != "write" or other.type == "info"]
            ends += [other.ret for other in later if other.f == "write" and other.type == "fail"]
            end = min(ends, default=FOREVER)
            if due and one.argument is not None:
                over = int(history.time[one.call]) + round(one.argument * 1e9)
                first = next((at for at, time in enumerate(history.time.tolist()) if time >= over), FOREVER)
                writes = [w.call for w in later if w.f == "write" and w.type == "ok" and w.call < end]
                end = min(end, max([first, *writes]))
            found.append((one, end))
    return found


def together(held: list[tuple[Done, int]]) -> int:
    return sum(any(other.ret < one.ret < until for other, until in held if other is not one) for one, _ in held)


@pytest.mark.parametrize("ttl", [None, 40])
@pytest.mark.parametrize("wrong", [0.0, 0.15])
def test_the_rules_of_a_lock(wrong: float, ttl: int | None) -> None:
    rng = random.Random(f"lock/{wrong}/{ttl}")
    seen: Counter[str] = Counter()
    for _ in range(CASES):
        history = random_lock(rng, wrong, rng.randint(8, 90), ttl)
        held = holds(history, due=True)
        writes = [one for one in done(history, "write") if one.type == "ok"]
        got = [one for one, _ in held]
        given = Counter(one.answer for one in got)
        expected = {
            "held together": together(held),
            "token given twice": sum(times - 1 for times in given.values()),
            "token went back": sum(any(o.ret < one.call and o.answer > one.answer for o in got) for one in got),
            "stale write": sum(
                any(o.ret < one.call and o.argument[0] > one.argument[0] for o in writes) for one in writes
            ),
        }
        verdict = Lock().check(history, Budget())
        assert verdict.total == sum(expected.values()), list(history.events())
        kinds = {kind for kind, number in expected.items() if number}
        assert {anomaly.kind for anomaly in verdict.anomalies} == kinds
        fenced = Lock(exclusive=False).check(history, Budget())
        assert fenced.total == verdict.total - expected["held together"]
        assert fenced.evidence["held_together"] == together(holds(history, due=False))
        assert wrong or not kinds, list(history.events())
        seen.update(kinds)
    assert not wrong or set(seen) == set(expected)
