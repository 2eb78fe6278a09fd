"""The lattice of levels of isolation, and which anomaly refutes which of them."""

from __future__ import annotations

from typing import get_args

import pytest

from harness.checkers.transactions.levels import (
    ANOMALIES,
    MODELS,
    POPULAR,
    about,
    boundary,
    canonical,
    cycle_exists,
    forbidden,
    implied,
    model_to_check,
    names_to_check,
    prohibited,
    prohibited_by,
    refuted,
    refuted_by,
    severity,
    strongest,
    weaker,
    weakest,
)
from harness.errors import UsageError
from harness.workloads.transactions import Model

SNAPSHOTS = ["monotonic-snapshot-read", "parallel-snapshot-isolation", "prefix", "strong-read-committed"]
ELSEWHERE = {"linearizable", "session-serializable", "view-serializable"}
"""What no anomaly of transactions refutes by itself."""


@pytest.mark.parametrize(
    ("anomaly", "refutes", "left"),
    [
        ("G0", ["read-uncommitted"], []),
        ("duplicate-elements", ["read-uncommitted"], []),
        ("G1a", ["read-committed"], ["strong-read-uncommitted"]),
        ("dirty-update", ["read-committed"], ["strong-read-uncommitted"]),
        ("future-read", ["read-committed"], ["strong-read-uncommitted"]),
        ("garbage-read", ["read-committed"], ["strong-read-uncommitted"]),
        (
            "internal",
            ["read-atomic"],
            ["monotonic-snapshot-read", "repeatable-read", "strong-read-committed", "update-serializable"],
        ),
        (
            "lost-update",
            ["cursor-stability", "update-atomic"],
            ["monotonic-snapshot-read", "monotonic-view", "prefix", "strong-read-committed"],
        ),
        ("G-single-item", ["consistent-view", "repeatable-read"], ["cursor-stability", "monotonic-view", *SNAPSHOTS]),
        ("G-single", ["consistent-view"], ["monotonic-view", "repeatable-read", *SNAPSHOTS]),
        ("G-nonadjacent-item", ["repeatable-read", "snapshot-isolation"], ["update-serializable", *SNAPSHOTS]),
        ("G-nonadjacent", ["snapshot-isolation"], ["repeatable-read", "update-serializable", *SNAPSHOTS]),
        ("G2-item", ["repeatable-read"], ["strong-snapshot-isolation", "update-serializable"]),
        ("G2", ["serializable"], ["repeatable-read", "strong-snapshot-isolation", "update-serializable"]),
        ("write-skew", ["serializable"], ["repeatable-read", "strong-snapshot-isolation", "update-serializable"]),
        ("G0-process", ["strong-session-read-uncommitted"], ["serializable"]),
        ("G1c-process", ["strong-session-read-committed"], ["serializable", "strong-read-uncommitted"]),
        ("G-single-item-process", ["strong-session-snapshot-isolation"], ["serializable", "strong-read-committed"]),
        ("G2-item-process", ["strong-session-serializable"], ["serializable", "strong-snapshot-isolation"]),
        ("G0-realtime", ["strong-read-uncommitted"], ["strong-session-serializable"]),
        ("G1c-realtime", ["strong-read-committed"], ["strong-read-uncommitted", "strong-session-serializable"]),
        ("G-single-realtime", ["strong-snapshot-isolation"], ["strong-read-committed", "strong-session-serializable"]),
        ("G2-realtime", ["strong-serializable"], ["strong-session-serializable", "strong-snapshot-isolation"]),
        ("G-update", ["update-serializable"], ["repeatable-read", "strong-snapshot-isolation"]),
    ],
)
def test_each_anomaly_divides_the_models(anomaly: str, refutes: list[str], left: list[str]) -> None:
    found = boundary([anomaly])
    assert found.refuted == refutes
    assert sorted(set(found.left) - ELSEWHERE) == sorted(left)
    assert refuted_by(anomaly) == {*found.refuted, *found.also}
    assert not set(found.left) & refuted_by(anomaly)


def test_what_refutes_nothing() -> None:
    assert boundary([]) == ([], [], ["strong-serializable"])
    for anomaly in ("GSI", "GSIa", "GSIb", "something-new"):
        assert boundary([anomaly]) == ([], [], ["strong-serializable"])


def test_together_they_refute_what_any_does() -> None:
    found = boundary(["G2-realtime", "internal"])
    assert found.refuted == ["read-atomic"]
    assert "strong-serializable" in found.also
    assert refuted(["G2-realtime", "internal"]) == refuted_by("G2-realtime") | refuted_by("internal")


