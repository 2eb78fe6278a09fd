from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.columns import NOTHING
from harness.errors import HistoryError
from harness.history import FAIL, INFO, NEVER, OK, HistoryBuilder, Operations, from_events, observed
from harness.operation import MONITOR, NEMESIS, Event, ServedBy
from harness.packed import Values
from harness.recording import Recorder, read_jsonl
from harness.shrinking import timetable_of


def event(time: int, process: int | str, kind: str, f: str = "write", value: object = 1, key: str = "x") -> Event:
    return Event(0, time, process, kind, f, key, value)  # type: ignore[arg-type]


def test_pairs_invocations_with_completions_of_interleaved_processes() -> None:
    history = from_events(
        [
            event(1, 0, "invoke"),
            event(2, 1, "invoke", "read", None),
            event(3, NEMESIS, "invoke", "start-kill", None),
            event(4, 1, "ok", "read", 7),
            event(5, 1, "invoke", "write", 8),
            event(6, 0, "info"),
            event(7, 1, "fail", "write", 8),
            event(8, 2, "invoke", "write", 9),
        ]
    )
    operations = history.operations()
    assert operations.invoked.tolist() == [0, 1, 4, 7]
    assert operations.completed.tolist() == [5, 3, 6, -1]
    assert operations.type.tolist() == [INFO, OK, FAIL, INFO]
    assert operations.ret.tolist() == [NEVER, 4, 7, NEVER]
    assert [operations.result(row) for row in range(4)] == [1, 7, 8, None]


@pytest.mark.parametrize(
    ("events", "line", "said"),
    [
        ([event(1, 0, "ok")], 1, "never invoked"),
        ([event(1, 0, "invoke"), event(2, 0, "invoke")], 2, "has not completed"),
        ([event(1, 0, "invoke"), event(2, 0, "ok"), event(3, 0, "ok")], 3, "never invoked"),
        ([event(1, 0, "invoke"), event(2, 0, "ok"), event(3, 1, "invoke"), event(4, 2, "ok")], 4, "never invoked"),
        ([event(1, 0, "invoke"), event(2, 1, "fail")], 2, "never invoked"),
        ([event(1, 0, "invoke"), event(-4, 0, "ok")], 2, "before the run began"),
        ([event(1, 0, "invoke"), event(1, -1, "invoke")], 2, "process -1"),
        ([event(1, 0, "invoke"), event(1, NEMESIS, "info"), event(1, -2, "invoke")], 3, "process -2"),
        ([event(1, 0, "invoke"), event(1 << 80, 0, "ok")], 2, "too large"),
        ([event(1, 0, "invoke"), event(1, 10**26, "invoke")], 2, "too large"),
        ([event(1, 0, "invoke"), event(2, 0, "ok", key="y")], 2, "what it invoked is"),
    ],
)
def test_refuses_a_history_that_cannot_have_happened(events: list[Event], line: int, said: str) -> None:
    with pytest.raises(HistoryError, match=said) as caught:
        from_events(events).operations()
    assert caught.value.line == line


@pytest.mark.parametrize("times", [[5] * 8, [0, 5, 5, 5, 5, 5, 5, 9], [9, 8, 7, 7, 7, 8, 8, 9]])
def test_events_happened_in_the_order_of_the_file_whatever_their_times_say(times: list[int]) -> None:
    kinds = [(0, "invoke"), (1, "invoke"), (0, "ok"), (2, "invoke"), (1, "ok"), (0, "invoke"), (2, "ok"), (0, "ok")]
    events = [event(time, process, kind) for time, (process, kind) in zip(times, kinds, strict=True)]
    operations = from_events(events).operations()
    call, ret = operations.call.tolist(), operations.ret.tolist()
    assert call[0] < call[1] < ret[0] < call[2] < ret[1] < call[3] < ret[2] < ret[3]
    assert [one.time for one in operations.history.events()] == times


def test_a_timetable_has_the_times_that_were_recorded_also_where_several_are_equal() -> None:
    events = [event(5, process, kind) for process in range(3) for kind in ("invoke", "ok")]
    timetable = timetable_of(from_events(events), workers=3)
    assert [step.at for step in (*(timetable.operations or ()), *timetable.final)] == [5e-9] * 3


def test_what_the_recorder_wrote_reads_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    recorder = Recorder(path)
    events = [event(1, 0, "invoke"), event(2, NEMESIS, "info", "heal", {"a": [1]}), event(3, 0, "ok")]
    events[2].node, events[1].error = "n1", "why"
    for one in events:
        recorder.record(one)
    recorder.close()
    assert list(read_jsonl(path).events()) == events
    assert [one.index for one in events] == [0, 1, 2]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    recorder = Recorder(path)
    for one in (event(1, 0, "invoke"), event(3, 0, "ok")):
        recorder.record(one)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    history = read_jsonl(path)
    assert history.torn
    assert len(history) == 1
    assert history.operations().type.tolist() == [INFO]


