"""Registers as numbers: every operation of a history of reads, writes and compare-and-sets as rows of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.checkers.linearizability.models import Model, lacks
from harness.checkers.linearizability.register_models import CasRegister
from harness.columns import NOTHING as NO_VALUE
from harness.columns import OTHER, SINGLE, Ints, hashable
from harness.errors import HistoryError
from harness.history import FAIL, INFO, OK, History, Operations
from harness.words import show

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


def encode(operations: Operations, initial: Any = None, model: Model | None = None) -> RegisterOperations:
    """The reads, writes and compare-and-sets of a history; what failed or was read without an answer is left out.

    Raises ``HistoryError`` for a function that the ``model`` (by default a ``CasRegister``) does not have, and for a
    compare-and-set without two values.
    """
    history = operations.history
    model = model or CasRegister()
    lookup = np.array([FUNCTIONS[f] if f in model.functions else -1 for f in history.functions], dtype=np.int8)
    kind = lookup[operations.f] if len(operations) else np.zeros(0, dtype=np.int8)
    if len(foreign := np.flatnonzero(kind < 0)):
        first = int(foreign[0])
        raise HistoryError(lacks(model, operations.name(first)), line=history.line_of(int(operations.invoked[first])))
    wanted = (operations.type != FAIL) & ~((kind == READ) & (operations.type != OK))
    row = np.flatnonzero(wanted)
    kind = kind[row]
    rows = np.where(kind == READ, operations.completed[row], operations.told[row])
    seen = _numbers(history, rows, kind, initial)
    if seen is None:
        seen = _numbered_values(history, rows, kind, initial)
    observing, writing = np.flatnonzero(kind != WRITE), np.flatnonzero(kind != READ)
    keys = max(len(history.keys), 1)
    key = operations.key[row]
    # A value is another one on another key: (value, key) pairs are numbered.
    codes = dense(seen) * np.int64(keys)
    initials = codes[-1] + np.arange(keys)
    codes = np.concatenate([codes[:-1], initials])
    codes[: len(observing)] += key[observing]
    codes[len(observing) : len(observing) + len(writing)] += key[writing]
    numbers = dense(codes)
    observes = np.full(len(row), NOTHING, dtype=np.int64)
    observes[observing] = numbers[: len(observing)]
    writes = np.full(len(row), NOTHING, dtype=np.int64)
    writes[writing] = numbers[len(observing) : len(observing) + len(writing)]
    return RegisterOperations(
        source=operations,
        row=row,
        kind=kind,
        key=key,
        observes=observes,
        writes=writes,
        call=operations.call[row],
        ret=operations.ret[row],
        crashed=operations.type[row] == INFO,
        initial=numbers[-keys:],
        values=int(numbers.max()) + 1,
    )


def dense(codes: Ints) -> Ints:
    """The codes renumbered from 0 without gaps, in the same order."""
    low, high = int(codes.min()), int(codes.max())
    if high - low > 8 * len(codes) + 1024:
        return np.unique(codes, return_inverse=True)[1]
    present = np.zeros(high - low + 1, dtype=np.int64)
    present[codes - low] = 1
    result: Ints = (np.cumsum(present) - 1)[codes - low]
    return result


def _numbers(history: History, rows: Ints, kind: NDArray[np.int8], initial: Any) -> Ints | None:
    """What was observed, what was written, and the initial value, as numbers; None where some are no whole numbers."""
    number, second = history.number[rows], history.second[rows]
    seen = np.concatenate([number[kind != WRITE], np.where(kind == CAS, second, number)[kind != READ]])
    odd = (seen == OTHER).any() or ((second == SINGLE) != (kind != CAS)).any()
    if odd or not (initial is None or type(initial) is int):
        return None
    low = int(seen[seen > OTHER].min(initial=0 if initial is None else initial)) - 1
    return np.append(np.where(seen == NO_VALUE, low, seen), low if initial is None else initial)


def _numbered_values(history: History, rows: Ints, kind: NDArray[np.int8], initial: Any) -> Ints:
    """The same for values of any type: equal ones get the same number."""
    observed: list[Any] = []
    written: list[Any] = []
    for row, code in zip(rows.tolist(), kind.tolist(), strict=True):
        value = history.value[row]
        if code == CAS:
            if not isinstance(value, list | tuple) or len(value) != 2:
                raise HistoryError(f"a cas takes [expected, new], not {show(value)}", line=history.line_of(row))
            observed.append(value[0])
            written.append(value[1])
        else:
            (observed if code == READ else written).append(value)
    known: dict[Any, int] = {}
    # The type goes into the key, since Python calls 1, 1.0 and True equal and a store does not.
    numbers = [known.setdefault((type(v), hashable(v)), len(known)) for v in [*observed, *written, initial]]
    return np.array(numbers, dtype=np.int64)
