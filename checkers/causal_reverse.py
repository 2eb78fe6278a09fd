"""Reads that see the later of two writes without the earlier one. Jepsen's causal-reverse.

Unique elements are written, and reads show all of them. Where one write was acknowledged before another was invoked, no
strictly serializable store shows the second without the first: it would have undone what its clients know the order of.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        reads, _ = _reads_and_writes(operations)
        return "" if any(_elements(operations, row) for row in reads.tolist()) else "nothing that was written was read"

    def check(self, history: History, budget: Budget) -> Verdict:
        operations: Operations = history.operations()
        findings = Findings(operations)
        read, written = _reads_and_writes(operations)
        for rows, writes in by_key(operations, read, written).values():
            _judge(operations, rows, writes, findings)
        return findings.verdict("wrong read", {"reads": len(read), "writes": len(written)})


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
    for row, over in zip(reads.tolist(), ends(operations, reads).tolist(), strict=True):
        elements = _elements(operations, row)
        shown = [number.get(hashable(element), -1) for element in elements]
        for element, at in zip(elements, shown, strict=True):
            if (at >= 0 and call[at] < over) or findings.enough("phantom"):
                continue
            when = "nobody had written it by then" if at >= 0 else "nobody wrote it"
            rows = [row] if at < 0 else [row, int(writes[at])]
            findings.add("phantom", f"{_begin(operations, row, findings)}: it shows {show(element)}, but {when}.", rows)
        seen = np.unique(np.array(shown, dtype=np.int64))
        seen = seen[seen >= 0]
        if not len(seen):
            continue
        latest = seen[np.argmax(call[seen])]
        due = int(np.searchsorted(acknowledged, call[latest]))
        if due == int((ret[seen] < call[latest]).sum()) or findings.enough("reversed"):
            continue
        absent = np.setdiff1d(np.flatnonzero(ret < call[latest]), seen)
        cause, effect = int(writes[absent[0]]), int(writes[latest])
        text = (
            f"{_begin(operations, row, findings)}: it shows {show(operations.argument(effect))} without "
            f"{show(operations.argument(cause))}, although {findings.did(cause)}, and was acknowledged before "
            f"{findings.did(effect)}."
        )
        findings.add("reversed", text, [row, cause, effect])


def _begin(operations: Operations, row: int, findings: Findings) -> str:
    text = f"{about(operations.key_name(row))}{findings.did(row)}"
    return text[0].upper() + text[1:]


def _elements(operations: Operations, row: int) -> Sequence[Any]:
    elements = operations.result(row)
    if not isinstance(elements, list | tuple):
        line = operations.history.line_of(int(operations.completed[row]))
        raise HistoryError(f"a read is answered with a list of elements, not {show(elements)}", line=line)
    return elements
