"""What the charts of a run are made of: steps of time, axes that stand above each other, faults as bands behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.history import FAIL, INFO, Operations
from harness.operation import DECLINED
from harness.periods import Period, describe
from harness.report.picture import COLOURS, PRIMARIES, Specification, colour_of, over_time, own_colour, specification
from harness.report.story import Story
from harness.words import printable

Floats = NDArray[np.float64]

OUTCOMES: Final = ("ok", "declined", "fail", "info")
"""What comes of operations: declined ones were answered with no, which is service as well."""
OUTCOME_COLOURS: Final = (COLOURS["ok"], PRIMARIES[3], COLOURS["fail"], COLOURS["info"])
DECLINED_CODE: Final = OUTCOMES.index("declined")
_MARGIN: Final = 66
"""Room for the labels of the vertical axis (px), the same in all charts, so that moments stand above each other."""
_STEPS: Final = 100
"""Into how many steps of time a run is parted, about."""
_BANDS: Final = 200
"""The most faults that are drawn behind a chart: the longest ones."""


@dataclass(frozen=True)
class Measured:
    """The clients' operations as columns: when each was called and was over, and what came of it (``OUTCOMES``).

    Times are seconds, as they were recorded. An operation that got no answer is over when the run is.
    """

    operations: Operations
    call: Floats
    done: Floats
    outcome: NDArray[np.int8]
    end: float

    @cached_property
    def served(self) -> NDArray[np.bool_]:
        """Which of them the store has served."""
        is_served: NDArray[np.bool_] = self.outcome <= DECLINED_CODE
        return is_served

    @cached_property
    def answered(self) -> NDArray[np.bool_]:
        """Which of them have a completion in the history."""
        has_completion: NDArray[np.bool_] = self.operations.completed >= 0
        return has_completion

    @cached_property
    def took(self) -> Floats:
        """For how long each lasted (s)."""
        return np.maximum(self.done - self.call, 0)

    @property
    def lasting(self) -> bool:
        """Whether the history tells how long operations took: some know of completions alone."""
        return bool((self.operations.completed != self.operations.invoked).any())

    @cached_property
    def edges(self) -> Floats:
        """Where the steps of time begin and end (s): equal ones, of about a round length."""
        about = self.end / _STEPS
        size = 10 ** np.floor(np.log10(about))
        length = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= about * 0.999)
        return np.linspace(0, self.end, max(round(self.end / length), 1) + 1)

    @property
    def length(self) -> float:
        """How long a step is (s)."""
        return float(self.edges[1])

    @property
    def steps(self) -> str:
        """How long a step is, in words."""
        return f"in steps of {self.length:.2g} s"

    def step_of(self, moments: Floats) -> NDArray[np.int64]:
        """The step in which each moment lies; what happened at the end is in the last one."""
        return np.clip(np.searchsorted(self.edges, moments, side="right") - 1, 0, len(self.edges) - 2)


def measured(story: Story) -> Measured | None:
    """The operations of a run; None where there is none, or nothing is known of when they were."""
    operations, history = story.operations, story.history
    if not len(operations) or history.timeless:
        return None
    outcome = np.zeros(len(operations), np.int8)
    outcome[operations.type == FAIL] = OUTCOMES.index("fail")
    outcome[operations.type == INFO] = OUTCOMES.index("info")
    no = np.fromiter((row for row, why in history.error.items() if why.startswith(DECLINED)), np.int64)
    outcome[(operations.type == FAIL) & np.isin(operations.completed, no)] = DECLINED_CODE
    # Not the times of the operations: where recorded ones step back, those are moved, and completions would lie before.
    call = history.time[operations.invoked]
    done = np.where(operations.completed >= 0, history.time[operations.completed], story.end)
    return Measured(operations, call / 1e9, done / 1e9, outcome, story.end / 1e9)


def chart(layers: Iterable[Specification], story: Story, *, height: int, **others: Any) -> Specification:
    """A chart over the run: these layers, with the faults as bands behind them."""
    behind = [bands(story.periods)] if story.periods else []
    return specification([*behind, *layers], 0, story.end / 1e9, height=height, config=_LEGENDS, **others)


def longest(periods: Sequence[Period]) -> list[Period]:
    """The faults that are drawn behind a chart, in order."""
    chosen = sorted(periods, key=lambda period: period.start - period.end)[:_BANDS]
    return sorted(chosen, key=lambda period: period.start)


def left_out(periods: Sequence[Period]) -> str:
    """A sentence on those that are not; empty where all are."""
    if len(periods) <= _BANDS:
        return ""
    return f" As bands behind the charts: the {_BANDS:,} longest of {len(periods):,} faults."


def bands(periods: Sequence[Period]) -> Specification:
    """Faults as bands from top to bottom, the longest ones where there are many."""
    values = [
        {
            "from": seconds(period.start),
            "to": seconds(period.end),
            "fault": printable(describe(period)),
            "colour": colour_of(period.name),
        }
        for period in longest(periods)
    ]
    return {
        "data": {"values": values},
        "mark": {"type": "rect", "clip": True, "opacity": 0.1},
        "encoding": {
            "x": when("from"),
            "x2": {"field": "to"},
            "fill": {**own_colour(), "legend": None},
            "tooltip": [{"field": "fault", "type": "nominal"}],
        },
    }


def upwards(field: str, *, axis: Specification | None = None, **others: Any) -> Specification:
    """The y of a quantity."""
    own = {"title": None, "tickCount": 4, **_ROOM, **(axis or {})}
    return {"field": field, "type": "quantitative", "axis": own, **others}


def rows(field: str, names: Sequence[str]) -> Specification:
    """The y of things that have a row each, in this order."""
    axis = {"title": None, "ticks": False, "domain": False, "labelLimit": _MARGIN - 4, **_ROOM}
    return {"field": field, "type": "nominal", "sort": list(names), "scale": {"domain": list(names)}, "axis": axis}


def when(field: str) -> Specification:
    """The x of a moment of the run."""
    axis = {"title": None, "grid": False, "tickCount": 8, "labelExpr": "datum.label + ' s'", **_APART}
    return over_time(field, axis=axis)


def colours(field: str, of: Mapping[str, str]) -> Specification:
    """The colour of each of some names."""
    scale = {"domain": list(of), "range": list(of.values())}
    return {"field": field, "type": "nominal", "scale": scale, "legend": {"symbolOpacity": 1}}


_LEGENDS: Final = {"legend": {"layout": {"top": {"direction": "vertical", "anchor": "start"}}}}
"""One below the other, where there are several: side by side they are too wide for a small screen."""
_APART: Final = {"labelOverlap": "greedy", "labelSeparation": 8}
_ROOM: Final = {"minExtent": _MARGIN, "maxExtent": _MARGIN}


def seconds(ns: int) -> float:
    """A moment as pictures have it, to the microsecond."""
    return round(ns / 1e9, 6)
