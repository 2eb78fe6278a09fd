"""What each node held in the end: the last answered read of every key by every node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.checkers.timeline import select
from harness.checkers.witness import anomaly
from harness.columns import Ints
from harness.history import NEVER, OK, Operations
from harness.periods import Period, healed_at
from harness.verdict import Anomaly
from harness.words import count


def final_reads(operations: Operations, function: str) -> Mapping[Any, Mapping[str, int]]:
    """For each key the row of the last ``ok`` read of each node; ``function`` is what only final reads are called."""
    last_reads: dict[Any, dict[str, int]] = {}
    for row in rows_of(operations, function):
        if operations.type[row] == OK:
            last_reads.setdefault(operations.key_name(row), {})[str(operations.node_name(row))] = row
    return last_reads


def unread(operations: Operations, writes: Ints, read: Ints) -> str:
    """Why nothing is known of some keys in the end: acknowledged writes, and no final read among ``read``; else empty.

    Both are rows of the operations.
    """
    written = operations.key[writes[operations.type[writes] == OK]]
    missing = len(np.setdiff1d(written, operations.key[read]))
    return (
        f"{count(missing, 'key')} with acknowledged changes {'was' if missing == 1 else 'were'} not read in the end"
        if missing
        else ""
    )


def rows_of(operations: Operations, *functions: str) -> list[int]:
    """The rows of the operations of some functions, in the order of their invocations, as a list: see ``select``."""
    rows: list[int] = select(operations, *functions).tolist()
    return rows


def settled(operations: Operations, changes: Ints, reads: Ints) -> NDArray[np.bool_]:
    """Which reads began after every fault was healed and all changes of their key, of known outcome, had returned."""
    over = np.full(len(operations.history.keys), healed_at(operations.history), dtype=np.int64)
    done = changes[operations.ret[changes] != NEVER]
    np.maximum.at(over, operations.key[done], operations.ret[done])
    after: NDArray[np.bool_] = operations.call[reads] > over[operations.key[reads]]
    return after


def final_anomaly(
    operations: Operations, periods: Sequence[Period], kind: str, text: str, rows: Iterable[int], key: Any
) -> Anomaly:
    """The anomaly of what nodes hold in the end, with all faults of the run: any of them may be the cause."""
    return anomaly(operations, periods, kind, text, rows, key=key, during=(0, int(operations.history.time[-1])))
