"""When faults were active, as a history tells."""

from __future__ import annotations

from harness.history import from_events
from harness.operation import NEMESIS, Event, EventType
from harness.periods import fault_periods


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
