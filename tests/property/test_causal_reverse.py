"""Reads that see effects without their causes, against the definition."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from harness.checkers.causal_reverse import CausalReverse
from harness.history import History
from harness.verdict import Budget
from tests.random_runs import CASES, Done, done, run

NOBODYS = 1000


def random_reads(rng: random.Random, wrong: float, steps: int) -> History:
    """Elements are written, and all of them are read; with ``wrong`` a read leaves one out, or shows one that nobody
    has written, or whose write had failed, or was still to come.
    """
    written: list[int] = []
    count = 0

    def draw(rng: random.Random, process: int) -> tuple[str, Any] | None:
        nonlocal count
        if rng.random() < 0.4:
            return "read", None
        count += 1
        return "write", count

    def apply(f: str, argument: Any, now: int, process: int) -> Any:
        if f == "write":
            written.append(argument)
            return argument
        shown = [element for element in written if rng.random() >= wrong]
        if rng.random() < wrong:
            shown.insert(rng.randint(0, len(shown)), rng.choice((rng.randint(1, count + 2), NOBODYS)))
        return shown

    return run(rng, draw, apply, steps=steps)


def reversed_reads(writes: Mapping[int, Done], reads: Sequence[Done]) -> int:
    """Reads that show a write, and not one which was acknowledged before that was invoked: one by one."""
    return sum(
        any(
            cause.type == "ok" and cause.ret < writes[effect].call and cause.argument not in read.answer
            for cause in writes.values()
            for effect in read.answer
            if effect in writes
        )
        for read in reads
    )


def phantoms(writes: Mapping[int, Done], reads: Sequence[Done]) -> int:
    """How often a read shows what nobody had begun to write when it returned, or what certainly was not written."""
    return sum(e not in writes or writes[e].call > read.ret for read in reads for e in read.answer)


@pytest.mark.parametrize("wrong", [0.0, 0.1])
def test_reads_are_judged_as_it_is_defined(wrong: float) -> None:
    rng = random.Random(f"causal-reverse/{wrong}")
    seen: Counter[str] = Counter()
    for _ in range(CASES):
        history = random_reads(rng, wrong, rng.randint(5, 60))
        writes = {one.argument: one for one in done(history, "write") if one.type != "fail"}
        reads = [one for one in done(history, "read") if one.type == "ok"]
        expected = {"reversed": reversed_reads(writes, reads), "phantom": phantoms(writes, reads)}
        verdict = CausalReverse().check(history, Budget())
        assert verdict.total == sum(expected.values()), list(history.events())
        kinds = {kind for kind, number in expected.items() if number}
        assert {anomaly.kind for anomaly in verdict.anomalies} == kinds
        assert wrong or not kinds
        seen.update(kinds or {verdict.validity})
    assert not wrong or min(seen[kind] for kind in ("reversed", "phantom", "valid")) > CASES // 100, seen
