"""Points on the line of each key, for questions about many at once: what had happened there before a moment?

Moments are places in the history, so that no two are equal and the order of the file counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.columns import Ints
from harness.history import INFO, Operations


def select(operations: Operations, *functions: str) -> Ints:
    """The rows of the operations of some functions, in the order of their invocations."""
    codes = [code for code, name in enumerate(operations.history.functions) if name in functions]
    return np.flatnonzero(np.isin(operations.f, codes))


def by_key(operations: Operations, *groups: Ints) -> dict[int, tuple[Ints, ...]]:
    """The rows of each group, split by key."""
    split: dict[int, list[Ints]] = {}
    for at, rows in enumerate(groups):
        key = operations.key[rows]
        order = np.argsort(key, kind="stable")
        keys, starts = np.unique(key[order], return_index=True)
        for number, part in zip(keys.tolist(), np.split(rows[order], starts[1:]), strict=True) if len(rows) else ():
            split.setdefault(number, [np.zeros(0, dtype=np.int64)] * len(groups))[at] = part
    return {key: tuple(parts) for key, parts in split.items()}


def begins(operations: Operations, rows: Ints) -> Ints:
    """The place in the history of each operation's invocation."""
    return operations.invoked[rows].astype(np.int64)


def ends(operations: Operations, rows: Ints) -> Ints:
    """The place of each completion; past the end for an operation of unknown outcome, which may take effect then."""
    ended = np.where(operations.type[rows] == INFO, len(operations.history), operations.completed[rows])
    return ended.astype(np.int64)


class Timeline:
    """Points, each of a key and a moment of 0 or later; ``span`` is greater than every moment."""

    def __init__(self, key: NDArray[Any], moment: Ints, span: int) -> None:
        self._span = span + 1
        places = self._place(key, moment)
        self.order: Ints = np.argsort(places, kind="stable")
        """The points by key and moment."""
        self._at = places[self.order]

    def _place(self, key: NDArray[Any], moment: Any) -> Ints:
        places: Ints = key.astype(np.int64) * self._span + moment
        return places

    def until(self, key: NDArray[Any], moment: Any) -> Ints:
        """How many points of ``order`` are of a smaller key, or of the same key and before the moment."""
        return np.searchsorted(self._at, self._place(key, moment)).astype(np.int64)

    def count(self, key: NDArray[Any], moment: Any) -> Ints:
        """How many points of the same key are before each moment."""
        return self.until(key, moment) - self.until(key, 0)

    def total(self, values: NDArray[Any], key: NDArray[Any], moment: Any) -> NDArray[Any]:
        """The sum of the values of those points."""
        sums = np.concatenate([np.zeros(1, values.dtype), np.cumsum(values[self.order])])
        totals: NDArray[Any] = sums[self.until(key, moment)] - sums[self.until(key, 0)]
        return totals

    def greatest(self, values: NDArray[Any], key: NDArray[Any], moment: Any) -> Ints:
        """Which of those points has the greatest value; -1 where there is none."""
        if not len(values):
            return np.full(len(key), -1, dtype=np.int64)
        rank = np.empty(len(values), dtype=np.int64)
        by_value = np.argsort(values, kind="stable")
        rank[by_value] = np.arange(len(values))
        owner = self._at // self._span
        # Keys ascend, so that the greatest rank so far never comes from the key before.
        best = np.maximum.accumulate(owner * len(values) + rank[self.order]) % len(values)
        end = self.until(key, moment)
        there = end > self.until(key, 0)
        return np.where(there, by_value[best[np.maximum(end - 1, 0)]], -1)
