"""What is shown of the experiment ``sharding``: columns for the terminal and the page, lines for CSV, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from harness.experiments import table
from harness.experiments.report import page
from harness.experiments.sharding import COUNT, HOT, STEPS, Move, Spread
from harness.experiments.table import Column
from harness.report.picture import COLOURS, PRIMARIES, SCHEMA, Picture, Specification

_SHOWN: Final = (3, 5, 9)
"""The numbers of shards whose balance the table has room for."""
_BUSY: Final = 5
"""The number of shards whose busiest the table and the picture show."""
_ABOUT: Final = "keys moved / the fewest that lead to the same counts, in percent"


def _moved(step: int) -> Column[Spread]:
    before, after = STEPS[step]
    come, gone = sorted({*after} - {*before}), sorted({*before} - {*after})
    what = f"shard {come[0]} comes" if come else f"shard {gone[0]} goes"
    return Column(STEPS[step].title, lambda row: _pair(row.moves[step]), f"{what}: {_ABOUT}")


def _pair(move: Move) -> str:
    return f"{table.percent(move.moved)} / {table.percent(move.least)}"


SHARDING: Final[Sequence[Column[Spread]]] = (
    Column("placement, keys", lambda row: row.title, "how which kind of keys is placed on shards", number=False),
    *(_moved(step) for step in range(len(STEPS))),
    Column(
        f"balance {'/'.join(map(str, _SHOWN))}",
        lambda row: " ".join(f"{row.load(size).balance:.2f}" for size in _SHOWN),
        f"the largest shard's keys over the mean, with {', '.join(map(str, _SHOWN))} shards",
    ),
    Column(
        "Zipf %",
        lambda row: f"{100 * row.load(_BUSY).skewed:.0f}",
        f"requests that the busiest of {_BUSY} shards gets where some keys are popular, in percent",
    ),
    Column(
        "hot range %",
        lambda row: f"{100 * row.load(_BUSY).hot:.0f}",
        f"the same where {HOT:.0%} of all requests are for one range of ids, or for one city",
    ),
)


def sharding_csv(rows: Sequence[Spread]) -> str:
    """A line for each row of the table, with all figures."""
    return table.as_csv([_flat(row) for row in rows])


def _flat(row: Spread) -> dict[str, Any]:
    found: dict[str, Any] = {"placement": row.placement, "keys": row.keys, "count": row.moves[0].moved.whole}
    for step, move in zip(STEPS, row.moves, strict=True):
        name = step.title.replace(" ", "_")
        counts = (("moved", move.moved), ("least", move.least), ("least_for_equal", move.even))
        found |= {f"{name}_{what}": share.part for what, share in counts}
    for load in row.loads:
        found |= {f"balance_of_{load.shards}": round(load.balance, 4), f"largest_of_{load.shards}": load.largest}
        found |= {f"zipf_share_of_{load.shards}": load.skewed, f"hot_range_share_of_{load.shards}": load.hot}
    return found


def sharding_sentence(rows: Sequence[Spread]) -> str:
    """Who moved no key that could have stayed, in a sentence."""
    names = list(dict.fromkeys(row.placement for row in rows))
    idle = {row.placement for row in rows if any(move.moved.part > move.least.part for move in row.moves)}
    frugal = [name for name in names if name not in idle]
    who = f"{' and '.join(frugal)} moved" if frugal else "No placement moved"
    return f"{who} only what had to move, with either kind of keys and in every step."


def sharding_page(rows: Sequence[Spread], seed: int, command: str) -> str:
    """The page of the experiment."""
    return page(
        title="Placements of keys on shards, measured",
        sentence=f"{COUNT:,} keys of either kind, from seed {seed}. {sharding_sentence(rows)}",
        columns=SHARDING,
        rows=[([column.cell(row) for column in SHARDING], row.lesson, "", "") for row in rows],
        pictures=[moved_picture(rows), busiest_picture(rows)],
        command=command,
    )


def moved_picture(rows: Sequence[Spread]) -> Picture:
    """The share of keys that each step moved, and the least, by placement; a square for each kind of keys."""
    steps = [step.title for step in STEPS]
    values = [
        {"placement": row.placement, "keys": row.keys, "step": step, "moved": move.moved.percent,
         "least": move.least.percent}
        for row in rows
        for step, move in zip(steps, row.moves, strict=True)
    ]  # fmt: skip
    shared = {
        "y": _by_placement(rows),
        "yOffset": {"field": "step", "type": "nominal", "sort": steps},
        "tooltip": [{"field": name, "type": "nominal"} for name in ("placement", "keys", "step", "moved", "least")],
    }
    colours = {"domain": steps, "range": list(PRIMARIES[: len(steps)])}
    bars = {
        "mark": "bar",
        "encoding": {
            **shared,
            "x": _percent("moved", "percent of keys moved"),
            "color": {"field": "step", "type": "nominal", "scale": colours},
        },
    }
    ticks = {
        "mark": {"type": "tick", "thickness": 2, "color": "#1c2024"},
        "encoding": {**shared, "x": _percent("least", "percent of keys moved")},
    }
    words = (
        "Percent of keys that moved as a shard came or went; the dark mark is the fewest that lead to the same counts."
    )
    return Picture("moved", "Keys moved", words, _squares(values, [bars, ticks]))


def busiest_picture(rows: Sequence[Spread]) -> Picture:
    """The share of requests that the busiest shard gets, by placement and load; a square for each kind of keys."""
    kinds = ("all keys alike", "Zipf", "one hot range")
    values = []
    for row in rows:
        load = row.load(_BUSY)
        for kind, share in zip(kinds, (load.balance / _BUSY, load.skewed, load.hot), strict=True):
            values.append(
                {"placement": row.placement, "keys": row.keys, "load": kind, "percent": round(100 * share, 1)}
            )
    bars = {
        "mark": "bar",
        "encoding": {
            "y": _by_placement(rows),
            "yOffset": {"field": "load", "type": "nominal", "sort": kinds},
            "x": _percent("percent", "percent of requests"),
            "color": {"field": "load", "type": "nominal", "scale": {"domain": kinds, "range": list(PRIMARIES[:3])}},
            "tooltip": [{"field": name, "type": "nominal"} for name in ("placement", "keys", "load", "percent")],
        },
    }
    fair = {"mark": {"type": "rule", "color": COLOURS["ok"]}, "encoding": {"x": {"datum": 100 / _BUSY}}}
    words = f"Percent of requests that the busiest of {_BUSY} shards gets. The green line is an equal share."
    return Picture("busiest", "The busiest shard", words, _squares(values, [bars, fair]))


def _by_placement(rows: Sequence[Spread]) -> dict[str, Any]:
    names = list(dict.fromkeys(row.placement for row in rows))
    return {"field": "placement", "type": "nominal", "sort": names, "axis": {"title": None}}


def _percent(field: str, title: str) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "scale": {"domain": [0, 100]}, "axis": {"title": title}}


def _squares(values: Sequence[dict[str, Any]], layers: Sequence[Specification]) -> Specification:
    """The same layers for each kind of keys, side by side."""
    return {
        "$schema": SCHEMA,
        "hconcat": [
            {
                "title": kind,
                "width": 360,
                "height": 300,
                "data": {"values": [value for value in values if value["keys"] == kind]},
                "layer": list(layers),
            }
            for kind in dict.fromkeys(value["keys"] for value in values)
        ],
    }
