"""Reads that see the later of two writes without the earlier one. Jepsen's causal-reverse.

Unique elements are written, and reads show all of them. Where one write was acknowledged before another was invoked, no
strictly serializable store shows the second without the first: it would have undone what its clients know the order of.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.checkers.findings import Findings
from harness.checkers.timeline import begins, by_key, ends, select
from harness.checkers.witness import about
from harness.columns import Ints, hashable
from harness.errors import HistoryError
from harness.history import FAIL, OK, History, Operations
from harness.verdict import Budget, Checker, Verdict
from harness.words import show


class CausalReverse(Checker):
    """Judges ``read``, which is answered with a list of elements, by ``write``, one unique element each."""

    def blind(self, history: History) -> str:
        """Why nothing could have been wrong; empty where something could."""
        operations: Operations = history.operations()
        for rows, writes in by_key(operations, *_reads_and_writes(operations)).values():
            if len(rows) and len(writes) and ends(operations, writes).min() < begins(operations, writes).max():
                return ""
        return "of no key that was read was a write acknowledged before another one began"

    def check(self, history: History, budget: Budget) -> Verdict:
        operations: Operations = history.operations()
        findings = Findings(operations)
        read, written = _reads_and_writes(operations)
        for rows, writes in by_key(operations, read, written).values():
            _judge(operations, rows, writes, findings)
        return findings.verdict(
            "read of effects without causes", {"reads": len(read), "writes": len(written)}, many=_MANY
        )


_MANY = "reads of effects without causes"


def _reads_and_writes(operations: Operations) -> tuple[Ints, Ints]:
    """The reads that were answered, and the writes that may have happened."""
    read, written = (select(operations, name) for name in ("read", "write"))
    return read[operations.type[read] == OK], written[operations.type[written] != FAIL]


def _judge(operations: Operations, reads: Ints, writes: Ints, findings: Findings) -> None:
    """The reads of one key: all that was acknowledged before the latest invocation that a read shows must be shown."""
    call, ret = begins(operations, writes), ends(operations, writes)
    number: dict[Any, int] = {}
    for at, row in enumerate(writes.tolist()):
        if number.setdefault(hashable(operations.argument(row)), at) != at:
            line = operations.history.line_of(int(operations.invoked[row]))
            raise HistoryError(f"{show(operations.argument(row))} is written twice", line=line)
    acknowledged = np.sort(ret)
    for row in reads.tolist():
        shown = np.unique([number[name] for name in map(hashable, _elements(operations, row)) if name in number])
        if not len(shown):
            continue
        seen = shown.astype(np.int64)
        latest = seen[np.argmax(call[seen])]
        due = int(np.searchsorted(acknowledged, call[latest]))
        if due == int((ret[seen] < call[latest]).sum()) or findings.enough("reversed"):
            continue
        absent = np.setdiff1d(np.flatnonzero(ret < call[latest]), seen)
        cause, effect = int(writes[absent[0]]), int(writes[latest])
        key = operations.key_name(row)
        text = (
            f"{about(key)}{findings.did(row)}: it shows {show(operations.argument(effect))} without "
            f"{show(operations.argument(cause))}, although {findings.did(cause)}, and was acknowledged before "
            f"{findings.did(effect)}."
        )
        findings.add("reversed", text[0].upper() + text[1:], [row, cause, effect])


def _elements(operations: Operations, row: int) -> list[Any]:
    elements = operations.result(row)
    if not isinstance(elements, list | tuple):
        line = operations.history.line_of(int(operations.completed[row]))
        raise HistoryError(f"a read is answered with a list of elements, not {show(elements)}", line=line)
    return list(elements)
