"""Which totals a read may show, when what is added meanwhile may or may not count yet.

Everything acknowledged before the read was invoked counts; what was invoked before the read returned, or is of unknown
outcome, may count, once. The bounds of that are Jepsen's counter; between them not every total is a sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.checkers.timeline import Timeline, begins, ends
from harness.columns import Ints
from harness.history import FAIL, INFO, OK, Operations

_WIDEST: Final = 1 << 16
"""Totals are told apart one by one where they can be as many as that; else their bounds alone count."""


@dataclass(frozen=True)
class Bounds:
    """For each read: what certainly counted, the least and the most that can have been there."""

    certain: NDArray[Any]
    least: NDArray[Any]
    most: NDArray[Any]


class Sums:
    """Changes, operations with the amount that each adds to its key; those that failed are left out."""

    def __init__(self, operations: Operations, rows: Ints, amount: NDArray[Any], key: NDArray[Any]) -> None:
        happened = operations.type[rows] != FAIL
        rows, self._key, self.amount = rows[happened], key[happened], amount[happened]
        self._call, self._ret = begins(operations, rows), ends(operations, rows)
        self._span = len(operations.history)
        self._ok = operations.type[rows] == OK
        self._invoked = Timeline(self._key, self._call, self._span)
        self._acknowledged = Timeline(self._key[self._ok], self._ret[self._ok], self._span)
        self._info = operations.type[rows] == INFO

    def bounds(self, key: NDArray[Any], call: Ints, ret: Ints, *, acknowledged: bool = True) -> Bounds:
        """The bounds of reads; without ``acknowledged`` nothing is certain: a read may be as stale as it likes."""
        gain, loss = np.maximum(self.amount, 0), np.minimum(self.amount, 0)
        most, least = self._invoked.total(gain, key, ret), self._invoked.total(loss, key, ret)
        if not acknowledged:
            return Bounds(np.zeros_like(most), least, most)
        gained = self._acknowledged.total(gain[self._ok], key, call)
        lost = self._acknowledged.total(loss[self._ok], key, call)
        return Bounds(gained + lost, least + gained, most + lost)

    def impossible(self, bounds: Bounds, key: NDArray[Any], call: Ints, ret: Ints, value: NDArray[Any]) -> Ints:
        """The reads, by their places in these arrays, whose value no choice of what may count adds up to."""
        outside = (value < bounds.least) | (value > bounds.most)
        doubtful = ~outside & (value != bounds.certain)
        if doubtful.any():
            outside[self._no_sum(np.flatnonzero(doubtful), key, call, ret, value - bounds.certain)] = True
        return np.flatnonzero(outside)

    def _no_sum(self, reads: Ints, key: NDArray[Any], call: Ints, ret: Ints, rest: NDArray[Any]) -> list[int]:
        """Of these reads those whose ``rest`` is not the sum of some of what may count, asked in the order of calls."""
        impossible: list[int] = []
        order = reads[np.lexsort((call[reads], key[reads]))]
        keys, call_of, wanted = (column[order].tolist() for column in (key, call, rest))
        changes = self._invoked.order
        change_call, change_ret, amounts, infos = (
            column[changes].tolist() for column in (self._call, self._ret, self.amount, self._info)
        )
        start, end = self._invoked.until(key[order], 0).tolist(), self._invoked.until(key[order], ret[order]).tolist()
        current: Any = None
        opened: list[int] = []
        forever, seen = _Reachable(), 0
        for at, read in enumerate(order.tolist()):
            if keys[at] != current:
                current, opened, forever, seen = keys[at], [], _Reachable(), start[at]
            # Those invoked so far are either over, open, or of unknown outcome; none comes back.
            opened = [change for change in opened if change_ret[change] > call_of[at]]
            while seen < end[at] and change_call[seen] < call_of[at]:
                if infos[seen]:
                    forever = forever.plus(amounts[seen])
                elif change_ret[seen] > call_of[at]:
                    opened.append(seen)
                seen += 1
            possible = forever
            for change in opened:
                possible = possible.plus(amounts[change])
            for change in range(seen, end[at]):
                possible = possible.plus(amounts[change])
            if not possible.has(wanted[at]):
                impossible.append(read)
        return impossible


class _Reachable:
    """The sums of the subsets of some whole numbers, as bits from the least one on; too many to tell: all of them."""

    __slots__ = ("_bits", "_least")

    def __init__(self, bits: int = 1, least: int = 0) -> None:
        self._bits, self._least = bits, least

    def plus(self, amount: int) -> _Reachable:
        if not self._bits or abs(amount) > _WIDEST:
            return _Reachable(0)
        bits = self._bits << -amount | self._bits if amount < 0 else self._bits | self._bits << amount
        return _Reachable(bits if bits.bit_length() <= _WIDEST else 0, self._least + min(amount, 0))

    def has(self, total: int) -> bool:
        if not self._bits:
            return True
        at = total - self._least
        return at >= 0 and bool(self._bits >> at & 1)
