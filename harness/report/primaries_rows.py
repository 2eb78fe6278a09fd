"""Where things are in a picture with a row for each node, in pixels from its top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from harness.report.hits import Hit

BAR: Final = 16
"""How thick the line of a primary is."""
LANE: Final = 16
"""How high a fault is."""
_BANNER: Final = 22
"""How high what is said of all rows is."""
_STRIP: Final = 30
_NARROW_STRIP: Final = 14
"""How high the strip of writes is above a node's line, where there are few nodes and where there are many."""
_GAP: Final = 12
_MANY: Final = 6
"""From how many nodes on rows are narrow."""
_GOLDEN: Final = 0.618034


class Layout(NamedTuple):
    """``middles`` are those of the nodes' lines, ``lane_of`` those of the faults."""

    height: int
    strip: int
    middles: dict[str, float]
    lane_of: dict[Hit, float]

    def mark_of(self, node: str, number: int) -> float:
        """Where a write is in the strip of its node: spread evenly, so that neighbours lie apart."""
        top = self.middles[node] - BAR / 2 - self.strip
        return round(top + 3 + number * _GOLDEN % 1 * (self.strip - 7), 1)


def lay_out(nodes: Sequence[str], hit: Sequence[Hit], *, banner: bool) -> Layout:
    """Rows for the nodes, each as high as the faults that hit it need it, below a banner if there is one."""
    strip = _STRIP if len(nodes) < _MANY else _NARROW_STRIP
    middles: dict[str, float] = {}
    lane_of: dict[Hit, float] = {}
    top = _BANNER if banner else 0
    for node in nodes:
        middles[node] = top + strip + BAR / 2
        own = [fault for fault in hit if fault.node == node]
        lanes = _lanes(own)
        below = top + strip + BAR + 2
        lane_of |= {fault: below + lane * LANE + LANE / 2 for fault, lane in lanes.items()}
        top = below + (max(lanes.values(), default=-1) + 1) * LANE + _GAP
    return Layout(top, strip, middles, lane_of)


def _lanes(own: Sequence[Hit]) -> dict[Hit, int]:
    """The first lane that is free for each fault of a node."""
    free: list[int] = []
    lanes: dict[Hit, int] = {}
    for fault in own:
        lane = next((number for number, until in enumerate(free) if until <= fault.start), len(free))
        free[lane:] = [fault.end, *free[lane + 1 :]]
        lanes[fault] = lane
    return lanes
