"""Could anything in a history have been wrong? Where no order of its operations is impossible, nothing was tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from harness.checkers.linearizability.models import Call, Model
from harness.checkers.linearizability.partitions import Partition, partitions
from harness.columns import Ints
from harness.history import OK, Operations

_FIRST: Final = 40
"""How many operations of each key are looked at before all are."""
_MOST: Final = 200
"""How many kinds of each function are tried one after the other."""


def is_blind(model: Model, operations: Operations) -> bool:
    """Whether the model allows the operations that succeeded in whatever order: another store could not be told apart.

    Two operations are enough to see it: one that is impossible at first, or after another one.
    """
    rows = np.flatnonzero(operations.type == OK)
    by_key = rows[np.argsort(operations.key[rows], kind="stable")]
    key = operations.key[by_key]
    begins = np.concatenate([[True], key[1:] != key[:-1]]) if len(key) else np.zeros(0, dtype=bool)
    place = np.arange(len(key)) - np.maximum.accumulate(np.where(begins, np.arange(len(key)), 0))
    first = by_key[place < _FIRST]
    return not _any_tells(model, operations, first) and not (
        len(first) < len(rows) and _any_tells(model, operations, rows)
    )


def _any_tells(model: Model, operations: Operations, rows: Ints) -> bool:
    return any(_tells(model, part) for part in partitions(model, operations, sorted(rows.tolist())))


def _tells(model: Model, part: Partition) -> bool:
    """Whether some order of a partition's operations is impossible."""
    kinds = Counter(operation.call for operation in part.operations)
    if len(part.operations) < 2:
        return False
    begin = model.init()
    after = {call: list(model.step(begin, call)) for call in kinds}
    if not all(after.values()):
        return True
    some = _some(list(kinds))
    return any(
        not list(model.step(state, later))
        for earlier in some
        for state in after[earlier]
        for later in some
        if later != earlier or kinds[later] > 1
    )


def _some(kinds: Sequence[Call]) -> list[Call]:
    """A few kinds of each function, from everywhere: where all begin alike, they are much alike."""
    chosen = []
    for name in dict.fromkeys(call.f for call in kinds):
        mine = [call for call in kinds if call.f == name]
        chosen += mine[:: max(1, len(mine) // _MOST)]
    return chosen
