"""What is shown around an anomaly, and the axis that it is shown on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from harness.broken_axis import BrokenAxis
from harness.history import History, from_events
from harness.operation import Event
from harness.periods import fault_periods
from harness.roles import Sighting, sightings
from harness.scene import Scene, Scenes, found_instead, in_words, mark
from harness.verdict import Anomaly, Edge, Witness

MS = 1_000_000
SECOND = 1_000_000_000


def event(time: float, process: int, kind: str, f: str, key: object, value: object, node: str = "n1") -> Event:
    return Event(0, int(time * MS), process, kind, f, key, value, node)  # type: ignore[arg-type]


def stale(others: int = 10) -> tuple[History, Anomaly]:
    """Two writes, and seconds later a read of the first; meanwhile others work on that key and on another one."""
    events = [
        event(100, 0, "invoke", "write", "x", 1),
        event(101, 0, "ok", "write", "x", 1),
        event(120, 1, "invoke", "write", "x", 2, "n2"),
        event(121, 1, "ok", "write", "x", 2, "n2"),
    ]
    for number in range(others):
        at = 200 + number * (2500 / others)
        for key, process in (("x", 2), ("y", 3)):
            events.append(event(at, process, "invoke", "read", key, None))
            events.append(event(at + 1, process, "ok", "read", key, 2))
    events.append(Event(0, 150 * MS, "nemesis", "invoke", "start-partition", None, {"said": "n1 | n2"}))
    events.append(Event(0, 151 * MS, "nemesis", "ok", "start-partition", None, {"said": "n1 | n2"}))
    events.append(event(3000, 4, "invoke", "read", "x", None))
    events.append(event(3001, 4, "ok", "read", "x", 1))
    events.append(event(3000.5, 14, "invoke", "write", "x", 9))
    events.sort(key=lambda entry: entry.time)
    history = from_events(events)
    index = {(entry.process, entry.type): history.index_of(row) for row, entry in enumerate(history.events())}
    witnesses = [
        Witness(0, "write", "x", 1, 100 * MS, 101 * MS, "ok", "n1", index[0, "invoke"]),
        Witness(1, "write", "x", 2, 120 * MS, 121 * MS, "ok", "n2", index[1, "invoke"]),
        Witness(4, "read", "x", 1, 3000 * MS, 3001 * MS, "ok", "n1", index[4, "invoke"]),
    ]
    return history, Anomaly("stale read", "It read 1.", witnesses, "x", ["partition"], possible=[2])


def scene_of(history: History, anomaly: Anomaly, most: int = 300) -> Scene:
    scene = Scenes(history.operations_or_completions(), fault_periods(history), sightings(history)).scene(anomaly, most)
    assert scene is not None
    return scene


def test_a_scene_has_the_operations_of_the_key_and_what_happened_meanwhile() -> None:
    history, anomaly = stale()
    scene = scene_of(history, anomaly)
    assert [act.mark for act in scene.acts] == ["A", "B", "C"]
    assert [act.link for act in scene.acts] == [op.index for op in anomaly.operations]
    assert {(act.op.process, act.op.key) for act in scene.others} == {(2, "x"), (14, "x")}
    assert scene.beside == len(scene.others) == 11
    assert [fault.name for fault in scene.faults] == ["partition"]
    assert [(before.source, before.target) for before in scene.orders] == [(0, 1), (1, 2)]
    assert [(before.source, before.target, before.why) for before in scene.seen] == [(0, 2, "was read by")]
    assert found_instead(anomaly) == "In a correct store C could only have found 2."


def test_of_many_operations_a_sample_is_shown() -> None:
    history, anomaly = stale(500)
    scene = scene_of(history, anomaly, 50)
    assert (len(scene.others), scene.beside) == (50, 501)
    assert scene.others == sorted(scene.others, key=lambda act: act.op.call)


def test_an_anomaly_may_rest_on_nothing_or_on_what_the_history_does_not_have() -> None:
    history, _ = stale()
    scenes = Scenes(history.operations_or_completions(), [], [])
    assert scenes.scene(Anomaly("bare", "nothing")) is None
    for index in (None, 10**9, -1):
        scene = scenes.scene(Anomaly("odd", "", [Witness(1, "read", "x", 1, 5, None, "info", None, index)]))
        assert scene is not None
        assert scene.acts[0].link is None
    assert scenes.scene(Anomaly("odd", "", [Witness(1, "read", [1], 1, 5, 7, "ok")], key={"a": [1]})) is not None


def test_transactions_on_the_keys_of_a_cycle_are_around_it() -> None:
    def txn(at: float, process: int, *steps: list[object]) -> list[Event]:
        return [
            event(at, process, "invoke", "txn", None, list(steps)),
            event(at + 5, process, "ok", "txn", None, list(steps)),
        ]

    events = [
        *txn(1, 0, ["r", 1, None], ["w", 2, 5]),
        *txn(2, 1, ["r", 2, None], ["w", 1, 6]),
        *txn(3, 2, ["w", 3, 7]),
        *txn(4, 3, ["w", 1, 8]),
    ]
    history = from_events(sorted(events, key=lambda entry: entry.time))
    numbers = {entry.process: row for row, entry in enumerate(history.events()) if entry.type == "ok"}
    witnesses = [
        Witness(p, "txn", None, [], int((p + 1) * MS), int((p + 6) * MS), "ok", "n1", numbers[p]) for p in (0, 1)
    ]
    a, b = numbers[0], numbers[1]
    anomaly = Anomaly("G2-item", "", witnesses, None, [], [Edge("rw", a, b, "", 1), Edge("rw", b, a, "", 2)])
    scene = scene_of(history, anomaly)
    assert [act.mark for act in scene.acts] == [f"T{a}", f"T{b}"]
    assert [act.link for act in scene.acts] == [0, 1]
    assert [act.op.process for act in scene.others] == [3]
    assert [(before.source, before.target, before.why) for before in scene.seen] == [
        (0, 1, "rw key 1"),
        (1, 0, "rw key 2"),
    ]


def transactions(number: int) -> History:
    """Transactions one after the other, each of a process of its own, by turns on keys 0, 1 and 2."""
    events = []
    for at in range(number):
        steps = [["append", at % 3, at]]
        events.append(event(at, at, "invoke", "txn", None, steps))
        events.append(event(at + 0.5, at, "ok", "txn", None, steps))
    return from_events(events)


def of_transaction(number: int, key: object) -> Anomaly:
    """An anomaly without a cycle, on a key, of one of those."""
    txn = Witness(number, "txn", None, [], number * MS, number * MS + MS // 2, "ok", "n1", 2 * number + 1)
    # Long enough that all are around it.
    late = Witness(0, "txn", None, [], 0, 100 * SECOND, "ok", "n1", 1)
    return Anomaly("G1a", "It read what was aborted.", [late, txn], key)


def test_an_anomaly_of_transactions_without_a_cycle_is_among_those_on_its_key() -> None:
    history = transactions(30)
    scene = scene_of(history, of_transaction(4, 1))
    assert [act.op.process for act in scene.others] == [n for n in range(30) if n % 3 == 1 and n != 4]
    assert scene.others_are == "others on the same keys"
    without = scene_of(history, of_transaction(4, None))
    assert [act.op.process for act in without.others] == [n for n in range(1, 30) if n != 4]
    assert without.others_are == "others at the same time"


def test_how_many_were_looked_at_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.scene._LOOKED_AT", 10)
    scene = scene_of(transactions(30), of_transaction(4, 1))
    assert (scene.looked_at, scene.meanwhile, scene.beside) == (10, 30, 2)
    whole = scene_of(transactions(30), of_transaction(4, None))
    assert (whole.looked_at, whole.meanwhile, whole.beside) == (30, 30, 28)


def test_operations_are_found_by_the_numbers_of_their_file() -> None:
    history, anomaly = stale()
    history.index = np.arange(len(history))[::-1] * 3 + 10**12
    for row in (0, 1):  # by their invocations, by their completions
        numbers = [history.index_of(int(op.index or 0) + row) for op in anomaly.operations[:2]]
        witnesses = [replace(op, index=at) for op, at in zip(anomaly.operations, numbers, strict=False)]
        scene = scene_of(history, replace(anomaly, operations=[*witnesses, replace(anomaly.operations[2], index=1)]))
        assert [act.link for act in scene.acts] == [
            history.index_of(int(op.index or 0)) for op in anomaly.operations[:2]
        ] + [None]
        assert scene.beside == 12


def test_what_lasts_from_long_before_is_around_as_well() -> None:
    history, anomaly = stale()
    events = [event(1, 50, "invoke", "read", "x", None), event(2, 51, "invoke", "read", "x", None)]
    events += [event(3, 51, "ok", "read", "x", 1), *history.events(), event(4000, 50, "ok", "read", "x", 2)]
    scene = scene_of(
        from_events(events), replace(anomaly, operations=[replace(op, index=None) for op in anomaly.operations[2:]])
    )
    assert [act.op.process for act in scene.others if act.op.process >= 50] == [50]


def test_more_than_an_alphabet_of_operations_have_marks_of_their_own() -> None:
    many = Anomaly("kind", "", [Witness(n, "read", "x", 1, n, n + 1, "ok") for n in range(60)])
    marks = [mark(many, number) for number in range(60)]
    assert marks[0] == "A"
    assert len(set(marks)) == 60


def test_long_lists_are_shown_by_their_ends() -> None:
    assert in_words(Witness(0, "read-list", "k", list(range(40)), 0, 1, "ok")).startswith("read-list [... 28 29")
    assert in_words(Witness(0, "delete", "k", None, 0, 1, "ok")) == "delete"


def test_who_was_certainly_primary_meanwhile_is_in_a_scene() -> None:
    history, anomaly = stale()
    told = [("n1", "primary", 0, 200), ("n1", "primary", 300, 400), ("n2", "replica", 0, 400), ("n3", "primary", 0, 9)]
    seen = [Sighting(node, role, 3, start * MS, end * MS, lasting=False) for node, role, start, end in told]
    scene = Scenes(history.operations_or_completions(), [], seen).scene(anomaly)
    assert scene is not None
    assert [(span.node, span.term, span.start, span.end) for span in scene.reigns] == [("n1", 3, 200 * MS, 300 * MS)]


def test_short_operations_far_apart_are_all_wide() -> None:
    intervals = [(SECOND, SECOND + MS), (5 * SECOND, 5 * SECOND + MS), (50 * SECOND, 50 * SECOND + 2 * MS)]
    axis = BrokenAxis(intervals, 0, 60 * SECOND)
    assert axis.broken
    for start, end in intervals:
        assert axis.place(end) - axis.place(start) > 0.08
    assert [stretch.cut for stretch in axis.stretches] == [False, True, False, True, False]


def test_an_axis_without_gaps_is_not_broken() -> None:
    assert not BrokenAxis([(0, MS), (MS // 2, 2 * MS)], 0, 2 * MS).broken
    assert not BrokenAxis([], 5, 5).broken


INTERVALS = st.lists(
    st.tuples(st.integers(0, 10**11), st.integers(0, 10**9)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    min_size=1,
    max_size=12,
)


@given(INTERVALS)
def test_places_keep_the_order_of_moments(intervals: list[tuple[int, int]]) -> None:
    axis = BrokenAxis(intervals, min(a for a, _ in intervals), max(b for _, b in intervals))
    assert axis.start <= min(a for a, _ in intervals)
    assert axis.end >= max(b for _, b in intervals)
    moments = sorted({moment for pair in intervals for moment in pair})
    places = [axis.place(moment) for moment in moments]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)
    assert axis.stretches[0].left == 0
    assert axis.stretches[-1].right == 1
    for stretch, other in itertools.pairwise(axis.stretches):
        assert (stretch.end, stretch.right) == (other.start, other.left)
    ticks = axis.ticks()
    assert len({tick.place for tick in ticks}) >= 1
    assert len(ticks) < 600


def test_ticks_say_their_moments() -> None:
    ticks = BrokenAxis([(0, 10 * SECOND)], 0, 10 * SECOND).ticks()
    labels = {tick.label: tick.place for tick in ticks}
    assert labels["5 s"] == pytest.approx(0.5)
    assert labels["2 s"] == pytest.approx(0.2)
    assert labels["0.2 s"] == pytest.approx(0.02)
    assert sum(tick.room == 0 for tick in ticks) == 1