def test_what_one_model_prohibits() -> None:
    assert prohibited(["read-committed"]) == {
        *("G0", "G1", "G1a", "G1b", "G1c", "PL-1-cycle-exists", "PL-2-cycle-exists", "cyclic-versions"),
        *("dirty-update", "duplicate-elements", "future-read", "garbage-read", "incompatible-order"),
    }
    assert not any("process" in one or "realtime" in one for one in prohibited(["serializable"]))
    assert {"G2-item-process", "G0"} <= prohibited(["strong-session-serializable"])
    assert "G2-item-realtime" not in prohibited(["strong-session-serializable"])
    assert prohibited(["strict-serializable"]) >= prohibited(["serializable"]) | {"G2-realtime"}
    assert prohibited([], ["G1"]) >= {"G0", "G1a", "G1b", "G1c"}
    assert prohibited([], ["g1C"]) == {"G0", "G1c", "future-read"}
    assert prohibited(["strict-serializable"]).isdisjoint({"GSI", "GSIa", "GSIb"})
    with pytest.raises(UsageError, match="unknown consistency model 'vague': there are strict-serializable, "):
        prohibited(["vague"])
    with pytest.raises(UsageError, match="has 'G-singel', which is none: there is G-single"):
        prohibited([], ["G-singel"])


def test_names_of_the_literature_and_of_databases() -> None:
    for name, model in {
        "PL-3": "serializable",
        "pl-2.99": "repeatable-read",
        "PL-SS": "strong-serializable",
        "strict-serializable": "strong-serializable",
        "Strict_Serializable": "strong-serializable",
        "PL-2+": "consistent-view",
        "strong-session-PL-2": "strong-session-read-committed",
        "postgres-repeatable-read": "snapshot-isolation",
        "postgres-read-uncommitted": "read-committed",
        "oracle-serializable": "snapshot-isolation",
        "sql-repeatable-read": "repeatable-read",
        "linearizable": "linearizable",
    }.items():
        assert canonical(name) == model, name
    assert canonical("chaotic") is None
    assert model_to_check("linearizable") is None
    assert model_to_check("causal") == "causal"
    assert {"strict-serializable", "causal", "read-atomic", "snapshot-isolation"} <= set(names_to_check())
    assert all(model_to_check(name) for name in names_to_check())


def test_causal_consistency_of_transactions_has_sessions() -> None:
    assert {"G1c-process", "causality-violation", "internal", "G1a"} <= prohibited_by(["causal"])
    assert "G1c-process" not in prohibited_by(["causal-cerone"])
    assert "G-single-item" not in prohibited_by(["causal"])
    assert boundary(["causality-violation"]).refuted == ["causal-cerone"]
    assert boundary(["causality-violation-process"]).refuted == ["strong-session-snapshot-isolation"]


def test_weakest_and_strongest() -> None:
    assert weakest(["serializable", "strong-serializable"]) == ["serializable"]
    assert weakest(["repeatable-read", "read-committed", "sequential", "read-your-writes"]) == [
        "read-committed",
        "read-your-writes",
    ]
    assert strongest([]) == []
    assert strongest(["serializable", "read-atomic"]) == ["serializable"]
    assert weaker("strong-serializable") == MODELS


def test_the_worst_comes_first() -> None:
    order = severity()
    assert set(order) == ANOMALIES
    place = {name: at for at, name in enumerate(order)}
    for name in ANOMALIES:
        assert all(place[name] <= place[other] for other in implied(name))
    assert place["G1c"] < place["G-single"] < place["G2"] < place["G0-process"] < place["G0-realtime"]


def test_what_says_only_that_a_model_is_refuted_refutes_it() -> None:
    for model in MODELS:
        if kind := cycle_exists(model):
            assert boundary([kind]).refuted == [model]
            assert kind in forbidden(model)
    assert cycle_exists("serializable") == "PL-3-cycle-exists"
    assert cycle_exists("prefix") == "prefix-cycle-exists"
    assert cycle_exists("cursor-stability") == ""


def test_names_that_people_use_ask_for_all_that_is_called_so() -> None:
    assert {"write-skew", "G2", "G2-item"} <= prohibited([], ["write-skew"])
    assert {"G-single", "G-single-item"} <= prohibited([], ["Read_Skew"])
    assert {"G-nonadjacent", "G-nonadjacent-item"} <= prohibited([], ["long fork"])
    assert {"G-single-realtime", "G-single-item-realtime"} <= prohibited([], ["stale-read"])
    assert "G2-item" not in prohibited([], ["long-fork"])
    assert all(set(of_it) <= ANOMALIES for of_it in POPULAR.values())
    with pytest.raises(UsageError, match="there is stale-read"):
        prohibited([], ["stale-reads"])


def test_each_level_says_what_it_is_about() -> None:
    lines = [about(name) for name in names_to_check()]
    assert len(set(lines)) == len(lines)
    assert not any(line.startswith("A level of isolation") for line in lines)


def test_workloads_take_every_level_that_can_be_checked() -> None:
    assert list(get_args(Model)) == names_to_check()
