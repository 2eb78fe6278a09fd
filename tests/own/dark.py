"""A checker of one's own: nobody sees light before somebody has toggled."""

from __future__ import annotations

from harness.checkers.final_reads import rows_of
from harness.checkers.witness import anomaly
from harness.history import History
from harness.periods import fault_periods
from harness.verdict import Budget, Checker, Verdict
from harness.words import count


class Dark(Checker):
    """Compares looks that were over before the first toggle began with the dark."""

    def check(self, history: History, budget: Budget) -> Verdict:
        operations = history.operations()
        first = min((int(operations.call[row]) for row in rows_of(operations, "toggle")), default=0)
        early = [row for row in rows_of(operations, "look") if operations.ret[row] < first]
        periods = fault_periods(history)
        text = "It was light before anybody had toggled."
        lit = [row for row in early if operations.result(row)]
        anomalies = [anomaly(operations, periods, "light from nowhere", text, [row]) for row in lit]
        if anomalies:
            return Verdict("invalid", count(len(anomalies), "light") + " from nowhere", anomalies)
        return Verdict("valid", evidence={"early looks": len(early)})
