"""Counters: a read shows everything that was acknowledged before it, and nothing that was not added, or twice.

The bounds are those of Jepsen's counter checker; between them only the sums that are possible are allowed.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.checkers.final_reads import final_reads, unread
from harness.checkers.findings import Findings
from harness.checkers.sums import Sums
from harness.checkers.timeline import Timeline, begins, ends, select
from harness.columns import NOTHING, OTHER, SINGLE, Ints
from harness.errors import HistoryError
from harness.history import FAIL, OK, History, Operations
from harness.verdict import Budget, Checker, Verdict
from harness.words import named

_CHANGES: Final = ("increment", "add")


class Total(Checker):
    """Judges counters: changes are ``increment`` or ``add``, of whole numbers of either sign, and reads are ``read``.

    ``final`` names the function of final reads, of which the last of each node counts. ``linearizable`` asks of every
    read what is asked of final ones; without it a read may be stale, but no higher and no lower than what was ever
    added. A counter that nobody subtracts from must not go down either.
    """

    def __init__(self, final: str | None = None, *, linearizable: bool = True) -> None:
        self._final = final
        self._linearizable = linearizable
        self._functions = {*_CHANGES, "read", *([final] if final else [])}

    def blind(self, history: History) -> str:
        """Why there is nothing to compare with; empty where there is something."""
        operations = history.operations()
        if not len(select(operations, *_CHANGES)):
            return "no counter was changed"
        if self._final is None:
            return "" if (operations.type[select(operations, "read")] == OK).any() else "no counter was read"
        return "" if final_reads(operations, self._final) else "no counter was read in the end"

    def check(self, history: History, budget: Budget) -> Verdict:
        operations: Operations = history.operations()
        findings = Findings(operations)
        if foreign := sorted({history.functions[code] for code in np.unique(operations.f)} - self._functions):
            return Verdict(
                "unknown", f"a counter has no function {foreign[0]}: it has {', '.join(sorted(self._functions))}"
            )
        changes = select(operations, *_CHANGES)
        if (history.number[operations.told[changes]] == NOTHING).any():
            return Verdict("unknown", "of a change of a counter nobody says by how much it was")
        amount = _numbers(operations, operations.told[changes], "a change of a counter")
        sums = Sums(operations, changes, amount, operations.key[changes])
        reads = select(operations, "read")
        reads = reads[operations.type[reads] == OK]
        last = np.zeros(0, dtype=np.int64)
        if self._final is not None:
            rows = [row for of_key in final_reads(operations, self._final).values() for row in of_key.values()]
            last = np.array(sorted(rows), dtype=np.int64)
        strict = np.sort(np.concatenate([reads, last])) if self._linearizable else last
        self._compare(operations, sums, changes, strict, findings, acknowledged=True)
        if self._linearizable:
            falls = (amount < 0) & (operations.type[changes] != FAIL)
            self._refuse_decrease(operations, strict, np.unique(operations.key[changes][falls]), findings)
        else:
            self._compare(operations, sums, changes, reads, findings, acknowledged=False)
        evidence = {"counters": len(np.unique(operations.key[changes])), "counter_reads": len(reads) + len(last)}
        return findings.verdict("wrong total", evidence, unread(operations, changes, last) if self._final else "")

    def _compare(
        self,
        operations: Operations,
        sums: Sums,
        changes: Ints,
        reads: Ints,
        findings: Findings,
        *,
        acknowledged: bool,
    ) -> None:
        key, call, ret = operations.key[reads], begins(operations, reads), ends(operations, reads)
        value = _numbers(operations, operations.completed[reads], "the total of a counter")
        bounds = sums.bounds(key, call, ret, acknowledged=acknowledged)
        if acknowledged:
            wrong = sums.impossible(bounds, key, call, ret, value)
        else:
            wrong = np.flatnonzero((value < bounds.least) | (value > bounds.most))
        for at in wrong.tolist():
            if findings.enough("wrong total"):
                continue
            certain, least, most = int(bounds.certain[at]), int(bounds.least[at]), int(bounds.most[at])
            text = f"Counter {named(operations.key_name(reads[at]))}: {findings.did(reads[at])}. "
            if not acknowledged:
                text += f"Yet all that was invoked until then adds up to no less than {least} and no more than {most}."
            else:
                text += f"What was acknowledged before that adds up to {certain}, "
                if least == most:
                    text += "and nothing else was added that could have counted: it must have been there."
                else:
                    text += (
                        "and what was added meanwhile, or without ever being answered, may count as well: the total "
                        f"must be from {least} to {most}"
                    )
                    text += ", and a sum of these." if least <= value[at] <= most else "."
            findings.add("wrong total", text, [*_meanwhile(operations, changes, reads[at]), reads[at]])

    def _refuse_decrease(self, operations: Operations, reads: Ints, falling: Ints, findings: Findings) -> None:
        reads = reads[~np.isin(operations.key[reads], falling)]
        key, call = operations.key[reads], begins(operations, reads)
        value = _numbers(operations, operations.completed[reads], "the total of a counter")
        highest = Timeline(key, ends(operations, reads), len(operations.history)).greatest(value, key, call)
        wrong = np.flatnonzero((highest >= 0) & (value < value[highest])) if len(reads) else reads
        for at in wrong.tolist():
            if findings.enough("went down"):
                continue
            before = reads[highest[at]]
            name = named(operations.key_name(reads[at]))
            text = (
                f"Counter {name}: {findings.did(before)}. Later {findings.did(reads[at])}, which is less. "
                "Yet nobody ever subtracted anything."
            )
            findings.add("went down", text, [before, reads[at]])


def _meanwhile(operations: Operations, changes: Ints, read: int) -> list[int]:
    """A few of the changes that may have counted or not when a total was read."""
    of_key = changes[(operations.key[changes] == operations.key[read]) & (operations.type[changes] != FAIL)]
    open_ = (operations.call[of_key] < operations.ret[read]) & (operations.ret[of_key] > operations.call[read])
    rows: list[int] = of_key[open_][:5].tolist()
    return rows


def _numbers(operations: Operations, events: Ints, what: str) -> NDArray[Any]:
    """Whole numbers, 0 for nothing; as Python's own where they could add up to more than 64 bits.

    Raises ``HistoryError`` for anything else.
    """
    number, second = operations.history.number[events], operations.history.second[events]
    odd = np.flatnonzero((number == OTHER) | (second != SINGLE))
    if len(odd):
        event = int(events[odd[0]])
        shown = str(operations.history.value[event])[:40]
        line = operations.history.line_of(event)
        raise HistoryError(f"{what} is a whole number of at most 62 bits, not {shown}", line=line)
    number = np.where(number == NOTHING, 0, number)
    return number.astype(object) if float(np.abs(number).astype(float).sum()) > 2.0**61 else number
