"""Registers as numbers: every operation of a history of reads, writes and compare-and-sets as rows of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.errors import HistoryError
from harness.history import FAIL, INFO, OK, Ints, Operations, hashable

READ: Final = 0
WRITE: Final = 1
CAS: Final = 2
FUNCTIONS: Final = {"read": READ, "write": WRITE, "cas": CAS}

NOTHING: Final = -1
"""In ``reads`` and ``writes``: the operation observes nothing, or writes nothing."""


@dataclass(frozen=True)
class RegisterOperations:
    """Operations that happened or may have, one row each.

    ``observes`` and ``writes`` are codes of (key, value) pairs, or ``NOTHING``: a read observes, a write writes, a
    compare-and-set does both. ``initial`` is the code of each key's initial value, by key code. ``row`` is the row in
    the ``Operations`` that these come from; ``call`` and ``ret`` are ns, ``ret`` is ``NEVER`` for a crashed one.
    """

    source: Operations
    row: Ints
    kind: NDArray[np.int8]
    key: NDArray[np.int32]
    observes: Ints
    writes: Ints
    call: Ints
    ret: Ints
    crashed: NDArray[np.bool_]
    initial: Ints
    values: int

    def select(self, keep: NDArray[Any]) -> RegisterOperations:
        """Only these rows."""
        return RegisterOperations(
            self.source,
            self.row[keep],
            self.kind[keep],
            self.key[keep],
            self.observes[keep],
            self.writes[keep],
            self.call[keep],
            self.ret[keep],
            self.crashed[keep],
            self.initial,
            self.values,
        )


def encode(operations: Operations, initial: Any = None) -> RegisterOperations:
    """The reads, writes and compare-and-sets of a history; what failed or was read without an answer is left out.

    Raises ``HistoryError`` for a function that registers do not have and for a compare-and-set without two values.
    """
    history = operations.history
    lookup = np.array([FUNCTIONS.get(name, -1) for name in history.functions], dtype=np.int8)
    kind = lookup[operations.f] if len(operations) else np.zeros(0, dtype=np.int8)
    if len(foreign := np.flatnonzero(kind < 0)):
        first = int(foreign[0])
        message = f"a register has no function {operations.name(first)!r}, only read, write and cas"
        raise HistoryError(message, line=history.line_of(int(operations.invoked[first])))
    wanted = (operations.type != FAIL) & ~((kind == READ) & (operations.type != OK))
    row = np.flatnonzero(wanted)
    kind = kind[row]
    invoked, completed = operations.invoked[row].tolist(), operations.completed[row].tolist()
    value = history.value
    given = [value[c] if k == READ else value[i] for k, i, c in zip(kind.tolist(), invoked, completed, strict=True)]
    pairs = np.flatnonzero(kind == CAS)
    observed, written = list(given), given
    for at in pairs.tolist():
        pair = given[at]
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            message = f"a cas takes [expected, new], not {pair!r}"
            raise HistoryError(message, line=history.line_of(invoked[at]))
        observed[at], written[at] = pair
    both = _codes([*observed, *written, initial])
    count = len(row)
    key = operations.key[row]
    keys = len(history.keys)
    codes = both * np.int64(max(keys, 1))
    codes[:count] += key
    codes[count : 2 * count] += key
    initials = codes[-1] + np.arange(max(keys, 1))
    _, dense = np.unique(np.concatenate([codes[:-1], initials]), return_inverse=True)
    return RegisterOperations(
        source=operations,
        row=row,
        kind=kind,
        key=key,
        observes=np.where(kind == WRITE, NOTHING, dense[:count]),
        writes=np.where(kind == READ, NOTHING, dense[count : 2 * count]),
        call=operations.call[row],
        ret=operations.ret[row],
        crashed=operations.type[row] == INFO,
        initial=dense[2 * count :],
        values=int(dense.max()) + 1,
    )


def _codes(values: list[Any]) -> Ints:
    """A number for each value, the same for equal ones."""
    types = set(map(type, values))
    if types <= {int, type(None)}:
        try:
            absent = min((v for v in values if v is not None), default=0) - 1
            numbers = np.array([absent if v is None else v for v in values], dtype=np.int64)
        except OverflowError:
            pass
        else:
            return np.unique(numbers, return_inverse=True)[1]
    known: dict[Any, int] = {}
    # The type goes into the key, since Python calls 1, 1.0 and True equal and a store does not.
    return np.array([known.setdefault((type(v), hashable(v)), len(known)) for v in values], dtype=np.int64)
