"""How far replicas were behind, against the definition, and what nodes are said to hold in the end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from harness.checkers.replication import Replication
from harness.history import from_events
from harness.operation import MONITOR, NEMESIS, OWN_STATES, PROGRESS, Event
from harness.periods import HEAL
from harness.replication import OwnStates, Progress, replication_lines, replication_properties
from harness.verdict import Budget

SECOND = 1_000_000_000


def at(node: str, asked: int, position: int, term: int | None = 1, role: str = "replica") -> Event:
    progress = Progress(position, role, asked, asked + 1, term)
    return Event(0, asked + 1, MONITOR, "info", PROGRESS, value=progress, node=node)


def measured(*events: Event) -> dict[str, Any]:
    history = msgspec.json.decode(msgspec.json.encode(sorted(events, key=lambda one: one.time)), type=list[Event])
    verdict = Replication().check(from_events(history), Budget())
    assert verdict.validity == "valid"
    return verdict.evidence


def lags(*events: Event) -> dict[str, list[int]]:
    nodes = measured(*events)["replication"]["nodes"]
    return {name: [since for _, since in one["series"]] for name, one in nodes.items()}


def test_a_node_is_behind_since_the_primary_was_first_seen_further() -> None:
    primary = [at("n1", 10 * at_, 100 * at_, role="primary") for at_ in range(6)]
    lag = lags(*primary, at("n2", 5, 0), at("n2", 25, 100), at("n2", 45, 100), at("n2", 48, 400), at("n3", 44, 500))
    # It was at 100 when the primary was first seen at 200, at 21.
    assert lag == {"n1": [0] * 6, "n2": [0, 25 - 21, 45 - 21, 0], "n3": [0]}


def test_without_terms_another_primary_begins_another_reign() -> None:
    """What the lost one had beyond it does not count for ever."""
    old, new = [at("n1", 0, 1000, None, "primary")], [at("n2", 50, 900, None, "primary")]
    later = [at("n2", 90, 950, None, "primary"), at("n3", 95, 950, None), at("n3", 60, 890, None)]
    assert lags(*old, *new, *later) == {"n1": [0], "n2": [0, 0], "n3": [9, 0]}


def test_an_older_primary_counts_no_more_and_may_be_behind_itself() -> None:
    """What it has beyond its successor is lost; in Redis that may be many bytes."""
    old = [at("n1", 0, 50, 1, "primary"), at("n1", 40, 900, 1, "primary"), at("n1", 60, 40, 1, "primary")]
    new = [at("n2", 20, 10, 2, "primary"), at("n2", 50, 70, 2, "primary")]
    assert lags(*old, *new, at("n3", 55, 70, 2), at("n3", 30, 9, 2)) == {"n1": [0, 0, 9], "n2": [0, 0], "n3": [9, 0]}


Seen = tuple[str, int, int, int | None, bool]


def told(term: int | None) -> int:
    return -1 if term is None else term


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["n1", "n2"]),
            st.integers(0, 9),
            st.integers(0, 4),
            st.sampled_from([None, 1, 2]),
            st.booleans(),
        ),
        max_size=12,
        unique_by=lambda seen: seen[1],
    )
)
def test_lags_agree_with_the_definition(seen: Sequence[Seen]) -> None:
    seen = sorted(seen, key=lambda one: one[1])
    events = [at(n, 10 * when, position, term, "primary" if leads else "x") for n, when, position, term, leads in seen]
    if not seen:
        assert measured(*events) == {}
        return
    nodes = measured(*events)["replication"]["nodes"]
    found = sorted(tuple(one) for of_node in nodes.values() for one in of_node["series"])
    expected = []
    for _, when, position, term, leads in seen:
        led = [one for one in seen if one[4] and 10 * one[1] + 1 <= 10 * when]
        newest = max((told(one[3]) for one in led), default=-1)
        of_newest = [one for one in led if told(one[3]) == newest]
        # The reign of who was seen last in the newest term goes back to where somebody else was seen in it.
        by_reign = [list(samples) for _, samples in groupby(of_newest, key=itemgetter(0))]
        reign = by_reign[-1] if by_reign else []
        further = [10 * w + 1 for _, w, p, _, _ in reign if p > position]
        leads_now = leads and told(term) >= newest
        expected.append((10 * when, 10 * when - min(further) if further and not leads_now else 0))
    assert found == sorted(expected)


def test_it_is_told_in_one_line_and_to_machines() -> None:
    events = [
        Event(0, 5 * SECOND, NEMESIS, "invoke", HEAL),
        Event(0, 5 * SECOND + 1, NEMESIS, "ok", HEAL),
        at("n1", SECOND, 9, role="primary"),
        at("n2", 7 * SECOND, 8),
        at("n2", 8 * SECOND, 9),
        at("n1", 8 * SECOND, 10, role="primary"),
        at("n2", 9 * SECOND, 9),  # as always, and nothing that a fault has left
    ]
    evidence = measured(*events)
    (line,) = replication_lines(evidence)
    assert line.startswith("replication: n2 was up to 6.0 s behind the primary; nodes were behind until 2.0 s after")
    assert dict(replication_properties(evidence))["replication.n2.behind"] == "5.999999999"
    differ = {"k\x1b[2J": {"n1": "1", "n2": None}}
    own = Event(0, 9 * SECOND, MONITOR, "info", OWN_STATES, value=OwnStates(("n1", "n2"), 7, 1, differ))
    (line,) = replication_lines(measured(own))
    assert line.startswith("replication: n1 n2 differ on 1 of 7 keys in the end: k")
    assert "\x1b" not in line
    assert dict(replication_properties(measured(own))) == {
        "replication.keys": "7",
        "replication.keys_that_differ": "1",
    }
    same = Event(0, 9 * SECOND, MONITOR, "info", OWN_STATES, value=OwnStates(("n1", "n2"), 7))
    assert replication_lines(measured(same)) == ["replication: n1 n2 hold the same 7 keys in the end"]
    assert replication_lines(measured()) == []


def test_a_node_that_told_nothing_for_long_is_named() -> None:
    """It may have been behind, and have caught up before it was asked again."""
    primary = [at("n1", SECOND * n, n, role="primary") for n in range(20)]
    evidence = measured(*primary, at("n2", 0, 0), at("n2", 3 * SECOND, 3), at("n2", 14 * SECOND, 14))
    assert evidence["replication"]["nodes"]["n2"]["silent_ns"] == 11 * SECOND - 1
    assert replication_lines(evidence) == ["replication: n2 told nothing for 11.0 s"]


def test_why_nodes_were_not_compared_is_told() -> None:
    own = Event(0, 9 * SECOND, MONITOR, "info", OWN_STATES, value=OwnStates((), 0, why="nobody answers"))
    assert replication_lines(measured(own)) == [
        "replication: what the nodes hold could not be compared: nobody answers"
    ]
    assert not dict(replication_properties(measured(own)))


def test_of_many_moments_the_worst_ones_are_kept() -> None:
    primary = [at("n1", 10, 5, role="primary")]
    series = lags(*primary, *(at("n2", 100 * n, 4 if n == 1234 else 5) for n in range(2500)))["n2"]
    assert len(series) <= 1000
    assert max(series) == 123_400 - 11


def test_what_is_not_of_our_own_making_is_passed_over() -> None:
    huge = {"position": 1, "role": "primary", "asked": 10**330, "answered": 1}
    partial = {"nodes": ["n1", "n2"], "keys": 3, "differing": 2}
    for f, value in ((PROGRESS, huge), (OWN_STATES, partial)):
        evidence = measured(Event(0, 0, MONITOR, "info", f, value=value, node="n1"))
        assert len(replication_lines(evidence)) == (f == OWN_STATES)
    odd = [Event(0, at_, MONITOR, "info", f, value={"x": 1}, node="n1") for at_, f in enumerate((PROGRESS, OWN_STATES))]
    assert measured(*odd) == {}
