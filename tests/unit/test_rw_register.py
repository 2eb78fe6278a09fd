"""Inference from registers: edges, version orders, and the anomalies that are no cycles."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from harness.checkers.transactions import Transactional, read_modify_write, rw_register
from harness.checkers.transactions.columns import Transactions
from harness.checkers.transactions.cycles import cycles
from harness.checkers.transactions.graph import Dependencies, Kind
from harness.checkers.transactions.recognise import unwritten_reads
from harness.history import History, from_events
from harness.operation import Event, EventType
from harness.verdict import Budget
from tests.transactions import random_histories, small
from tests.transactions.graph import strongest
from tests.transactions.levels import serializable

Steps = Sequence[tuple[str, Any, Any]]


def r(key: Any, value: Any = None) -> tuple[str, Any, Any]:
    return ("r", key, value)


def w(key: Any, value: Any) -> tuple[str, Any, Any]:
    return ("w", key, value)


def done(*transactions: Steps | tuple[str, Steps], process: Sequence[int] = (), apart: bool = False) -> Transactions:
    """These transactions, all at the same time, or one after the other; some with a type that is not ok."""
    events: list[Event] = []
    completions: list[Event] = []
    for number, one in enumerate(transactions):
        kind: EventType = "ok"
        steps: Any = one
        if isinstance(one[0], str):
            kind, steps = one  # type: ignore[assignment]
        who = process[number] if process else number
        asked = [[f, key, None if f == "r" else value] for f, key, value in steps]
        events.append(Event(0, 0, who, "invoke", "txn", value=asked))
        told = [list(step) for step in steps] if kind == "ok" else asked
        (events if apart else completions).append(Event(0, 0, who, kind, "txn", value=told))
    return Transactions.of(_numbered([*events, *completions]).operations())


def _numbered(events: Sequence[Event]) -> History:
    return from_events(
        Event(at, at * 10, event.process, event.type, event.f, value=event.value) for at, event in enumerate(events)
    )


def edges(dependencies: Dependencies) -> set[tuple[str, int, int, Any, Any]]:
    """Kind, source, target, and what they wrote or read; without the initial state's."""
    of, name = dependencies.edges, dependencies.transactions.value_name
    rows = zip(of.kind, of.source, of.target, of.before, of.after, strict=True)
    return {
        (Kind(kind).label, int(source), int(target), name(int(before)), name(int(after)))
        for kind, source, target, before, after in rows
    }


def classes(dependencies: Dependencies, *orders: Kind) -> set[str]:
    """The names of all anomalies."""
    return set(dependencies.counts) | set(cycles(dependencies, orders)[1])


def texts(dependencies: Dependencies) -> str:
    return "\n".join(found.text for found in dependencies.found)


def test_who_wrote_comes_before_who_reads_it_from_outside() -> None:
    result = rw_register.infer(done([w("x", 1), w("x", 2)], [r("x", 2), w("x", 3), r("x", 3)], [r("x", 3)]))
    assert edges(result) == {("wr", 0, 1, 2, 2), ("wr", 1, 2, 3, 3)}
    assert not result.counts
    assert not result.unknown


def test_who_found_nothing_comes_before_all_who_wrote() -> None:
    result = rw_register.infer(done([r("x")], [w("x", 1)], [w("x", 2)]))
    assert edges(result) == {("rw", 0, 1, None, 1), ("rw", 0, 2, None, 2)}


def test_writes_follow_reads_if_one_says_so() -> None:
    history = done([w("x", 1)], [r("x", 1), w("x", 2)], [r("x", 1)])
    assert edges(rw_register.infer(history)) == {("wr", 0, 1, 1, 1), ("wr", 0, 2, 1, 1)}
    assert edges(rw_register.infer(history, ["wfr"])) == {
        ("wr", 0, 1, 1, 1),
        ("wr", 0, 2, 1, 1),
        ("ww", 0, 1, 1, 2),
        ("rw", 2, 1, 1, 2),
    }


@pytest.mark.parametrize("source", ["process", "realtime"])
def test_time_orders_versions_if_one_says_so(source: str) -> None:
    history = done([w("x", 1)], [w("y", 5)], [w("x", 2)], [r("x", 2)], process=[0, 0, 0, 0], apart=True)
    assert ("ww", 0, 2, 1, 2) in edges(rw_register.infer(history, [source]))
    assert ("ww", 0, 2, 1, 2) not in edges(rw_register.infer(history))
    together = done([w("x", 1)], [w("x", 2)])
    assert not edges(rw_register.infer(together, [source]))


def test_another_source_is_refused() -> None:
    with pytest.raises(ValueError, match="wfr, process, realtime, not by magic"):
        rw_register.infer(done([w("x", 1)]), ["magic"])


