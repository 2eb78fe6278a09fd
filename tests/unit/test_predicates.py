"""Transactions that read by predicates, in a universe of which every version is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness.checkers.transactions import predicates
from harness.checkers.transactions.cycles import cycles
from harness.checkers.transactions.graph import Dependencies, Kind
from harness.checkers.transactions.universe import matches
from harness.errors import HistoryError
from harness.history import History, from_events
from harness.operation import Event, EventType

Steps = Sequence[list[Any]]


def history(init: dict[str, Any] | None, *transactions: Steps | tuple[str, Steps]) -> History:
    """The init, and then these transactions, all at the same time."""
    events: list[tuple[Any, int, str, Any]] = []
    if init is not None:
        events += [("invoke", 0, "init", init), ("ok", 0, "init", init)]
    for process, one in enumerate(transactions):
        steps = one[1] if isinstance(one, tuple) else one
        asked = [[f, of[0], None] if f in ("r", "rp") else [f, *of] for f, *of in steps]
        events.append(("invoke", process, "txn", asked))
    for process, one in enumerate(transactions):
        kind, steps = one if isinstance(one, tuple) else ("ok", one)
        events.append((kind, process, "txn", steps if kind == "ok" else None))
    return from_events(
        Event(at, at * 10, process, kind, f, value=value) for at, (kind, process, f, value) in enumerate(events)
    )


def edges(dependencies: Dependencies) -> set[tuple[str, int, int]]:
    of = dependencies.edges
    rows = zip(of.kind, of.source, of.target, strict=True)
    return {(Kind(kind).label, int(source), int(target)) for kind, source, target in rows}


def classes(dependencies: Dependencies) -> set[str]:
    return set(dependencies.counts) | set(cycles(dependencies, ())[1])


@pytest.mark.parametrize(
    ("predicate", "value", "expected"),
    [
        ("true", 5, True),
        (":true", False, True),
        (True, 0, True),
        ("true", None, False),
        (["=", 5], 5, True),
        (["=", 5], 4, False),
        ([":=", 5], 5, True),
        (["mod", 3, 2], 5, True),
        (["mod", 3, 2], 6, False),
        (["=", 1], True, False),
    ],
)
def test_predicates(predicate: Any, value: Any, expected: bool) -> None:
    assert matches(predicate, value) is expected


def test_there_are_no_other_predicates() -> None:
    with pytest.raises(HistoryError, match="there is no predicate"):
        predicates.infer(history(None, [["rp", ["like", 1], {}]]))


def test_a_key_that_is_shown_was_chosen() -> None:
    result = predicates.infer(history({"x": 0}, [["w", "x", 1]], [["rp", "true", {"x": 1}]]))
    assert edges(result) == {("ww", 0, 1), ("wrp", 1, 2)}
    old = predicates.infer(history({"x": 0}, [["delete", "x"]], [["rp", "true", {"x": 0}]]))
    assert edges(old) == {("ww", 0, 1), ("wrp", 0, 2), ("rwp", 2, 1)}


def test_a_write_that_changes_no_match_is_no_conflict() -> None:
    result = predicates.infer(history({"x": 0}, [["w", "x", 1]], [["rp", "true", {"x": 0}]]))
    assert edges(result) == {("ww", 0, 1), ("wrp", 0, 2)}


def test_a_key_that_is_missing_was_at_its_only_version_that_does_not_match() -> None:
    inserted = predicates.infer(history(None, [["insert", "x", 1]], [["rp", "true", {}]]))
    assert edges(inserted) == {("rwp", 1, 0)}
    deleted = predicates.infer(history({"x": 0}, [["delete", "x"]], [["rp", "true", {}]]))
    assert edges(deleted) == {("ww", 0, 1), ("wrp", 1, 2)}
    # Both do not match: nobody knows.
    unclear = predicates.infer(history({"x": 0}, [["w", "x", 1]], [["rp", ["=", 5], {}]]))
    assert edges(unclear) == {("ww", 0, 1)}


def test_two_who_miss_what_the_other_inserts_are_a_write_skew_by_predicate() -> None:
    skew = history(None, [["rp", "true", {}], ["insert", "x", 1]], [["rp", "true", {}], ["insert", "y", 2]])
    assert classes(predicates.infer(skew)) == {"G2"}


def test_two_who_see_what_the_other_inserts_read_in_a_circle() -> None:
    seen = history(None, [["w", "x", 1], ["rp", "true", {"y": 2}]], [["w", "y", 2], ["rp", "true", {"x": 1}]])
    assert classes(predicates.infer(seen)) == {"G1c"}


def test_a_read_before_the_init_and_after_what_followed_it() -> None:
    missed = history({"x": 0, "z": 0}, [["delete", "x"], ["insert", "y", 1]], [["r", "y", 1], ["r", "z", None]])
    assert classes(predicates.infer(missed)) == {"G-single-item"}
    both = history({"7": 1}, [["rp", ["mod", 2, 0], {}], ["r", 7, None]])
    assert classes(predicates.infer(both)) == {"G-single-item"}


def test_a_key_that_always_matches_is_missed() -> None:
    result = predicates.infer(history({"5": 3}, [["rp", ["mod", 2, 1], {}]], [["rp", ["=", 4], {}]]))
    assert result.counts == {"predicate-read-miss": 1}
    assert "T4 read all that match mod 2 1 and did not find '5', though whatever it held (3) matches" in (
        result.found[0].text
    )
    assert edges(result) == {("wrp", 0, 2)}


def test_an_init_that_answers_less_has_done_what_was_asked() -> None:
    events = [
        Event(0, 0, 0, "invoke", "init", value={"x": 0, "y": 0}),
        Event(1, 1, 0, "ok", "init", value={"x": 0}),
        Event(2, 2, 0, "invoke", "txn", value=[["rp", "true", None]]),
        Event(3, 3, 0, "ok", "txn", value=[["rp", "true", {"x": 0, "y": 0}]]),
    ]
    result = predicates.infer(from_events(events))
    assert edges(result) == {("wrp", 0, 1)}
    assert not result.counts


@pytest.mark.parametrize(
    ("transactions", "kind"),
    [
        ([("fail", [["w", "x", 1]]), [["rp", "true", {"x": 1}]]], "G1a"),
        ([[["w", "x", 1], ["w", "x", 2]], [["r", "x", 1]]], "G1b"),
        ([[["r", "x", 9]]], "garbage-read"),
        ([[["r", "x", 0], ["r", "x", 1]], [["w", "x", 1]]], "internal"),
    ],
)
def test_impossible_reads(transactions: list[Any], kind: str) -> None:
    assert kind in predicates.infer(history({"x": 0}, *transactions)).counts


def test_who_crashed_and_was_seen_has_happened() -> None:
    seen = history({"x": 0, "y": 0}, ("info", [["delete", "x"], ["delete", "y"]]), [["rp", "true", {"y": 0}]])
    assert classes(predicates.infer(seen)) == {"G-single"}
    unseen = history({"x": 0}, ("info", [["delete", "x"]]), [["rp", "true", {"x": 0}]])
    assert edges(predicates.infer(unseen)) == {("wrp", 0, 2)}


def test_writes_of_two_transactions_are_in_no_order() -> None:
    result = predicates.infer(history({"x": 0}, [["w", "x", 1]], [["w", "x", 2]], [["rp", ["=", 1], {"x": 1}]]))
    assert edges(result) == {("ww", 0, 1), ("ww", 0, 2), ("wrp", 1, 3)}


def test_a_value_that_two_wrote_is_nobodys() -> None:
    result = predicates.infer(history(None, [["w", "x", 1]], [["w", "x", 1]], [["r", "x", 1]]))
    assert "both T3 and T4 wrote 1 to 'x'" in result.unknown


def test_the_store_is_filled_once() -> None:
    kinds: tuple[EventType, ...] = ("invoke", "ok", "invoke", "ok")
    events = [Event(at, at, 0, kind, "init", value={"x": at}) for at, kind in enumerate(kinds)]
    with pytest.raises(HistoryError, match="a second time"):
        predicates.infer(from_events(events))


def test_other_micro_operations_are_refused() -> None:
    with pytest.raises(HistoryError, match="none of w, insert, delete, r and rp"):
        predicates.infer(history(None, [["append", "x", 1]]))