@pytest.mark.parametrize("bad", [b"{}", b"hello", b"", b'{"index":0,"time":"x","process":0,"type":"ok","f":"read"}'])
def test_a_wrong_line_is_named_by_its_number(tmp_path: Path, bad: bytes) -> None:
    good = b'{"index":0,"time":1,"process":0,"type":"invoke","f":"read","key":"x"}\n'
    path = tmp_path / "history.jsonl"
    path.write_bytes(good + bad + b"\n" + good)
    with pytest.raises(HistoryError) as caught:
        read_jsonl(path)
    assert caught.value.line == 2


def test_a_process_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"index":0,"time":1,"process":"sam","type":"invoke","f":"read"}\n')
    with pytest.raises(HistoryError, match="'sam'") as caught:
        read_jsonl(path)
    assert caught.value.line == 1


def test_what_is_known_of_an_operation_is_told_by_its_row() -> None:
    events = [
        Event(0, 1, 0, "invoke", "write", "x", 3, "n1"),
        Event(0, 2, 0, "ok", "write", "x", None, "n1", None, ServedBy("n2", 4)),
        Event(0, 3, 1, "invoke", "read", "y", None, "n3"),
        Event(0, 4, 1, "fail", "read", "y", None, "n3", "no primary", ServedBy("n1")),
        Event(0, 5, 2, "invoke", "add", "x", 5),
    ]
    history = from_events(events)
    operations = history.operations()
    assert operations.process.tolist() == [0, 1, 2]
    assert [history.functions[code] for code in operations.f] == ["write", "read", "add"]
    assert [history.keys[code] for code in operations.key] == ["x", "y", "x"]
    assert [history.nodes[code] for code in operations.server] == ["n2", "n1", None]
    assert operations.term.tolist() == [4, NOTHING, NOTHING]
    told = [
        (operations.name(row), operations.key_name(row), operations.argument(row), operations.result(row))
        for row in range(3)
    ]
    assert told == [("write", "x", 3, None), ("read", "y", None, None), ("add", "x", 5, None)]
    assert [operations.error(row) for row in range(3)] == [None, "no primary", None]
    assert [operations.node_name(row) for row in range(3)] == ["n1", "n3", None]
    assert [operations.server_name(row) for row in range(3)] == ["n2", "n1", None]
    assert operations.told.tolist() == operations.invoked.tolist() == [0, 2, 4]
    assert history.client_functions() == {"write", "read", "add"}
    assert [event.served_by for event in history.events()] == [event.served_by for event in events]


def test_a_history_is_none_of_what_it_was_not_said_to_be() -> None:
    history = from_events(
        [event(1, NEMESIS, "invoke", "heal"), event(1, MONITOR, "info", "role"), event(1_500_000_000, 0, "invoke")]
    )
    assert (history.torn, history.restated, history.timeless) == (False, False, False)
    assert history.client_functions() == {"write"}
    assert repr(history) == "<History of 3 events>"
    assert (history.seconds, from_events([]).seconds) == (1.5, 0.0)


def transactions() -> list[Event]:
    asked, done = [["append", "x", 1], ["r", "x", None]], [["append", "x", 1], ["r", "x", [1]]]
    return [
        event(1, 0, "invoke", "read", None),
        event(2, 0, "ok", "read", 7),
        event(3, 0, "invoke", "write", 8),
        event(4, 0, "ok", "write", "OK"),
        event(5, 0, "invoke", "cas", [8, 9]),
        event(6, 0, "ok", "cas", [3]),
        event(7, 0, "invoke", "txn", asked),
        event(8, 0, "ok", "txn", done),
        event(9, 0, "invoke", "txn", asked),
        event(10, 0, "ok", "txn", "OK"),
        event(11, 0, "invoke", "txn", asked),
        event(12, 0, "fail", "txn", done),
    ]


def test_what_an_operation_did_is_for_people_its_argument_or_what_it_found() -> None:
    events = transactions()
    asked, done = events[6].value, events[7].value
    operations = from_events(events).operations()
    assert [operations.done(row) for row in range(6)] == [7, 8, [8, 9], done, asked, asked]


def test_values_are_the_same_whether_they_are_packed_or_not() -> None:
    builder = HistoryBuilder()
    events = transactions()
    builder.add(events[:8])
    builder.add(events[8:])
    values = builder.build().value
    assert list(values) == [one.value for one in events]
    assert isinstance(values, Values)
    assert values.place.tolist() == [-1] * 6 + [0, 1, 2, -1, 3, 4]