def test_a_source_that_goes_round_is_told_and_not_used() -> None:
    history = done([w("x", 1)], [w("x", 2)], [r("x", 1)], process=[0, 0, 0], apart=True)
    result = rw_register.infer(history, ["process", "wfr"])
    assert result.counts == {"cyclic-versions": 1}
    assert "the values 1, 2 of 'x' have no order" in texts(result)
    assert "the order of each process" in texts(result)
    assert edges(result) == {("wr", 0, 2, 1, 1)}


def test_what_comes_before_the_initial_state_goes_round() -> None:
    history = done([w("x", 1)], [r("x")], apart=True)
    assert rw_register.infer(history, ["realtime"]).counts == {"cyclic-versions": 1}
    assert not rw_register.infer(history, ["process", "wfr"]).counts
    assert classes(rw_register.infer(history), Kind.REALTIME) == {"G-single-item-realtime"}


def test_who_crashed_and_was_read_has_happened() -> None:
    history = done(("info", [w("x", 1), w("y", 1)]), [r("x", 1), r("y")])
    assert edges(rw_register.infer(history)) == {("wr", 0, 1, 1, 1), ("rw", 1, 0, None, 1)}
    assert classes(rw_register.infer(history)) == {"G-single-item"}


def test_who_crashed_and_was_not_read_may_not_have_happened() -> None:
    assert not edges(rw_register.infer(done(("info", [w("x", 1)]), [r("x")])))


@pytest.mark.parametrize(
    ("history", "kind", "text"),
    [
        (done(("fail", [w("x", 1)]), [r("x", 1)]), "G1a", "which T2 wrote, and that transaction had failed"),
        (done([w("x", 1), w("x", 2)], [r("x", 1)]), "G1b", "it saw the middle of that transaction"),
        (done([w("x", 1), r("x", 2)], [w("x", 2)]), "internal", "though it had written 1 just before"),
        (done([r("x"), r("x", 2)], [w("x", 2)]), "internal", "though it had read it as nothing just before"),
        (done([r("x", 1), w("x", 1)]), "future-read", "before it wrote that itself"),
        (done([r("x")], [r("x", 7)]), "garbage-read", "read 'x' as 7, which nobody has written"),
    ],
)
def test_impossible_reads(history: Transactions, kind: str, text: str) -> None:
    result = rw_register.infer(history)
    assert result.counts == {kind: 1}
    assert text in texts(result)


def test_a_failed_write_that_was_tried_again_is_no_aborted_read() -> None:
    assert not rw_register.infer(done(("fail", [w("x", 1)]), [w("x", 1)], [r("x", 1)])).counts


def test_a_lost_update_needs_no_order_of_versions() -> None:
    history = done([r("x"), w("x", 1)], [r("x"), w("x", 2)], [r("x"), r("y")])
    result = rw_register.infer(history)
    assert result.counts == {"lost-update": 1}
    assert "2 transactions each read 'x' as nothing and then wrote it (T3 1, T4 2)" in texts(result)
    # Who writes first has not read what another one wrote, nor has who has read something else.
    assert not rw_register.infer(done([w("x", 1), r("x", 1)], [r("x"), w("x", 2)])).counts
    assert not rw_register.infer(done([r("x", 2), w("x", 1)], [r("x"), w("x", 2)])).counts


def test_a_dirty_update_replaces_what_failed() -> None:
    history = done(("fail", [w("x", 1)]), [r("x", 1), w("x", 2)])
    assert rw_register.infer(history, ["wfr"]).counts == {"G1a": 1, "dirty-update": 1}
    assert rw_register.infer(history).counts == {"G1a": 1}


def test_a_key_may_hold_something_from_the_start_if_nobody_found_nothing() -> None:
    assert not rw_register.infer(done([r("x", 7), w("x", 8)], [r("x", 7)], [r("y", 5)])).counts
    two = done([r("x", 7)], [r("x", 8)])
    assert rw_register.infer(two).counts == {"garbage-read": 2}
    late = done([w("x", 1)], [r("x", 7)], apart=True)
    assert rw_register.infer(late).counts == {"garbage-read": 1}
    elsewhere = done([r("x", 7)], [r("y")])
    assert rw_register.infer(elsewhere).counts == {"garbage-read": 1}


def test_a_value_that_two_wrote_matters_if_it_was_read() -> None:
    assert not rw_register.infer(done([w("x", 1)], [w("x", 1)])).unknown
    result = rw_register.infer(done([w("x", 1)], [w("x", 1)], [r("x", 1)]))
    assert result.unknown == (
        "values must be unique in their key, but both T3 and T4 wrote 1 to 'x', so that nobody knows which of the two "
        "T5 read"
    )
    assert not edges(result)
    assert "which it was from the start" in rw_register.infer(done([w("x", None)], [r("x")])).unknown


