"""The messages between nodes around an anomaly, as a space-time diagram.

Time goes to the right, each node is a line, a message leads from when and where it was sent to when and where it
arrived; one that was lost ends half way. After Lamport, "Time, Clocks, and the Ordering of Events in a Distributed
System", 1978. Only the simulation sees messages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.messages import Exchange, Message, read_exchanges
from harness.periods import describe
from harness.report.picture import COLOURS, PRIMARIES, Picture, Specification, colour_of, over_time, specification
from harness.report.story import Story
from harness.verdict import Anomaly, Witness
from harness.words import count, named, operation, printable

CLIENTS: Final = "clients"
_MOST: Final = 1_500
"""How many messages are drawn, those at the end: it is the end of an anomaly that tells most."""
_FIRST_SHOWN: Final = 0.25
"""How long (s) the stretch is at most that is shown at first."""
_ROW: Final = 44
_KINDS: Final = (*PRIMARIES, COLOURS["fail"])


@dataclass(frozen=True)
class Diagram:
    """A picture of messages, the anomaly that it is of (from 1), and the times (s) of its window."""

    picture: Picture
    anomaly: int
    start: float
    end: float
    at_first: float
    """Where the stretch begins (s) that is shown at first."""


def messages(story: Story) -> list[Diagram]:
    """A diagram for each anomaly around which messages were kept."""
    anomalies = story.verdict.anomalies
    return [
        _diagram(story, exchange, anomalies[exchange.anomaly])
        for exchange in read_exchanges(story.directory.messages)
        if exchange.messages and 0 <= exchange.anomaly < len(anomalies)
    ]


def _diagram(story: Story, exchange: Exchange, anomaly: Anomaly) -> Diagram:
    start, end = exchange.start / 1e9, exchange.end / 1e9
    drawn = exchange.messages[-_MOST:]
    nodes = [printable(node) for node in story.nodes]
    rows = [*nodes, CLIENTS]
    number = exchange.anomaly + 1
    lost = sum(message.arrived is None for message in drawn)
    sampled = "" if len(drawn) == len(exchange.messages) else f" Drawn: the last of {len(exchange.messages):,}."
    words = (
        f"{count(len(drawn), 'message')} between {count(len(nodes), 'node')} around anomaly {number}, {lost:,} of them "
        f"lost: these end half way, with a cross. Below, the operations of the anomaly, each from invocation to "
        f"completion.{sampled}"
    )
    layers = [
        *_faults(story, exchange),
        *_lives(rows, start, end),
        *_lines(drawn, rows),
        *_operations(anomaly, rows, end),
    ]
    at_first = max(start, end - _FIRST_SHOWN)
    apart = {"scale": {"color": "independent"}}
    picture = specification(layers, at_first, end, height=_ROW * len(rows), resolve=apart)
    title = f"Anomaly {number}: {printable(anomaly.kind)}"
    name = f"messages-{number}"
    return Diagram(Picture(name, title, words, picture, name), number, start, end, at_first)


def _row(rows: Sequence[str], node: str) -> float:
    return len(rows) - 1.0 - rows.index(node) if node in rows else 0.0


def _y(rows: Sequence[str], field: str = "y") -> Specification:
    names = f"{json.dumps(rows[::-1])}[datum.value]"
    axis = {"title": None, "grid": False, "values": list(range(len(rows))), "labelExpr": names, "ticks": False}
    scale = {"domain": [-0.5, len(rows) - 0.5], "nice": False}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def _lives(rows: Sequence[str], start: float, end: float) -> list[Specification]:
    values = [{"x": start, "x2": end, "y": _row(rows, name)} for name in rows]
    mark = {"type": "rule", "clip": True, "color": COLOURS["fail"], "opacity": 0.6}
    encoding = {"x": over_time("x"), "x2": {"field": "x2"}, "y": _y(rows)}
    return [{"data": {"values": values}, "mark": mark, "encoding": encoding}]


def _lines(drawn: Sequence[Message], rows: Sequence[str]) -> list[Specification]:
    sent: list[dict[str, Any]] = []
    for message in drawn:
        source, target = _row(rows, printable(message.source)), _row(rows, printable(message.target))
        arrived = message.arrived if message.arrived is not None else message.sent + 400_000
        kind = printable(message.kind) or "message"
        term = "" if message.term is None else f", term {message.term}"
        how = "" if message.arrived is not None else ", lost"
        sent.append(
            {
                "x": message.sent / 1e9,
                "x2": arrived / 1e9,
                "y": source,
                "y2": target if message.arrived is not None else (source + target) / 2,
                "kind": kind,
                "message": f"{kind}{term}: {named(message.source)} to {named(message.target)}{how}",
                "lost": message.arrived is None,
            }
        )
    kinds = sorted({value["kind"] for value in sent})
    colour = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": kinds, "range": [_KINDS[place % len(_KINDS)] for place in range(len(kinds))]},
        "legend": {"title": None, "orient": "top", "columns": 6},
    }
    tip = [{"field": "message", "type": "nominal"}]
    both = {"x": over_time("x"), "x2": {"field": "x2"}, "y": _y(rows), "y2": {"field": "y2"}}
    dash = {"condition": {"test": "datum.lost", "value": [3, 3]}, "value": [1, 0]}
    lines = {"type": "rule", "clip": True, "strokeWidth": 1.4}
    tips = {"type": "point", "clip": True, "size": 22, "filled": True, "opacity": 1}
    cross = {"type": "point", "shape": "cross", "angle": 45, "clip": True, "size": 60, "filled": True, "opacity": 1}
    ends = {"x": over_time("x2"), "y": _y(rows, "y2"), "tooltip": tip}
    return [
        {
            "data": {"values": sent},
            "layer": [
                {"mark": lines, "encoding": {**both, "color": colour, "strokeDash": dash, "tooltip": tip}},
                {
                    "transform": [{"filter": "!datum.lost"}],
                    "mark": tips,
                    "encoding": {**ends, "color": colour},
                },
                {
                    "transform": [{"filter": "datum.lost"}],
                    "mark": {**cross, "color": COLOURS["lost"]},
                    "encoding": ends,
                },
            ],
        }
    ]


def _operations(anomaly: Anomaly, rows: Sequence[str], end: float) -> list[Specification]:
    """The operations of the anomaly: a bar in the row of the clients, and a line to the node that each was sent to."""
    values = []
    for place, op in enumerate(anomaly.operations):
        done = end if op.ret is None else op.ret / 1e9
        y = _row(rows, CLIENTS) - 0.3 + 0.2 * (place % 4)
        node = _row(rows, printable(op.node)) if op.node else y
        values.append(
            {"x": op.call / 1e9, "x2": done, "y": y, "node": node, "op": op.index, "what": _told(op)}
        )  # fmt: skip
    tip = [{"field": "what", "type": "nominal"}]
    bar = {"type": "rule", "clip": True, "strokeWidth": 7, "color": COLOURS["witness"], "cursor": "pointer"}
    text = {"type": "text", "clip": True, "align": "left", "baseline": "bottom", "dy": -5, "fontWeight": 600}
    way = {"type": "rule", "clip": True, "strokeDash": [2, 3], "color": COLOURS["witness"], "opacity": 0.7}
    return [
        {
            "data": {"values": values},
            "layer": [
                {"mark": way, "encoding": {"x": over_time("x"), "y": _y(rows), "y2": {"field": "node"}}},
                {"mark": bar, "encoding": {"x": over_time("x"), "x2": {"field": "x2"}, "y": _y(rows), "tooltip": tip}},
                {"mark": text, "encoding": {"x": over_time("x"), "y": _y(rows), "text": {"field": "what"}}},
            ],
        }
    ]


def _told(op: Witness) -> str:
    return printable(f"{operation(op.f, op.value, answered=op.type == 'ok')} (process {op.process})")[:60]


def _faults(story: Story, exchange: Exchange) -> list[Specification]:
    values = [
        {
            "x": period.start / 1e9,
            "x2": period.end / 1e9,
            "fault": printable(describe(period)),
            "colour": colour_of(period.name),
        }
        for period in story.periods
        if period.start <= exchange.end and period.end >= exchange.start
    ]
    if not values:
        return []
    encoding = {
        "x": over_time("x"),
        "x2": {"field": "x2"},
        "color": {"field": "colour", "type": "nominal", "scale": None, "legend": None},
        "tooltip": [{"field": "fault", "type": "nominal"}],
    }
    return [{"data": {"values": values}, "mark": {"type": "rect", "clip": True, "opacity": 0.1}, "encoding": encoding}]
