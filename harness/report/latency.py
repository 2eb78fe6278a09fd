"""How long operations took: each one as a point, and how the slowest did over time."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.report.charts import OUTCOME_COLOURS, OUTCOMES, Floats, Measured, chart, colours, upwards, when
from harness.report.picture import COLOURS, PRIMARIES, WINDOW, Picture, Specification
from harness.report.story import Story
from harness.words import count, named, printable, shortened

_POINTS: Final = 4000
"""How many operations are drawn, at most."""
_FAILED: Final = 2000
"""How many of those may be ones that were not served."""
_SLOW: Final = 1000
"""How many are the slowest of those that were."""
_KEY: Final = 80
"""The most letters of a key."""
_ROOM: Final = 1.25
"""By how much the axis is longer than it has to be on either side, so that no point is cut."""
_SHAPES: Final = ("circle", "triangle-up", "square", "diamond", "cross", "triangle-down")
_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
_LINES: Final = (PRIMARIES[0], PRIMARIES[2], PRIMARIES[1], COLOURS["lost"])
_LENGTH: Final = (
    "datum.value >= 1000 ? datum.value / 1000 + ' s' : "
    "datum.value >= 1 ? datum.value + ' ms' : format(datum.value * 1000, '.0f') + ' µs'"
)


def scatter(story: Story, measured: Measured) -> Picture:
    """Each operation as a point: when it was called, how long it took, what came of it."""
    chosen = sample(measured)
    functions = [printable(story.history.functions[code]) for code in np.unique(measured.operations.f).tolist()]
    present = np.unique(measured.outcome[chosen]).tolist()
    encoding: Specification = {
        "x": when("at"),
        "y": _milliseconds("ms", measured.took[chosen] * 1e3),
        "color": colours("outcome", {OUTCOMES[code]: OUTCOME_COLOURS[code] for code in present}),
    }
    if 1 < len(functions) <= len(_SHAPES):
        scale = {"domain": functions, "range": list(_SHAPES[: len(functions)])}
        legend = {"symbolFillColor": COLOURS["fail"], "symbolStrokeColor": COLOURS["fail"]}
        encoding["shape"] = {"field": "function", "type": "nominal", "scale": scale, "legend": legend}
    marks = {
        "data": {"values": [_point(measured, row) for row in chosen.tolist()]},
        "mark": {
            "type": "point",
            "filled": True,
            "size": 28,
            "opacity": 0.75,
            "clip": True,
            "tooltip": {"content": "data"},
        },
        "encoding": encoding,
    }
    words = f"Each point is an operation: when it was called, and how long it took. {_drawn(measured, chosen)}"
    if not measured.answered.all():
        words += " One that got no answer lasts until the end of the run."
    words += " A click on a point shows the operation in the history."
    return Picture("latency", "Latency", words, chart([marks], story, height=260), WINDOW, canvas=True)


def quantiles(story: Story, measured: Measured) -> Picture | None:
    """How long the served operations took in each step of time: the median, and the slow ones."""
    figures = quantiles_of(measured)
    if not figures:
        return None
    lines = {
        "data": {"values": figures},
        "mark": {"type": "line", "clip": True, "strokeWidth": 1.8, "tooltip": {"content": "data"}},
        "encoding": {
            "x": when("at"),
            "y": _milliseconds("ms", np.array([figure["ms"] for figure in figures])),
            "detail": {"field": "stretch"},
            "color": colours("quantile", dict(zip(_QUANTILES, _LINES, strict=True))),
        },
    }
    dots = {**lines, "mark": {"type": "circle", "clip": True, "size": 14, "tooltip": {"content": "data"}}}
    words = (
        f"Of all operations that were served, {measured.steps}: half were faster than p50, 95 of "
        "100 faster than p95, 99 of 100 faster than p99; max is the slowest."
    )
    return Picture("quantiles", "Latency of the slowest", words, chart([lines, dots], story, height=180), WINDOW)


def sample(measured: Measured) -> NDArray[np.int64]:
    """The operations that are drawn, in order: those that failed and the slowest first, then any."""
    everything = len(measured.outcome)
    if everything <= _POINTS:
        return np.arange(everything)
    random = np.random.default_rng(0)
    served = measured.served
    failed = np.flatnonzero(~served)
    most = max(_FAILED, _POINTS - int(served.sum()))
    if len(failed) > most:
        failed = random.choice(failed, most, replace=False)
    took = np.where(served, measured.took, -1)
    slow = np.argpartition(took, -_SLOW)[-_SLOW:]
    slow = slow[took[slow] >= 0]
    left = served.copy()
    left[slow] = False
    others = np.flatnonzero(left)
    room = min(_POINTS - len(failed) - len(slow), len(others))
    return np.sort(np.concatenate([failed, slow, random.choice(others, room, replace=False)]))


def quantiles_of(measured: Measured) -> list[dict[str, Any]]:
    """By nearest rank, of all served operations of each step, by when they were called.

    Steps in which nothing was served part the lines: ``stretch`` numbers their pieces.
    """
    rows = np.flatnonzero(measured.served)
    step = measured.step_of(measured.call[rows])
    took = measured.took[rows] * 1e3
    took = took[np.lexsort((took, step))]
    steps, counts = np.unique(step, return_counts=True)
    first = np.cumsum(counts) - counts
    stretch = np.cumsum(np.diff(steps, prepend=steps[:1]) > 1)
    middle = (measured.edges[steps] + measured.edges[steps + 1]) / 2
    figures = []
    for name, share in _QUANTILES.items():
        rank = np.maximum(np.ceil(share * counts).astype(np.int64), 1) - 1
        for at, ms, piece, number in zip(
            middle.tolist(), took[first + rank].tolist(), stretch.tolist(), counts.tolist(), strict=True
        ):
            figures.append(
                {"at": round(at, 6), "ms": float(f"{ms:.4g}"), "quantile": name, "of": number, "stretch": piece}
            )
    return figures


def _point(measured: Measured, row: int) -> dict[str, Any]:
    operations = measured.operations
    point: dict[str, Any] = {
        "at": round(float(measured.call[row]), 6),
        "ms": float(f"{measured.took[row] * 1e3:.4g}"),
        "function": printable(operations.name(row)),
        "outcome": OUTCOMES[measured.outcome[row]],
        "op": operations.history.index_of(int(operations.invoked[row])),
    }
    if (key := operations.key_name(row)) is not None:
        point["key"] = shortened(named(key), _KEY)
    if (node := operations.node_name(row)) is not None:
        point["node"] = printable(node)
    return point


def _drawn(measured: Measured, chosen: NDArray[np.int64]) -> str:
    """What was drawn of what there is."""
    everything = len(measured.outcome)
    if len(chosen) == everything:
        return f"Drawn: all {count(everything, 'operation')}."
    served, drawn = int(measured.served.sum()), int(measured.served[chosen].sum())
    failed, failed_drawn = everything - served, len(chosen) - drawn
    parts = []
    if failed:
        how_many = "all " if failed_drawn == failed else f"{failed_drawn:,} of the "
        parts.append(f"{how_many}{failed:,} that were not served")
    if drawn < served:
        others = f"of the {served:,} that were, " if failed else ""
        parts.append(f"{others}the {_SLOW:,} slowest, and others by chance")
    elif served:
        parts.append(f"all {served:,} that were")
    return f"Drawn: {len(chosen):,} of {everything:,}: {'; '.join(parts)}."


def _milliseconds(field: str, values: Floats) -> Specification:
    """The y of times, with as many round ones beside it as there is room for."""
    most = float(values.max(initial=0)) or 1.0
    # A power of ten at least: a logarithmic axis of no length cannot be drawn.
    least = min(float(values[values > 0].min(initial=most)), most / 10)
    low, high = (float(bound) for bound in np.log10([least, most]))
    parts = (1,) if high - low > 3 else (1, 3) if high - low > 1.5 else (1, 2, 5)
    marked = [part * 10**power for power in range(int(np.floor(low)), int(np.ceil(high)) + 1) for part in parts]
    axis = {
        "labelExpr": _LENGTH,
        "grid": True,
        "values": [round(value, 6) for value in marked if least / _ROOM <= value <= most * _ROOM],
    }
    return upwards(
        field,
        axis=axis,
        scale={"type": "log", "nice": False, "clamp": True, "domainMin": least / _ROOM, "domainMax": most * _ROOM},
    )
