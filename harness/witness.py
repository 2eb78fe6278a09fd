"""An operation of a history as anomalies carry it, and as pictures draw it."""

from __future__ import annotations

from harness.history import NEVER, TYPES, Operations
from harness.verdict import Witness


def witness(operations: Operations, row: int, *, completed: bool = False) -> Witness:
    """One operation of the history, as an anomaly carries it; ``completed``: by the index of its completion, if any."""
    event = operations.completed[row] if completed and operations.completed[row] >= 0 else operations.invoked[row]
    return Witness(
        process=int(operations.process[row]),
        f=operations.name(row),
        key=operations.key_name(row),
        value=operations.done(row),
        call=int(operations.call[row]),
        ret=None if operations.ret[row] == NEVER else int(operations.ret[row]),
        type=TYPES[operations.type[row]],
        node=operations.node_name(row),
        index=operations.history.index_of(int(event)),
        server=operations.server_name(row),
    )