def test_lists_are_no_registers() -> None:
    assert "is appended, not written" in rw_register.infer(done([("append", "x", 1)])).unknown
    assert "a read finds a list" in rw_register.infer(done([r("x", [1])])).unknown


def test_no_transactions_have_no_edges() -> None:
    result = rw_register.infer(done())
    assert not edges(result)
    assert not result.counts


def test_of_each_kind_ten_are_explained_and_all_counted() -> None:
    result = rw_register.infer(done([w("x", 1), w("x", 2)], *[[r("x", 1)]] * 15))
    assert result.counts == {"G1b": 15}
    assert len(result.found) == 10


def test_versions_follow_from_an_order_of_transactions() -> None:
    history = done([w("x", 1), w("x", 2)], ("fail", [w("x", 9)]), ("info", [r("y")]), [r("x", 3), w("x", 4)])
    assert rw_register.versions_of_order(history, [(0, 1), (1, 2), (2, 3)]) == {"x": {(2, 3)}}


def test_edges_follow_from_an_order_of_versions() -> None:
    history = done([w("x", 1)], [w("x", 2)], [r("x", 1)])
    found = rw_register.edges_of_versions(history, [("x", 1, 2), ("x", 2, 3)])
    pairs = zip(found.kind.tolist(), found.source.tolist(), found.target.tolist(), strict=True)
    assert set(pairs) == {(Kind.WW, 0, 1), (Kind.RW, 2, 1)}


def test_reads_before_all_writes_order_all_versions() -> None:
    chain = done([r("x"), w("x", 1)], [r("x", 1), w("x", 2)], [r("x", 2), w("x", 3)], [r("x", 1)])
    result = read_modify_write.infer(chain)
    assert read_modify_write.share(chain) == 1.0
    assert {edge[:3] for edge in edges(result) if edge[0] != "wr"} >= {("ww", 0, 1), ("ww", 1, 2), ("rw", 3, 1)}
    assert not classes(result)
    fork = done([r("x"), w("x", 1)], [r("x", 1), w("x", 2)], [r("x", 1), w("x", 3)], [w("y", 1)])
    assert classes(read_modify_write.infer(fork)) == {"lost-update", "G2-item"}
    assert read_modify_write.share(fork) == 0.75


VERSIONS = ((), ("wfr",), ("process",), ("realtime",), ("wfr", "process", "realtime"))


def test_what_a_serial_order_explains_shows_nothing() -> None:
    rng = random.Random("registers")
    explained = 0
    for _ in range(300):
        history = random_histories.of_registers(rng, reads_first=rng.random() < 0.4)
        txns = small.transactions(history, lists=False)
        transactions = Transactions.of(history.operations())
        if serializable(txns, small.real_time(txns)):
            explained += 1
            for versions in VERSIONS:
                assert not classes(rw_register.infer(transactions, versions), Kind.PROCESS, Kind.REALTIME)
        elif serializable(txns):
            assert not classes(rw_register.infer(transactions, ["wfr"]))
    assert explained > 50


def test_leaving_out_edges_that_follow_from_others_keeps_the_strongest_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random("few edges")
    for _ in range(100):
        history = random_histories.of_registers(rng, reads_first=rng.random() < 0.4, most=10)
        transactions = Transactions.of(history.operations())
        for versions in VERSIONS:
            found = []
            for many in (1_000_000, -1):
                monkeypatch.setattr(rw_register, "_MANY_EDGES", many)
                result = rw_register.infer(transactions, versions)
                found.append(strongest(cycles(result, (Kind.PROCESS, Kind.REALTIME))[1]))
            assert found[0] == found[1]


def test_real_time_orders_versions_as_all_pairs_do() -> None:
    rng = random.Random("pairs")
    for _ in range(150):
        history = random_histories.of_registers(rng, most=9)
        transactions = Transactions.of(history.operations())
        whole = {
            (a, b)
            for a in range(len(transactions))
            for b in range(len(transactions))
            if transactions.type[a] == 1 and transactions.ret[a] < transactions.call[b]
        }
        result = rw_register.infer(transactions, ["realtime"])
        if "cyclic-versions" in result.counts:
            continue
        pairs = rw_register.versions_of_order(transactions, whole)
        apart = [(key, one, other) for key, edges in pairs.items() for one, other in edges if one is not None]
        slow = rw_register.edges_of_versions(transactions, apart)
        data = result.edges.take(result.edges.kind == Kind.WW)
        expected = slow.take(slow.kind == Kind.WW)
        assert _closure(data) == _closure(expected)


def _closure(of: Any) -> set[tuple[int, int, int]]:
    """Who comes before whom by writes of a key, at last."""
    found = set(zip(of.key.tolist(), of.source.tolist(), of.target.tolist(), strict=True))
    while True:
        more = {(k, a, d) for k, a, b in found for k2, c, d in found if k == k2 and b == c} - found
        if not more:
            return found
        found |= more


