"""What became of writes of registers: by what final reads found, and by what certainly came before it.

Final reads find one version of a register, and every other one is gone. It was overwritten by its own side where that
is known of somebody: the node that acknowledged it has acknowledged another one afterwards, in the same term where
terms are told (in another one it goes on from what another node had), or a transaction has read it and replaced it. It
is lost where what is there in the end had been written before it, or where nothing else could have come after it. What
came before what is told by time, and by writers that had read what they replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.checkers.fate import KEPT, LOST, OVERWRITTEN, UNKNOWN, Fates
from harness.checkers.pairs import distinct
from harness.columns import Ints
from harness.history import NEVER, Operations


def sides(operations: Operations, rows: Ints) -> Ints:
    """For each operation a code for the node that acknowledged it and its term; 0 where nobody knows the node."""
    server = operations.server[rows].astype(np.int64)
    _, term = np.unique(operations.term[rows], return_inverse=True)
    return np.where(server > 0, server * (int(term.max(initial=0)) + 1) + term, 0)


@dataclass(frozen=True)
class RegisterWrites:
    """The writes that may have taken effect, a row each.

    A *version* is a value of a key; the first ones are the initial states, version ``k`` that of key ``k``.
    ``key_of`` is the key of each version. Of each write, ``version`` is what it left; ``side`` a code for who
    acknowledged it, as ``sides`` has it; ``call`` and ``ret`` are ns; ``replaced`` is the version that its client had
    read there before, -1 where that is not known. Something else may have left versions that are ``doubtful``, too.
    """

    key_of: NDArray[Any]
    version: NDArray[Any]
    acknowledged: NDArray[np.bool_]
    side: NDArray[Any]
    call: Ints
    ret: Ints
    replaced: NDArray[Any]
    keys: int
    doubtful: NDArray[np.bool_]

    def fates(self, found: NDArray[Any]) -> Fates:
        """The fate of each; unknown for all that were not acknowledged. ``found`` are the versions of final reads."""
        fate = np.full(len(self.version), UNKNOWN, dtype=np.int8)
        key, found = self.key_of[self.version], distinct(found)
        different = np.bincount(self.key_of[found], minlength=self.keys)[key]
        there = np.zeros(len(self.key_of), dtype=bool)
        there[found] = True
        newest = np.full(self.keys, -1, dtype=np.int64)
        np.maximum.at(newest, self.key_of[found], self._returned[found])

        told = self.acknowledged & (different > 0)
        held = there[self.version]
        fate[told & held & (different == 1)] = KEPT
        gone = told & ~held
        after_found = (self._greatest_before(np.where(there & self._clear, 1, -1)) > 0) & (different == 1)
        fate[gone & ((newest[key] < self._began) | (self._others < self._began) | after_found)] = LOST
        fate[gone & self._succeeded] = OVERWRITTEN
        return fate

    @cached_property
    def _clear(self) -> NDArray[np.bool_]:
        """By version, whether it is known which write it is of, if any."""
        writes = np.bincount(self.version, minlength=len(self.key_of))
        writes[: self.keys] += 1  # nothing is there at first
        clear: NDArray[np.bool_] = (writes == 1) & ~self.doubtful
        return clear

    @cached_property
    def _returned(self) -> Ints:
        """By version, when its write had returned: never, where that is not known. Nothing is there at first."""
        returned = np.full(len(self.key_of), NEVER, dtype=np.int64)
        returned[: self.keys] = -1
        returned[self.version] = self.ret
        return np.where(self._clear, returned, NEVER)

    @cached_property
    def _origin(self) -> Ints:
        """By version, the version that its writer had read there before, where both are clear; -1 elsewhere."""
        origin = np.full(len(self.key_of), -1, dtype=np.int64)
        origin[self.version] = self.replaced
        known = (origin >= 0) & self._clear & self._clear[origin]
        return np.where(known, origin, -1)

    def _greatest_before(self, marks: Ints) -> Ints:
        """For each write the greatest of these marks of versions, of all that it follows; -1 where it follows none."""
        marks, origin = marks.copy(), self._origin.copy()
        # Each round looks twice as far back as the one before. Where versions follow one another in a circle none ends.
        for _ in range(len(origin).bit_length() + 1):
            some = np.flatnonzero(origin >= 0)
            if not len(some):
                break
            marks[some] = np.maximum(marks[some], marks[origin[some]])
            origin[some] = origin[origin[some]]
        known = (self.replaced >= 0) & self._clear[self.replaced]
        return np.where(known, marks[self.replaced], -1)

    @cached_property
    def _began(self) -> Ints:
        """The earliest moment at which each write can have taken effect: after all that it follows."""
        called = np.full(len(self.key_of), -1, dtype=np.int64)
        called[self.version] = self.call
        earliest: Ints = np.maximum(self.call, self._greatest_before(np.where(self._clear, called, -1)))
        return earliest

    @cached_property
    def _others(self) -> Ints:
        """The latest moment at which another write of the same key may still have taken effect."""
        key = self.key_of[self.version]
        order = np.lexsort((self.ret, key))
        latest = np.full(self.keys, -1, dtype=np.int64)
        latest[key[order]] = order  # the last one stays
        before = np.full(len(order), -1, dtype=np.int64)
        same = key[order[1:]] == key[order[:-1]]
        before[order[1:][same]] = self.ret[order[:-1][same]]
        last = latest[key]
        return np.where(last == np.arange(len(key)), before, self.ret[last])

    @cached_property
    def _succeeded(self) -> NDArray[np.bool_]:
        """Which writes their own side has replaced."""
        by_key = self.key_of[self.version].astype(np.int64) * (int(self.side.max(initial=0)) + 1) + self.side
        _, side = np.unique(by_key, return_inverse=True)
        own = self.acknowledged & (self.side > 0)
        latest = np.full(int(side.max(initial=0)) + 1, -1, dtype=np.int64)
        np.maximum.at(latest, side[own], self.call[own])
        read = np.zeros(len(self.key_of), dtype=bool)
        origin = self.replaced[self.acknowledged & (self.replaced >= 0) & (self.replaced != self.version)]
        read[origin] = True
        succeeded: NDArray[np.bool_] = (own & (latest[side] > self.ret)) | (read & self._clear)[self.version]
        return succeeded
