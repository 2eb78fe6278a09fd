"""Small histories of transactions held against levels of isolation: what is said, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness.checkers.transactions import Transactional
from harness.errors import HistoryError, UsageError
from harness.history import History, from_events
from harness.operation import Event
from harness.verdict import Budget, Verdict

Micro = list[Any]


def txn(*parts: str) -> list[Micro]:
    """A transaction in short: ``rx`` reads x as nothing, ``rx12`` as [1, 2], ``ax1`` appends, ``wx1`` writes, ``gx1``
    reads the register x as 1."""
    made: list[Micro] = []
    for part in parts:
        f, key, rest = part[0], part[1], part[2:]
        if f == "r":
            made.append(["r", key, [int(c) for c in rest] or None])
        else:
            made.append([{"a": "append", "w": "w", "g": "r"}[f], key, int(rest) if rest else None])
    return made


def one_by_one(*transactions: tuple[int, list[Micro]]) -> History:
    """Each transaction, with its process, after the other."""
    events = []
    for at, (process, value) in enumerate(transactions):
        asked = [[f, key, None if f == "r" else v] for f, key, v in value]
        events.append(Event(2 * at, 2 * at, process, "invoke", "txn", None, asked, f"n{process}"))
        events.append(Event(2 * at + 1, 2 * at + 1, process, "ok", "txn", None, value, f"n{process}"))
    return from_events(events)


def at_once(*transactions: list[Micro], ended: Sequence[str] = ()) -> History:
    """All transactions at once, each of a process of its own."""
    number = len(transactions)
    ends = [*ended, *["ok"] * (number - len(ended))]
    events = [
        Event(at, at, at, "invoke", "txn", None, [[f, k, None if f == "r" else v] for f, k, v in value])
        for at, value in enumerate(transactions)
    ]
    events += [
        Event(number + at, number + at, at, end, "txn", None, value)  # type: ignore[arg-type]
        for at, (value, end) in enumerate(zip(transactions, ends, strict=True))
    ]
    return from_events(events)


def only_completions(*transactions: list[Micro], ended: Sequence[str] = ()) -> History:
    """A history that has lost its invocations; all are of one process."""
    ends = [*ended, *["ok"] * (len(transactions) - len(ended))]
    return from_events(
        [
            Event(at, at, 0, end, "txn", None, value)  # type: ignore[arg-type]
            for at, (value, end) in enumerate(zip(transactions, ends, strict=True))
        ]
    )


def held(history: History, *models: str, anomalies: Sequence[str] = (), **more: Any) -> Verdict:
    asked = models or (() if anomalies else ("strict-serializable",))
    return Transactional(more.pop("workload", None), asked, anomalies, **more).check(history, Budget(20.0))


G0 = at_once(txn("ax1", "ay1"), txn("ax2", "ay2"), txn("rx12", "ry21"))
G1C = at_once(txn("ax1", "ry1"), txn("ax2", "ay1"), txn("rx12", "ry1"))
SKEW = at_once(txn("ax1", "ry"), txn("ay1", "rx"))
LONG_FORK = at_once(txn("ax1"), txn("ay1"), txn("rx1", "ry"), txn("rx", "ry1"))
LOST = at_once(txn("rx", "ax1"), txn("rx", "ax2"), txn("rx12"))
STALE = one_by_one((1, txn("ax1")), (2, txn("ax2")), (3, txn("rx1")), (4, txn("rx12")))
STALE_SESSION = one_by_one((1, txn("ax1")), (2, txn("ax2")), (2, txn("rx1")), (4, txn("rx12")))


@pytest.mark.parametrize(
    ("history", "models", "types", "refutes"),
    [
        (G0, "read-uncommitted", ["G0"], ["read-uncommitted"]),
        (G1C, "read-committed", ["G1c"], ["read-committed"]),
        (SKEW, "serializable", ["G2-item"], ["repeatable-read"]),
        (LONG_FORK, "snapshot-isolation", ["G-nonadjacent-item"], ["repeatable-read", "snapshot-isolation"]),
        (STALE, "strict-serializable", ["G-single-item-realtime"], ["strong-snapshot-isolation"]),
        (
            STALE_SESSION,
            "strong-session-serializable",
            ["G-single-item-process"],
            ["strong-session-snapshot-isolation"],
        ),
    ],
)
def test_each_level_is_refuted_by_its_cycles(
    history: History, models: str, types: list[str], refutes: list[str]
) -> None:
    verdict = held(history, models)
    assert verdict.validity == "invalid"
    assert verdict.evidence["anomaly_types"] == types
    assert verdict.evidence["not"] == refutes
    assert verdict.reason.startswith(f"not {models}: 1 {types[0]}")
    assert [anomaly.kind for anomaly in verdict.anomalies] == types
    edges = verdict.anomalies[0].edges
    assert [edge.target for edge in edges] == [edge.source for edge in [*edges[1:], edges[0]]]
    assert {edge.source for edge in edges} == {op.index for op in verdict.anomalies[0].operations}
    assert all(f"T{edge.source} (process" in edge.text and f"T{edge.target} (process" in edge.text for edge in edges)


@pytest.mark.parametrize(
    ("history", "model"),
    [
        (G1C, "read-uncommitted"),
        (SKEW, "snapshot-isolation"),
        (SKEW, "postgres-repeatable-read"),
        (LONG_FORK, "parallel-snapshot-isolation"),
        (STALE, "strong-session-serializable"),
        (STALE_SESSION, "serializable"),
    ],
)
def test_what_a_level_allows_is_evidence(history: History, model: str) -> None:
    verdict = held(history, model)
    assert verdict.validity == "valid", verdict.reason
    assert not verdict.anomalies
    assert verdict.evidence["anomaly_types"] == []
    assert verdict.evidence["not"] == []


def test_several_levels_and_single_anomalies() -> None:
    verdict = held(SKEW, "read-committed", "PL-3")
    assert verdict.reason == (
        "not serializable: 1 G2-item, called write skew; the strongest level that it is known to keep is "
        "snapshot-isolation"
    )
    assert held(SKEW, anomalies=["G1"]).validity == "valid"
    assert held(SKEW, anomalies=["G2"]).evidence["anomaly_types"] == ["G2-item"]
    assert held(G1C, anomalies=["G0"]).validity == "valid"
    assert held(G0, anomalies=["G1c"]).evidence["anomaly_types"] == ["G0"]
    verdict = held(G1C, "read-uncommitted")
    assert verdict.evidence["beside"] == {"G1c": 1}
    assert verdict.reason.endswith("beside that there are G1c")
    assert "read-committed" not in verdict.evidence["strongest"]


def test_what_people_call_them() -> None:
    assert held(SKEW).evidence["names"] == ["write skew"]
    assert held(LONG_FORK, "snapshot-isolation").evidence["names"] == ["long fork"]
    assert held(STALE).evidence["names"] == ["stale read"]
    lost = held(LOST, "serializable")
    assert "lost-update" in lost.evidence["anomaly_types"]
    assert {"cursor-stability", "update-atomic"} == set(lost.evidence["not"])


READ_SKEW = at_once(txn("ax1", "ay1"), txn("rx1", "ry"))
REGISTER_SKEW = at_once(txn("gy", "wx1"), txn("gx", "wy1"))


@pytest.mark.parametrize(
    ("history", "kept"),
    [
        (SKEW, ["strong-snapshot-isolation"]),
        (REGISTER_SKEW, ["causal"]),  # nobody searches for an order that snapshot isolation allows
        (LONG_FORK, ["causal"]),
        (LOST, ["causal"]),
        (READ_SKEW, ["read-uncommitted"]),  # what AWDIT asks of read committed, it does not keep
        (at_once(txn("ax1", "ay1"), txn("ry", "rx1")), ["read-committed"]),
        (STALE, ["strong-session-serializable"]),
        (STALE_SESSION, ["serializable"]),
        (G1C, ["read-uncommitted"]),
        (G0, []),
        (at_once(txn("ax1"), txn("rx1")), ["strict-serializable"]),
    ],
)
def test_only_levels_that_were_decided_are_said_to_be_kept(history: History, kept: list[str]) -> None:
    verdict = held(history)
    assert verdict.evidence["kept"] == kept
    for model in kept:
        assert held(history, model).validity == "valid"
        assert verdict.validity == "valid" or f"to keep is {model}" in verdict.reason
    if not kept:
        assert verdict.reason.endswith("it is not even read-uncommitted")


def test_levels_of_which_a_part_is_searched_for() -> None:
    fork = held(LONG_FORK, "prefix")
    assert (fork.validity, fork.evidence["anomaly_types"]) == ("invalid", ["prefix-cycle-exists"])
    assert fork.anomalies[0].text.endswith("This is called long fork. No store that is prefix can do this.")
    assert len(fork.anomalies[0].edges) == 4
    assert held(SKEW, "prefix").validity == "valid"
    # T2 appended to y before T1, so that a parallel snapshot of T1 would have had what T2 appended to x.
    behind = at_once(txn("rx", "ay2"), txn("ax1", "ay1"), txn("ry12"))
    assert held(behind, "causal-cerone").validity == "valid"
    assert held(behind, "parallel-snapshot-isolation").validity == "invalid"
    said = held(LOST, "prefix").reason
    assert "(of prefix only what is tied to it here and in Elle was looked at" in said
    assert "was looked at" not in held(at_once(txn("ax1"), txn("rx1")), "prefix").reason  # it is serializable
    assert "was looked at" in held(SKEW, "update-serializable").reason


def test_names_of_people_find_what_texts_call_so() -> None:
    for history, name in (
        (SKEW, "write-skew"),
        (READ_SKEW, "read-skew"),
        (READ_SKEW, "fractured-read"),
        (LONG_FORK, "long-fork"),
        (STALE, "stale-read"),
        (LOST, "lost-update"),
        (at_once(txn("rx", "ax2"), txn("ax1"), txn("rx12")), "lost-update"),
    ):
        assert held(history, anomalies=[name]).validity == "invalid", name
        assert held(at_once(txn("ax1"), txn("rx1")), anomalies=[name]).validity == "valid", name
    assert held(LONG_FORK, anomalies=["fractured-read"]).validity == "valid"


def test_names_are_of_what_is_reported() -> None:
    both = at_once(txn("ax1", "ry"), txn("ay1", "rx"), txn("au1", "rv1"), txn("av1", "ru1"))
    verdict = held(both, "read-committed")
    assert verdict.evidence["beside"] == {"G2-item": 1}
    assert "write skew" not in verdict.reason
    assert "names" not in verdict.evidence


def test_a_lost_update_is_told_in_words() -> None:
    lost = one_by_one((1, txn("rx", "ax1")), (2, txn("rx", "ax2")), (3, txn("rx12")))
    told = next(one for one in held(lost).anomalies if one.kind == "lost-update")
    assert told.text == (
        "T1 (process 1 at n1, step 0 to step 1) found nothing in x and then appended 1 to it; T3 (process 2 at n2, "
        "step 2 to step 3) found nothing in x and then appended 2 to it. So all but one of them have overwritten what "
        "they had not seen. This is called lost update. No store that is cursor-stability or update-atomic can do this."
    )


def test_a_cycle_is_told_in_words() -> None:
    text = held(STALE).anomalies[0].text
    assert text == (
        "T5 (process 3 at n3, step 4 to step 5) read x as [1], before T3 (process 2 at n2, step 2 to step 3) appended "
        "2 to it; T3 had completed before T5 began, 1 step later. So each of the two comes before the other: one read "
        "missed a write that it should have seen, if what has completed is there for whoever begins later. This is "
        "called stale read. No store that is strong-snapshot-isolation can do this."
    )


def test_a_filtered_anomaly_still_rules_out_what_it_does() -> None:
    aborted = at_once(txn("ax1"), txn("rx1"), ended=["fail"])
    verdict = held(aborted, "read-uncommitted")
    assert verdict.validity == "unknown"
    assert verdict.evidence["anomaly_types"] == ["empty-transaction-graph"]
    assert verdict.evidence["not"] == ["read-committed"]
    assert held(aborted, "read-committed").evidence["anomaly_types"] == ["G1a", "empty-transaction-graph"]


def test_nothing_to_go_by_is_unknown() -> None:
    assert held(from_events([])).validity == "unknown"
    alone = at_once(txn("ax1"), txn("ay1"))
    assert held(alone).reason == "no transaction depends on another, so that nothing could have been wrong"
    crashed = at_once(txn("ax1"), txn("ay1"), ended=["info", "info"])
    assert held(crashed).reason == "no transaction committed"
    twice = at_once(txn("ax1"), txn("ax1"), txn("rx1"))
    assert held(twice).validity == "unknown"
    assert "unique" in held(twice).reason
    assert held(one_by_one((1, txn("ax1")), (1, txn("ax2")))).validity == "valid"


def test_completions_alone_are_enough() -> None:
    verdict = held(only_completions(txn("ax1", "ry"), txn("ay1", "rx")), "serializable")
    assert verdict.evidence["anomaly_types"] == ["G2-item"]
    assert [op.index for op in verdict.anomalies[0].operations] == [0, 1]
    verdict = held(only_completions(txn("ax1"), txn("rx1")))
    assert (verdict.validity, verdict.reason.rpartition("; ")[2]) == (
        "valid",
        "it has no invocations, so that real time asks for nothing",
    )


def test_registers_are_searched_for_an_order() -> None:
    pytest.importorskip("pysat")
    ordered = at_once(txn("wx1"), txn("wx2"), txn("gx1"), txn("gx2"))
    assert held(ordered, "serializable").validity == "valid"
    # No dependency says so, since nobody knows the order of versions.
    forked = at_once(txn("wx1", "wy1"), txn("wx2", "wy2"), txn("gx1", "gy2"))
    verdict = held(forked, "serializable")
    assert verdict.validity == "invalid"
    assert "serializable" in verdict.evidence["also_not"] or "serializable" in verdict.evidence["not"]
    stale = one_by_one((1, txn("wx1")), (2, txn("wx2")), (3, txn("gx1")))
    assert held(stale, "serializable").validity == "valid"
    verdict = held(stale)
    assert verdict.validity == "invalid"
    assert "strong-serializable" in {*verdict.evidence["not"], *verdict.evidence["also_not"]}
    assert held(stale, versions=["realtime"]).evidence["anomaly_types"] == ["cyclic-versions"]


def test_a_solver_that_gives_up_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.checkers.transactions import solver

    def gives_up(*_: object, **__: object) -> solver.Answer:
        return solver.Answer("unknown", "there was no time")

    monkeypatch.setattr(solver, "solve", gives_up)
    verdict = held(at_once(txn("wx1"), txn("wx2"), txn("gx1")), "serializable")
    assert (verdict.validity, verdict.reason) == (
        "unknown",
        "whether it is serializable is not known: there was no time",
    )


def test_weak_levels_of_registers() -> None:
    torn = at_once(txn("wx1", "wy1"), txn("wx2", "wy2"), txn("gx1", "gy2"))
    assert held(torn, "read-committed").validity == "valid"
    verdict = held(torn, "read-atomic")
    assert verdict.evidence["anomaly_types"] == ["fractured-read"]
    assert verdict.evidence["not"] == ["read-atomic"]
    cause = one_by_one((1, txn("wx1")), (1, txn("wx2")), (1, txn("wy1")), (2, txn("gy1")), (2, txn("gx1")))
    verdict = held(cause, "causal")
    assert verdict.evidence["anomaly_types"] == ["causality-violation-process"]
    assert "causal" in verdict.evidence["not"]
    assert held(cause, "causal-cerone").validity == "valid"
    assert held(SKEW, "causal").validity == "valid"
    assert held(LONG_FORK, "causal").validity == "valid"


def test_lists_keep_weak_levels_too() -> None:
    torn = at_once(txn("ax1", "ay1"), txn("rx1", "ay2"), txn("rx12", "ay3"), txn("ax2", "ry"), txn("rx1", "ry1"))
    assert held(torn, "read-committed").validity == "valid"
    torn = at_once(txn("ax1", "ay1"), txn("rx1", "ry"))
    assert held(torn, "read-atomic").evidence["anomaly_types"] == ["fractured-read"]


def test_a_value_that_nobody_wrote_may_have_been_there() -> None:
    first = one_by_one((1, txn("gx7")), (2, txn("wx1")))
    twice = at_once(txn("gx7"), txn("wx1"), txn("gx7"), txn("gx1"))
    once = at_once(txn("gx7"), txn("wx1"), txn("gx1"))
    for begins in (first, twice, once):
        assert "garbage-read" not in held(begins, "read-committed").evidence["anomaly_types"]
    for wrong, number in (
        (one_by_one((1, txn("wx1")), (2, txn("gx7"))), 1),
        (one_by_one((1, txn("gx")), (2, txn("gx7")), (2, txn("wx1"))), 1),
        (at_once(txn("gx7"), txn("gx8"), txn("wx1"), txn("gx1")), 2),
    ):
        verdict = held(wrong, "read-committed")
        assert (verdict.validity, verdict.evidence["anomaly_types"][-1]) == ("invalid", "garbage-read")
        assert verdict.evidence["anomaly_counts"]["garbage-read"] == len(verdict.anomalies) == number


def test_the_workload_is_seen() -> None:
    assert held(SKEW).evidence["workload"] == "list-append"
    assert held(at_once(txn("wx1"), txn("gx1"))).evidence["workload"] == "rw-register"
    assert held(at_once(txn("gx", "wx1"), txn("gx1", "wx2"))).evidence["workload"] == "rmw"
    assert held(at_once(txn("gx", "wx1"), txn("gx1")), workload="rw-register").evidence["workload"] == "rw-register"


def test_an_update_is_lost_between_registers() -> None:
    lost = at_once(txn("gx", "wx1"), txn("gx1", "wx2"), txn("gx1", "wx3"))
    verdict = held(lost, "snapshot-isolation")
    assert "lost-update" in verdict.evidence["anomaly_types"]


def test_what_is_no_transaction_is_refused() -> None:
    with pytest.raises(HistoryError):
        held(from_events([Event(0, 0, 0, "invoke", "txn", None, "oops"), Event(1, 1, 0, "ok", "txn", None, "oops")]))
    for wrong in (
        {"models": ["linearisable"]},
        {"workload": "queue"},
        {"versions": ["guess"]},
        {"anomalies": ["G9"]},
    ):
        with pytest.raises(UsageError):
            Transactional(**wrong)


def test_operations_of_another_kind_leave_it_open() -> None:
    other = [Event(0, 1, 9, "invoke", "write", value=["x", 9]), Event(1, 2, 9, "ok", "write", value=["x", 9])]
    rest = one_by_one((1, txn("wx5")), (2, txn("gx5")), (3, txn("gx9")))
    history = from_events([*other, *rest.events()])
    verdict = Transactional(models=["serializable"]).check(history, Budget())
    assert verdict.validity == "unknown"
    assert "'write'" in verdict.reason
