"""The layers of the split-brain picture: each draws one thing on the rows of the nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from harness.report.acknowledged import FATES, LOST, PLAIN, Account, Write, Writes
from harness.report.forks import CROSS
from harness.report.hits import Hit
from harness.report.picture import COLOURS, Specification, colour_of, from_top, over_time, own_colour, row_names
from harness.report.primaries_rows import BAR, LANE, Layout
from harness.report.primaries_words import how_many, lost_words, reign_of, several, when
from harness.roles import Span
from harness.words import named, printable

_LEGEND: Final = 8
"""How many primaries are listed above the picture; each is named on it as well."""
_WIDE: Final = 0.52
_BOLD: Final = 0.58
"""About how wide a letter is, of its size."""
_SIZE: Final = 12
_SIZE_OF_LOST: Final = 30
"""The areas of marks, in pixels."""
_INK: Final = "#0b0d10"
"""Letters on bars, whose colours are the same on light and on dark paper."""
_SILENT: Final = "no answer"
_SHAPES: Final = {PLAIN: "circle", "kept": "circle", "overwritten": "square", "unknown": "diamond", LOST: CROSS}


def _row(field: str = "y") -> Specification:
    """The y of a mark, in pixels from the top."""
    return {"field": field, "type": "quantitative"}


def _rows(layout: Layout) -> Specification:
    """The y that has the axis: the nodes' names."""
    return from_top(layout.height, {**row_names(list(layout.middles.values()), "nodes"), "labelLimit": 90})


def _stretch(values: list[dict[str, Any]], mark: Specification, **encoding: Any) -> Specification:
    """Rectangles from ``from`` to ``to`` (s), and from ``y`` to ``y2`` (pixels)."""
    return {
        "data": {"values": values},
        "mark": {"type": "rect", "clip": True, **mark},
        "encoding": {
            "x": over_time("start"),
            "x2": {"field": "end"},
            "y": _row(),
            "y2": {"field": "y2"},
            **encoding,
        },
    }


def _labels(values: list[dict[str, Any]], mark: Specification, align: str = "left") -> Specification:
    """The first of the ``labels`` of each, from long to short, that there is room for.

    One that begins before what is shown stands at its edge.
    """
    most = max((len(value["labels"]) for value in values), default=0)
    wide = round(mark["fontSize"] * (_BOLD if "fontWeight" in mark else _WIDE), 2)
    fits = [f"length(datum.labels[{at}]) * {wide} < datum.room ? datum.labels[{at}] : " for at in range(most)]
    return {
        "data": {"values": values},
        "transform": [
            {"filter": "datum.end > from && datum.start < to"},
            {"calculate": "max(datum.start, from)", "as": "first"},
            {"calculate": "min(datum.end, to)", "as": "last"},
            {"calculate": "(datum.last - datum.first) / (to - from) * width - 6", "as": "room"},
            {"calculate": f"{''.join(fits)}''", "as": "label"},
        ],
        "mark": {"type": "text", "align": align, "baseline": "middle", "dx": 5 if align == "left" else -5, **mark},
        "encoding": {
            "x": over_time("first" if align == "left" else "last"),
            "y": _row("middle"),
            "text": {"field": "label"},
        },
    }


def episodes(accounts: Sequence[Account], layout: Layout, end: int) -> list[Specification]:
    """A band over all rows for each time with several primaries."""
    in_order = sorted(accounts, key=lambda account: int(account["start"]))
    values = [
        {
            "start": account["start"] / 1e9,
            "end": account["end"] / 1e9,
            "y": 0,
            "y2": layout.height,
            "middle": 9,
            "labels": [f"{how_many(account)}{lost_words(account)}", how_many(account), several(account)],
            "colour": COLOURS["lost" if account["facts"] else "unknown"],
        }
        for account in in_order
    ]
    # One that was short is still to be seen by its edges.
    mark = {"fillOpacity": 0.13, "strokeOpacity": 0.6, "strokeWidth": 1}
    band = _stretch(values, mark, color=own_colour(), stroke=own_colour())
    # The first layer has the axis.
    band["encoding"]["y"] = _rows(layout)
    edge = _stretch([{**value, "y2": 2} for value in values], {}, color=own_colour())
    return [band, edge, *_banners(values, end / 1e9)]


