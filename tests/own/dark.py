"""A checker of one's own: nobody sees light before somebody has toggled."""

from __future__ import annotations

from harness.checkers.final_reads import rows_of
from harness.checkers.witness import witness
from harness.history import History
from harness.verdict import Anomaly, Budget, Checker, Verdict
from harness.words import count


class Dark(Checker):
    """Compares looks that were over before the first toggle began with the dark."""

    def check(self, history: History, budget: Budget) -> Verdict:
        operations = history.operations()
        first = min((int(operations.call[row]) for row in rows_of(operations, "toggle")), default=0)
        early = [row for row in rows_of(operations, "look") if operations.ret[row] < first]
        anomalies = [
            Anomaly("light from nowhere", "It was light before anybody had toggled.", [witness(operations, row)])
            for row in early
            if operations.result(row)
        ]
        if anomalies:
            return Verdict("invalid", count(len(anomalies), "light") + " from nowhere", anomalies)
        return Verdict("valid", evidence={"early looks": len(early)})