@pytest.mark.parametrize(
    ("asked", "answered", "told"),
    [
        (None, 5, 5),
        (3, 4, 4),
        (3, "OK", 3),
        (3, True, 3),
        (True, False, False),
        (1.5, 2, 2),
        (2, 2.5, 2.5),
        (True, 2, True),
        ("a", "b", "b"),
        ("a", 1, "a"),
        ("a", ["a"], "a"),
        ([1, 2], [1, 3], [1, 3]),
        ([1, 2], [4, 2], [4, 2]),
        ([1, 2], 2, [1, 2]),
        ([1, "a"], [1, "b"], [1, "b"]),
        ([1, 1 << 61], [1, 1 << 62], [1, 1 << 62]),
        ([1, 1 << 62], [1, 1 << 63], [1, 1 << 63]),
        ([None, None], 5, [None, None]),
    ],
)
def test_a_completion_that_restates_what_was_done_corrects_it_and_an_answer_of_another_kind_does_not(
    asked: Any, answered: Any, told: Any
) -> None:
    def said(kind: str, restated: bool) -> Any:
        builder = HistoryBuilder()
        builder.add([event(1, 0, "invoke", value=asked), event(2, 0, kind, value=answered)])
        operations = builder.build(restated=restated).operations()
        found = operations.history.value[operations.told[0]]
        return type(found), found

    assert said("ok", True) == (type(told), told)
    assert said("fail", True) == said("info", True) == said("ok", False) == (type(asked), asked)


def test_of_nothing_there_is_an_empty_history() -> None:
    history = HistoryBuilder().build()
    assert (len(history), len(history.time), len(history.operations()), history.seconds) == (0, 0, 0, 0.0)


def test_several_processes_may_have_an_operation_that_never_completes() -> None:
    events = [event(1, 0, "invoke"), event(2, 0, "ok"), event(3, 1, "invoke"), event(4, 2, "invoke")]
    assert from_events(events).operations().completed.tolist() == [1, -1, -1]


def test_processes_of_any_number_are_told_apart() -> None:
    events = [event(time, process, kind) for kind in ("invoke", "ok") for time, process in enumerate((0, 1 << 16))]
    assert from_events(events).operations().completed.tolist() == [2, 3]


def test_times_that_are_equal_or_step_back_are_made_later_by_as_little_as_can_be() -> None:
    events = [event(time, process, "invoke") for process, time in enumerate([5, 5, 4, 20, 3])]
    assert from_events(events).operations().call.tolist() == [5, 6, 7, 20, 21]


def test_it_is_said_where_the_recorded_time_steps_back() -> None:
    def said(*times: int) -> list[str]:
        return from_events([event(time, process, "invoke") for process, time in enumerate(times)]).steps_back()

    assert said(0, 0, 1, 2, 2) == said() == []
    (once,) = said(0, 5, 4, 4)
    assert "steps back once, first on line 3, by at most 1 ns" in once
    (often,) = said(1, 5, 3, 9, 2)
    assert "steps back 2 times, first on line 3, by at most 7 ns" in often


def _table(operations: Operations) -> list[list[int]]:
    columns = (operations.invoked, operations.completed, operations.type, operations.call, operations.ret)
    return [column.tolist() for column in columns]


def test_completions_without_any_invocation_are_operations_of_one_moment() -> None:
    completions = [
        Event(0, 1, 0, "ok", "read", "x", 7, served_by=ServedBy("n1", 2)),
        event(2, NEMESIS, "info", "heal"),
        event(3, 0, "info", "write", 8),
    ]
    operations = from_events(completions).operations_or_completions()
    assert _table(operations) == [[0, 2], [0, 2], [OK, INFO], [1, 3], [1, NEVER]]
    assert [operations.result(row) for row in range(2)] == [7, 8]
    assert [operations.server_name(row) for row in range(2)] == ["n1", None]
    assert [operations.history.nodes[code] for code in operations.server] == ["n1", None]
    assert operations.term.tolist() == [2, NOTHING]
    whole = from_events([event(1, 0, "invoke"), event(2, 0, "ok"), event(3, 0, "info")])
    assert _table(whole.operations_or_completions()) == _table(whole.operations()) == [[0], [1], [OK], [1], [2]]
    assert _table(from_events(completions[1:2]).operations_or_completions()) == [[], [], [], [], []]


class _Seen(msgspec.Struct):
    place: int


def test_what_was_observed_is_read_by_its_name_and_what_is_not_of_our_making_passed_over() -> None:
    history = from_events(
        [
            Event(0, 1, MONITOR, "info", "role", value={"place": 0}),
            Event(0, 2, MONITOR, "info", "seen", value=None),
            Event(0, 3, MONITOR, "info", "seen", value={"place": 1}, node="n1"),
            Event(0, 4, MONITOR, "info", "seen", value={"place": "here"}),
            Event(0, 5, 0, "invoke", "seen", value={"place": 2}),
            Event(0, 6, MONITOR, "info", "seen", value={"place": 3}),
        ]
    )
    assert list(observed(history, "seen", _Seen)) == [("n1", _Seen(1)), (None, _Seen(3))]