def _banners(values: list[dict[str, Any]], end: float) -> list[Specification]:
    """What is said of each: behind its start up to the next one, or before its end if there is more room."""
    begins = [*(value["start"] for value in values[1:]), end]
    ends = [0.0, *(value["end"] for value in values)]
    behind: list[dict[str, Any]] = []
    before: list[dict[str, Any]] = []
    for value, begin, last in zip(values, begins, ends, strict=False):
        if begin - value["start"] >= min(value["end"] - last, end / 2):
            behind.append({**value, "end": max(begin, value["start"])})
            continue
        before.append({**value, "start": min(last, value["end"])})
        if behind and behind[-1]["end"] == value["start"]:
            middle = (behind[-1]["start"] + value["end"]) / 2
            behind[-1]["end"], before[-1]["start"] = middle, middle
    mark = {"fontWeight": 700, "fontSize": 13}
    banners = [_labels(behind, mark), _labels(before, mark, "right")]
    for banner in banners:
        banner["encoding"]["color"] = own_colour()
    return banners


def lives(known: Sequence[Span], layout: Layout) -> list[Specification]:
    """A thin line while a node answered that it is no primary, a dotted one while it did not answer."""

    def line(those: Sequence[Span], **mark: Any) -> Specification:
        return {
            "data": {
                "values": [
                    {
                        "start": span.start / 1e9,
                        "end": span.end / 1e9,
                        "y": layout.middles[span.node],
                        "say": printable(f"{named(span.node)}: {span.role or _SILENT}, {when(span.start, span.end)}"),
                    }
                    for span in those
                ]
            },
            "mark": {"type": "rule", "clip": True, "color": COLOURS["backup"], "strokeWidth": 2, **mark},
            "encoding": {
                "x": over_time("start"),
                "x2": {"field": "end"},
                "y": _row(),
                "tooltip": {"field": "say"},
            },
        }

    silent = [span for span in known if span.role is None]
    labels = [
        {
            "start": span.start / 1e9,
            "end": span.end / 1e9,
            "middle": layout.middles[span.node] - 8,
            "labels": [_SILENT],
        }
        for span in silent
    ]
    return [
        line([span for span in known if span.role is not None and not span.leads]),
        line(silent, strokeDash=[2, 5]),
        _labels(labels, {"fontSize": 11, "opacity": 0.75}),
    ]


def reigns(leading: Sequence[Span], layout: Layout, colours: Mapping[str, str]) -> list[Specification]:
    """A thick line for each primary, which says its term."""
    values = [
        {
            "start": span.start / 1e9,
            "end": span.end / 1e9,
            "y": layout.middles[span.node] - BAR / 2,
            "y2": layout.middles[span.node] + BAR / 2,
            "middle": layout.middles[span.node] + 0.5,
            "labels": ["primary"] if span.term is None else [f"primary in term {span.term}", f"term {span.term}"],
            "who": reign_of(span),
            "say": printable(f"{reign_of(span)}, {when(span.start, span.end)}"),
        }
        for span in leading
    ]
    legend = {"columns": {"expr": "width < 500 ? 3 : 8"}, "symbolType": "square"}
    shown = 0 < len(colours) <= _LEGEND  # an empty legend would make the picture infinitely tall
    colour = {
        "field": "who",
        "type": "nominal",
        "scale": {"domain": list(colours), "range": list(colours.values())},
        "legend": legend if shown else None,
    }
    bars = _stretch(values, {"cornerRadius": 2}, color=colour, tooltip={"field": "say"})
    return [bars, _labels(values, {"fontSize": 11.5, "fontWeight": 600, "color": _INK})]


