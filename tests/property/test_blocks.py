"""The block algorithm against brute force on random small register histories."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkers.linearizability import Linearizable
from harness.verdict import Budget
from tests.histories import Op, brute_force, history
from tests.random_runs import cases

CASES = cases(10_000)


def random_operations(rng: random.Random, count: int) -> list[Op]:
    """Unique writes and compare-and-sets, reads of plausible values, crashes, ties, one or two keys."""
    keys = ["x", "y"][: rng.randint(1, 2)]
    operations: list[Op] = []
    values: dict[str, list[int | None]] = {key: [None] for key in keys}
    span = rng.choice([6, 12, 30])
    for number in range(1, count + 1):
        key = rng.choice(keys)
        call = rng.randint(0, span)
        ret = None if rng.random() < 0.15 else call + rng.randint(0, span // 2)
        f = rng.choice(["read", "read", "write", "cas"])
        if f == "read":
            if ret is not None:
                operations.append(Op("read", rng.choice(values[key]), call, ret, key))
            continue
        value = [rng.choice(values[key]), number] if f == "cas" else number
        operations.append(Op(f, value, call, ret, key))
        values[key].append(number)
    return operations


def verdict(operations: list[Op]) -> str:
    return Linearizable().check(history(operations), Budget()).validity


def test_agrees_with_brute_force_on_random_histories() -> None:
    rng = random.Random(20261125)
    seen = {True: 0, False: 0}
    for _ in range(CASES):
        operations = random_operations(rng, rng.randint(1, 7))
        expected = brute_force(operations)
        seen[expected] += 1
        assert verdict(operations) == ("valid" if expected else "invalid"), operations
    assert min(seen.values()) > CASES // 20, "the histories must exercise both verdicts"


@settings(max_examples=cases(300), deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 7))
def test_agrees_with_brute_force_shrinking(seed: int, count: int) -> None:
    operations = random_operations(random.Random(seed), count)
    assert verdict(operations) == ("valid" if brute_force(operations) else "invalid")
