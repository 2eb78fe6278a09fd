"""Pairs of a key and an element, to be found again: which append put an element into its list?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.columns import Ints


class Pairs:
    """Pairs by their places; of equal ones the first is found, one that is not ``shunned`` before all that are.

    Keys are whole numbers from 0 on, elements any of 64 bits.
    """

    def __init__(self, key: NDArray[Any], element: Ints, shunned: NDArray[np.bool_] | None = None) -> None:
        self._elements = distinct(element)
        pairs = self._numbered(key, np.searchsorted(self._elements, element))
        self._order: Ints = np.lexsort((pairs,) if shunned is None else (shunned, pairs))
        self._pairs = pairs[self._order]

    def _numbered(self, key: NDArray[Any], at: NDArray[Any]) -> Ints:
        numbers: Ints = key.astype(np.int64) * (len(self._elements) + 1) + at
        return numbers

    @property
    def again(self) -> Ints:
        """The places of pairs that are equal to one which is found before them, in the order of the pairs."""
        again: Ints = self._order[1:][self._pairs[1:] == self._pairs[:-1]]
        return again

    def find(self, key: NDArray[Any], element: Ints) -> Ints:
        """The place of each of these pairs; -1 where there is none."""
        if not len(self._pairs):
            return np.full(len(element), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._elements, element), len(self._elements) - 1)
        pair = self._numbered(key, at)
        place = np.minimum(np.searchsorted(self._pairs, pair), len(self._pairs) - 1)
        return np.where((self._elements[at] == element) & (self._pairs[place] == pair), self._order[place], -1)


def distinct(numbers: Ints) -> Ints:
    """Each of these numbers once, in their order. By sorting: NumPy's own table is several times slower."""
    ordered = np.sort(numbers)
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]
