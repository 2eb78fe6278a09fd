"""Counters: in the end each holds everything that was acknowledged, and nothing twice."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from checkers.final_reads import final_reads, rows_of
from checkers.witness import witness
from harness.history import INFO, OK, History
from harness.periods import all_faults
from harness.verdict import Anomaly, Budget, Checker, Verdict
from harness.words import count


class Total(Checker):
    """Compares final reads, operations of the function ``final``, with what ``increment`` acknowledged.

    Each increment of unknown outcome may or may not count, once; so the total must lie between two bounds.
    """

    def __init__(self, final: str = "read-local") -> None:
        self._final = final

    def blind(self, history: History) -> str:
        """Why there is nothing to compare with; empty where there is something."""
        return "" if final_reads(history.operations(), self._final) else "no counter was read in the end"

    def check(self, history: History, budget: Budget) -> Verdict:
        operations = history.operations()
        certain: dict[Any, int] = defaultdict(int)
        least: dict[Any, int] = defaultdict(int)
        most: dict[Any, int] = defaultdict(int)
        for row in rows_of(operations, "increment"):
            key, by = operations.key_name(row), operations.argument(row)
            if operations.type[row] == OK:
                certain[key] += by
            elif operations.type[row] == INFO:
                (least if by < 0 else most)[key] += by
        faults = all_faults(history)
        anomalies = []
        for key, rows in final_reads(operations, self._final).items():
            low, high = certain[key] + least[key], certain[key] + most[key]
            for node, row in sorted(rows.items()):
                total = operations.result(row) or 0
                if not low <= total <= high:
                    text = (
                        f"Counter {key}: acknowledged increments add up to {certain[key]}, and with those of unknown "
                        f"outcome the total must be from {low} to {high}. Yet {node} holds {total} in the end."
                    )
                    anomalies.append(Anomaly("wrong total", text, [witness(operations, row)], key, faults))
        if anomalies:
            said, evidence = count(len(anomalies), "wrong total"), {"counters": len(certain)}
            return Verdict("invalid", said, anomalies[:10], evidence, found=len(anomalies))
        return Verdict("valid", evidence={"counters": len(certain)})