def test_too_many_edges_from_the_initial_state_leave_the_question_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rw_register, "_MANY_EDGES", 0)
    monkeypatch.setattr(rw_register, "_MOST_EDGES", 3)
    result = rw_register.infer(done([w("x", 1)], [w("x", 2)], [r("x")], [r("x")]))
    assert edges(result) == {("rw", 2, 0, None, 1), ("rw", 3, 0, None, 1)}
    assert not result.unknown
    assert "too many pairs" in result.partial

    # Without all edges a search decides, and the levels that do not rest on edges are decided anyhow.
    def held(model: str, *transactions: Steps) -> str:
        return Transactional(models=[model]).check(done(*transactions).operations.history, Budget()).validity

    for model in ("serializable", "causal"):
        assert held(model, [w("x", 1)], [w("x", 2)], [r("x")], [r("x")]) == "valid"
    update, more = [r("x"), w("x", 1)], [r("x", 1), w("x", 2)]
    assert held("serializable", update, more, [r("x")], [r("x")], [r("x")]) == "valid"
    assert held("serializable", update, more, [r("x"), r("y", 1)], [r("x", 2), w("y", 1)]) == "invalid"


def test_a_crash_that_happened_and_contradicts_itself() -> None:
    def of(crashed: Steps, *others: tuple[int, Steps]) -> History:
        asked = [(f, key, None if f == "r" else value) for f, key, value in crashed]
        events = [Event(0, 0, 1, "invoke", "txn", value=asked), Event(0, 0, 1, "info", "txn", value=list(crashed))]
        for process, steps in others:
            asked = [(f, key, None if f == "r" else value) for f, key, value in steps]
            events += [Event(0, 0, process, "invoke", "txn", value=asked)]
            events += [Event(0, 0, process, "ok", "txn", value=list(steps))]
        return _numbered(events)

    unseen = of([w(0, 4), r(0, 1)], (3, [r(0, 4)]))
    future = of([r(0, 3), w(0, 3)], (2, [r(0, 3), w(0, 5)]))
    unread = of([w(0, 4), r(0, 1)], (3, [r(1)]))
    twice = of([r(0, 1), r(0, 2), w(1, 3)], (2, [w(0, 1)]), (3, [w(0, 2)]), (4, [r(1, 3)]))
    for history, kinds in ((unseen, {"internal"}), (future, {"future-read"}), (twice, {"internal"}), (unread, set())):
        assert set(rw_register.infer(Transactions.of(history.operations())).counts) == kinds
    for history, model, kind in (
        (unseen, "causal", "internal"),
        (future, "snapshot-isolation", "future-read"),
        (twice, "serializable", "internal"),
    ):
        verdict = Transactional(models=[model]).check(history, Budget())
        assert verdict.validity == "invalid"
        assert kind in verdict.evidence["anomaly_types"]


def unwritten(*transactions: tuple[int, int, Steps]) -> int:
    """How many reads are garbage, of (invocation, completion, steps)."""
    events = []
    for process, (call, ret, steps) in enumerate(transactions):
        asked = [(f, key, None if f == "r" else value) for f, key, value in steps]
        events.append(Event(0, call, process, "invoke", "txn", value=asked))
        events.append(Event(0, ret, process, "ok", "txn", value=list(steps)))
    history = from_events(sorted(events, key=lambda event: event.time))
    return len(unwritten_reads(Transactions.of(history.operations())))


def test_a_value_that_nobody_wrote_was_there_at_first_unless_something_contradicts_it() -> None:
    assert unwritten((0, 10, [w("x", 1)]), (5, 8, [r("x", 7)])) == 0
    assert unwritten((0, 10, [w("x", 1)]), (5, 8, [r("x", 7)]), (11, 12, [r("x", 1)])) == 0
    assert unwritten((0, 4, [w("x", 1)]), (5, 8, [r("x", 7)])) == 1
    assert unwritten((0, 10, [w("x", 1)]), (1, 4, [r("x", 1)]), (5, 8, [r("x", 7)])) == 1
    assert unwritten((0, 10, [r("x")]), (5, 8, [r("x", 7)])) == 1
    assert unwritten((0, 10, [r("x", 6)]), (5, 8, [r("x", 7)]), (5, 9, [r("x", 7)])) == 3
    assert unwritten((0, 10, [r("x", 7), w("x", 1)]), (5, 8, [r("x", 7)]), (0, 1, [r("y", 7)])) == 0


def test_many_keys_that_do_not_begin_empty_are_looked_at_once() -> None:
    number = 20_000
    began = time.monotonic()
    assert unwritten(*((2 * at, 2 * at + 1, [r(at, 9), w(at, 1)]) for at in range(number))) == 0
    assert time.monotonic() - began < 5
