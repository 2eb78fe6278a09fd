"""An axis of time that is broken: what matters is wide, and quiet stretches between are cut short.

Operations of a millisecond lie seconds apart. On one scale they would be ticks in a void.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

_NEAR: Final = 6
"""Intervals are shown as one stretch if they are not farther apart than so many typical lengths of one."""
_MOST: Final = 7
"""The most stretches; the nearest ones are joined."""
_WORTH: Final = 2
"""The axis is broken if what is cut out is so many times what is left."""
_CUT: Final = (0.07, 0.3)
"""The share of the axis that one cut has, and the most that all have together."""

_INSET: Final = 0.03


class Stretch(NamedTuple):
    """A part of the axis, from ``start`` to ``end`` (ns), on its own scale; ``cut``: a quiet one, cut short."""

    start: int
    end: int
    left: float
    right: float
    cut: bool


class Tick(NamedTuple):
    """A moment that is written at the axis if ``room`` is wide enough for its label, and in any case where it is 0.

    Both are shares of the axis.
    """

    place: float
    label: str
    room: float


class BrokenAxis:
    """Gives each moment from ``start`` to ``end`` (ns) a place from 0 to 1."""

    def __init__(self, intervals: Sequence[tuple[int, int]], start: int, end: int) -> None:
        """``intervals`` (ns) are what must be told apart."""
        end = max(end, start + 1)
        busy = _stretches(sorted(intervals), start, end) if intervals else [(start, end)]
        self.stretches = _laid_out(busy)
        self.start, self.end = busy[0][0], busy[-1][1]
        self._times = [self.start, *(stretch.end for stretch in self.stretches)]
        self._places = [0.0, *(stretch.right for stretch in self.stretches)]

    @property
    def broken(self) -> bool:
        """Whether anything is cut short."""
        return len(self.stretches) > 1

    @property
    def points(self) -> list[tuple[float, float]]:
        """The places at which the scale changes, each with its moment (s)."""
        return [(place, time / 1e9) for place, time in zip(self._places, self._times, strict=True)]

    def place(self, moment: int) -> float:
        """Where a moment is; one before or after all lies at the end."""
        return round(float(np.interp(moment, self._times, self._places)), 6)

    def ticks(self) -> list[Tick]:
        """The moments to write, coarse and fine; which of them have room depends on how closely one looks."""
        shown = [stretch for stretch in self.stretches if not stretch.cut]
        return [tick for stretch in shown for tick in self._ticks(stretch, at_end=stretch in (shown[0], shown[-1]))]

    def _ticks(self, stretch: Stretch, *, at_end: bool) -> Iterator[Tick]:
        """Those of a stretch: one that stands for all of it, and ever finer ones around."""
        start, end = stretch.start, stretch.end
        width = stretch.right - stretch.left
        inset = _INSET if self.broken else 0.0  # where those of the next stretch might be in the way
        done: set[int] = set()
        for step in _steps(end - start):
            times = range(-(-start // step) * step, end + 1, step)
            if not done and times:
                first = min(times, key=lambda time: abs(2 * time - start - end))
                done.add(first)
                yield Tick(self.place(first), seconds(first, step), 0.0 if at_end else width)
            for time in times:
                place = self.place(time)
                if time not in done and stretch.left + inset <= place <= stretch.right - inset:
                    done.add(time)
                    yield Tick(place, seconds(time, step), step / (end - start) * width)


def seconds(time: int, step: int) -> str:
    """A moment (ns) in seconds, as exactly as steps of ``step`` (ns) need it."""
    return f"{time / 1e9:.{max(0, 9 - int(math.log10(step)))}f} s"


def _steps(length: int) -> Iterator[int]:
    """Round steps (ns) from the length of a stretch down to a fiftieth of it."""
    power = 10 ** math.floor(math.log10(max(length, 1)))
    while power >= 1 and power * 5 > length / 50:
        for times in (5, 2, 1):
            if length / 50 <= times * power <= length:
                yield times * power
        power //= 10


def _stretches(intervals: Sequence[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """The stretches that hold all intervals, with a little around each."""
    typical = max(sorted(b - a for a, b in intervals)[len(intervals) // 2], 1)
    joined: list[tuple[int, int]] = []
    for a, b in intervals:
        if joined and a - joined[-1][1] <= _NEAR * typical:
            joined[-1] = joined[-1][0], max(joined[-1][1], b)
        else:
            joined.append((a, b))
    while len(joined) > _MOST:
        near = min(range(len(joined) - 1), key=lambda at: joined[at + 1][0] - joined[at][1])
        joined[near : near + 2] = [(joined[near][0], joined[near + 1][1])]
    quiet = sum(later[0] - earlier[1] for earlier, later in itertools.pairwise(joined))
    if quiet < _WORTH * sum(b - a for a, b in joined):
        return [(start, end)]
    around = []
    for at, (a, b) in enumerate(joined):
        pad = max((b - a) * 2 // 5, typical)
        left = min(pad, (a - joined[at - 1][1]) // 3) if at else pad
        right = min(pad, (joined[at + 1][0] - b) // 3) if at + 1 < len(joined) else pad
        around.append((max(a - left, 0), b + right))
    return around


def _laid_out(busy: Sequence[tuple[int, int]]) -> list[Stretch]:
    """Stretches and the cuts between them side by side. Long stretches are wider, but not by as much as they last."""
    cut = min(_CUT[0], _CUT[1] / max(len(busy) - 1, 1))
    weights = [max(b - a, 1) ** 0.4 for a, b in busy]
    scale = (1 - cut * (len(busy) - 1)) / sum(weights)
    laid: list[Stretch] = []
    at = 0.0
    for number, ((a, b), weight) in enumerate(zip(busy, weights, strict=True)):
        if number:
            laid.append(Stretch(busy[number - 1][1], a, at, at + cut, cut=True))
            at += cut
        laid.append(Stretch(a, b, at, at + weight * scale, cut=False))
        at += weight * scale
    laid[-1] = laid[-1]._replace(right=1.0)
    return laid
