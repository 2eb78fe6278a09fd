"""A picture of the report: a Vega-Lite specification, and the words that say the same.

Times in pictures are seconds since the run began. Pictures of one window show the same stretch of time: whoever zooms
one zooms all. Colours are legible on light and on dark paper, and differ for people who see few colours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

Specification = dict[str, Any]

SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"
"""What the specifications are written in; a name, which nothing fetches."""
WINDOW: Final = "run"
"""The window of everything that is drawn over the whole run."""
COLOURS: Final[Mapping[str, str]] = {
    "ok": "#2e8b6b",
    "kept": "#2e8b6b",
    "fail": "#8a94a3",
    "info": "#c07a00",
    "unknown": "#c07a00",
    "overwritten": "#8a94a3",
    "lost": "#d43d51",
    "invalid": "#d43d51",
    "witness": "#d43d51",
    "primary": "#3d7dd8",
    "backup": "#8a94a3",
    "fault": "#9467bd",
}
PRIMARIES: Final = ("#3d7dd8", "#e07b39", "#8c6bd1", "#1f9e9e", "#c2569b", "#7a8b2f")
"""The colours of primaries, by turns: of each term, or of each node where there are no terms."""
FAMILIES: Final[Mapping[str, str]] = {
    "partition": "#9467bd",
    "kill": "#d43d51",
    "pause": "#c07a00",
    "restart": "#b5651d",
    "clock": "#1f9e9e",
    "disk": "#7a8b2f",
    "storage": "#5c7f3b",
    "netem": "#3d7dd8",
    "squeeze": "#c2569b",
    "membership": "#5b6b8c",
}
"""The colour of each family of faults; others have that of ``COLOURS["fault"]``."""


@dataclass(frozen=True)
class Picture:
    """A drawing with its name (of letters, digits and hyphens), a title, and what is to be seen on it in words.

    ``window`` is what it shares its time with; empty where it has none. ``canvas`` is for many thousand marks.
    """

    name: str
    title: str
    words: str
    specification: Specification
    window: str = ""
    canvas: bool = False

    @property
    def data(self) -> Markup:
        """The specification, as the page holds it."""
        return embedded(self.specification)


def embedded(value: Any) -> Markup:
    """A value as JSON that can stand in a page's ``script``: nothing in it ends that, or is not ASCII."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))  # noqa: S704


def specification(
    layers: Sequence[Specification], start: float, end: float, *, height: int, **others: Any
) -> Specification:
    """Layers over a time from ``start`` to ``end`` (s) that can be zoomed: their x is ``over_time``."""
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": height,
        "params": [{"name": "from", "value": start}, {"name": "to", "value": end}],
        "layer": list(layers),
        **others,
    }


def over_time(field: str, **others: Any) -> Specification:
    """The x of a mark: a moment (s) in the window that is shown. Marks should have ``clip``."""
    return {
        "field": field,
        "type": "quantitative",
        "scale": {"domain": [{"expr": "from"}, {"expr": "to"}], "zero": False, "nice": False},
        "axis": {"title": "seconds", "grid": False, "tickCount": 8},
        **others,
    }


def from_top(height: float, axis: Specification | None = None, *, field: str = "y") -> Specification:
    """The y of a mark: pixels from the top of a picture of this height."""
    scale = {"domain": [0, height], "reverse": True, "nice": False, "zero": False}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def own_colour(field: str = "colour") -> Specification:
    """The colour of a mark, which is in its datum."""
    return {"field": field, "type": "nominal", "scale": None}


def row_names(places: Sequence[float], names: str) -> Specification:
    """The axis of rows: their names at these places. ``names`` is an expression of params, since names are data."""
    return {
        "title": None,
        "values": list(places),
        "labelExpr": f"({names})[indexof({json.dumps(list(places))}, datum.value)]",
        "grid": False,
        "ticks": False,
        "domain": False,
    }


def colour_of(fault: str) -> str:
    """The colour of a fault's family."""
    return FAMILIES.get(fault, COLOURS["fault"])
