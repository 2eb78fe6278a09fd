"""The split-brain picture: who was primary, what hit whom, which writes are lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness.history import from_events
from harness.operation import ServedBy
from harness.periods import Period
from harness.report import vega
from harness.report.fated import FATES, fated_writes
from harness.report.hits import hits
from harness.report.picture import COLOURS
from harness.report.primaries import primaries
from harness.report.primaries_rows import lay_out
from harness.report.primaries_words import accounts_of
from harness.report.spans import spans
from harness.report.story import Story
from harness.roles import sightings
from tests.planted_split_brain import N1, fault, in_order, judged, operation, role, seconds, split_brain

NODES = ["n1", "n2", "n3"]


def data(story: Story) -> Iterator[dict[str, Any]]:
    """Everything that is on the picture."""
    section = primaries(story)
    assert section is not None
    for layer in section.picture.specification["layer"]:
        yield from layer["data"]["values"]


def labels(story: Story) -> set[str]:
    return {one["label"] for one in data(story) if "label" in one} | {
        one["labels"][0] for one in data(story) if "labels" in one
    }


def marks(story: Story) -> list[dict[str, Any]]:
    return [one for one in data(story) if "fate" in one]


@pytest.fixture(scope="module")
def story() -> Story:
    return judged(split_brain())


def test_answers_of_a_node_that_are_the_same_are_one_span() -> None:
    seen = sightings(
        in_order([*role("n1", "primary", 0, 2), *role("n1", "primary", 2.2, 4, 7), *role("n1", None, 5, 6)])
    )
    first, second = spans(seen)
    assert (first.term, first.start, first.end, first.leads) == (7, 0, seconds(4), True)
    assert (second.role, second.start, second.end) == (None, seconds(5), seconds(6))


def test_a_new_term_is_another_span() -> None:
    seen = sightings(in_order([*role("n1", "primary", 0, 2, 1), *role("n1", "primary", 2.2, 4, 2)]))
    assert [span.term for span in spans(seen)] == [1, 2]


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


def test_the_lost_ones_are_never_sampled_away() -> None:
    events = [*split_brain()]
    events += [
        one for number in range(2400) for one in operation(2, 3.2 + number * 0.0011, "append", 100 + number, by=N1)
    ]
    story = judged(events)
    writes = fated_writes(story, accounts_of(story.evidence))
    drawn = [write for write in writes.drawn if write.fate == "lost"]
    assert len(drawn) == writes.counts["lost"] > 2000


def test_samples_are_said_to_be_samples() -> None:
    events = [one for number in range(3000) for one in operation(0, number * 0.0011, "write", number, by=N1)]
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
    assert not [one for one in data(story) if one.get("y2") == section.picture.specification["height"]]
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
        (
            "partition",
            {"cut": {"n1": {"n2": "out", "n3": "both"}, "n2": {"n1": "in"}, "n3": {}}, "flap": 0.5},
            {"n1": "cut from n3; unheard by n2, off and on", "n2": "deaf to n1, off and on"},
        ),
        (
            "netem",
            {"links": [["n1", "n2"], ["n1", "n3"]], "quality": {"loss": 0.3, "delay": 0.0}},
            {"n1": "loss 0.3 to n2, n3"},
        ),
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
    lanes = [lay_out(NODES, hit, banner=False).lane_of[one] for one in hit]
    assert lanes[0] == lanes[2] < lanes[1]


def test_an_empty_history_has_no_picture() -> None:
    assert primaries(judged([])) is None
    assert len(from_events([])) == 0
