"""The marks of an anomaly's picture, from what is behind everything to the axis."""

from __future__ import annotations

from typing import Final

from harness.broken_axis import BrokenAxis
from harness.report.anomaly_rows import LETTER, LINE, Data
from harness.report.picture import COLOURS, Specification, over_time, own_colour
from harness.words import duration

SHOWN: Final[Specification] = {"text": {"field": "label"}}
COLOUR: Final = own_colour()
_NARROW: Final = "width < 560"
"""Where labels are marks alone: what they stand for is in the table below."""


def over_places(field: str) -> Specification:
    """The x of a mark: a place on the scene's axis."""
    return over_time(field, axis=None)


def marks(data: Data, mark: Specification, encoding: Specification) -> Specification:
    """Marks of one look, each from its datum."""
    return {"data": {"values": data}, "mark": {"clip": True, **mark}, "encoding": encoding}


def _tooltip(**fields: str) -> list[Specification]:
    return [*({"field": name, "title": title} for name, title in fields.items()), {"field": "when", "title": "when"}]


def cut_strips(axis: BrokenAxis, height: float) -> list[Specification]:
    """Where time is cut short: a strip, and how long it is."""
    cuts = [
        {"x": s.left, "x2": s.right, "y": 0, "y2": height, "label": f"{duration(s.end - s.start)} cut"}
        for s in axis.stretches
        if s.cut
    ]
    if not cuts:
        return []
    across = {"x2": {"field": "x2"}, "y2": {"field": "y2"}}
    edges = [{"x": cut[side], "y": 0, "y2": height} for cut in cuts for side in ("x", "x2")]
    dashed = {"type": "rule", "color": COLOURS["fail"], "strokeDash": [2, 4], "clip": True}
    return [
        {
            "data": {"values": cuts},
            "mark": {"type": "rect", "color": COLOURS["fail"], "opacity": 0.13, "clip": True},
            "encoding": {**across, "tooltip": _tooltip(label="left out")},
        },
        {"data": {"values": edges}, "mark": dashed, "encoding": {"y2": {"field": "y2"}}},
    ]


def fault_bands(faults: Data, height: float) -> list[Specification]:
    """Each fault as a lane with its name, and faint behind everything."""
    if not faults:
        return []
    corners = {"x2": {"field": "x2"}, "y2": {"field": "y2"}}
    behind = [{**fault, "y": 0, "y2": height} for fault in faults]
    return [
        marks(behind, {"type": "rect", "opacity": 0.07}, {**corners, "color": COLOUR}),
        marks(
            faults, {"type": "rect", "opacity": 0.3}, {**corners, "color": COLOUR, "tooltip": _tooltip(label="fault")}
        ),
        *_names(faults, {"dy": LINE / 2}, {}),
    ]


def _names(spans: Data, mark: Specification, encoding: Specification) -> list[Specification]:
    """The labels of spans, each at its beginning in the window if it has room before the next one of its row.

    One that is alone in its row may also stand before its end; of others the tooltip tells.
    """
    rows: dict[float, Data] = {}
    for span in spans:
        rows.setdefault(span["y"], []).append(span)
    data = [
        {**span, "next": row[at + 1]["x"] if at + 1 < len(row) else 1, "alone": len(row) == 1}
        for row in rows.values()
        for at, span in enumerate(row)
    ]
    fits = f"(min(datum.next, to) - max(datum.x, from)) / (to - from) * width >= length(datum.label) * {LETTER}"
    layers: list[Specification] = []
    for align, at, where in (
        ("left", "max(datum.x, from)", fits),
        ("right", "min(datum.x2, to)", f"datum.alone && !({fits})"),
    ):
        named = marks(
            data,
            {"type": "text", "align": align, "dx": 4 if align == "left" else -4, **mark},
            {**SHOWN, "x": over_places("at"), **encoding},
        )
        visible = f"datum.x < to && datum.x2 > from && {where}"
        layers.append({**named, "transform": [{"filter": visible}, {"calculate": at, "as": "at"}]})
    return layers


def primary_lines(primaries: Data) -> list[Specification]:
    """Each reign as a line with its name over it."""
    if not primaries:
        return []
    return [
        marks(
            primaries,
            {"type": "rule", "strokeWidth": 3},
            {"x2": {"field": "x2"}, "color": COLOUR, "tooltip": _tooltip(label="primary")},
        ),
        *_names(primaries, {"dy": 8, "fontSize": 11}, {"color": COLOUR}),
    ]


def rectangles(bars: Data, opacity: float, *, fading: bool = False) -> list[Specification]:
    """Bars of one look, with a frame around the one that is looked at.

    Those that fade are by themselves for each colour, since fading is a colour of its own.
    """
    mark = {"type": "rect", "opacity": opacity, "cornerRadius": 2, "cursor": "pointer"}
    here = {"test": "datum.op === current"}
    encoding = {
        "x2": {"field": "x2"},
        "y2": {"field": "y2"},
        "tooltip": _tooltip(what="operation"),
        "stroke": {"condition": {**here, "value": COLOURS["primary"]}, **COLOUR},
        # A bar of less than a pixel would not be seen without an edge.
        "strokeWidth": {"condition": {**here, "value": 5}, "value": 0 if fading else 2 * opacity},
    }
    if not fading:
        return [marks(bars, mark, {**encoding, "color": COLOUR})] if bars else []
    return [
        marks([bar for bar in bars if bar["colour"] == colour], {**mark, "color": _fading(colour)}, encoding)
        for colour in dict.fromkeys(bar["colour"] for bar in bars)
    ]


def _fading(colour: str) -> Specification:
    stops = [{"offset": 0, "color": colour}, {"offset": 1, "color": f"{colour}00"}]
    return {"gradient": "linear", "x1": 0, "x2": 1, "y1": 0, "y2": 0, "stops": stops}


def bar_labels(labels: Data) -> list[Specification]:
    """The names of the operations that show the anomaly; where there is no room, their marks alone."""
    return [
        marks(
            [label for label in labels if label["align"] == align],
            {
                "type": "text",
                "align": align,
                "text": {"expr": f"{_NARROW} ? datum.mark : datum.text"},
                "fontWeight": 600,
            },
            {},
        )
        for align in ("left", "right")
        if any(label["align"] == align for label in labels)
    ]


def time_axis(axis: BrokenAxis, height: float) -> list[Specification]:
    """The axis: the moments that have room, and below them how long each cut is."""
    ticks = [{"x": tick.place, "y": height, "label": tick.label, "room": tick.room} for tick in axis.ticks()]
    cuts = [
        {"x": (s.left + s.right) / 2, "y": height, "label": duration(s.end - s.start), "room": s.right - s.left}
        for s in axis.stretches
        if s.cut
    ]
    room = "datum.x >= from && datum.x <= to && (datum.room == 0 || datum.room / (to - from) * width > {})"
    text = {"type": "text", "baseline": "top", "clip": False}
    small = {"type": "tick", "orient": "vertical", "size": 6, "thickness": 1, "color": COLOURS["fail"], "clip": False}
    below = {**text, "dy": 20, "fontSize": 11, "fontStyle": "italic"}
    return [
        {**marks(ticks, small, {}), "transform": [{"filter": room.format(75)}]},
        {**marks(ticks, {**text, "dy": 6}, SHOWN), "transform": [{"filter": room.format(75)}]},
        *([{**marks(cuts, below, SHOWN), "transform": [{"filter": room.format(36)}]}] if cuts else []),
    ]
