"""What nodes said of themselves over time: their roles, how far behind they were, and what their clocks showed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

import msgspec

from harness.history import MONITOR_PROCESS, NEMESIS_PROCESS
from harness.periods import START, STOP
from harness.report.charts import chart, colours, rows, seconds, upwards, when
from harness.report.picture import COLOURS, PRIMARIES, WINDOW, Picture, Specification
from harness.report.story import Story
from harness.roles import PRIMARY
from harness.words import count, duration, printable

_ANSWERS: Final = 2000
"""The most answers that are drawn, of all nodes together: the first ones."""
_NO_ANSWER: Final = "no answer"
_SILENCE: Final = 2_000_000_000
"""After how long (ns) without an answer nobody knows how far a node was."""
_CLOCK: Final = "clock"
"""The nemesis of wrong clocks, and what the monitor records of them."""


def roles(story: Story) -> Picture | None:
    """A row for each node: what it said that it is, when."""
    if not story.sightings:
        return None
    seen = story.sightings[:_ANSWERS]
    values = [
        {
            "at": seconds(sighting.start),
            "until": seconds(max(sighting.end, sighting.start + story.end // 2000)),
            "node": printable(sighting.node),
            "role": _NO_ANSWER if sighting.role is None else printable(sighting.role),
            **({} if sighting.term is None else {"term": sighting.term}),
        }
        for sighting in seen
    ]
    present, answered = ({str(value[field]): None for value in values} for field in ("role", "node"))
    others = [name for name in present if name not in (PRIMARY, _NO_ANSWER)]
    own = {PRIMARY: COLOURS["primary"]}
    own |= dict(zip(others, (COLOURS["backup"], *PRIMARIES[2:]), strict=False))
    own |= dict.fromkeys(others[len(PRIMARIES) - 1 :], COLOURS["backup"]) | {_NO_ANSWER: COLOURS["info"]}
    nodes = [name for name in map(printable, story.nodes) if name in answered]
    marks = {
        "data": {"values": values},
        "mark": {"type": "bar", "clip": True, "height": {"band": 0.62}, "tooltip": {"content": "data"}},
        "encoding": {
            "x": when("at"),
            "x2": {"field": "until"},
            "y": rows("node", nodes),
            "color": colours("role", {name: colour for name, colour in own.items() if name in present}),
        },
    }
    shown = "" if len(seen) == len(story.sightings) else f" Drawn: the first {len(seen):,} of {len(story.sightings):,}."
    words = f"What each node answered when it was asked for its role: {', '.join(present)}.{shown}"
    return Picture("roles", "Who said what", words, chart([marks], story, height=max(24 * len(nodes), 40)), WINDOW)


def lag(story: Story) -> Picture | None:
    """By how much time each node was behind the primary."""
    measured = story.evidence.get("replication", {}).get("nodes", {})
    nodes = [node for node in story.nodes if measured.get(node, {}).get("series")]
    series = {printable(node): measured[node]["series"] for node in nodes}
    if not series:
        return None
    values = list(_points({node: [(at, ns / 1e9) for at, ns in points] for node, points in series.items()}, "behind"))
    worst = max(values, key=lambda value: float(value["behind"]))
    words = "How long ago the primary was first seen to be as far as a node is now. "
    words += (
        f"The worst: {worst['node']}, {duration(int(worst['behind'] * 1e9))} behind at {worst['at']:.1f} s."
        if worst["behind"]
        else "No node was seen to be behind."
    )
    words += " Lines end where a node told nothing."
    return Picture(
        "lag", "Replication lag", words, chart(_lines(values, "behind", list(series)), story, height=130), WINDOW
    )


def clocks(story: Story) -> Picture | None:
    """By how much the clock of each node was ahead, where that was measured."""
    offsets: dict[str, list[tuple[int, float]]] = {printable(node): [] for node in story.nodes}
    for moment, ahead in _offsets(story):
        for node, offset in ahead.items():
            offsets.setdefault(printable(node), []).append((moment, offset))
    values = list(_points(offsets, "ahead", silence=None))
    if not any(value["ahead"] for value in values):
        return None
    worst = max(values, key=lambda value: abs(float(value["ahead"])))
    furthest = f"{worst['ahead']:+g} s of {worst['node']} at {worst['at']:.1f} s"
    words = (
        "By how much the clock that the servers of a node see was ahead of the right time (below 0: behind): "
        f"{count(len(values), 'measurement')}, the worst {furthest}."
    )
    steps = _lines(values, "ahead", list(offsets), interpolate="step-after")
    return Picture("clocks", "Clock offsets", words, chart(steps, story, height=110), WINDOW)


def _offsets(story: Story) -> Iterator[tuple[int, Mapping[str, float]]]:
    """When (ns) clocks were looked at, and by how much each was ahead (s); what is not of our making is left out."""
    history = story.history
    events = [event for process in (MONITOR_PROCESS, NEMESIS_PROCESS) for event in history.special(process)]
    for event in sorted(events, key=lambda event: event.time):
        value = event.value
        if event.type == "ok" and event.f in (START + _CLOCK, STOP + _CLOCK) and isinstance(value, dict):
            value = value.get("ahead")
        elif event.f != _CLOCK:
            continue
        try:
            yield event.time, msgspec.convert(value, dict[str, float])
        except msgspec.ValidationError:
            continue


def _points(
    series: Mapping[str, list[tuple[int, float]]], field: str, *, silence: int | None = _SILENCE
) -> Iterator[dict[str, Any]]:
    """Points of lines: ``stretch`` numbers the pieces of one that a silence (ns) parts."""
    for node, points in series.items():
        stretch = 0
        for (before, _), (at, value) in pairwise([*points[:1], *points]):
            stretch += silence is not None and at - before > silence
            yield {"at": seconds(at), field: round(value, 6), "node": node, "stretch": stretch}


def _lines(values: list[dict[str, Any]], field: str, nodes: list[str], **mark: Any) -> list[Specification]:
    own = {node: PRIMARIES[number % len(PRIMARIES)] for number, node in enumerate(nodes)}
    encoding = {
        "x": when("at"),
        "y": upwards(field, axis={"labelExpr": "datum.label + ' s'", "grid": True}),
        "detail": {"field": "stretch"},
        "color": colours("node", own),
    }
    look = {"clip": True, "tooltip": {"content": "data"}}
    return [
        {
            "data": {"values": values},
            "mark": {"type": "line", "strokeWidth": 1.8, **look, **mark},
            "encoding": encoding,
        },
        {"data": {"values": values}, "mark": {"type": "circle", "size": 12, **look}, "encoding": encoding},
    ]
