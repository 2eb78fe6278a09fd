"""Columns of a history: how what events hold becomes arrays of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.errors import HistoryError

Ints = NDArray[np.int64]

NOTHING: Final = np.iinfo(np.int64).min
"""In ``number`` and ``second``: there is no value there."""
OTHER: Final = NOTHING + 1
"""In ``number`` and ``second``: a value that is not a whole number of at most 62 bits."""
SINGLE: Final = NOTHING + 2
"""In ``second``: the value is not a pair of whole numbers or nothing."""

LARGEST: Final = 1 << 62
"""Whole numbers of a history are smaller than that, so that sums and differences of two fit into 64 bits."""
_NESTED: Final = (list, dict)
_DEEPEST: Final = 200


def hashable(value: Any) -> Any:
    """``value`` with every list as a tuple, every dict as sorted tuples, and sets frozen: fit to be a key of a dict."""
    if type(value) is int:  # as nearly all are
        return value
    if isinstance(value, list | tuple):
        return tuple(hashable(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted(((hashable(k), hashable(v)) for k, v in value.items()), key=repr))
    if isinstance(value, set | frozenset):
        return frozenset(hashable(item) for item in value)
    return value


def whole_numbers(numbers: Sequence[int], what: str, base: int) -> Ints:
    """Numbers of events as a column. Raises ``HistoryError`` with the line of one that is far too large.

    ``base`` is how many lines came before.
    """
    try:
        return np.fromiter(numbers, np.int64, len(numbers))
    except OverflowError:
        row = next(row for row, number in enumerate(numbers) if abs(number) >= LARGEST)
        message = f"the {what} {str(numbers[row])[:40]} is too large a number"
        raise HistoryError(message, line=base + row + 1) from None


def refuse_repeated(index: Ints, line: Ints | None = None) -> None:
    """Raise ``HistoryError`` with the line of an event whose number another one has, or that has none."""
    order = np.argsort(index, kind="stable")
    again = order[1:][np.diff(index[order]) == 0]
    wrong = np.concatenate([np.flatnonzero(index < 0), again])
    if len(wrong):
        row = int(wrong.min())
        mistake = "appears a second time" if index[row] >= 0 else "is not a number from 0 on"
        raise HistoryError(f"the index {index[row]} {mistake}", line=row + 1 if line is None else int(line[row]))


def too_deep(value: Any) -> bool:
    """Whether lists and maps are nested so deep that walking through them would exhaust the stack."""
    inner = [value]
    for _ in range(_DEEPEST):
        inner = [
            item
            for part in inner
            if isinstance(part, list | dict)
            for item in (part.values() if isinstance(part, dict) else part)
        ]
        if not inner:
            return False
    return True


def numbers(values: list[Any], base: int) -> tuple[Ints, Ints]:
    """The columns ``number`` and ``second`` of some values."""
    single = [v if type(v) is int else NOTHING if v is None else OTHER for v in values]
    second = np.full(len(values), SINGLE, dtype=np.int64)
    nested = not {list, dict}.isdisjoint(map(type, values))
    for at in [at for at, value in enumerate(values) if type(value) in _NESTED] if nested else []:
        pair = values[at]
        if len(pair) == 2 and type(pair) is list:
            first, last = pair
            if {int, type(None)}.issuperset((type(first), type(last))):
                single[at] = NOTHING if first is None else first
                second[at] = NOTHING if last is None else last if -LARGEST < last < LARGEST else OTHER
                continue
        if too_deep(pair):
            raise HistoryError(f"a value is nested more than {_DEEPEST} deep", line=base + at + 1)
    try:
        number = np.fromiter(single, np.int64, len(values))
    except OverflowError:
        number = np.fromiter([n if abs(n) < LARGEST else OTHER for n in single], np.int64, len(values))
    number[(abs(number) >= LARGEST) & (number != NOTHING)] = OTHER
    return number, second


def codes(known: dict[Any, int], items: list[Any]) -> NDArray[np.int32]:
    """The number of each item in ``known``, which grows by those that are new."""
    try:
        return np.fromiter(map(known.__getitem__, items), np.int32, len(items))
    except KeyError:
        pass
    except TypeError:
        items = [hashable(item) for item in items]
    try:
        for item in dict.fromkeys(items):
            known.setdefault(item, len(known))
    except TypeError:
        return codes(known, [hashable(item) for item in items])
    return np.fromiter(map(known.__getitem__, items), np.int32, len(items))
