"""The search against brute force for every model, in both of its orders, and against the block algorithm."""

from __future__ import annotations

import random

import pytest

from harness.checkers.linearizability import Linearizable
from harness.checkers.linearizability.minimal import minimal
from harness.checkers.linearizability.models import MODELS
from harness.checkers.linearizability.partitions import partitions
from harness.checkers.linearizability.register_models import CasRegister
from harness.checkers.linearizability.search import search
from harness.verdict import Budget
from tests.histories import Op, history
from tests.models import SHAPES, brute_force, random_history
from tests.random_runs import CASES


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_agrees_with_brute_force_on_random_histories(name: str) -> None:
    rng = random.Random(f"search/{name}")
    model = MODELS[name]()
    seen = {True: 0, False: 0}
    for _ in range(CASES):
        operations = random_history(rng, name, rng.randint(1, 7))
        expected = brute_force(model, operations)
        seen[expected] += 1
        for depth_first in (True, False):
            outcome = search(model, operations, Budget(), depth_first=depth_first)
            assert (outcome.verdict == "linearizable") == expected, (depth_first, operations)
    assert min(seen.values()) > CASES // 50, f"the histories must exercise both verdicts: {seen}"


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_what_it_shows_of_an_impossible_history_is_impossible_itself(name: str) -> None:
    rng = random.Random(f"minimal/{name}")
    model = MODELS[name]()
    for _ in range(max(20, CASES // 50)):
        operations = random_history(rng, name, 7, wrong=0.3)
        outcome = search(model, operations, Budget())
        if outcome.verdict == "impossible":
            kept, furthest = minimal(model, operations, outcome, 5.0)
            assert {op.row for op in kept} <= {op.row for op in operations}
            assert furthest.row in {op.row for op in kept}
            assert not brute_force(model, kept)


def test_what_no_order_explains_is_named_so() -> None:
    verdict = Linearizable("fifo-queue").check(history([Op("enqueue", 1, 0, 1), Op("dequeue", 2, 2, 3)]), Budget())
    assert [anomaly.kind for anomaly in verdict.anomalies] == ["not linearizable"]


def unique_register_history(rng: random.Random, count: int, clients: int, crash: float, stale: bool) -> list[Op]:
    """A run of a real register by concurrent clients; ``stale`` plants one read of an old value."""
    now = [0] * clients
    operations: list[Op] = []
    for number in range(1, count + 1):
        client = min(range(clients), key=now.__getitem__)
        start = now[client] + rng.randint(1, 5)
        point = start + rng.randint(0, 20)
        end = point + rng.randint(0, 20)
        now[client] = end
        operations.append(Op(rng.choice(["read", "read", "write", "cas"]), number, start, end, point))
    value: int | None = None
    old: list[int | None] = [None]
    result = []
    for op in sorted(operations, key=lambda op: op.key):
        crashed = op.f != "read" and rng.random() < crash
        ret = None if crashed else op.ret
        if op.f == "read":
            seen = rng.choice(old) if stale and rng.random() < 2 / count else value
            result.append(Op("read", seen, op.call, ret, "x"))
            continue
        if not crashed or rng.random() < 0.5:
            old.append(value)
            result.append(Op(op.f, [value, op.value] if op.f == "cas" else op.value, op.call, ret, "x"))
            value = op.value
        else:
            result.append(Op(op.f, [value, op.value] if op.f == "cas" else op.value, op.call, ret, "x"))
    return result


def test_agrees_with_the_block_algorithm_on_larger_histories() -> None:
    rng = random.Random(5)
    seen = {"valid": 0, "invalid": 0}
    for _ in range(max(40, CASES // 20)):
        operations = unique_register_history(rng, rng.randint(20, 120), rng.randint(2, 6), 0.05, rng.random() < 0.6)
        recorded = history(operations)
        verdict = Linearizable().check(recorded, Budget()).validity
        paired = recorded.operations()
        (part,) = partitions(CasRegister(), paired, range(len(paired)))
        outcome = search(CasRegister(), part.operations, Budget())
        assert verdict == {"linearizable": "valid", "impossible": "invalid"}[outcome.verdict], operations
        seen[verdict] += 1
    assert min(seen.values()) > 5
