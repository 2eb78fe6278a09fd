"""Convergence: once faults are over and writing has ended, all nodes hold the same, and only what was written.

The weakest promise that a replicated store can make (Vogels, "Eventually Consistent", 2008).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.checkers.final_reads import final_anomaly, final_reads, rows_of
from harness.checkers.witness import about
from harness.columns import hashable
from harness.history import FAIL, INFO, History, Operations
from harness.periods import Period, fault_periods
from harness.verdict import Anomaly, Budget, Checker, Verdict
from harness.words import count, show

_REPORTED = 10


class Convergence(Checker):
    """Compares the final reads of all nodes, which are operations of the function ``final``.

    Unknown when no key was read from two nodes, or where nodes differ in nothing but what changes of unknown outcome
    may have done between their reads. Where values are written with ``write``, a final value that nobody wrote is an
    anomaly too.
    """

    def __init__(self, final: str = "read-local") -> None:
        self._final = final

    def check(self, history: History, budget: Budget) -> Verdict:
        operations = history.operations()
        periods = fault_periods(history)
        reads = final_reads(operations, self._final)
        compared = {key: rows for key, rows in reads.items() if len(rows) > 1}
        evidence = {"keys_compared": len(compared)}
        if not compared:
            return Verdict("unknown", "no key was read from two nodes in the end", evidence=evidence)
        anomalies = []
        open_changes = _OpenChanges(operations)
        undecided = 0
        for key, rows in compared.items():
            held = {node: operations.result(row) for node, row in rows.items()}
            if len({hashable(value) for value in held.values()}) > 1:
                if open_changes.explain(key, list(held.values())):
                    undecided += 1
                    continue
                holdings = ", ".join(f"{node} holds {_brief(value)}" for node, value in sorted(held.items()))
                text = (
                    f"{about(key)}all faults were over and nothing was written any more, yet {holdings}. "
                    "Nodes that have received the same writes must hold the same."
                )
                anomalies.append(final_anomaly(operations, periods, "diverged", text, rows.values(), key))
        anomalies += self._invented(operations, reads, periods)
        if anomalies:
            keys = len({repr(anomaly.key) for anomaly in anomalies})
            reason = f"nodes do not agree, or hold what nobody wrote: {keys} of {count(len(compared), 'key')}"
            return Verdict("invalid", reason, anomalies[:_REPORTED], evidence, found=len(anomalies))
        if undecided:
            reason = f"nodes differ in {count(undecided, 'key')} only by changes of unknown outcome"
            return Verdict("unknown", reason, evidence=evidence)
        return Verdict("valid", evidence=evidence)

    def _invented(
        self, operations: Operations, reads: Mapping[Any, Mapping[str, int]], periods: list[Period]
    ) -> list[Anomaly]:
        """Final values that no write can have written."""
        writes = rows_of(operations, "write")
        if not writes:
            return []
        written = {
            (operations.key_name(row), hashable(operations.argument(row)))
            for row in writes
            if operations.type[row] != FAIL
        }
        anomalies = []
        for key, rows in reads.items():
            for node, row in rows.items():
                result = operations.result(row)
                values = result if isinstance(result, list) else [] if result is None else [result]
                for value in values:
                    if (key, hashable(value)) not in written:
                        text = f"{about(key)}{node} holds {show(value)} in the end, but no write of it took effect."
                        anomalies.append(final_anomaly(operations, periods, "invented", text, [row], key))
        return anomalies


class _OpenChanges:
    """The changes of unknown outcome, by key: each may take effect between the final reads of two nodes."""

    def __init__(self, operations: Operations) -> None:
        self._elements: dict[Any, set[Any]] = {}
        self._values: dict[Any, set[Any]] = {}
        self._amounts: dict[Any, list[int]] = {}
        for row in np.flatnonzero(operations.type == INFO).tolist():
            key, value = operations.key_name(row), hashable(operations.argument(row))
            match operations.name(row):
                case "add" | "remove":
                    self._elements.setdefault(key, set()).add(value)
                case "write" | "delete":
                    self._values.setdefault(key, set()).add(value)
                case "cas" if isinstance(value, tuple):
                    self._values.setdefault(key, set()).update(value[1:])
                case "increment" if type(value) is int:
                    self._amounts.setdefault(key, []).append(value)

    def explain(self, key: Any, held: Sequence[Any]) -> bool:
        """Whether what nodes hold may differ by them alone: by elements, by amounts, or by values that they wrote."""
        if amounts := self._amounts.get(key):
            least, most = sum(min(amount, 0) for amount in amounts), sum(max(amount, 0) for amount in amounts)
            totals = [value or 0 for value in held]
            return all(type(total) is int for total in totals) and max(totals) - min(totals) <= most - least
        unsure, written = self._elements.get(key, set()), self._values.get(key, set())
        if not unsure and not written:
            return False
        several = [tuple(map(hashable, value)) if isinstance(value, list) else (hashable(value),) for value in held]
        others = [elements for elements in several if written.isdisjoint(elements or (None,))]
        return len({tuple(element for element in elements if element not in unsure) for elements in others}) <= 1


def _brief(value: Any) -> str:
    if isinstance(value, list) and len(value) > 6:
        return f"{count(len(value), 'element')}, the last of them {', '.join(map(repr, value[-5:]))}"
    return show(value)
