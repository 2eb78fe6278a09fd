"""Isolation of registers by their reads alone: what is said of it, and where nothing can be said."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from harness.checkers.transactions import Transactional, forced
from harness.checkers.transactions.columns import Transactions
from harness.checkers.transactions.solver import ABSENT, Model, solve
from harness.checkers.transactions.weak import COMMIT_ORDER, judge
from harness.history import History, from_events
from harness.operation import Event
from harness.verdict import Budget

Given = tuple[int, str, list[Any]]


def history(*transactions: Given, timeless: bool = True) -> Transactions:
    """Of (process, type, micro-operations), one after another, as completions alone; ``timeless``: in sessions."""
    events = [
        Event(at, at, process, kind, "txn", None, parts)  # type: ignore[arg-type]
        for at, (process, kind, parts) in enumerate(transactions)
    ]
    made = from_events(events)
    made.timeless = timeless
    return Transactions.of(made.operations_or_completions())


def timed(*transactions: Given) -> History:
    """The same, invoked and completed one after another."""
    events: list[Event] = []
    for process, kind, parts in transactions:
        asked = [[f, key, value if f == "w" else None] for f, key, value in parts]
        for of, value in (("invoke", asked), (kind, parts)):
            events.append(Event(len(events), len(events), process, of, "txn", None, value))  # type: ignore[arg-type]
    return from_events(events)


SKEW: list[Given] = [
    (0, "ok", [["r", "x", None], ["r", "y", None], ["w", "x", 1]]),
    (1, "ok", [["r", "x", None], ["r", "y", None], ["w", "y", 2]]),
]
CHOICES: list[Given] = [
    (0, "ok", [["w", "x", 1]]),
    (1, "ok", [["w", "x", 2]]),
    (2, "ok", [["r", "x", 1], ["w", "y", 3]]),
    (3, "ok", [["r", "x", 2], ["w", "z", 4]]),
    (4, "ok", [["r", "y", None], ["r", "x", 2], ["r", "z", 4]]),
    (5, "ok", [["r", "x", 1], ["r", "y", 3], ["r", "z", None]]),
]


def test_write_skew_is_snapshot_isolation_and_not_serializable() -> None:
    assert solve(history(*SKEW), "snapshot-isolation").validity == "valid"
    answer = solve(history(*SKEW), "serializable")
    assert answer.validity == "invalid"
    assert set(answer.transactions) == {0, 1}


def test_an_order_is_given() -> None:
    answer = solve(history((0, "ok", [["r", "x", 1]]), (1, "ok", [["w", "x", 1]])), "serializable")
    assert (answer.validity, answer.order) == ("valid", (1, 0))


def test_choices_that_contradict_one_another() -> None:
    pytest.importorskip("pysat")
    answer = solve(history(*CHOICES), "serializable")
    assert answer.validity == "invalid"
    assert answer.transactions
    assert answer.reason


def test_without_the_solver_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    blind: list[Given] = [
        (0, "ok", [["w", "x", 1], ["w", "y", 1]]),
        (1, "ok", [["w", "x", 2], ["w", "y", 2]]),
        (2, "ok", [["r", "x", 1]]),
        (3, "ok", [["r", "y", 2]]),
        (4, "ok", [["r", "y", 1]]),
    ]
    monkeypatch.setitem(sys.modules, "pysat", None)
    monkeypatch.setitem(sys.modules, "pysat.solvers", None)
    answer = solve(history(*blind), "serializable")
    assert (answer.validity, answer.reason) == ("unknown", ABSENT)
    # What needs no choice is decided all the same.
    assert solve(history(*SKEW), "serializable").validity == "invalid"


def test_a_budget_that_is_spent() -> None:
    answer = solve(history(*SKEW), "serializable", Budget(seconds=-1))
    assert answer.validity == "unknown"
    assert "budget" in answer.reason


def test_a_value_that_two_wrote_is_no_matter_until_it_is_read() -> None:
    twice: list[Given] = [(0, "ok", [["w", "x", 1]]), (1, "ok", [["w", "x", 1]])]
    assert judge(history(*twice), "causal").validity == "valid"
    read = history(*twice, (2, "ok", [["r", "x", 1]]))
    assert judge(read, "causal").validity == "unknown"
    assert "twice" in judge(read, "causal").unknown
    assert solve(read, "serializable").validity == "unknown"
    # That one of the two failed says which one it was.
    assert (
        judge(history((0, "fail", [["w", "x", 1]]), *twice[1:], (2, "ok", [["r", "x", 1]])), "causal").validity
        == "valid"
    )


def test_lists_are_no_registers() -> None:
    lists = history((0, "ok", [["append", "x", 1]]), (1, "ok", [["r", "x", [1]]]))
    assert judge(lists, "causal").validity == "unknown"
    assert solve(lists, "serializable").validity == "unknown"


def test_an_empty_history() -> None:
    for level in ("read-committed", "read-atomic", "causal"):
        assert judge(history(), level).validity == "valid"
    assert solve(history(), "serializable").validity == "valid"
    assert solve(history(), "strong-snapshot-isolation").validity == "valid"


def test_what_is_said_of_a_stale_read() -> None:
    stale = history((0, "ok", [["w", "x", 1]]), (0, "ok", [["w", "x", 2]]), (0, "ok", [["r", "x", 1]]))
    assert judge(stale, "read-committed").validity == "valid"
    (violation,) = judge(stale, "causal").found
    assert violation.kind == COMMIT_ORDER
    assert [step.kind for step in violation.edges] in (["so", "co"], ["co", "so"])
    assert violation.transactions in ((0, 1, 2), (1, 0, 2))
    assert "T1 came before T2 in process 0. Yet T2 read 1 of key x, which T0 wrote, and not 2" in violation.text
    # Each transaction by itself is a session where sessions do not count.
    assert judge(stale, "read-atomic", sessions=False).validity == "valid"


def test_what_is_said_of_reads_that_are_wrong_by_themselves() -> None:
    wrong = history(
        (0, "fail", [["w", "x", 1]]),
        (1, "ok", [["w", "y", 2], ["w", "y", 3]]),
        (2, "ok", [["r", "x", 1]]),
        (3, "ok", [["r", "y", 2]]),
        (4, "ok", [["r", "z", 9]]),
        (5, "ok", [["r", "z", 5], ["w", "z", 5]]),
        (6, "ok", [["w", "z", 6], ["r", "z", 7]]),
        (7, "info", [["w", "x", 8]]),
        (8, "ok", [["r", "x", 8]]),
    )
    judgement = judge(wrong, "read-committed")
    assert judgement.counts == {"G1a": 1, "G1b": 1, "garbage-read": 1, "future-read": 1, "internal": 1}
    assert [v.transactions for v in judgement.found] == [(4,), (0, 2), (1, 3), (5,), (6,)]
    assert solve(wrong, "snapshot-isolation").validity == "invalid"


def test_many_that_are_wrong_are_counted_and_ten_are_told() -> None:
    many: list[Given] = [(p, "ok", [["w", f"k{p}", 2 * p + 1]]) for p in range(30)]
    many += [(p, "ok", [["r", f"k{p}", None]]) for p in range(30)]
    judgement = judge(history(*many), "causal")
    assert (len(judgement.found), judgement.counts) == (10, {COMMIT_ORDER: 30})


def test_causal_order_of_more_sessions_than_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forced, "_SESSIONS", 1)
    monkeypatch.setattr(forced, "_CHAINS", 1)
    two = history(
        (0, "ok", [["w", "x", 1]]), (1, "ok", [["w", "y", 2]]), (2, "ok", [["r", "x", 1], ["r", "y", 2]]), (3, "ok", [])
    )
    assert judge(two, "causal").validity == "valid"
    late = judge(two, "causal", deadline=0)
    assert (late.validity, "budget" in late.unknown) == ("unknown", True)


IN_SESSIONS: tuple[Model, ...] = ("strong-session-serializable", "strong-session-snapshot-isolation")
STALE: list[Given] = [(0, "ok", [["w", "x", 1]]), (0, "ok", [["r", "x", None]]), (1, "ok", [["r", "x", 1]])]


def test_nothing_comes_after_a_crash_in_its_process() -> None:
    again: list[Given] = [(0, "info", [["w", "x", 1]]), *STALE[1:]]
    assert Transactional().check(timed(*again), Budget()).validity == "valid"
    assert Transactional().check(timed(*STALE), Budget()).validity == "invalid"
    for made, validity in ((again, "valid"), (STALE, "invalid")):
        transactions = Transactions.of(timed(*made).operations())
        assert judge(transactions, "causal").validity == validity
        assert judge(transactions, "read-atomic").validity == validity
        for model in IN_SESSIONS:
            assert solve(transactions, model).validity == validity


@pytest.mark.parametrize(("sessions", "width"), [(32, 64), (1, 64), (1, 1)])
def test_a_crash_comes_after_what_its_process_had_done(
    sessions: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forced, "_SESSIONS", sessions)
    monkeypatch.setattr(forced, "_CHAINS", width)
    before: list[Given] = [
        (0, "ok", [["w", "x", 1]]),
        (0, "info", [["r", "x", 9], ["w", "y", 2]]),
        (0, "ok", [["w", "z", 3]]),
        (1, "ok", [["w", "x", 9]]),
        (1, "ok", [["r", "x", 1]]),
        (2, "ok", [["r", "y", 2]]),
    ]
    # The crashed one has seen 9 after 1 was there, the other one 1 after 9.
    transactions = Transactions.of(timed(*before).operations())
    assert judge(transactions, "causal").validity == "invalid"
    assert solve(transactions, "strong-session-serializable").validity == "invalid"
    # Who has read what the process did later has not seen what crashed before that.
    later: list[Given] = [
        (0, "info", [["w", "x", 1], ["w", "y", 1]]),
        (0, "ok", [["w", "z", 3]]),
        (1, "ok", [["r", "z", 3], ["r", "x", None]]),
        (2, "ok", [["r", "y", 1]]),
    ]
    transactions = Transactions.of(timed(*later).operations())
    assert judge(transactions, "causal").validity == "valid"
    assert solve(transactions, "strong-session-serializable").validity == "valid"


def test_processes_are_sessions_where_the_file_says_so_or_they_are_known_to_wait() -> None:
    for timeless, validity in ((True, "invalid"), (False, "valid")):
        transactions = history(*STALE, timeless=timeless)
        assert judge(transactions, "causal").validity == validity
        for model in IN_SESSIONS:
            assert solve(transactions, model).validity == validity


def test_sessions_count_where_each_write_follows_a_read() -> None:
    made = history(
        (0, "ok", [["r", "x", None], ["w", "x", 1]]),
        (1, "ok", [["r", "x", 1], ["w", "x", 2]]),
        (2, "ok", [["r", "x", 2]]),
        (2, "ok", [["r", "x", 1]]),
    ).operations.history
    asked = Transactional(models=["strong-session-serializable"])
    assert asked.check(made, Budget()).validity == "invalid"
    made.timeless = False
    assert asked.check(made, Budget()).validity == "valid"


def test_an_edge_that_becomes_certain_is_no_clause() -> None:
    """That a clause against a cycle had the same two numbers as the edge made the search go on without it for ever."""
    pytest.importorskip("pysat")
    made: list[list[Any]] = [
        [],
        [["r", "x", None], ["r", "y", 4], ["w", "z", 5]],
        [],
        [["w", "x", 6]],
        [["w", "x", 14]],
        [["r", "x", 6]],
        [["w", "y", 4]],
        [["w", "z", 7], ["r", "x", 6]],
        [["r", "z", 5]],
    ]
    transactions = history(*((at, "ok", parts) for at, parts in enumerate(made)))
    assert solve(transactions, "serializable", Budget(seconds=5)).validity == "valid"
