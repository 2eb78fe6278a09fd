"""Faults: a row for each family over time, and a list of them one by one with what proves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.periods import Period, deed_of
from harness.report.charts import chart, left_out, rows, seconds, when
from harness.report.picture import WINDOW, Picture, colour_of, own_colour
from harness.report.story import Story
from harness.words import count, printable

_DRAWN: Final = 1000
"""The most faults that are drawn, and listed: the first ones."""
_LONGEST: Final = 2000
"""How much of what was measured is shown, in characters."""


@dataclass(frozen=True)
class Fault:
    """One fault: from when to when (s), what it did, and what was measured of it."""

    name: str
    start: float
    end: float
    deed: str
    proved: bool
    means: str
    before: str
    during: str


def faults(story: Story) -> list[Fault]:
    """The faults of a run one by one; the first ones where there are very many."""
    return [_fault(period) for period in story.periods[:_DRAWN]]


def lanes(story: Story, drawn: Sequence[Fault]) -> Picture | None:
    """Those faults over time, one row and one colour for each family."""
    if not drawn:
        return None
    families = list(dict.fromkeys(printable(period.name) for period in story.periods))
    values = [
        {
            "at": fault.start,
            "until": fault.end,
            "family": fault.name,
            "what": fault.deed or fault.name,
            "proof": (fault.means if fault.proved else "not proved"),
            "colour": colour_of(fault.name),
            "proved": fault.proved,
        }
        for fault in drawn
    ]
    base: dict[str, Any] = {"y": rows("family", families)}
    colour = own_colour()
    tooltip = [
        {"field": "family", "title": "fault"},
        {"field": "what"},
        {"field": "at", "title": "from (s)", "format": ".2f"},
        {"field": "until", "title": "to (s)", "format": ".2f"},
        {"field": "proof", "title": "proved by"},
    ]
    bars = {
        "mark": {"type": "bar", "clip": True, "strokeWidth": 1.5, "cornerRadius": 2, "height": {"band": 0.74}},
        "encoding": {
            **base,
            "x": when("at"),
            "x2": {"field": "until"},
            "fill": colour,
            "stroke": colour,
            "fillOpacity": {"condition": {"test": "datum.proved", "value": 0.3}, "value": 0},
            "strokeDash": {"condition": {"test": "datum.proved", "value": [1, 0]}, "value": [4, 3]},
            "tooltip": tooltip,
        },
    }
    room = "(min(scale('x', datum.until), width) - max(scale('x', datum.at), 0))"
    names = {
        "transform": [{"calculate": "max(datum.at, from)", "as": "seen"}],
        "mark": {
            "type": "text",
            "align": "left",
            "dx": 5,
            "clip": True,
            "fontSize": 11,
            "limit": {"expr": f"max({room} - 10, 1)"},
            "opacity": {"expr": f"{room} < 40 ? 0 : 1"},
            "tooltip": None,
        },
        "encoding": {**base, "x": when("seen"), "text": {"field": "what"}, "tooltip": {"value": None}},
    }
    marks = {"data": {"values": values}, "layer": [bars, names]}
    unproved = sum(not period.proved for period in story.periods)
    words = f"{count(len(story.periods), 'fault')}, {count(len(families), 'family', 'families')}, a row for each."
    words += f" {unproved:,} with a dashed outline could not be proved." if unproved else " All were proved."
    if len(drawn) < len(story.periods):
        words += f" Drawn: the first {len(drawn):,}."
    words += left_out(story.periods)
    return Picture("lanes", "Faults", words, chart([marks], story, height=max(26 * len(families), 40)), WINDOW)


def _fault(period: Period) -> Fault:
    proof: Mapping[str, Any] = period.proof if isinstance(period.proof, Mapping) else {}
    means = printable(str(proof.get("means", "measured"))) if period.proved else "not proved"
    return Fault(
        printable(period.name),
        seconds(period.start),
        seconds(period.end),
        printable(str(deed_of(period.what) or "")),
        period.proved,
        means,
        *(_measured(proof[when]) if when in proof else "" for when in ("before", "during")),
    )


def _measured(value: Any) -> str:
    """What was measured, as text: a line for each thing of which it was."""
    lines = [f"{name}: {what}" for name, what in value.items()] if isinstance(value, Mapping) else [str(value)]
    text = printable("\n".join(lines))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} characters)"
