"""The first sentence of a report: what a stranger has to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.experiment import Experiment
from harness.history import from_events
from harness.report.headline import Headline, headline
from harness.report.story import Story
from harness.run_directory import RunDirectory
from harness.verdict import Anomaly, Verdict, combine


def told(verdict: Verdict) -> Headline:
    return headline(Story(RunDirectory(Path("nowhere")), Experiment("redis", seed=7), verdict, from_events([])))


def side(node: str, acknowledged: int, lost: int, before: int = 0) -> dict[str, Any]:
    fates = {"kept": acknowledged - lost, "lost": lost, "overwritten": 0, "unknown": 0}
    return {"node": node, "acknowledged": acknowledged, "fates": fates, "lost_before": before, "lost_after": 0}


def episode(*sides: dict[str, Any]) -> dict[str, Any]:
    nodes = [primary["node"] for primary in sides]
    return {"nodes": nodes, "shared": 2_800_000_000, "sides": list(sides), "facts": ["n1 acknowledged one in term 1"]}


def split_brain(*sides: dict[str, Any]) -> Verdict:
    verdict = Verdict("invalid", "they were both primary", [Anomaly("split brain", "text")])
    verdict.evidence["episodes"] = [episode(*sides)]
    return combine(
        {"branches": Verdict("invalid", "2 lists have forked", [Anomaly("fork", "x")]), "split-brain": verdict}
    )


def test_a_split_brain_is_told_first_with_what_it_cost() -> None:
    head = told(split_brain(side("n1", 96, 12, before=2), side("n3", 181, 0)))
    assert head.sentence == (
        "Split brain: for 2.8 s n1 and n3 were both primary; 14 writes that n1 had acknowledged are gone."
    )
    assert head.more == ["n1 acknowledged one in term 1.", "2 lists have forked (fork).", "2 anomalies."]


def test_facts_are_those_of_the_episode_that_is_told_first() -> None:
    verdict = split_brain(side("n1", 9, 1), side("n2", 9, 0))
    costly = episode(side("n2", 9, 8), side("n3", 9, 0)) | {"facts": ["both claimed term 7"]}
    verdict.evidence["episodes"].append(costly)
    head = told(verdict)
    assert head.sentence.endswith("8 writes that n2 had acknowledged are gone.")
    assert head.more[0].endswith("1 write that n1 had acknowledged is gone.")
    assert head.more[1] == "Both claimed term 7."


def test_what_several_primaries_lost_is_told_of_each() -> None:
    head = told(split_brain(side("n1", 9, 3), side("n2", 9, 1), side("n3", 5, 0)))
    assert head.sentence == (
        "Split brain: for 2.8 s two or more of n1, n2 and n3 were primary at once; "
        "4 acknowledged writes are gone: 3 of n1's and 1 of n2's."
    )


def test_a_split_brain_without_a_known_loss_says_what_was_acknowledged() -> None:
    assert told(split_brain(side("n1", 9, 0), side("n2", 1, 0))).sentence.endswith(
        "between them they acknowledged 10 writes meanwhile; 2 lists have forked (fork)."
    )


def test_other_verdicts_are_sentences_as_well() -> None:
    assert told(Verdict("valid")).sentence == "No anomaly was found, without any fault."
    turns = {"planned": 1, "injected": 1, "proved": 1}
    passed = Verdict(
        "valid", evidence={"operations": 7, "faults": {"kill": turns, "pause": turns, "clock": {"planned": 1}}}
    )
    assert told(passed).sentence == ("No anomaly was found in 7 operations under kill and pause, each of them proved.")
    cut = combine({"completeness": Verdict("unknown", "stopped after 9 of 25 s"), "set": Verdict("valid")})
    assert told(cut).sentence == "Nobody knows whether the store kept its promises."
    assert told(cut).more == ["completeness: stopped after 9 of 25 s."]
    skew = Verdict("invalid", "not serializable: 3 G2-item", [Anomaly("G2-item", "text")], found=3)
    head = told(combine({"transactions": skew}))
    assert head.sentence.startswith("The transactions are not serializable: 3 G2-item")
    assert head.more == ["3 anomalies; the first 1 are explained."]


def test_nothing_in_it_can_steer_what_shows_it() -> None:
    wrong = Verdict("invalid", "a value \u202e was \x1b[31m read", [Anomaly("k", "t")])
    assert "\\u202e was \\x1b[31m read" in told(combine({"x": wrong})).sentence


def test_the_facts_of_the_run_are_there() -> None:
    facts = dict(told(Verdict("valid")).facts)
    assert facts["store"].startswith("redis on 3 nodes")
    assert facts["seed"] == "7"
