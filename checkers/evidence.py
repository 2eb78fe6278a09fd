"""Does the run mean anything? Counts what was put to the test, and calls a run vacuous that tested nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np

from harness.history import FAIL, INFO, MONITOR_PROCESS, NEMESIS_PROCESS, NEVER, OK, History, Operations
from harness.periods import HEAL, fault_periods
from harness.verdict import Budget, Verdict

_LEAST_SUCCESS: Final = 0.05
"""The share of operations that must have succeeded."""


class Evidence:
    """Valid when the history can support a verdict, unknown when it is vacuous; never invalid.

    ``faults`` says whether faults were asked for: then at least one must have been proved active.
    """

    def __init__(self, *, faults: bool = False) -> None:
        self._faults = faults

    def check(self, history: History, budget: Budget) -> Verdict:
        operations = history.operations()
        ok = operations.type == OK
        periods = fault_periods(history)
        by_fault: dict[str, dict[str, int]] = {}
        for period in periods:
            during = ok & (operations.call >= period.start) & (operations.ret <= period.end)
            entry = by_fault.setdefault(period.name, {"times": 0, "proved": 0, "ok_operations_during": 0})
            entry["times"] += 1
            entry["proved"] += period.proved
            entry["ok_operations_during"] += int(during.sum())
        evidence: dict[str, Any] = {
            "operations": len(operations),
            "ok": int(ok.sum()),
            "fail": int((operations.type == FAIL).sum()),
            "info": int((operations.type == INFO).sum()),
            "most_concurrent_on_one_key": _concurrency(operations),
            "faults": by_fault,
            "role_changes": _role_changes(history),
        }
        reasons = list(self._reasons(history, evidence, by_fault))
        if reasons:
            return Verdict("unknown", "the run is vacuous: " + "; ".join(reasons), evidence=evidence)
        return Verdict("valid", evidence=evidence)

    def _reasons(self, history: History, evidence: dict[str, Any], by_fault: dict[str, dict[str, int]]) -> list[str]:
        reasons = []
        total, ok = evidence["operations"], evidence["ok"]
        if ok == 0:
            reasons.append("no operation succeeded" if total else "there was no operation")
        elif ok < _LEAST_SUCCESS * total:
            reasons.append(f"only {ok} of {total} operations succeeded")
        for event in history.special(NEMESIS_PROCESS):
            if event.type == "info":
                what = "the faults were not healed" if event.f == HEAL else f"{event.f} did not do what it should"
                reasons.append(f"{what} ({event.error})")
        if self._faults and not any(entry["proved"] for entry in by_fault.values()):
            reasons.append("faults were asked for and none was seen to take effect")
        for event in history.special(MONITOR_PROCESS):
            if event.f == "recovered" and event.error:
                reasons.append(f"the store did not come back after the heal ({event.error})")
        return list(dict.fromkeys(reasons))


def _concurrency(operations: Operations) -> int:
    """The most operations of known outcome that were open on one key at one moment."""
    done = operations.ret != NEVER
    key = operations.key[done]
    key = np.concatenate([key, key])
    moment = np.concatenate([operations.call[done], operations.ret[done]])
    change = np.repeat([1, -1], int(done.sum()))
    if not len(key):
        return 0
    order = np.lexsort((change, moment, key))
    # Every operation ends, so the sum is back at zero where the next key begins.
    return int(np.cumsum(change[order]).max())


def _role_changes(history: History) -> int:
    """How often another node was seen to be primary."""
    seen = [
        frozenset(role["node"] for role in event.value if role["role"] == "primary")
        for event in history.special(MONITOR_PROCESS)
        if event.f == "roles" and isinstance(event.value, list)
    ]
    settled = [primaries for primaries in seen if primaries]
    return sum(a != b for a, b in pairwise(settled))
