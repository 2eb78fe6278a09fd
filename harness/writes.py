"""Which operations of a history may have changed something, and which of them are known to have been acknowledged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.columns import Ints
from harness.history import OK, Operations
from harness.packed import TRANSACTION, only_read

READS: Final = ("read", "get", "members", "peek", "look", "balances", "watch")
"""How the names of functions begin that only read."""
_IDLE: Final[Mapping[str, bool | None]] = {"acquire": False, "renew": False, "dequeue": None}
"""What functions answer that have changed nothing: somebody has the lock, the lease is over, the queue is empty."""


def acknowledged_writes(operations: Operations) -> Ints:
    """The rows of the writes that were acknowledged, and of which it is known by whom.

    Reads are none, nor are transactions that only read. Neither is what was answered with "nothing was to be done": a
    store may say so without an order, and Redis' scripts do where they are executed by a replica.
    """
    rows = np.flatnonzero((operations.type == OK) & writing(operations) & (operations.server > 0))
    return rows[~_idle(operations, rows)]


def writing(operations: Operations) -> NDArray[np.bool_]:
    """Which operations may change something."""
    writes = np.array([not only_reads(name) for name in operations.history.functions], dtype=bool)
    return writes[operations.f]


def only_reads(function: str) -> bool:
    """Whether a function changes nothing, by its name: whatever is not known to read is taken for a write."""
    return function.startswith(READS)


def _idle(operations: Operations, rows: Ints) -> NDArray[np.bool_]:
    """Which operations of these rows have changed nothing, as their answers say."""
    functions, value = operations.history.functions, operations.history.value
    idle = np.zeros(len(rows), dtype=bool)
    for name, nothing in _IDLE.items():
        if name in functions:
            places = np.flatnonzero(operations.f[rows] == functions.index(name))
            idle[places] = [value[row] is nothing for row in operations.completed[rows[places]].tolist()]
    if TRANSACTION in functions:
        places = np.flatnonzero(operations.f[rows] == functions.index(TRANSACTION))
        idle[places] = only_read(value, operations.completed[rows[places]])
    return idle