def faults(hit: Sequence[Hit], layout: Layout) -> list[Specification]:
    """A bar below a node's line for each fault that hit it, which says what it did."""
    values = [
        {
            "start": fault.start / 1e9,
            "end": fault.end / 1e9,
            "y": layout.lane_of[fault] - LANE / 2 + 1,
            "y2": layout.lane_of[fault] + LANE / 2 - 1,
            "middle": layout.lane_of[fault] + 0.5,
            "labels": [
                fault.words if fault.proved else f"{fault.words} (not proved)",
                fault.words,
                fault.words.split(" ")[0],
            ],
            "colour": colour_of(fault.fault),
            "say": printable(f"{named(fault.node)}: {fault.words}, {when(fault.start, fault.end)}")
            + ("" if fault.proved else ", not proved"),
        }
        for fault in hit
    ]
    return [
        _stretch(
            values,
            {"cornerRadius": 2, "fillOpacity": 0.25, "strokeWidth": 1},
            color=own_colour(),
            stroke=own_colour(),
            tooltip={"field": "say"},
        ),
        _labels(values, {"fontSize": 11}),
    ]


def marks(drawn: Sequence[Write], layout: Layout) -> list[Specification]:
    """The acknowledged writes, above the lines of those that acknowledged them."""
    values = [
        {
            "t": write.at / 1e9,
            "y": layout.mark_of(write.node, write.op),
            "fate": write.fate,
            "size": _SIZE_OF_LOST if write.fate == LOST else _SIZE,
            "opacity": 0.45 if write.fate == PLAIN else 0.85,
            "op": write.op,
            "say": f"{write.words}, acknowledged at {write.at / 1e9:.3f} s: {write.fate}",
        }
        for write in drawn
    ]
    fates = [fate for fate in FATES if any(value["fate"] == fate for value in values)]
    domain = {"domain": fates}
    legend = {"symbolOpacity": 1, "symbolSize": 60, "columns": {"expr": "width < 500 ? 3 : 8"}} if fates else None
    return [
        {
            "data": {"values": values},
            "mark": {
                "type": "point",
                "filled": True,
                "clip": True,
                "cursor": "pointer",
                # Who looks closer has more room for each.
                "size": {"expr": "datum.size * closer"},
            },
            "encoding": {
                "x": over_time("t"),
                "y": _row(),
                "color": {
                    "field": "fate",
                    "scale": {**domain, "range": [COLOURS.get(fate, COLOURS["fail"]) for fate in fates]},
                    "legend": legend,
                },
                "shape": {
                    "field": "fate",
                    "scale": {**domain, "range": [_SHAPES[fate] for fate in fates]},
                    "legend": legend,
                },
                "opacity": {"field": "opacity", "type": "quantitative", "scale": None},
                "tooltip": {"field": "say"},
            },
        }
    ]


def losses(writes: Writes, layout: Layout, end: int) -> Specification:
    """How many writes of a node are lost, beside those that are drawn where there is room."""
    values = []
    for node, middle in layout.middles.items():
        own = sorted((write.at, write.fate == LOST) for write in writes.drawn if write.node == node)
        lost = [at for at, is_lost in own if is_lost]
        if not lost:
            continue
        after = min((at for at, _ in own if at > lost[-1]), default=end) - lost[-1]
        before = lost[0] - max((at for at, _ in own if at < lost[0]), default=0)
        behind = after >= before
        values.append(
            {
                "t": (lost[-1] if behind else lost[0]) / 1e9,
                "y": middle - (BAR + layout.strip) / 2,
                "label": f"{'at least ' if writes.at_least else ''}{writes.lost[node]:,} lost",
                "room": max(after, before) / 1e9,
                "align": "left" if behind else "right",
                "dx": 8 if behind else -8,
            }
        )
    return {
        "data": {"values": values},
        "transform": [{"filter": f"datum.room / (to - from) * width > length(datum.label) * {14 * _BOLD} + 10"}],
        "mark": {
            "type": "text",
            "align": {"expr": "datum.align"},
            "dx": {"expr": "datum.dx"},
            "baseline": "middle",
            "clip": True,
            "fontSize": 14,
            "fontWeight": 700,
            "color": COLOURS[LOST],
        },
        "encoding": {"x": over_time("t"), "y": _row(), "text": {"field": "label"}},
    }
