"""The transactions of a history as arrays: a row for each transaction, and a row for each micro-operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.columns import Ints, hashable
from harness.errors import HistoryError
from harness.history import OK, History, Operations
from harness.packed import APPEND, FUNCTION_CODES, LIST, NUMBER, READ, TRANSACTION, WRITE, Values

NIL: Final = -1
"""The code of nothing: of a key that nobody has written, and of an empty list."""
UNKNOWN: Final = -2
"""The code of what a read found if nobody knows the answer."""
NEVER_CALLED: Final = -1
"""The time of the invocation of a transaction that only its completion tells of."""

__all__ = ["APPEND", "NEVER_CALLED", "NIL", "READ", "TRANSACTION", "UNKNOWN", "WRITE", "Transactions"]


@dataclass(frozen=True)
class Transactions:
    """The transactions of a history, in the order of their invocations, and their micro-operations.

    ``rows`` are rows of the operations; ``type`` is ``OK``, ``FAIL`` or ``INFO``; ``call`` and ``ret`` are ns as those
    of operations, ``call`` is ``NEVER_CALLED`` where the history has no invocation. The micro-operations of transaction
    ``i`` are the rows ``start[i]`` to ``start[i + 1]`` of ``f``, ``key``, ``value`` and ``listed``.

    ``value`` is the code of what is written or was read; ``NIL``, ``UNKNOWN``; or where ``listed`` the number of a
    list, whose elements are those of ``element`` from ``list_start[value]`` to ``list_start[value + 1]``. Codes are
    whole numbers from 0 on: the values themselves, or places in ``names``.
    """

    operations: Operations
    rows: Ints
    type: NDArray[np.int8]
    process: Ints
    call: Ints
    ret: Ints
    start: Ints
    f: NDArray[np.int8]
    key: NDArray[np.int32]
    value: Ints
    listed: NDArray[np.bool_]
    list_start: Ints
    element: Ints
    keys: list[Any]
    names: list[Any] | None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def in_session(self) -> NDArray[np.bool_]:
        """Of which transactions it is known that their process waited for the one before: of those that were called.

        In a history that has sessions in place of times, of all.
        """
        known: NDArray[np.bool_] = (self.call != NEVER_CALLED) | self.operations.history.timeless
        return known

    @cached_property
    def owner(self) -> NDArray[np.int32]:
        """The transaction of each micro-operation."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.start))

    def index(self, transaction: int) -> int:
        """The number of the event that tells of a transaction: its completion, or its invocation if it has none."""
        row = int(self.rows[transaction])
        completed = int(self.operations.completed[row])
        return self.operations.history.index_of(completed if completed >= 0 else int(self.operations.invoked[row]))

    def title(self, transaction: int) -> str:
        """What a transaction is called in texts: T and the number of its event."""
        return f"T{self.index(transaction)}"

    def value_name(self, code: int) -> Any:
        """A value as the workload knows it; None for ``NIL`` and ``UNKNOWN``."""
        if code < 0:
            return None
        return int(code) if self.names is None else self.names[code]

    def elements(self, number: int) -> list[Any]:
        """The elements of a list."""
        return [self.value_name(int(e)) for e in self.element[self.list_start[number] : self.list_start[number + 1]]]

    @classmethod
    def of(cls, operations: Operations) -> Transactions:
        """Those of a history. Raises ``HistoryError`` with the line of one that is no list of micro-operations."""
        history = operations.history
        rows = np.flatnonzero(operations.f == _function(history))
        invoked, completed = operations.invoked[rows], operations.completed[rows]
        type_ = operations.type[rows]
        told = invoked.copy()
        answered = np.flatnonzero(completed >= 0)
        told[answered] = _telling(history.value, invoked[answered], completed[answered])
        asked = (type_ != OK) | (told != completed)
        orphans = invoked == completed
        columns = _packed_columns(history, told)
        if columns is None:
            columns = _coded_columns(history, told)
        start, f, key, kind, value, list_start, element, keys, names = columns
        listed = (kind == LIST) & (f == READ)
        value = value.copy()
        nothing = kind == 0
        value[nothing] = NIL
        # An invocation does not say what a read will find, and a crash or failure leaves its reads as they were asked.
        silent = np.repeat(asked, np.diff(start)) & nothing & (f == READ)
        value[silent] = UNKNOWN
        sizes = np.diff(list_start)
        empty = np.flatnonzero(listed)
        empty = empty[sizes[value[empty]] == 0]
        listed[empty] = False
        value[empty] = NIL
        return cls(
            operations,
            rows,
            type_,
            operations.process[rows],
            np.where(orphans, NEVER_CALLED, operations.call[rows]),
            operations.ret[rows],
            start,
            f,
            key,
            value,
            listed,
            list_start,
            element,
            keys,
            names,
        )


def _function(history: History) -> int:
    return history.functions.index(TRANSACTION) if TRANSACTION in history.functions else -1


