"""The split-brain picture: who was primary, what hit whom, which writes are lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from harness.checkers import split_brain as split_brain_checker
from harness.history import from_events
from harness.operation import Event, ServedBy
from harness.periods import Period
from harness.report import acknowledged, vega
from harness.report.acknowledged import FATES, writes_of
from harness.report.hits import hits
from harness.report.picture import COLOURS
from harness.report.primaries import primaries
from harness.report.primaries_rows import lay_out
from harness.report.story import Story
from tests.planted_split_brain import N1, fault, judged, operation, role, split_brain

NODES = ["n1", "n2", "n3"]


def data(story: Story) -> Iterator[dict[str, Any]]:
    """Everything that is on the picture."""
    section = primaries(story)
    assert section is not None
    for layer in section.picture.specification["layer"]:
        yield from layer["data"]["values"]


def labels(story: Story) -> set[str]:
    values = list(data(story))
    return {value["label"] for value in values if "label" in value} | {
        value["labels"][0] for value in values if "labels" in value
    }


def words(story: Story) -> str:
    section = primaries(story)
    assert section is not None
    return section.picture.words


def marks(story: Story) -> list[dict[str, Any]]:
    return [value for value in data(story) if "fate" in value]


@pytest.fixture(scope="module")
def story() -> Story:
    return judged(split_brain())


def test_a_split_brain_is_banner_bars_and_faults(story: Story) -> None:
    shown = labels(story)
    assert "two primaries for 3.0 s: 2 acknowledged writes lost" in shown
    assert {"primary in term 1", "primary in term 2", "no answer", "2 lost"} <= shown
    assert {"cut from n2, n3", "cut from n1"} <= shown
    section = primaries(story)
    assert section is not None
    assert section.picture.title == "Two primaries at once"
    assert "n1 in term 1 acknowledged 2 writes, all lost." in section.picture.words
    assert (section.picture.window, section.end) == ("run", story.end / 1e9)


def test_writes_are_marks_on_the_row_of_who_acknowledged_them(story: Story) -> None:
    nodes, hit = story.nodes, hits(story.periods, story.nodes)
    layout = lay_out(nodes, hit, banner=True)
    by_fate: dict[str, list[dict[str, Any]]] = {}
    for mark in marks(story):
        by_fate.setdefault(mark["fate"], []).append(mark)
    assert {fate: len(those) for fate, those in by_fate.items()} == {"acknowledged": 2, "kept": 2, "lost": 2}
    for mark in by_fate["lost"]:
        assert layout.middles["n1"] - 50 < mark["y"] < layout.middles["n1"]
        (event,) = story.history.events([mark["op"]])
        assert (event.type, event.f) == ("invoke", "append")
        assert event.value in (3, 4)


def test_what_is_lost_lies_on_top(story: Story) -> None:
    order = [FATES.index(mark["fate"]) for mark in marks(story)]
    assert order == sorted(order)


def many_lost(number: int) -> list[Event]:
    """That many more writes that are lost."""
    times = (3.2 + at * 2.5 / number for at in range(number))
    return [
        event for value, at in enumerate(times, 100) for event in operation(2, at, "append", value, by=N1)
    ] + split_brain()


def test_a_thousand_lost_ones_are_all_drawn() -> None:
    writes = writes_of(judged(many_lost(2400)))
    assert len([write for write in writes.drawn if write.fate == "lost"]) == writes.counts["lost"] == 2402


def test_of_more_a_sample_is_drawn_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledged, "_MOST_LOST", 20)
    story = judged(many_lost(100))
    assert "102 lost" in labels(story)
    assert len([mark for mark in marks(story) if mark["fate"] == "lost"]) == 20
    assert "Drawn: 24 of 106, among them 20 of the 102 lost ones." in words(story)
    assert "not in the verdict" not in words(story)


def test_what_the_verdict_leaves_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_brain_checker, "_WRITES", 30)
    story = judged(many_lost(100))
    assert "at least 30 lost" in labels(story)
    assert "74 more writes of these times are not in the verdict; where drawn they count as acknowledged." in words(
        story
    )
    monkeypatch.setattr(acknowledged, "_MOST_LOST", 20)
    assert "among them 20 of at least 30 lost ones." in words(story)


def test_lost_ones_come_first_so_that_all_are_known_where_others_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_brain_checker, "_WRITES", 3)
    story = judged(split_brain())
    assert "2 lost" in labels(story)
    assert "1 more write of these times is not in the verdict; where drawn it counts as acknowledged." in words(story)


def test_episodes_and_conflicts_that_the_verdict_leaves_out_are_said() -> None:
    story = judged(split_brain())
    story.verdict.evidence |= {"episodes_left_out": 4, "term_conflicts_found": 1}
    assert "at least 2 lost" in labels(story)
    more = "4 more times with several primaries are not in the verdict; where drawn their writes count as acknowledged."
    assert more in words(story)
    assert "1 more time of conflicting terms is not in the verdict;" in words(story)


def test_what_only_reads_or_finds_nothing_is_no_write() -> None:
    story = judged(
        [
            *operation(0, 1, "look", None, 5, N1),
            *operation(0, 1.1, "watch", None, 5, N1),
            *operation(0, 1.2, "balances", None, 5, N1),
            *operation(0, 1.3, "dequeue", None, 5, N1),
            *operation(0, 1.4, "dequeue", None, None, N1),
            *operation(0, 1.5, "acquire", 7, False, N1),
            *operation(0, 1.6, "pop-front", None, 5, N1),
        ]
    )
    assert [mark["say"].split(" (")[0] for mark in marks(story)] == ["dequeue 5", "pop-front 5"]


def test_samples_are_said_to_be_samples() -> None:
    events = [event for number in range(3000) for event in operation(0, number * 0.0011, "write", number, by=N1)]
    section = primaries(judged(events))
    assert section is not None
    assert "Drawn: 2,001 of 3,000." in section.picture.words
    assert section.picture.canvas


def test_one_primary_after_another_is_no_split_brain() -> None:
    story = judged(
        [
            *split_brain()[:1],
            *role("n1", "primary", 0, 4, 1),
            *role("n2", "primary", 5, 9, 2),
            *operation(0, 1, "append", 1, by=N1),
        ]
    )
    section = primaries(story)
    assert section is not None
    assert section.picture.title == "One primary at a time"
    assert "n1 in term 1 from 0.0 s to 4.0 s, n2 in term 2 from 5.0 s to 9.0 s" in section.picture.words
    assert not [value for value in data(story) if value.get("y2") == section.picture.specification["height"]]
    assert section.forks == []


def test_two_primaries_without_a_fact_are_no_alarm() -> None:
    section = primaries(judged([*split_brain()[:1], *role("n1", "primary", 0, 4, 1), *role("n2", "primary", 2, 9, 2)]))
    assert section is not None
    assert section.picture.title == "Two primaries for 2.0 s; no harm was found"
    (band, *_) = section.picture.specification["layer"]
    assert [value["colour"] for value in band["data"]["values"]] == [COLOURS["unknown"]]


def test_terms_that_conflict_are_a_band_as_well() -> None:
    story = judged(
        [
            *split_brain()[:1],
            *role("n1", "primary", 0, 4, 7),
            *role("n2", "primary", 5, 9, 7),
            *operation(0, 1, "append", 1, by=ServedBy("n1", 7)),
        ]
    )
    section = primaries(story)
    assert section is not None
    assert section.picture.title == "Primaries whose terms conflict"
    assert "term claimed twice" in labels(story)
    assert "both claimed term 7" in section.picture.words


def test_a_store_without_primaries_has_its_faults_and_writes() -> None:
    story = judged([*fault("kill", 1, 2, {"killed": {"n2": ["it"]}}), *operation(0, 1, "write", 1, by=N1)])
    section = primaries(story)
    assert section is not None
    assert section.picture.title == "Nodes, faults and writes"
    assert labels(story) == {"killed"}
    assert [mark["fate"] for mark in marks(story)] == ["acknowledged"]


def test_nothing_is_shown_where_nobody_told_who_did_what() -> None:
    assert primaries(judged(operation(0, 1, "write", 1))) is None


def test_many_nodes_are_not_all_drawn() -> None:
    story = judged(operation(0, 1, "write", 1, by=N1), nodes=100)
    section = primaries(story)
    assert section is not None
    assert "Nodes drawn: 24 of 100." in section.picture.words
    assert section.picture.specification["height"] < 1200


def test_of_many_nodes_the_guilty_ones_are_drawn() -> None:
    others = [
        event
        for number in range(1, 40)
        for event in operation(number, 1, "write", number, by=ServedBy(f"n{number}"), key=f"k{number}")
    ]
    renamed = {"n1": "n90", "n2": "n91"}
    events = [
        replace(
            event,
            node=renamed.get(event.node or "", event.node),
            served_by=served and replace(served, node=renamed[served.node]),
        )
        for event in split_brain()
        for served in [event.served_by]
        if not str(event.f).endswith("partition")
    ]
    story = judged([*others, *events], nodes=100)
    section = primaries(story)
    assert section is not None
    (nodes,) = (param["value"] for param in section.picture.specification["params"] if param["name"] == "nodes")
    assert {"n90", "n91"} <= {*nodes}
    assert len(nodes) == 24
    assert nodes == sorted(nodes, key=lambda node: int(node[1:]))
    drawn = len(marks(story))
    assert drawn < 45
    assert f"Drawn: {drawn} of 45, among them all 2 lost ones." in section.picture.words


def test_only_writes_on_rows_that_are_there_count_as_drawn() -> None:
    story = judged(split_brain())
    story.verdict.evidence["episodes"][0]["writes"][0]["node"] = "of no row"
    assert f"Drawn: {len(marks(story))} of 6, among them 1 of the 2 lost ones." in words(story)


def test_what_a_store_says_is_data_alone() -> None:
    evil = "</script><b>${1}'\"\u202e"
    story = judged(
        [
            *role(evil, "primary", 0, 2, 1),
            *fault("partition", 1, 2, {"cut": {evil: {evil: "both"}}}),
            *operation(0, 1, "write", evil, by=N1, key=evil),
        ]
    )
    section = primaries(story)
    assert section is not None
    assert "</script" not in section.picture.data
    assert "\u202e" not in str(section.picture.specification)
    assert "<svg" in vega.as_svg(section.picture)


@pytest.mark.parametrize(
    ("name", "what", "expected"),
    [
        ("kill", {"killed": {"n2": ["a"]}}, {"n2": "killed"}),
        ("pause", {"paused": {"n1": ["a"], "n3": ["a"]}}, {"n1": "paused", "n3": "paused"}),
        ("clock", {"asked": {"offset": 0.5, "rate": 1.0, "period": 0.0}, "ahead": {"n3": 0.5}}, {"n3": "clock +0.5 s"}),
        (
            "clock",
            {"asked": {"offset": -60.0, "rate": 1.5, "period": 1.0}, "ahead": {"n1": -60.0}},
            {"n1": "clock -60 s, to and fro, rate 1.5"},
        ),
        ("disk", {"kind": "flip", "spoiled": {"n1": {"size": 1}, "n2": None}}, {"n1": "disk flip"}),
        ("disk", {"kind": "full", "before": {"n1": 3}}, {"n1": "disk full"}),
        ("storage", {"kind": "torn", "lost": {"n1": 3}}, {"n1": "storage torn"}),
        ("membership", {"leaving": ["n2"], "members": ["n1", "n3"]}, {"n2": "left the cluster"}),
        ("membership", {"leaving": ["n2", "n3"], "members": ["n1", "n3"]}, {"n2": "left the cluster"}),
        ("membership", {"leaving": ["n2"], "members": NODES}, {}),
        # Nobody knows whether it was done.
        ("membership", {"aim": "any", "leaving": 1}, dict.fromkeys(NODES, "membership")),
        (
            "partition",
            {"cut": {"n1": {"n2": "out", "n3": "both"}, "n2": {"n1": "in"}, "n3": {}}, "flap": 0.5},
            {"n1": "cut from n3; unheard by n2, off and on", "n2": "deaf to n1, off and on"},
        ),
        (
            "netem",
            {"links": [["n1", "n2"], ["n1", "n3"]], "quality": {"loss": 0.3, "delay": 0.0}},
            {"n1": "loss 0.3 to n2, n3", "n2": "loss 0.3 from n1", "n3": "loss 0.3 from n1"},
        ),
        (
            "netem",
            {"links": [["n1", "n2"], ["n2", "n1"], ["n3", "n1"]], "quality": {}},
            {"n1": "bad links to and from n2, from n3", "n2": "bad links to and from n1", "n3": "bad links to n1"},
        ),
        ("netem", {"links": [["clients", "n1"]], "quality": {"delay": 0.1}}, {"n1": "delay 0.1 from clients"}),
        ("netem", {"links": [["n1", "clients"]], "quality": {"delay": 0.1}}, {"n1": "delay 0.1 to clients"}),
        ("of-a-plug-in", {"said": "it went wrong", "on": ["n2"]}, {"n2": "of-a-plug-in (it went wrong)"}),
        ("of-a-plug-in", None, dict.fromkeys(NODES, "of-a-plug-in")),
        ("partition", {"cut": 5}, dict.fromkeys(NODES, "partition")),
        ("clock", {"ahead": {"n1": "soon"}}, {"n1": "clock"}),
    ],
)
def test_a_fault_is_on_the_rows_of_the_nodes_that_it_hit(name: str, what: Any, expected: dict[str, str]) -> None:
    assert {hit.node: hit.words for hit in hits([Period(name, 0, 1, True, what)], NODES)} == expected


def test_faults_that_are_active_at_once_lie_below_one_another() -> None:
    periods = [
        Period("kill", 0, 5, True, {"killed": {"n1": []}} | {"killed": {"n1": ["a"]}}),
        Period("pause", 2, 6, True, {"paused": {"n1": ["a"]}}),
        Period("clock", 5, 9, True, {"ahead": {"n1": 1.0}}),
    ]
    hit = hits(periods, NODES)
    lanes = [lay_out(NODES, hit, banner=False).lane_of[fault] for fault in hit]
    assert lanes[0] == lanes[2] < lanes[1]


def test_an_empty_history_has_no_picture() -> None:
    assert primaries(judged([])) is None
    assert len(from_events([])) == 0
