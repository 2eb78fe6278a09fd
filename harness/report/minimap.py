"""The whole run as one small picture, on which the window that the charts show can be moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from harness.report.charts import Measured, longest
from harness.report.picture import colour_of
from harness.report.story import Story
from harness.report.traffic import completions

_WIDTH: Final = 1000
_HEIGHT: Final = 30


@dataclass(frozen=True)
class Minimap:
    """The outline of what was done over time, and of what was not served; faults as x, width and colour."""

    width: int
    height: int
    done: str
    unserved: str
    faults: list[tuple[float, float, str]]


def minimap(story: Story, measured: Measured) -> Minimap:
    """The run at a glance."""
    per_second = np.array(completions(measured))
    unserved = per_second[2:].sum(axis=0)
    everything = per_second.sum(axis=0)
    scale = _HEIGHT / max(float(everything.max()), 1e-9)
    faults = [
        (
            round(period.start * _WIDTH / story.end, 1),
            round(max((period.end - period.start) * _WIDTH / story.end, 1), 1),
            colour_of(period.name),
        )
        for period in longest(story.periods)
    ]
    return Minimap(_WIDTH, _HEIGHT, _outline(everything * scale), _outline(unserved * scale), faults)


def _outline(heights: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    """A path around steps of these heights."""
    step = _WIDTH / len(heights)
    told = [f"M0 {_HEIGHT}"]
    for number, height in enumerate(heights.tolist()):
        told.append(f"V{_HEIGHT - height:.1f}H{(number + 1) * step:.1f}")
    return "".join([*told, f"V{_HEIGHT}Z"])