def _telling(values: Sequence[Any], invoked: Ints, completed: Ints) -> Ints:
    """The events that say what transactions did: their completions where these are transactions, too.

    An answer without a micro-operation says nothing of what was asked for.
    """
    told = invoked.copy()
    unpacked = np.ones(len(completed), dtype=bool)
    if isinstance(values, Values):
        place, asked = values.place[completed], values.place[invoked]
        unpacked = (place < 0) | (asked < 0)
        size = np.diff(values.packed.start)
        speaks = ~unpacked
        speaks[speaks] = (size[place[speaks]] > 0) | (size[asked[speaks]] == 0)
        told[speaks] = completed[speaks]
    for at in np.flatnonzero(unpacked).tolist():
        answer, question = values[int(completed[at])], values[int(invoked[at])]
        is_answer = isinstance(answer, list | tuple) and all(
            isinstance(part, list | tuple) and len(part) == 3 for part in answer
        )
        if is_answer and (answer or not (isinstance(question, list | tuple) and question)):
            told[at] = completed[at]
    return told


_Columns = tuple[
    Ints, NDArray[np.int8], NDArray[np.int32], NDArray[np.int8], Ints, Ints, Ints, list[Any], list[Any] | None
]


def _packed_columns(history: History, told: Ints) -> _Columns | None:
    """The columns of transactions that are packed already, all of them, with codes that are the values."""
    values = history.value
    if not isinstance(values, Values):
        return None
    place = values.place[told].astype(np.int64)
    packed = values.packed
    if (place < 0).any() or packed.element.min(initial=0) < 0 or packed.value.min(initial=0) < 0:
        return None
    lengths = packed.start[place + 1] - packed.start[place]
    start = np.zeros(len(place) + 1, np.int64)
    np.cumsum(lengths, out=start[1:])
    micro = np.repeat(packed.start[place] - start[:-1], lengths) + np.arange(start[-1])
    f, kind = packed.f[micro], packed.kind[micro]
    if ((kind == LIST) & (f != READ)).any() or ((kind == 0) & (f != READ)).any():
        return None  # lists that are written are values as others, and have names
    return start, f, packed.key[micro], kind, packed.value[micro], packed.list_start, packed.element, packed.keys, None


class _Coder:
    """Gives numbers to values of any type."""

    def __init__(self) -> None:
        self.names: list[Any] = []
        self._codes: dict[Any, int] = {}

    def code(self, value: Any) -> int:
        # True and 1, 1 and 1.0 are equal in Python, and are not the same in a store.
        as_key = (type(value).__name__, hashable(value))
        code = self._codes.get(as_key)
        if code is None:
            code = self._codes[as_key] = len(self.names)
            self.names.append(value)
        return code


def _coded_columns(history: History, told: Ints) -> _Columns:
    """The columns of transactions of any values."""
    coder, key_coder = _Coder(), _Coder()
    lengths: list[int] = []
    f: list[int] = []
    key: list[int] = []
    kind: list[int] = []
    value: list[int] = []
    list_lengths: list[int] = []
    element: list[int] = []
    for row in told.tolist():
        transaction = history.value[row]
        parts = _micro_operations(transaction, history, row)
        lengths.append(len(parts))
        for name, which, content in parts:
            f.append(FUNCTION_CODES[name])
            key.append(key_coder.code(which))
            if content is None:
                kind.append(0)
                value.append(0)
            elif name == "r" and isinstance(content, list | tuple):
                kind.append(LIST)
                value.append(len(list_lengths))
                list_lengths.append(len(content))
                element += map(coder.code, content)
            else:
                kind.append(NUMBER)
                value.append(coder.code(content))
    starts, list_starts = (np.concatenate([[0], np.cumsum(np.array(of, np.int64))]) for of in (lengths, list_lengths))
    return (
        starts.astype(np.int64),
        np.array(f, np.int8),
        np.array(key, np.int32),
        np.array(kind, np.int8),
        np.array(value, np.int64),
        list_starts.astype(np.int64),
        np.array(element, np.int64),
        key_coder.names,
        coder.names,
    )


def _micro_operations(transaction: Any, history: History, row: int) -> Sequence[Any]:
    """The micro-operations of a transaction. Raises ``HistoryError`` for what is none."""
    if transaction is None:
        return []
    if isinstance(transaction, list | tuple):
        for part in transaction:
            if not isinstance(part, list | tuple) or len(part) != 3:
                break
            if not isinstance(part[0], str) or part[0] not in FUNCTION_CODES:
                message = f"a transaction has the micro-operation {str(part[0])[:40]!r}; there are r, w and append"
                raise HistoryError(message, line=history.line_of(row))
        else:
            return transaction
    message = f"a transaction is a list of [f, key, value], not {str(transaction)[:60]}"
    raise HistoryError(message, line=history.line_of(row))
