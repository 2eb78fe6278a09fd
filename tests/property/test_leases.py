"""Leases against the definition, by replaying which moments of expiry are possible."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from harness.checkers.lease import Lease
from harness.history import FAIL, INFO, OK, History
from harness.verdict import Budget
from tests.random_runs import CASES, run

SECOND = 1_000_000_000
TICK = 10_000_000
SPAN = 4.0


def random_lease(rng: random.Random, wrong: float, steps: int) -> History:
    """One lease of four seconds; with ``wrong`` it ends early, or late, or is not revoked."""
    until = -1
    granted = revoked = False

    def draw(rng: random.Random, process: int) -> tuple[str, Any] | None:
        nonlocal granted, revoked
        if not granted or rng.random() < 0.02:
            granted = True
            return "grant", SPAN
        kind = rng.random()
        if kind < 0.05 and not revoked:
            revoked = True
            return "revoke", None
        return ("renew", None) if kind < 0.2 else ("read", None)

    def apply(f: str, argument: Any, now: int, process: int) -> Any:
        nonlocal until
        if f == "grant":
            until = now + int(SPAN * SECOND)
            if rng.random() < wrong:
                until += rng.choice((-1, 1)) * rng.randint(0, 3 * SECOND)
            return argument
        if f == "revoke":
            if rng.random() >= wrong:
                until = min(until, now)
            return argument
        alive = now < until
        if rng.random() < wrong / 3:
            alive = not alive
        if f == "renew" and alive:
            until = now + int(SPAN * SECOND)
        return alive

    return run(
        rng, draw, apply, steps=steps, crash=0.05, fail=0.03, tick=lambda: rng.randint(1, rng.choice((1, 2)) * SECOND)
    )


def judged(history: History, slack: int = 0) -> Counter[str]:
    """How many looks missed the lease too early, found it too late, and found it although it was gone before."""
    operations = history.operations()
    rows = range(len(operations))
    span = int(SPAN * SECOND)
    f = [operations.name(row) for row in rows]
    kind, call, ret = operations.type.tolist(), operations.call.tolist(), operations.ret.tolist()
    early = late = back = 0
    grants = [row for row in rows if f[row] == "grant" and kind[row] != FAIL]
    revokes = [row for row in rows if f[row] == "revoke" and kind[row] != FAIL]
    began = [
        row for row in rows if kind[row] == OK and (f[row] == "grant" or (f[row] == "renew" and operations.result(row)))
    ]
    for look in rows:
        if f[look] not in ("read", "renew") or kind[look] != OK:
            continue
        if not operations.result(look):
            for one in began:
                sure = ret[one] < call[look] and ret[look] + TICK < call[one] + span
                if sure and not any(call[other] < ret[look] for other in revokes):
                    early += 1
                    break
            continue
        missed = [
            one
            for one in rows
            if f[one] in ("read", "renew") and kind[one] == OK and not operations.result(one) and ret[one] < call[look]
        ]
        until_then = [one for one in grants if call[one] < ret[look]]
        back += bool(until_then) and any(all(ret[g] < call[one] for g in until_then) for one in missed)
        if any(kind[one] == INFO and call[one] < ret[look] for one in grants):
            continue
        latest = max((ret[one] + span for one in began if f[one] == "grant" and call[one] < ret[look]), default=-1)
        renewals = [one for one in began if f[one] == "renew" and call[one] < call[look]]
        latest = max([latest, *(ret[one] + span for one in renewals)])
        if latest >= 0:
            unsure = [one for one in rows if f[one] == "renew" and kind[one] == INFO and call[one] < call[look]]
            latest += span * len(unsure)
        revoked = any(
            kind[one] == OK and ret[one] < call[look] and all(ret[g] < call[one] for g in until_then) for one in revokes
        )
        late += latest < 0 or revoked or call[look] > latest + slack
    return +Counter({"gone early": early, "outlived": late, "came back": back})


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_the_rules_of_a_lease(wrong: float) -> None:
    rng = random.Random(f"lease/{wrong}")
    seen: Counter[str] = Counter()
    for _ in range(CASES):
        history = random_lease(rng, wrong, rng.randint(6, 50))
        for slack in (0, 1):
            expected = judged(history, slack * SECOND)
            verdict = Lease(slack).check(history, Budget())
            kinds = {anomaly.kind for anomaly in verdict.anomalies}
            assert verdict.total == expected.total(), list(history.events())
            assert kinds == set(expected)
            assert wrong or not verdict.total, list(history.events())
            seen.update(kinds)
    assert not wrong or set(seen) == {"gone early", "outlived", "came back"}
