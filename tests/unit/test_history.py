from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HistoryError
from harness.history import FAIL, INFO, NEVER, OK, from_events
from harness.operation import NEMESIS, Event
from harness.recording import Recorder, read_jsonl
from harness.report import _overview
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
    assert operations.type.tolist() == [INFO, OK, FAIL, INFO]
    assert operations.ret.tolist() == [NEVER, 4, 7, NEVER]
    assert [operations.result(row) for row in range(4)] == [1, 7, 8, None]


@pytest.mark.parametrize(
    ("events", "line", "said"),
    [
        ([event(1, 0, "ok")], 1, "never invoked"),
        ([event(1, 0, "invoke"), event(2, 0, "invoke")], 2, "has not completed"),
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


def test_the_picture_of_a_run_counts_what_was_done_at_its_last_moment() -> None:
    bars = _overview(from_events([event(5, process, "invoke") for process in range(3)]))["bars"]
    assert [bar["height"] for bar in bars] == [120]


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
