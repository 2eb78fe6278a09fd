"""Sets, counters, queues, banks and locks in real stores: what is promised is kept, and what is not is found out."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.integration.test_stores import measured, run

Command = Callable[..., "subprocess.CompletedProcess[str]"]

NO_FAILOVER = ["-o", "down_after_ms=60000"]
"""Sentinels take a primary for dead otherwise that stands still for 1.5 s on a busy machine."""


@pytest.mark.needs("local", "etcd")
@pytest.mark.parametrize("workload", ["set", "counter", "bank", "watch", "lease", "unique-ids"])
def test_etcd_keeps_what_it_acknowledges(splitbrain: Command, workload: str) -> None:
    strict = ["-o", "linearizable=true", "-o", "settle=3s"] if workload in ("set", "counter") else []
    seconds = 24 if strict else 15
    code, verdict, _ = measured(
        splitbrain, seconds, "etcd", "--on", "local", "--workload", workload, *strict,
        "--nemesis", "partition,kill,pause", "--interval", "2", "--seed", "7",
    )  # fmt: skip
    assert (code, verdict["validity"]) == (0, "valid"), verdict
    assert verdict["evidence"]["ok"] > 500
    if workload == "lease":
        # What a new leader prolonged, or a fault, is judged by nobody.
        assert verdict["evidence"].get("lease_looks_prolonged", 0) < verdict["evidence"]["lease_looks"] / 2


@pytest.mark.needs("local", "redis")
@pytest.mark.parametrize(("workload", "kind"), [("set", "lost"), ("queue", "lost"), ("unique-ids", "duplicated")])
def test_redis_loses_across_a_failover(splitbrain: Command, workload: str, kind: str) -> None:
    settle = ["-o", "settle=3s"] if workload == "set" else []
    code, verdict, _ = measured(
        splitbrain, 16, "redis", "--on", "local", "--workload", workload, *settle, "--nemesis", "partition",
        "-o", "partition=primary", "--seed", "1", failover=True,
    )  # fmt: skip
    assert (code, verdict["validity"]) == (1, "invalid"), verdict
    assert kind in {anomaly["kind"] for anomaly in verdict["anomalies"]}


@pytest.mark.needs("local", "redis")
def test_automats_that_read_and_then_write_spend_a_balance_twice(splitbrain: Command) -> None:
    bank = ["redis", "--on", "local", "--workload", "bank", "--time", "5", "--rate", "1000", "-o", "accounts=2"]
    bank += NO_FAILOVER
    code, verdict, _ = run(splitbrain, *bank, "-o", "bank=steps")
    assert (code, verdict["validity"]) == (1, "invalid"), verdict
    assert "spent twice" in {anomaly["kind"] for anomaly in verdict["anomalies"]}
    code, verdict, _ = run(splitbrain, *bank)
    assert (code, verdict["validity"]) == (0, "valid"), verdict


@pytest.mark.needs("local", "redis")
def test_a_holder_that_writes_keeps_a_lock_of_redis(splitbrain: Command) -> None:
    """Each lock is held for longer than it was given for."""
    code, verdict, _ = run(
        splitbrain, "redis", "--on", "local", "--workload", "lock", "-o", "keys=1", "-o", "ttl=1s", "-o", "writes=20",
        "--rate", "40", "--time", "10", *NO_FAILOVER,
    )  # fmt: skip
    assert (code, verdict["validity"]) == (0, "valid"), verdict
    assert verdict["evidence"]["locks_acquired"] > 1


@pytest.mark.needs("local", "etcd")
@pytest.mark.parametrize("locks", ["transaction", "api"])
def test_a_lock_of_etcd_excludes_nobody_and_fencing_makes_up_for_it(splitbrain: Command, locks: str) -> None:
    """A holder whose member stands still loses its lease, and goes on writing when the member does.

    Whether one that is paused serves a holder at that moment is chance: each is tried a few times.
    """
    paused = [
        "etcd", "--on", "local", "--workload", "lock", "-o", "keys=6", "-o", f"locks={locks}", "--rate", "60",
        "--timeout", "10", "--nemesis", "pause", "-o", "pause=one", "--interval", "6", "--time", "30",
    ]  # fmt: skip
    tries = [["--seed", str(seed)] for seed in range(2, 8)]
    kinds: set[str] = set()
    for again in tries:
        code, verdict, _ = run(splitbrain, *paused, *again)
        kinds |= {anomaly["kind"] for anomaly in verdict.get("anomalies", ())}
        if code == 1:
            break
    assert kinds
    assert kinds <= {"held together", "stale write"}
    for again in tries:
        code, verdict, _ = run(splitbrain, *paused, *again, "-o", "fencing=true")
        assert verdict["validity"] != "invalid", verdict
        if code == 0 and verdict["evidence"]["held_together"] > 0:
            break
    assert (code, verdict["validity"]) == (0, "valid"), verdict
    assert verdict["evidence"]["held_together"] > 0
