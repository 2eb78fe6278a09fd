"""Transactions of a history as arrays, so that millions of them fit into memory.

A transaction is a list of micro-operations ``[f, key, value]``. Read from a file and kept as Python's objects, a
million of them take several GB; here a micro-operation is one row of numbers, and becomes the same list again when it
is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from harness.columns import LARGEST, Ints

TRANSACTION: Final = "txn"
"""The function of a transaction."""
READ: Final = 0
WRITE: Final = 1
APPEND: Final = 2
FUNCTIONS: Final = ("r", "w", "append")
FUNCTION_CODES: Final = {name: code for code, name in enumerate(FUNCTIONS)}

NOBODY: Final = 0
"""The kind of a value that is None."""
NUMBER: Final = 1
LIST: Final = 2
_KINDS: Final = {type(None): NOBODY, int: NUMBER, list: LIST}

PACKED: Final = ()
"""What stands in a list of values in the place of one that was packed."""

_Chunk = tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Packed:
    """The values of transactions. Those of transaction ``i`` are the rows ``start[i]`` to ``start[i + 1]``.

    ``key`` is a code into ``keys``. ``kind`` says what ``value`` is: nothing, the number itself, or the number of a
    list, whose elements are those of ``element`` from ``list_start[value]`` to ``list_start[value + 1]``.
    """

    start: Ints
    f: NDArray[np.int8]
    key: NDArray[np.int32]
    kind: NDArray[np.int8]
    value: Ints
    list_start: Ints
    element: Ints
    keys: list[Any]

    def __len__(self) -> int:
        return len(self.start) - 1

    def only_read(self) -> NDArray[np.bool_]:
        """Which of the transactions do nothing but read."""
        writes = np.concatenate([[0], np.cumsum(self.f != READ)])
        reads: NDArray[np.bool_] = writes[self.start[1:]] == writes[self.start[:-1]]
        return reads

    def unpack(self, place: int) -> list[Any]:
        """One transaction, as it was."""
        return [self._micro_operation(row) for row in range(int(self.start[place]), int(self.start[place + 1]))]

    def _micro_operation(self, row: int) -> list[Any]:
        value: Any = None
        number = int(self.value[row])
        if self.kind[row] == NUMBER:
            value = number
        elif self.kind[row] == LIST:
            value = self.element[self.list_start[number] : self.list_start[number + 1]].tolist()
        return [FUNCTIONS[self.f[row]], self.keys[self.key[row]], value]


class Packer:
    """Collects transactions into arrays, a chunk at a time."""

    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []
        self._keys: dict[Any, int] = {}
        self._lists = 0
        self._transactions = 0

    def __len__(self) -> int:
        return self._transactions

    def add(self, values: Sequence[Any]) -> NDArray[np.bool_]:
        """Take these values; which of them are transactions of whole numbers, and were taken."""
        chunk = self._packed(values)
        if chunk is not None:
            self._take(chunk, len(values))
            return np.ones(len(values), dtype=bool)
        if len(values) == 1:
            return np.zeros(1, dtype=bool)
        half = len(values) // 2
        return np.concatenate([self.add(values[:half]), self.add(values[half:])])

    def _take(self, chunk: _Chunk, transactions: int) -> None:
        self._chunks.append(chunk)
        self._lists += len(chunk[5])
        self._transactions += transactions

    def _packed(self, values: Sequence[Any]) -> _Chunk | None:
        """The columns of some transactions; None if one of them is no transaction of whole numbers."""
        if not {list}.issuperset(map(type, values)):
            return None
        parts = list(chain.from_iterable(values))
        if not {list}.issuperset(map(type, parts)) or not {3}.issuperset(map(len, parts)):
            return None
        functions, keys, contents = zip(*parts, strict=True) if parts else ((), (), ())
        if not {str}.issuperset(map(type, functions)) or not FUNCTION_CODES.keys() >= set(functions):
            return None
        if not {str, int}.issuperset(map(type, keys)):
            return None
        types = list(map(type, contents))
        if not _KINDS.keys() >= set(types):
            return None
        kind = np.fromiter(map(_KINDS.__getitem__, types), np.int8, len(types))
        lists = [content for content, is_a in zip(contents, types, strict=True) if is_a is list]
        elements = list(chain.from_iterable(lists))
        if not {int}.issuperset(map(type, elements)):
            return None
        numbers = [content for content, is_a in zip(contents, types, strict=True) if is_a is int]
        try:
            element = np.fromiter(elements, np.int64, len(elements))
            number = np.fromiter(numbers, np.int64, len(numbers))
        except OverflowError:
            return None
        if max(element.max(initial=0), number.max(initial=0)) >= LARGEST:
            return None
        if min(element.min(initial=0), number.min(initial=0)) <= -LARGEST:
            return None
        value = np.zeros(len(parts), np.int64)
        value[kind == NUMBER] = number
        value[kind == LIST] = np.arange(self._lists, self._lists + len(lists))
        return (
            np.fromiter(map(len, values), np.int64, len(values)),
            np.fromiter(map(FUNCTION_CODES.__getitem__, functions), np.int8, len(parts)),
            self._coded(keys),
            kind,
            value,
            np.fromiter(map(len, lists), np.int64, len(lists)),
            element,
        )

    def _coded(self, keys: Sequence[Any]) -> NDArray[np.int32]:
        known = self._keys
        try:
            return np.fromiter(map(known.__getitem__, keys), np.int32, len(keys))
        except KeyError:
            for key in dict.fromkeys(keys):
                known.setdefault(key, len(known))
        return np.fromiter(map(known.__getitem__, keys), np.int32, len(keys))

    def pack(self) -> Packed:
        """All that was taken."""
        if not self._chunks:
            nothing = np.zeros(0, np.int64)
            self._chunks.append(
                (nothing, np.zeros(0, np.int8), np.zeros(0, np.int32), np.zeros(0, np.int8), *[nothing] * 3)
            )
        lengths, f, key, kind, value, list_lengths, element = (
            np.concatenate(column) for column in zip(*self._chunks, strict=True)
        )
        return Packed(_starts(lengths), f, key, kind, value, _starts(list_lengths), element, list(self._keys))


def _starts(lengths: Ints) -> Ints:
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


@dataclass(frozen=True)
class Values(Sequence[Any]):
    """The values of all events: those in ``plain``, but for some that are packed, where ``place`` is not -1."""

    place: NDArray[np.int32]
    plain: list[Any]
    packed: Packed

    def __len__(self) -> int:
        return len(self.place)

    @overload
    def __getitem__(self, row: int) -> Any: ...
    @overload
    def __getitem__(self, row: slice) -> list[Any]: ...
    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[at] for at in range(*row.indices(len(self)))]
        at = int(row)
        if at < 0:
            at += len(self)
        place = int(self.place[at])
        return self.plain[at] if place < 0 else self.packed.unpack(place)


def only_read(values: Sequence[Any], rows: Ints) -> NDArray[np.bool_]:
    """Which of these events are of transactions that do nothing but read."""
    if not isinstance(values, Values):
        return np.array([_only_reads(values[row]) for row in rows.tolist()], dtype=bool)
    place = values.place[rows]
    reading = np.zeros(len(rows), dtype=bool)
    reading[place >= 0] = values.packed.only_read()[place[place >= 0]]
    for at in np.flatnonzero(place < 0).tolist():
        reading[at] = _only_reads(values[int(rows[at])])
    return reading


def _only_reads(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(part, list | tuple) and len(part) > 0 and part[0] == FUNCTIONS[READ] for part in value
    )
