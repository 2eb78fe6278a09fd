"""Messages between simulated nodes: which are kept, and that they are what happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.conduct import simulate
from harness.experiment import Experiment
from harness.messages import Message, exchanges, read_exchanges
from harness.report.messages import messages
from harness.report.story import Story
from harness.verdict import Anomaly, Witness

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
    found = [anomaly("a", number, number) for number in range(9)] + [anomaly("b", 9, 9), Anomaly("c", "none")]
    assert [one.anomaly for one in exchanges([], found)] == [0, 1, 2, 3, 9]


def test_what_is_no_file_of_messages_has_none(tmp_path: Path) -> None:
    (tmp_path / "messages.json").write_text('{"a": 1}')
    assert read_exchanges(tmp_path / "messages.json") == []
    assert read_exchanges(tmp_path / "nothing.json") == []


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    experiment = Experiment(
        "reference", nemeses=("partition",), environment="simulation", nodes=3, time=30.0, seed=0,
        options={"replication": "primary-backup", "acknowledge": "async", "partition": "primary"},
    )  # fmt: skip
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


def test_each_has_a_diagram_that_says_what_it_shows(story: Story) -> None:
    (first, *_) = messages(story)
    assert first.picture.words.endswith("from invocation to completion.")
    assert first.start <= first.at_first < first.end
    assert [layer["mark"]["type"] for layer in first.picture.specification["layer"] if "mark" in layer][-1] == "rule"
