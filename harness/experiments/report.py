"""What is shown of the experiments: columns for the terminal and the page, lines for CSV, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from harness.experiments import table
from harness.experiments.cap import Row
from harness.experiments.measure import Figures
from harness.experiments.models import LADDER, UNASKED
from harness.experiments.quorum import Point
from harness.experiments.table import Column
from harness.report.picture import COLOURS, PRIMARIES, SCHEMA, Picture, Specification
from harness.report.sheet import sheet

_BOTH: Final = "reads / writes that succeeded, in percent, in both cuts together"
_STALE: Final = "reads that told what had been overwritten before they began"
_TIMES: Final = "the median / the 99th percentile, in ms, while nothing is cut"

CAP: Final[Sequence[Column[Row]]] = (
    Column("mode", lambda row: row.title, "how the store replicates", number=False),
    Column("not refuted", lambda row: row.figures.model, "the strongest model that is not refuted", number=False),
    Column("majority %", lambda row: table.served(row.figures.majority), f"the majority's side: {_BOTH}"),
    Column("minority %", lambda row: table.served(row.figures.minority), f"the minority's side: {_BOTH}"),
    Column("near read", lambda row: table.latency(row.figures.near.read), f"reads near the primary: {_TIMES}"),
    Column("near write", lambda row: table.latency(row.figures.near.write), "their writes"),
    Column("far read", lambda row: table.latency(row.figures.far.read), "reads of clients in the other region"),
    Column("far write", lambda row: table.latency(row.figures.far.write), "their writes"),
    Column("stale %", lambda row: _stale(row.figures), f"{_STALE}; of registers only"),
    Column("lost", lambda row: table.of(row.figures.lost), "acknowledged writes of pairs that are gone, of all"),
    Column("converged", lambda row: table.seconds(row.figures.converged_after), "from the last heal to agreement"),
)  # fmt: skip

QUORUM: Final[Sequence[Column[Point]]] = (
    Column("N", lambda point: str(point.n), "the nodes that hold each key"),
    Column("R", lambda point: str(point.r), "how many a read waits for"),
    Column("W", lambda point: str(point.w), "how many a write waits for"),
    Column("R+W>N", lambda point: "yes" if point.meets else "no", "whether read and write quorums meet", number=False),
    Column("stale", lambda point: table.of(point.figures.stale), _STALE),
    Column("stalest ms", lambda point: f"{point.figures.stalest_ms:.0f}", "how long ago, at most"),
    Column("near read", lambda point: table.latency(point.figures.near.read), f"clients of the near region: {_TIMES}"),
    Column("near write", lambda point: table.latency(point.figures.near.write), "their writes"),
    Column("far read", lambda point: table.latency(point.figures.far.read), "clients of the far region, likewise"),
    Column("far write", lambda point: table.latency(point.figures.far.write), "their writes"),
    Column("majority %", lambda point: table.served(point.figures.majority), f"the majority's side of a cut: {_BOTH}"),
    Column("minority %", lambda point: table.served(point.figures.minority), f"the minority's side: {_BOTH}"),
)  # fmt: skip

_COLOURS: Final = {**dict(zip(LADDER, PRIMARIES, strict=True)), UNASKED: "#8a9099"}


def _stale(figures: Figures) -> str:
    """Where a read may find several values, those that did are not counted: the others say little."""
    return UNASKED if figures.model == UNASKED else table.percent(figures.stale)


def cap_csv(rows: Sequence[Row]) -> str:
    """A line for each mode, with all figures."""
    return table.as_csv([{"mode": row.mode, "title": row.title, **table.flat(row.figures)} for row in rows])


def quorum_csv(points: Sequence[Point]) -> str:
    """A line for each setting, with all figures."""
    left_out = ("model", "why_not_stronger", "undecided")
    return table.as_csv(
        [
            {"n": point.n, "r": point.r, "w": point.w, "meets": point.meets}
            | {name: value for name, value in table.flat(point.figures).items() if name not in left_out}
            for point in points
        ]
    )


def page(**given: Any) -> str:
    """A page of an experiment, of what the template ``tradeoffs.html.j2`` shows."""
    return sheet(
        "tradeoffs.html.j2",
        styles=("page.css", "tradeoffs.css"),
        scripts=("pictures.js",),
        **given,
    )


def cap_page(rows: Sequence[Row], seed: int, command: str, directory: Path) -> str:
    """The page of the experiment ``cap``, to stand in its directory, where the runs of the modes are."""
    links = {row.mode: (Path(row.run) / "report.html").relative_to(directory).as_posix() for row in rows}
    return page(
        title="The trade-offs of replication, measured",
        sentence=f"{len(rows)} modes of replication through the same two cuts, from seed {seed}.",
        columns=CAP,
        rows=[
            ([column.cell(row) for column in CAP], row.lesson, row.figures.why_not_stronger, links[row.mode])
            for row in rows
        ],
        pictures=[served_picture(rows), latency_picture(rows)],
        command=command,
    )  # fmt: skip


def quorum_page(points: Sequence[Point], seed: int, command: str) -> str:
    """The page of the experiment ``quorum``."""
    return page(
        title="Quorums, measured",
        sentence=quorum_sentence(points) + f" From seed {seed}.",
        columns=QUORUM,
        rows=[([column.cell(point) for column in QUORUM], "", "", "") for point in points],
        pictures=[stale_picture(points)],
        command=command,
    )


def quorum_sentence(points: Sequence[Point]) -> str:
    """Where reads were stale, in a sentence."""
    meeting = [point.figures.stale for point in points if point.meets]
    others = [point.figures.stale for point in points if not point.meets]
    return (
        f"With R + W > N {sum(s.part for s in meeting)} of {sum(s.whole for s in meeting):,} reads were stale, "
        f"with R + W <= N {sum(s.part for s in others):,} of {sum(s.whole for s in others):,}."
    )


def served_picture(rows: Sequence[Row]) -> Picture:
    """Which share of operations was served on each side, by mode; the colour is the model."""
    values = [
        {"mode": row.title, "side": f"{side}, {f}", "percent": share.percent, "model": row.figures.model}
        for row in rows
        for side, sides in (("majority", row.figures.majority), ("minority", row.figures.minority))
        for f, share in (("reads", sides.read), ("writes", sides.write))
        if share.percent is not None
    ]
    order = ["majority, reads", "majority, writes", "minority, reads", "minority, writes"]
    cell = {
        "x": {"field": "side", "type": "nominal", "sort": order,
              "axis": {"title": None, "orient": "top", "labelAngle": 0}},
        "y": {"field": "mode", "type": "nominal", "sort": [row.title for row in rows],
              "axis": {"title": None, "labelLimit": 320}},
    }  # fmt: skip
    specification = {
        "$schema": SCHEMA,
        "width": "container",
        "height": 26 * len(rows),
        "data": {"values": values},
        "layer": [
            {
                "mark": {"type": "bar", "height": 18, "opacity": 0.85, "tooltip": True},
                "transform": [{"calculate": "datum.percent", "as": "shown"}],
                "encoding": {
                    **cell,
                    "color": {"field": "model", "type": "nominal",
                              "scale": {"domain": list(_COLOURS), "range": list(_COLOURS.values())}},
                    "opacity": {"field": "percent", "type": "quantitative", "legend": None,
                                "scale": {"domain": [0, 100], "range": [0.06, 0.9]}},
                },
            },
            {
                "mark": {"type": "text"},
                "encoding": {**cell, "text": {"field": "percent", "type": "quantitative", "format": ".0f"}},
            },
        ],
    }  # fmt: skip
    words = (
        "Percent of operations that succeeded while the cluster was cut, on the side of the majority and on that of "
        "the minority; the colour is the strongest model that was not refuted, the fainter the less was served."
    )
    return Picture("served", "Availability during a cut", words, specification)


def latency_picture(rows: Sequence[Row]) -> Picture:
    """From the median to the 99th percentile, by mode, region and function."""
    values = [
        {"mode": row.title, "who": f"{region} {f}", "p50": latency.p50, "p99": latency.p99}
        for row in rows
        for region, times in (("near", row.figures.near), ("far", row.figures.far))
        for f, latency in (("read", times.read), ("write", times.write))
        if latency.p50 is not None
    ]
    who = ["near read", "near write", "far read", "far write"]
    shared = {
        "y": {"field": "mode", "type": "nominal", "sort": [row.title for row in rows],
              "axis": {"title": None, "labelLimit": 320, "grid": True}},
        "yOffset": {"field": "who", "type": "nominal", "sort": who},
        "color": {"field": "who", "type": "nominal", "scale": {"domain": who, "range": list(PRIMARIES[:4])}},
        "tooltip": [{"field": name, "type": "nominal"} for name in ("mode", "who", "p50", "p99")],
    }  # fmt: skip
    x = {
        "type": "quantitative",
        "scale": {"type": "log"},
        "axis": {"title": "ms, from the median to the 99th percentile"},
    }
    specification = {
        "$schema": SCHEMA,
        "width": "container",
        "height": 34 * len(rows),
        "data": {"values": values},
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2},
             "encoding": {**shared, "x": {**x, "field": "p50"}, "x2": {"field": "p99"}}},
            {"mark": {"type": "point", "filled": True, "size": 40}, "encoding": {**shared, "x": {**x, "field": "p50"}}},
        ],
    }  # fmt: skip
    words = "How long operations took while nothing was cut, for clients near the primary and in the other region."
    return Picture("latency", "Latency", words, specification)


def stale_picture(points: Sequence[Point]) -> Picture:
    """The share of stale reads by R and W, a square for each N; those with R + W > N have a frame."""
    most = max(point.figures.stale.percent or 0.0 for point in points)
    specification = {
        "$schema": SCHEMA,
        "hconcat": [
            _square(f"N = {n}", [point for point in points if point.n == n], most)
            for n in sorted({point.n for point in points})
        ],
    }
    words = "Percent of reads that were stale, by R and W, for each N. Where R + W > N the square has a green frame."
    return Picture("stale", "Stale reads", words, specification)


def _square(title: str, points: Sequence[Point], most: float) -> Specification:
    """All R and W of an N."""
    values = [
        {"R": point.r, "W": point.w, "percent": round(point.figures.stale.percent or 0.0, 1), "meets": point.meets}
        for point in points
    ]
    cell = {
        "x": {"field": "R", "type": "ordinal", "axis": {"labelAngle": 0}},
        "y": {"field": "W", "type": "ordinal", "sort": "descending"},
    }
    scale = {"domain": [0, most or 1.0], "range": ["#fdf6ee", "#e07b39"]}
    frame = {"condition": {"test": "datum.meets", "value": COLOURS["ok"]}, "value": None}
    return {
        "title": title,
        "width": {"step": 56},
        "height": {"step": 44},
        "data": {"values": values},
        "layer": [
            {
                "mark": {"type": "rect", "strokeWidth": 2},
                "encoding": {
                    **cell,
                    "color": {"field": "percent", "type": "quantitative", "scale": scale, "legend": None},
                    "stroke": frame,
                },
            },
            {
                "mark": {"type": "text"},
                "encoding": {
                    **cell,
                    "text": {"field": "percent", "type": "quantitative", "format": ".1f"},
                    "color": {"value": "#1c2024"},
                },
            },
        ],
    }
