"""What a checker has found: how many anomalies of each kind, and the first few of each explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from harness.checkers.witness import Clock, anomaly, sentence
from harness.history import Operations
from harness.periods import fault_periods
from harness.verdict import Anomaly, Verdict
from harness.witness import witness
from harness.words import count

_EXPLAINED: Final = 10
"""How many anomalies of one kind are explained."""


class Findings:
    """Collects the anomalies of one history."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._periods = fault_periods(operations.history)
        self.clock = Clock(operations.history)
        self.counts: dict[str, int] = {}
        """How many there are of each kind."""
        self._anomalies: list[Anomaly] = []

    def enough(self, kind: str) -> bool:
        """Whether so many of this kind are explained that one more is counted, and nothing else."""
        if self.counts.get(kind, 0) < _EXPLAINED:
            return False
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return True

    def add(self, kind: str, text: str, rows: Sequence[int], *, during: tuple[int, int] | None = None) -> None:
        """One anomaly, with the rows of the operations that show it, which are of one key: see ``anomaly``."""
        key = self._operations.key_name(rows[0]) if rows else None
        self._anomalies.append(anomaly(self._operations, self._periods, kind, text, rows, key=key, during=during))
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def did(self, row: int) -> str:
        """An operation as a clause."""
        return sentence(witness(self._operations, int(row)), self.clock)

    def verdict(self, noun: str, evidence: dict[str, Any], unknown: str = "", many: str | None = None) -> Verdict:
        """Invalid if anything was found; else unknown if there is a reason, else valid."""
        if self.counts:
            number = sum(self.counts.values())
            reason = f"{count(number, noun, many)} ({', '.join(sorted(self.counts))})"
            return Verdict("invalid", reason, self._anomalies, evidence, found=number)
        return Verdict("unknown", unknown, evidence=evidence) if unknown else Verdict("valid", evidence=evidence)
