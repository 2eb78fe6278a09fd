"""Reads that see effects without their causes, against the definition."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from harness.checkers.causal_reverse import CausalReverse
from harness.history import History
from harness.verdict import Budget
from tests.random_runs import CASES, done, run


def random_reads(rng: random.Random, wrong: float, steps: int) -> History:
    """Elements are written, and all of them are read; with ``wrong`` a read leaves one out."""
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
        return [element for element in written if rng.random() >= wrong]

    return run(rng, draw, apply, steps=steps)


def reversed_reads(history: History) -> int:
    """Reads that show a write, and not one which was acknowledged before that was invoked: one by one."""
    writes = {one.argument: one for one in done(history, "write") if one.type != "fail"}
    return sum(
        any(
            cause.type == "ok" and cause.ret < writes[effect].call and cause.argument not in read.answer
            for cause in writes.values()
            for effect in read.answer
            if effect in writes
        )
        for read in done(history, "read")
        if read.type == "ok"
    )


@pytest.mark.parametrize("wrong", [0.0, 0.1])
def test_reads_are_judged_as_it_is_defined(wrong: float) -> None:
    rng = random.Random(f"causal-reverse/{wrong}")
    seen: Counter[bool] = Counter()
    for _ in range(CASES):
        history = random_reads(rng, wrong, rng.randint(5, 60))
        expected = reversed_reads(history)
        assert CausalReverse().check(history, Budget()).total == expected, list(history.events())
        assert wrong or not expected
        seen[bool(expected)] += 1
    assert len(seen) == 1 + (wrong > 0)
