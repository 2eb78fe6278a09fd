"""What the report shows of the nodes' logs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.experiment import Experiment
from harness.history import from_events
from harness.operation import BEGAN, Event
from harness.report.node_logs import Gap, Line, Logs, Moment, node_logs
from harness.report.story import Story
from harness.run_directory import RunDirectory
from harness.verdict import Anomaly, Verdict, Witness

START = datetime(2026, 11, 28, 5, 55, 7, 500_000, tzinfo=UTC)
S = 10**9


def story(path: Path, logs: dict[str, str], *, began: bool = True, zone: int = 0, anomalies: int = 0) -> Story:
    run = RunDirectory(path)
    for name, text in logs.items():
        file = run.logs / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    wall = int(START.timestamp() * 1000) * 10**6
    events = [Event(0, 0, "monitor", "info", BEGAN, value={"wall": wall, "zone": zone})] if began else []
    events += [
        Event(1, 10 * S, "nemesis", "invoke", "start-partition", value={"said": "n1 | n2 n3"}),
        Event(2, 10 * S, "nemesis", "ok", "start-partition", value={"said": "n1 | n2 n3"}),
        Event(3, 20 * S, "nemesis", "invoke", "stop-partition"),
        Event(4, 20 * S, "nemesis", "ok", "stop-partition"),
    ]
    witness = Witness(0, "read", "x", 1, 15 * S, 16 * S, "ok", "n1", 9)
    verdict = Verdict("invalid", anomalies=[Anomaly("stale read", "", [witness])] * anomalies)
    return Story(run, Experiment("reference"), verdict, from_events(events))


def lines(logs: Logs, node: int = 0) -> list[Line]:
    return [one for one in logs.nodes[node].shown if isinstance(one, Line)]


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("7:M 28 Nov 2026 05:55:09.011 * Running mode=standalone", 1.511),
        ("2026-11-28 05:55:09.011250 I | etcdmain: etcd Version: 3.4.23", 1.51125),
        ("raft2026/11/28 05:55:10 INFO: 2c45 became follower at term 2", 2.5),
        ("2026-11-28 05:55:09.011 GMT LOG:  starting PostgreSQL 15.20", 1.511),
        ('{"level":"info","ts":"2026-11-28T05:55:09.011Z","msg":"x"}', 1.511),
        ('{"level":"info","ts":"2026-11-28T07:25:09.011+0130","msg":"x"}', 1.511),
        ("2026-11-28T00:55:09,011-05:00 INFO x", 1.511),
    ],
)
def test_stamps_become_times_of_the_run(tmp_path: Path, line: str, seconds: float) -> None:
    shown = lines(node_logs(story(tmp_path, {"n1/a.log": line + "\n"})))
    assert shown[0].time == pytest.approx(seconds * S)
    assert shown[0].text == line


@pytest.mark.parametrize(
    "line", ["no stamp", "2026-13-41 05:55:09 x", "28 Foo 2026 05:55:09.011", "x" * 90 + " 2026-11-28 05:55:09"]
)
def test_other_lines_have_no_time(tmp_path: Path, line: str) -> None:
    logs = node_logs(story(tmp_path, {"n1/a.log": line}))
    assert [one.time for one in lines(logs)] == [None]
    assert not logs.nodes[0].stamped
    assert logs.near("n1", 0) == "log-n1"


@pytest.mark.parametrize("ahead", [0, 2])
def test_local_time_is_that_of_the_node(tmp_path: Path, ahead: int) -> None:
    """A container goes by UTC, whatever the machine around it does."""
    stamp = (START + timedelta(hours=ahead, seconds=3)).strftime("%d %b %Y %H:%M:%S.000")
    shown = lines(node_logs(story(tmp_path, {"n1/a.log": f"7:M {stamp} * x"}, zone=7200)))
    assert shown[0].time == pytest.approx(2.5 * S)


def test_servers_of_a_node_are_told_together_and_lines_without_a_stamp_stay_where_they_are(tmp_path: Path) -> None:
    logs = {
        "n1/redis.log": "1:M 28 Nov 2026 05:55:08.000 * one\nand more\n1:M 28 Nov 2026 05:55:10.000 * three\n",
        "n1/sentinel.log": "1:X 28 Nov 2026 05:55:09.000 # two\n",
        "n2/redis.log": "",
    }
    told = node_logs(story(tmp_path, logs))
    assert [log.node for log in told.nodes] == ["n1"]
    assert [(one.server, one.text.split()[-1]) for one in lines(told)] == [
        ("redis", "one"),
        ("redis", "more"),
        ("sentinel", "two"),
        ("redis", "three"),
    ]
    assert told.nodes[0].files == ["nodes/n1/redis.log", "nodes/n1/sentinel.log"]


def test_whole_seconds_keep_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        "2026-11-28 05:55:09.700000 I | one\nraft2026/11/28 05:55:09 INFO: two\n2026-11-28 05:55:09.800000 I | three\n"
    )
    assert [one.text.split()[-1] for one in lines(node_logs(story(tmp_path, {"n1/a.log": text})))] == [
        "one",
        "two",
        "three",
    ]


def test_faults_and_anomalies_stand_between_the_lines(tmp_path: Path) -> None:
    text = "".join(f"{(START + timedelta(seconds=at)).isoformat()} line {at}\n" for at in (5, 12, 18))
    logs = node_logs(story(tmp_path, {"n1/a.log": text}, anomalies=2))
    told = [
        one.words if isinstance(one, Moment) else one.text[-2:]
        for one in logs.nodes[0].shown
        if not isinstance(one, Gap)
    ]
    assert told == [
        " 5",
        "partition (n1 | n2 n3) begins",
        "12",
        "2 anomalies begin: stale read",
        "18",
        "partition has ended",
    ]
    assert [one.link for one in logs.nodes[0].shown if isinstance(one, Moment)] == ["", "anomaly-1", ""]
    one = node_logs(story(tmp_path, {}, anomalies=1)).nodes[0].shown
    assert Moment(15 * S, "anomaly 1 begins: stale read", "anomaly-1") in one


def test_the_line_that_is_near_a_moment(tmp_path: Path) -> None:
    text = "".join(f"{(START + timedelta(seconds=at)).isoformat()} line {at}\n" for at in (5, 12, 18))
    logs = node_logs(story(tmp_path, {"n1/a.log": text}))
    assert [logs.near("n1", at * S) for at in (0, 5, 13, 99)] == ["log-n1-1", "log-n1-1", "log-n1-2", "log-n1-3"]
    assert logs.near("n2", 0) is None
    assert {one.anchor for one in lines(logs)} == {"log-n1-1", "log-n1-2", "log-n1-3"}


def test_of_a_long_log_the_lines_around_what_happened_are_shown(tmp_path: Path) -> None:
    words = ["".join(chr(97 + (number // 26**place) % 26) for place in range(3)) for number in range(3000)]
    text = "".join(f"{(START + timedelta(seconds=at / 100)).isoformat()} {word}\n" for at, word in enumerate(words))
    logs = node_logs(story(tmp_path, {"n1/a.log": text}))
    shown = lines(logs)
    assert 250 < len(shown) <= 300
    times = [one.time for one in shown if one.time is not None]
    assert all(min(abs(time - 10 * S), abs(time - 20 * S)) < S for time in times)
    gaps = [one.lines for one in logs.nodes[0].shown if isinstance(one, Gap)]
    assert len(gaps) == 3
    assert sum(gaps) + len(shown) == logs.nodes[0].total == 3000


def test_what_is_said_all_the_time_is_left_out_first(tmp_path: Path) -> None:
    text = ""
    for at in range(3000):
        text += f"{(START + timedelta(seconds=at / 100)).isoformat()} request {at} was slow\n"
        if at == 2500:
            text += f"{(START + timedelta(seconds=at / 100)).isoformat()} became leader\n"
    assert [one.text.split(" ", 1)[1] for one in lines(node_logs(story(tmp_path, {"n1/a.log": text})))] == [
        "became leader"
    ]


def test_how_the_servers_started_is_left_out(tmp_path: Path) -> None:
    text = "".join(f"{(START + timedelta(seconds=at)).isoformat()} line {at}\n" for at in (-9, -8, 2, 3))
    logs = node_logs(story(tmp_path, {"n1/a.log": text}))
    assert logs.nodes[0].shown[0] == Gap(2)
    assert [one.text[-1] for one in lines(logs)] == ["2", "3"]
    only = "".join(f"{(START + timedelta(seconds=at)).isoformat()} line {at}\n" for at in (-9, -8))
    assert len(lines(node_logs(story(tmp_path / "other", {"n1/a.log": only})))) == 2


def test_without_times_the_ends_are_shown(tmp_path: Path) -> None:
    text = "".join(f"line {at}\n" for at in range(1000))
    logs = node_logs(story(tmp_path, {"n1/a.log": text}))
    shown = lines(logs)
    assert [shown[0].text, shown[99].text, shown[100].text, shown[-1].text] == [
        "line 0",
        "line 99",
        "line 800",
        "line 999",
    ]
    assert [one.lines for one in logs.nodes[0].shown if isinstance(one, Gap)] == [700]
    # Nor where nobody has noted when the run began.
    stamped = "".join(f"{START.isoformat()} line {at}\n" for at in range(3))
    assert not node_logs(story(tmp_path / "other", {"n1/a.log": stamped}, began=False)).nodes[0].stamped


def test_a_huge_log_is_read_at_its_ends(tmp_path: Path) -> None:
    text = "first\n" + "x" * 99 + "\n"
    logs = node_logs(story(tmp_path, {"n1/a.log": text + ("y" * 99 + "\n") * 120_000 + "last\n"}))
    shown = lines(logs)
    assert (shown[0].text, shown[-1].text) == ("first", "last")
    assert logs.nodes[0].total < 90_000


def test_hostile_logs(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("nobody should see this\n")
    made = story(tmp_path / "run", {"n 1<b>/a.log": "\x1b[31m<script>\u202e" + "z" * 5000 + "\n\xff\n"})
    (made.directory.logs / "n 1<b>" / "b.log").symlink_to(outside)
    logs = node_logs(made)
    shown = lines(logs)
    assert shown[0].text.startswith("\\x1b[31m<script>\\u202ezz")
    assert len(shown[0].text) < 500
    assert not any("nobody" in one.text for one in shown)
    assert logs.nodes[0].anchor == "log-n-1-b-"


def test_a_run_without_logs(tmp_path: Path) -> None:
    assert node_logs(story(tmp_path, {})).nodes == []
