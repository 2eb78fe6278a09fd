"""The arrows of an anomaly's picture: what was certainly before what, who read which write, the steps of a cycle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from harness.report.anomaly_layers import COLOUR, SHOWN, marks
from harness.report.anomaly_rows import BAR, ROW, Data
from harness.report.picture import COLOURS, Specification
from harness.scene import Scene
from harness.words import printable

_PARTS: Final = 10
"""How many straight pieces a bent arrow consists of."""


def arrow_layers(scene: Scene, bars: Data) -> list[Specification]:
    """From the end of what came first to the beginning of the next; from a write to what read it."""
    by = {bar["number"]: bar for bar in bars}
    told = {(before.source, before.target) for before in scene.seen}
    first = [before for before in scene.orders if (before.source, before.target) not in told]
    arrows = [_arrow(by[before.source], by[before.target], before.why, certain=True) for before in first]
    arrows += [_arrow(by[before.source], by[before.target], before.why, certain=False) for before in scene.seen]
    if not arrows:
        return []
    points = [
        {"x": x, "y": y, "label": label, "colour": shade, "dash": dash, "arrow": number, "part": part}
        for number, (path, label, shade, dash) in enumerate(arrows)
        for part, (x, y) in enumerate(path)
    ]
    heads = [
        {"x": path[-1][0], "y": path[-1][1], "x0": path[-2][0], "y0": path[-2][1], "colour": shade}
        for path, _, shade, _ in arrows
    ]
    labels = [{**_beside(path), "label": label, "colour": shade} for path, label, shade, _ in arrows]
    # Which way an arrow points depends on how wide a second is drawn.
    turned = "atan2(datum.y - datum.y0, (datum.x - datum.x0) / (to - from) * width) * 180 / PI + 90"
    head = {"type": "point", "shape": "triangle", "filled": True, "size": 70, "opacity": 1, "angle": {"expr": turned}}
    beside = {"type": "text", "dx": 5, "align": "left", "fontSize": 11, "fontWeight": 600}
    dashes = {"field": "dash", "type": "nominal", "scale": {"domain": [False, True], "range": [[1, 0], [4, 3]]}}
    along = {
        "detail": {"field": "arrow", "type": "nominal"},
        "order": {"field": "part", "type": "quantitative"},
        "strokeDash": {**dashes, "legend": None},
    }
    return [
        marks(points, {"type": "line", "strokeWidth": 1.7}, {**along, "color": COLOUR, "tooltip": {"field": "label"}}),
        marks(heads, head, {"color": COLOUR}),
        *([marks(labels, beside, {**SHOWN, "color": COLOUR})] if scene.anomaly.edges else []),
    ]


def _arrow(
    source: dict[str, Any], target: dict[str, Any], why: str, *, certain: bool
) -> tuple[list[tuple[float, float]], str, str, bool]:
    """The path of an arrow between two bars, its label, its colour, and whether it is dashed.

    One that is certain is straight; others are bent, so that two between the same bars do not lie on each other.
    """
    down = (target["y"] > source["y"]) - (target["y"] < source["y"])
    y, y2 = source["y"] + BAR / 2 * (1 + down), target["y"] + BAR / 2 * (1 - down)
    left, right = max(source["x"], target["x"]), min(source["x2"], target["x2"])
    if left < right:  # they overlap: straight up or down, each way at a place of its own
        x = x2 = left + (right - left) * (0.72 if down > 0 else 0.9)
    elif target["x"] < source["x"]:
        x, x2 = source["x"], target["x2"]
    else:
        x, x2 = source["x" if source["open"] else "x2"], target["x"]
    middle = (x + x2) / 2, (y + y2) / 2 - (0 if certain or left < right else 2 * ROW)
    colour = COLOURS["fail" if certain else "witness"]
    bent = [_between((x, y), middle, (x2, y2), at / _PARTS) for at in range(_PARTS + 1)]
    return bent, printable(why), colour, certain


def _beside(path: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Where the label of an arrow is: in its middle or, where that may lie behind other rows, near its beginning."""
    (x, y), (x2, y2) = path[0], path[-1]
    if x == x2 and abs(y2 - y) > ROW:
        return {"x": x, "y": y + (11 if y2 > y else -11)}
    middle = path[len(path) // 2]
    return {"x": middle[0], "y": middle[1]}


def _between(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float], at: float) -> tuple[float, float]:
    """A point of the curve from ``a`` to ``c`` that leans to ``b``."""
    x, y = ((1 - at) ** 2 * a[n] + 2 * at * (1 - at) * b[n] + at**2 * c[n] for n in (0, 1))
    return round(x, 6), round(y, 2)
