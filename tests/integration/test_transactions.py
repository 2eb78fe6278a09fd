"""Transactions in real stores: etcd keeps its promise under faults, Redis does as long as its primary lives."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.integration.test_stores import measured, run
from tests.integration.test_workloads import NO_FAILOVER

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.needs("local", "etcd")
def test_transactions_of_etcd_are_strict_serializable_under_faults(splitbrain: Command) -> None:
    code, verdict, _ = measured(
        splitbrain, 15, "etcd", "--on", "local", "--workload", "list-append", "-o", "txn=stm",
        "--nemesis", "partition,kill,pause", "--interval", "2", "--seed", "7",
    )  # fmt: skip
    assert (code, verdict["validity"]) == (0, "valid"), verdict
    assert verdict["evidence"]["anomaly_types"] == []
    assert verdict["evidence"]["transactions"] > 300


@pytest.mark.needs("local", "etcd")
def test_etcds_library_loses_updates_where_it_is_told_to_compare_nothing(splitbrain: Command) -> None:
    code, verdict, _ = run(
        splitbrain, "etcd", "--on", "local", "--nodes", "1", "--workload", "rmw", "-o", "txn=stm-read-committed",
        "--time", "4",
    )  # fmt: skip
    assert (code, verdict["validity"]) == (1, "invalid"), verdict
    assert "lost-update" in verdict["evidence"]["anomaly_types"]


@pytest.mark.needs("local", "redis")
@pytest.mark.parametrize("how", ["multi", "watch"])
def test_transactions_of_redis_are_strict_serializable_without_faults(splitbrain: Command, how: str) -> None:
    code, verdict, _ = run(
        splitbrain, "redis", "--on", "local", "--nodes", "1", "--workload", "list-append", "-o", f"txn={how}",
        "--rate", "500", "--time", "4", *NO_FAILOVER,
    )  # fmt: skip
    assert (code, verdict["validity"]) == (0, "valid"), verdict
    assert verdict["evidence"]["anomaly_types"] == []
    assert verdict["evidence"]["transactions"] > 500


@pytest.mark.needs("local", "redis")
def test_redis_loses_transactions_across_a_failover(splitbrain: Command) -> None:
    code, verdict, _ = measured(
        splitbrain, 16, "redis", "--on", "local", "--workload", "list-append", "--nemesis", "partition",
        "-o", "partition=primary", "--seed", "1", failover=True,
    )  # fmt: skip
    assert (code, verdict["validity"]) == (1, "invalid"), verdict
    assert verdict["evidence"]["anomaly_types"]
    assert "lost write" in {anomaly["kind"] for anomaly in verdict["anomalies"]}
