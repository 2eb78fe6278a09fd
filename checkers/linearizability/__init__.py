"""Linearizability of registers: does an order of all operations exist that respects real time and explains each?"""

from __future__ import annotations

from typing import Any

from harness.history import History
from harness.periods import fault_periods
from harness.verdict import Budget, Verdict

_REPORTED = 10
"""How many anomalies are explained; all are counted."""


class Linearizable:
    """Checks registers with read, write and cas, key by key. ``initial`` is what a register holds before any write."""

    def __init__(self, initial: Any = None) -> None:
        self._initial = initial

    def check(self, history: History, budget: Budget) -> Verdict:
        from checkers.linearizability.blocks import NotUniqueError, check
        from checkers.linearizability.explain import Explainer
        from checkers.linearizability.registers import encode

        operations = history.operations()
        encoded = encode(operations, self._initial)
        evidence = {"operations_checked": len(encoded.row), "keys": len(set(encoded.key.tolist()))}
        try:
            found = check(encoded)
        except NotUniqueError:
            return Verdict("unknown", "some value was written twice, and only unique ones can be checked yet")
        if not found:
            return Verdict("valid", evidence=evidence)
        periods = fault_periods(history)
        explainers = [Explainer(part.operations, part.blocks, periods) for part in found]
        violations = [
            (v, explainer) for part, explainer in zip(found, explainers, strict=True) for v in part.violations
        ]
        violations.sort(key=lambda pair: pair[0].time)
        first_of_key = {violation.key: (violation, explainer) for violation, explainer in reversed(violations)}
        chosen = sorted(first_of_key.values(), key=lambda pair: pair[0].time)[:_REPORTED]
        anomalies = [explainer.anomaly(violation) for violation, explainer in chosen]
        evidence["violations"] = len(violations)
        reason = f"{len(violations)} violations on {len(first_of_key)} of {evidence['keys']} keys"
        return Verdict("invalid", reason, anomalies, evidence)
