"""When faults were active, as a history tells."""

from __future__ import annotations

from typing import Any

import pytest

from harness.history import from_events
from harness.operation import MONITOR, NEMESIS, Event, EventType
from harness.periods import Period, Turns, active, describe, fault_periods, healed_at, plans, turns


def periods(*steps: tuple[int, EventType, str]) -> list[tuple[int, int]]:
    history = from_events([Event(0, time, NEMESIS, kind, f) for time, kind, f in steps])
    return [(period.start, period.end) for period in fault_periods(history)]


def test_a_fault_is_there_from_its_invocation_until_it_was_ended() -> None:
    started: list[tuple[int, EventType, str]] = [(1, "invoke", "start-kill"), (2, "ok", "start-kill")]
    assert periods(*started, (5, "invoke", "stop-kill"), (7, "ok", "stop-kill"), (9, "ok", "heal")) == [(1, 7)]
    assert periods((1, "invoke", "start-kill"), (2, "fail", "start-kill"), (9, "ok", "heal")) == []


def test_a_fault_that_could_not_be_ended_goes_on_until_the_heal() -> None:
    started: list[tuple[int, EventType, str]] = [(1, "invoke", "start-kill"), (2, "ok", "start-kill")]
    refused: list[tuple[int, EventType, str]] = [(5, "invoke", "stop-kill"), (7, "fail", "stop-kill")]
    assert periods(*started, *refused, (9, "ok", "heal")) == [(1, 9)]
    again: list[tuple[int, EventType, str]] = [(11, "invoke", "start-kill"), (12, "ok", "start-kill")]
    assert periods(*started, *refused, *again, (20, "ok", "heal")) == [(1, 11), (11, 20)]


def test_a_fault_that_nothing_ended_lasts_until_the_last_event_and_a_heal_ends_all_when_it_is_done() -> None:
    both: list[tuple[int, EventType, str]] = [(1, "invoke", "start-kill"), (3, "invoke", "start-pause")]
    assert periods(*both, (5, "ok", "start-pause"), (30, "info", "start-kill")) == [(1, 30), (3, 30)]
    assert periods(*both, (8, "invoke", "heal")) == [(1, 8), (3, 8)]
    assert periods(*both, (8, "invoke", "heal"), (9, "ok", "heal"), (30, "info", "heal")) == [(1, 9), (3, 9)]


def test_faults_are_over_when_the_last_heal_is_done() -> None:
    begun, done = Event(0, 8, NEMESIS, "invoke", "heal"), Event(0, 9, NEMESIS, "ok", "heal")
    assert [healed_at(from_events(events)) for events in ([], [begun], [begun, done])] == [-1, -1, 9]


def test_what_a_fault_did_is_what_its_start_answered_and_before_that_what_it_was_asked_for() -> None:
    asked, done = {"aim": "one"}, {"said": "n1"}
    for answer, what in ((done, done), (None, asked)):
        events = [
            Event(0, 1, NEMESIS, "invoke", "start-kill", value=asked),
            Event(0, 2, NEMESIS, "ok", "start-kill", value=answer),
        ]
        assert [period.what for period in fault_periods(from_events(events))] == [what]
    # Its start may complete when it has been ended already.
    late = [Event(0, 1, NEMESIS, "ok", "start-kill", value=done)]
    assert fault_periods(from_events(late)) == []


def test_the_reasons_of_refusals_are_counted() -> None:
    refusals = [Event(0, time, NEMESIS, "fail", "start-kill", error="nobody is there") for time in (1, 2)]
    unproved = Event(0, 3, NEMESIS, "fail", "prove-kill")
    found = turns(from_events([*refusals, unproved]))
    assert found == {"kill": Turns(refused=2, refusals={"nobody is there": 2, "nothing was measured": 1})}
    assert found["kill"].why() == "nobody is there (2 times); nothing was measured"
    assert not found["kill"].mixed
    assert not found["kill"].weak
    chaos = Event(0, 0, MONITOR, "info", "planned", value={"asked": [], "mixed": ["kill"], "faults": []})
    assert turns(from_events([chaos]))["kill"].mixed


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        "kill",
        ["kill"],
        {},
        {"asked": ["kill"]},
        {"asked": "kill", "faults": []},
        {"asked": [1], "faults": []},
        {"asked": [], "faults": ["kill"]},
        {"asked": [], "faults": [{"start": 0}]},
        {"asked": [], "faults": [], "mixed": None},
    ],
)
def test_a_plan_that_cannot_be_read_counts_for_nothing_and_is_told_from_one_that_can(damaged: Any) -> None:
    whole = {"asked": ["kill"], "mixed": [], "faults": [{"name": "kill", "start": 0}], "ends_servers": {}}
    events = [Event(0, time, MONITOR, "info", "planned", value=value) for time, value in enumerate((damaged, whole))]
    history = from_events(events)
    assert [plan is None for plan in plans(history)] == [True, False]
    assert turns(history) == {"kill": Turns(planned=1)}


def test_the_faults_of_a_time_are_those_that_touch_it_each_once() -> None:
    cut = Period("partition", 5, 10, True, {"said": "n1 alone"})
    both = [cut, Period("kill", 20, 30, True), Period("partition", 24, 25, True, {"said": "n1 alone"})]
    assert [describe(period) for period in both[:2]] == ["partition (n1 alone)", "kill"]
    times = {
        (0, 4): [], (0, 5): ["partition (n1 alone)"], (10, 19): ["partition (n1 alone)"], (11, 19): [],
        (30, 40): ["kill"], (7, 22): ["partition (n1 alone)", "kill"], (0, 99): ["partition (n1 alone)", "kill"],
    }  # fmt: skip
    assert {time: active(both, *time) for time in times} == times


def test_a_fault_is_proved_by_a_proof_that_holds_and_by_nothing_else() -> None:
    def proved(*steps: tuple[EventType, str]) -> list[bool]:
        events = [Event(0, time, NEMESIS, kind, f) for time, (kind, f) in enumerate(steps)]
        return [period.proved for period in fault_periods(from_events(events))]

    begun: tuple[tuple[EventType, str], ...] = (("invoke", "start-kill"), ("ok", "start-kill"))
    assert proved(*begun[:1]) == proved(*begun) == [False]
    assert [proved(*begun, (kind, "prove-kill")) for kind in ("ok", "fail", "info")] == [[True], [False], [False]]
    assert proved(*begun, ("ok", "prove-kill"), ("ok", "stop-kill"), *begun) == [True, False]
