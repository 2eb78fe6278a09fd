"""The checker as a whole: verdicts, words, budgets, executors."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from benchmarks.linearizability import simulate
from harness.checkers.linearizability import Linearizable
from harness.errors import HistoryError, UsageError
from harness.history import from_events
from harness.operation import Event
from harness.verdict import Budget, Verdict
from tests.histories import Op, history


def check(*operations: Op, model: str = "cas-register") -> Verdict:
    return Linearizable(model).check(history(operations), Budget())


def test_a_stale_read_is_explained_with_its_staleness() -> None:
    verdict = check(
        Op("write", 1, 0, 10_000_000),
        Op("write", 2, 20_000_000, 30_000_000),
        Op("write", 3, 40_000_000, 50_000_000),
        Op("read", 1, 81_000_000, 82_000_000),
    )
    assert verdict.validity == "invalid"
    anomaly, *_ = verdict.anomalies
    assert anomaly.kind == "stale read"
    assert "at least 51 ms stale: 2 newer writes had completed" in anomaly.text
    assert verdict.evidence["stalest_read_ms"] == 51.0
    assert verdict.evidence["most_newer_writes"] == 2


def test_each_kind_of_violation_is_named() -> None:
    kinds = {
        "phantom value": [Op("read", 9, 0, 1)],
        "lost update": [Op("write", 1, 0, 1), Op("cas", [1, 2], 2, 3), Op("cas", [1, 3], 4, 5)],
        "impossible update": [Op("cas", [1, 2], 0, 9), Op("cas", [2, 1], 0, 9)],
        "read from the future": [Op("read", 1, 0, 1), Op("write", 1, 5, 6)],
        "stale read": [Op("write", 1, 0, 1), Op("cas", [1, 2], 2, 3), Op("read", 1, 5, 6)],
        "lost write": [
            Op("write", 1, 0, 1), Op("write", 2, 2, 3), Op("read", 1, 5, 6), Op("read", 1, 7, 8),
        ],
    }  # fmt: skip
    for kind, operations in kinds.items():
        verdict = check(*operations)
        assert [anomaly.kind for anomaly in verdict.anomalies] == [kind]


def test_keys_with_repeated_values_are_searched_and_all_others_are_not() -> None:
    good = [Op("write", 1, 0, 1, "a"), Op("write", 1, 2, 3, "a"), Op("read", 1, 4, 5, "a"), Op("write", 1, 0, 1, "b")]
    assert check(*good).validity == "valid"
    bad = [*good, Op("read", 2, 6, 7, "a")]
    verdict = check(*bad)
    assert [anomaly.key for anomaly in verdict.anomalies] == ["a"]
    assert "none can place" in verdict.anomalies[0].text
    both = [*bad, Op("read", 7, 6, 7, "b")]
    assert {anomaly.key for anomaly in check(*both).anomalies} == {"a", "b"}


def test_registers_can_begin_with_a_value() -> None:
    recorded = history([Op("read", 0, 0, 1), Op("cas", [0, 5], 2, 3), Op("read", 5, 4, 5)])
    assert Linearizable(initial=0).check(recorded, Budget()).validity == "valid"
    assert Linearizable(initial=1).check(recorded, Budget()).validity == "invalid"
    assert Linearizable().check(recorded, Budget()).validity == "invalid"
    with pytest.raises(UsageError, match="true if somebody holds it, or false, not with 1"):
        Linearizable("mutex", initial=1).check(recorded, Budget())


def test_values_of_several_types_are_told_apart() -> None:
    assert check(Op("write", 1, 0, 1), Op("read", True, 2, 3)).validity == "invalid"
    assert check(Op("write", "1", 0, 1), Op("read", 1, 2, 3)).validity == "invalid"
    assert check(Op("write", [1, 2], 0, 1), Op("read", [1, 2], 2, 3)).validity == "valid"
    assert check(Op("write", [1, 2], 0, 1), Op("read", 1, 2, 3)).validity == "invalid"
    assert check(Op("write", 1 << 70, 0, 1), Op("read", 1 << 70, 2, 3)).validity == "valid"
    assert check(Op("write", -(1 << 63), 0, 1), Op("read", None, 2, 3)).validity == "invalid"


def test_an_operation_that_the_model_does_not_have_is_refused_with_its_line() -> None:
    for model in ("register", "kv", "cas-register"):
        with pytest.raises(HistoryError, match="no function") as caught:
            check(Op("frobnicate", 1, 0, 1), model=model)
        assert caught.value.line == 1
    with pytest.raises(HistoryError, match="cas takes"):
        check(Op("cas", 5, 0, 1))
    with pytest.raises(UsageError, match="no model named"):
        check(Op("read", None, 0, 1), model="spreadsheet")


def queue_of(processes: int, rng: random.Random) -> list[Event]:
    """Enqueues that all overlap, and a dequeue of what was never there: every order must be tried."""
    events = [Event(0, 0, p, "invoke", "enqueue", None, rng.randrange(1 << 30)) for p in range(processes)]
    events += [Event(0, 10, p, "ok", "enqueue", None, e.value) for p, e in enumerate(events)]
    events += [Event(0, 11, 0, "invoke", "dequeue"), Event(0, 12, 0, "ok", "dequeue", None, -1)]
    return events


@pytest.mark.parametrize(("budget", "out_of"), [(Budget(seconds=0.3), "time"), (Budget(bytes=4 << 20), "memory")])
def test_a_budget_ends_in_unknown_with_how_far_it_got(budget: Budget, out_of: str) -> None:
    verdict = Linearizable("fifo-queue").check(from_events(queue_of(40, random.Random(1))), budget)
    assert verdict.validity == "unknown"
    assert f"out of {out_of} after" in verdict.reason


def test_partitions_can_be_searched_by_other_processes() -> None:
    events = []
    for number, key in enumerate(["a", "b", "c"]):
        for event in simulate(60, 4, values=3, seed=number):
            process = event.process if isinstance(event.process, int) else 0
            events.append(Event(0, event.time, process + 100 * number, event.type, event.f, key, event.value))
    events.sort(key=lambda event: event.time)
    recorded = from_events(events)
    with ProcessPoolExecutor(2) as pool:
        assert Linearizable("cas-register", pool).check(recorded, Budget()).validity == "valid"


def test_without_the_compiler_the_verdicts_are_the_same() -> None:
    code = (
        "import random; from tests.models import *; from harness.checkers.linearizability.search import search; "
        "from harness.verdict import Budget; rng = random.Random(3); "
        "print([[search(MODELS[n](), random_history(rng, n, 6), Budget(), depth_first=d).verdict "
        "for d in (True, False)] for n in sorted(MODELS) for _ in range(8)])"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "NUMBA_DISABLE_JIT": flag},
        ).stdout
        for flag in ("0", "1")
    ]  # fmt: skip
    assert said[0] == said[1]
    assert "impossible" in said[0]
