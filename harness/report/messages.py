"""The messages between nodes around an anomaly, as a space-time diagram.

Time goes to the right, each node is a line, a message leads from when and where it was sent to when and where it
arrived; one that was lost ends half way. After Lamport, "Time, Clocks, and the Ordering of Events in a Distributed
System", 1978. Only the simulation sees messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.messages import Exchange, Message, read_exchanges
from harness.report.charts import bands, left_out, when
from harness.report.picture import COLOURS, PRIMARIES, Picture, Specification, from_top, row_names, specification
from harness.report.story import Story
from harness.verdict import Anomaly, Witness
from harness.words import count, named, operation, printable, shortened

CLIENTS: Final = "clients"
_MOST: Final = 1_500
"""How many messages are drawn, those at the end: it is the end of an anomaly that tells most."""
_FIRST_SHOWN: Final = 0.25
"""How long (s) the stretch is at most that is shown at first."""
_ROW: Final = 44
"""The height of the row of a node (px)."""
_LABEL: Final = 60
"""The most letters of what an operation did."""
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
    drawn = sorted(exchange.messages, key=lambda message: message.sent)[-_MOST:]
    total = len(exchange.messages)
    sampled = len(drawn) < total
    # Where messages are left out, an empty beginning would look like silence.
    start, end = (drawn[0].sent if sampled else exchange.start) / 1e9, exchange.end / 1e9
    nodes = [printable(node) for node in story.nodes]
    rows = [*nodes, CLIENTS]
    number = exchange.anomaly + 1
    lost = sum(message.arrived is None for message in drawn)
    which = f"The last {len(drawn):,} of {total:,} messages" if sampled else count(total, "message")
    faults = [period for period in story.periods if period.start <= exchange.end and period.end >= start * 1e9]
    words = (
        f"{which} between {count(len(nodes), 'node')} around anomaly {number}, {lost:,} of them "
        f"lost: these end half way, with a cross. Below, the operations of the anomaly, each from invocation to "
        f"completion.{left_out(faults)}"
    )
    layers = [
        *([bands(faults)] if faults else []),
        *_lives(rows, start, end),
        *_lines(drawn, rows),
        *_operations(anomaly, rows, end),
    ]
    at_first = max(start, end - _FIRST_SHOWN)
    apart = {"scale": {"color": "independent"}}
    picture = specification(layers, at_first, end, height=_ROW * len(rows), resolve=apart)
    picture["params"].append({"name": "names", "value": rows})
    title = f"Anomaly {number}: {printable(anomaly.kind)}"
    name = f"messages-{number}"
    return Diagram(Picture(name, title, words, picture, name), number, start, end, at_first)


def _row(rows: Sequence[str], node: str) -> float:
    """The middle of the row of a node; of one that is not known the last."""
    return _ROW * ((rows.index(node) if node in rows else len(rows) - 1) + 0.5)


def _y(rows: Sequence[str], field: str = "y") -> Specification:
    return from_top(_ROW * len(rows), row_names([_row(rows, name) for name in rows], "names"), field=field)


def _lives(rows: Sequence[str], start: float, end: float) -> list[Specification]:
    values = [{"x": start, "x2": end, "y": _row(rows, name)} for name in rows]
    mark = {"type": "rule", "clip": True, "color": COLOURS["fail"], "opacity": 0.6}
    encoding = {"x": when("x"), "x2": {"field": "x2"}, "y": _y(rows)}
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
    both = {"x": when("x"), "x2": {"field": "x2"}, "y": _y(rows), "y2": {"field": "y2"}}
    dash = {"condition": {"test": "datum.lost", "value": [3, 3]}, "value": [1, 0]}
    lines = {"type": "rule", "clip": True, "strokeWidth": 1.4}
    tips = {"type": "point", "clip": True, "size": 22, "filled": True, "opacity": 1}
    cross = {"type": "point", "shape": "cross", "angle": 45, "clip": True, "size": 60, "filled": True, "opacity": 1}
    ends = {"x": when("x2"), "y": _y(rows, "y2"), "tooltip": tip}
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
    """The operations of the anomaly: a bar in the row of the clients, a line to whom served each or was asked."""
    values = []
    for place, op in enumerate(anomaly.operations):
        done = end if op.ret is None else op.ret / 1e9
        y = _row(rows, CLIENTS) + _ROW * (0.3 - 0.2 * (place % 4))
        served_at = op.server or op.node
        node = _row(rows, printable(served_at)) if served_at else y
        values.append({"x": op.call / 1e9, "x2": done, "y": y, "node": node, "op": op.index, "what": _told(op)})
    tip = [{"field": "what", "type": "nominal"}]
    bar = {"type": "rule", "clip": True, "strokeWidth": 7, "color": COLOURS["witness"], "cursor": "pointer"}
    text = {"type": "text", "clip": True, "align": "left", "baseline": "bottom", "dy": -5, "fontWeight": 600}
    way = {"type": "rule", "clip": True, "strokeDash": [2, 3], "color": COLOURS["witness"], "opacity": 0.7}
    return [
        {
            "data": {"values": values},
            "layer": [
                {"mark": way, "encoding": {"x": when("x"), "y": _y(rows), "y2": {"field": "node"}}},
                {"mark": bar, "encoding": {"x": when("x"), "x2": {"field": "x2"}, "y": _y(rows), "tooltip": tip}},
                {
                    # One that began before what is shown has its words at the edge.
                    "transform": [
                        {"filter": "datum.x2 >= from && datum.x <= to"},
                        {"calculate": "max(datum.x, from)", "as": "seen"},
                    ],
                    "mark": text,
                    "encoding": {"x": when("seen"), "y": _y(rows), "text": {"field": "what"}},
                },
            ],
        }
    ]


def _told(op: Witness) -> str:
    return shortened(printable(f"{operation(op.f, op.value, answered=op.type == 'ok')} (process {op.process})"), _LABEL)
