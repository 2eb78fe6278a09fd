"""Messages between simulated nodes: which are kept, and that they are what happened."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from harness.conduct import simulate
from harness.experiment import Experiment
from harness.history import from_events
from harness.messages import Exchange, Message, exchanges, read_exchanges
from harness.operation import Event
from harness.report.messages import Diagram, messages
from harness.report.story import Story
from harness.run_directory import RunDirectory
from harness.verdict import Anomaly, Verdict, Witness

SECOND = 1_000_000_000


def anomaly(kind: str, call: int, ret: int | None) -> Anomaly:
    return Anomaly(kind, "text", [Witness(0, "read", "k", 1, call, ret, "ok", "n1")])


def test_the_end_of_a_long_anomaly_is_kept_with_a_little_around_it() -> None:
    sent = [Message("n1", "n2", at * SECOND // 10, at * SECOND // 10 + 1000) for at in range(100)]
    (kept,) = exchanges(sent, [anomaly("stale read", 0, 5 * SECOND)])
    assert (kept.start, kept.end) == (5 * SECOND + 60_000_000 - 1_500_000_000, 5 * SECOND + 60_000_000)
    assert [message.sent for message in kept.messages] == [at * SECOND // 10 for at in range(36, 51)]


def test_one_that_was_under_way_and_one_that_was_lost_are_kept() -> None:
    under_way = Message("n1", "n2", 0, 9 * SECOND)
    lost = Message("n1", "n3", 5 * SECOND, None, "vote", 3)
    (kept,) = exchanges([under_way, lost, Message("n2", "n1", 0, 1)], [anomaly("x", 5 * SECOND, None)])
    assert kept.messages == [under_way, lost]


def test_the_first_of_each_kind_comes_before_others() -> None:
    anomalies = [anomaly("a", number, number) for number in range(9)] + [anomaly("b", 9, 9), Anomaly("c", "none")]
    assert [exchange.anomaly for exchange in exchanges([], anomalies)] == [0, 1, 2, 3, 9]


def test_what_is_no_file_of_messages_has_none(tmp_path: Path) -> None:
    (tmp_path / "messages.json").write_text('{"a": 1}')
    assert read_exchanges(tmp_path / "messages.json") == []
    assert read_exchanges(tmp_path / "nothing.json") == []


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    experiment = Experiment(
        "reference",
        nemeses=("partition",),
        environment="simulation",
        nodes=3,
        time=30.0,
        seed=0,
        options={"replication": "primary-backup", "acknowledge": "async", "partition": "primary"},
    )
    outcome = simulate(experiment, tmp_path_factory.mktemp("runs"))
    assert outcome.verdict.validity == "invalid"
    return Story.of_run(outcome.directory)


def test_a_simulated_run_that_fails_keeps_the_messages_of_its_nodes(story: Story) -> None:
    kept = read_exchanges(story.directory.messages)
    assert kept
    told = [message for exchange in kept for message in exchange.messages]
    assert {message.source for message in told} | {message.target for message in told} == {"n1", "n2", "n3"}
    assert all(message.kind for message in told)
    arrived = [message for message in told if message.arrived is not None]
    assert arrived
    assert all(message.sent < message.arrived for message in arrived if message.arrived is not None)
    for exchange in kept:
        operations = story.verdict.anomalies[exchange.anomaly].operations
        assert exchange.end >= max(op.ret or op.call for op in operations)


def test_nothing_crosses_a_cut(story: Story) -> None:
    told = [message for exchange in read_exchanges(story.directory.messages) for message in exchange.messages]
    (cut, *_) = story.periods
    alone = cut.what["said"].split(": ")[1].split(" |")[0]
    inside = [message for message in told if cut.start + SECOND < message.sent < cut.end - SECOND]
    crossing = [message for message in inside if (message.source == alone) != (message.target == alone)]
    assert all(message.arrived is None for message in crossing)


def diagram_of(tmp_path: Path, number: int, *nodes: str) -> Diagram:
    """The diagram of so many messages, one each millisecond, between these nodes."""
    sent = [Message(nodes[0], nodes[-1], at * SECOND // 1000, at * SECOND // 1000 + 5) for at in range(number)]
    directory = RunDirectory.create(tmp_path, Experiment("reference"))
    directory.messages.write_bytes(msgspec.json.encode([Exchange(0, 0, number * SECOND // 1000, sent[::-1])]))
    events = [Event(0, 0, 0, "invoke", "read", "x", None, node) for node in nodes]
    for process, event in enumerate(events):
        event.process = process
    verdict = Verdict("invalid", "wrong", [anomaly("stale read", 0, SECOND)])
    (diagram,) = messages(Story(directory, Experiment("reference", nodes=1), verdict, from_events(events)))
    return diagram


def test_where_messages_are_left_out_the_picture_begins_with_those_that_are_drawn(tmp_path: Path) -> None:
    whole = diagram_of(tmp_path / "few", 1500, "n1", "n2")
    assert (whole.start, whole.end) == (0, 1.5)
    assert whole.picture.words.startswith("1,500 messages between 2 nodes")
    last = diagram_of(tmp_path / "many", 2000, "n1", "n2")
    assert (last.start, last.end) == (0.5, 2)
    assert last.picture.words.startswith("The last 1,500 of 2,000 messages between 2 nodes")


def test_names_of_nodes_are_data(tmp_path: Path) -> None:
    hostile = "n1'][0]+alert(1)//\"\x1b"
    specification = diagram_of(tmp_path, 2, "n1", hostile).picture.specification
    assert "alert" not in json.dumps([{**layer, "data": None} for layer in specification["layer"]])
    (names,) = (param["value"] for param in specification["params"] if param["name"] == "names")
    assert names == ["n1", hostile.replace("\x1b", "\\x1b"), "clients"]


def test_each_has_a_diagram_that_says_what_it_shows(story: Story) -> None:
    (first, *_) = messages(story)
    assert first.picture.words.endswith("from invocation to completion.")
    assert first.start <= first.at_first < first.end
    assert [layer["mark"]["type"] for layer in first.picture.specification["layer"] if "mark" in layer][-1] == "rule"
