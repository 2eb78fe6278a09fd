"""Counters against the definition: a total is what is certain, and some of what may count."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from harness.checkers.linearizability import Linearizable
from harness.checkers.total import Total
from harness.history import History
from harness.judging import judge
from harness.verdict import Budget
from tests.histories import Op, history
from tests.random_runs import CASES, FOREVER, Done, adds_up, cases, done, run


def random_counter(rng: random.Random, wrong: float, steps: int, *, falls: bool, finals: bool = False) -> History:
    """With ``wrong`` additions are lost or count twice, and reads are stale."""
    total, before, left = 0, 0, steps // 4
    amounts = rng.choice([(1,), (1, 2, 3), (5, 10, 0)])

    def draw(rng: random.Random, process: int) -> tuple[str, Any] | None:
        nonlocal left
        left -= 1
        if finals and left < 0:
            return "read-local", None
        if rng.random() < 0.4:
            return "read", None
        return "increment" if finals else "add", rng.choice(amounts) * (rng.choice((1, -1)) if falls else 1)

    def apply(f: str, argument: Any, now: int, process: int) -> Any:
        nonlocal total, before
        if f in ("read", "read-local"):
            return rng.choice([before, total, total + rng.choice(amounts)]) if rng.random() < wrong else total
        before, times = total, rng.choice((0, 2)) if rng.random() < wrong else 1
        total += times * argument
        return argument

    return run(rng, draw, apply, steps=steps)


def can_be(read: Done, changes: Sequence[Done]) -> bool:
    """Whether a total is the sum of what counts for certain, and of some of what may count."""
    certain = sum(one.argument for one in changes if one.type == "ok" and one.ret < read.call)
    possible = [one.argument for one in changes if one.type != "fail" and one.call < read.ret and one.ret > read.call]
    return adds_up((read.answer or 0) - certain, possible)


@pytest.mark.parametrize("falls", [False, True])
@pytest.mark.parametrize("wrong", [0.0, 0.15])
def test_each_read_is_a_sum_that_is_possible(wrong: float, falls: bool) -> None:
    rng = random.Random(f"counter/{wrong}/{falls}")
    seen: Counter[str] = Counter()
    for _ in range(CASES):
        history = random_counter(rng, wrong, rng.randint(5, 45), falls=falls)
        changes, reads = done(history, "increment", "add"), [r for r in done(history, "read") if r.type == "ok"]
        wrong_totals = sum(not can_be(read, changes) for read in reads)
        fell = [
            read
            for read in reads
            if all(one.argument >= 0 for one in changes if one.type != "fail")
            and any(one.ret < read.call and one.answer > read.answer for one in reads)
        ]
        verdict = Total().check(history, Budget())
        assert verdict.total == wrong_totals + len(fell), list(history.events())
        assert verdict.validity == ("invalid" if verdict.total else "valid")
        assert wrong or not verdict.total
        seen.update(anomaly.kind for anomaly in verdict.anomalies)
    assert not wrong or set(seen) == {"wrong total", "went down"}


def test_what_it_finds_is_not_linearizable() -> None:
    rng = random.Random("counter/linearizable")
    found, looked_at = 0, cases(1000)
    for _ in range(looked_at):
        history = random_counter(rng, 0.15, rng.randint(5, 22), falls=rng.random() < 0.5)
        if Total().check(history, Budget()).total:
            found += 1
            assert Linearizable("counter").check(history, Budget()).validity == "invalid"
    assert found > looked_at // 13


@pytest.mark.parametrize("wrong", [0.0, 0.15])
def test_in_the_end_nothing_may_be_missing_and_before_that_reads_may_be_stale(wrong: float) -> None:
    rng = random.Random(f"counter/final/{wrong}")
    seen = 0
    for _ in range(CASES):
        history = random_counter(rng, wrong, rng.randint(10, 60), falls=True, finals=True)
        changes = done(history, "increment", "add")
        last = {one.node: one for one in done(history, "read-local") if one.type == "ok"}
        expected = sum(not can_be(read, changes) for read in last.values())
        for read in done(history, "read"):
            if read.type == "ok":
                begun = [one.argument for one in changes if one.type != "fail" and one.call < read.ret]
                least, most = sum(min(by, 0) for by in begun), sum(max(by, 0) for by in begun)
                expected += not least <= read.answer <= most
        verdict = Total("read-local", linearizable=False).check(history, Budget())
        assert verdict.total == expected, list(history.events())
        assert wrong or not expected
        seen += expected > 0
    assert not wrong or seen > CASES // 20


def test_huge_amounts_are_added_exactly() -> None:
    rng = random.Random("counter/huge")
    big = (1 << 61) - 1

    def draw(rng: random.Random, process: int) -> tuple[str, Any] | None:
        return ("read", None) if rng.random() < 0.4 else ("add", big)

    total = 0

    def apply(f: str, argument: Any, now: int, process: int) -> Any:
        nonlocal total
        total += argument or 0
        return 0 if f == "read" and total > 1 << 61 else total if f == "read" else argument

    history = run(rng, draw, apply, steps=60, crash=0.0, fail=0.0)
    assert total > 1 << 64
    verdict = Total().check(history, Budget())
    late = [read for read in done(history, "read") if read.type == "ok" and read.answer == 0 and read.ret < FOREVER]
    assert verdict.total >= len(late) - 2 > 0


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ([Op("increment", None, 0, 1), Op("read", 0, 2, 3)], "by how much"),
        ([Op("increment", 1, 0, 1), Op("decrement", 1, 2, 3), Op("read", 0, 4, 5)], "no function decrement"),
        ([Op("read", 0, 0, 1)], "no counter was changed"),
    ],
)
def test_what_is_no_history_of_a_counter_is_no_pass(seen: list[Op], said: str) -> None:
    verdict = judge(history(seen), {"total": Total()}, Budget())
    assert verdict.validity == "unknown"
    assert said in verdict.reason
