"""Overwritten values stay overwritten: what a process has seen and then replaced must not be there in the end.

This is what a store without one order of writes can still promise about one key, if a later write of whoever saw a
value always counts as later (the session guarantee "writes follow reads" and causality on each key; Terry et al.,
"Session Guarantees for Weakly Consistent Replicated Data", 1994).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.checkers.final_reads import final_anomaly, final_reads, rows_of
from harness.checkers.witness import Clock, about, anomaly, sentence
from harness.columns import hashable
from harness.history import FAIL, OK, History, Operations
from harness.periods import Period, fault_periods
from harness.verdict import Anomaly, Budget, Checker, Verdict, Witness
from harness.witness import witness
from harness.words import count, show

_REPORTED = 10


class Overwritten(Checker):
    """Looks for final values, read by operations of the function ``final``, that were certainly replaced.

    A value is certainly replaced when one process read or wrote it, and afterwards wrote another one or deleted the
    key, and that was acknowledged. Every value must be written once only.
    """

    def __init__(self, final: str = "read-local") -> None:
        self._final = final

    def blind(self, history: History) -> str:
        """Why there is nothing to compare with; empty where there is something."""
        return "" if final_reads(history.operations(), self._final) else "no key was read in the end"

    def check(self, history: History, budget: Budget) -> Verdict:
        operations = history.operations()
        periods = fault_periods(history)
        clock = Clock(history)
        replaced = _replaced(operations)
        finals = final_reads(operations, self._final)
        anomalies = []
        for key, rows in finals.items():
            for node, row in sorted(rows.items()):
                result = operations.result(row)
                values = result if isinstance(result, list) else [result]
                for value in values:
                    if (key, hashable(value)) in replaced:
                        saw, then = replaced[key, hashable(value)]
                        gone = operations.name(then) == "delete"
                        seen, did = witness(operations, saw), witness(operations, then)
                        text = (
                            f"{about(key)}{sentence(seen, clock)}, so it knew {show(value)}. Then "
                            f"{_did(did, clock)}, which was acknowledged. Yet in the end {node} holds {show(value)}."
                        )
                        kind = "resurrected" if gone else "lost update"
                        anomalies.append(anomaly(operations, periods, kind, text, [saw, then, row], key=key))
        anomalies += _vanished(operations, finals, periods)
        evidence = {"values_certainly_replaced": len(replaced)}
        if anomalies:
            reason = (
                f"{count(len(anomalies), 'final value')} certainly overwritten or deleted before, or all writes gone"
            )
            return Verdict("invalid", reason, anomalies[:_REPORTED], evidence, found=len(anomalies))
        return Verdict("valid", evidence=evidence)


def _replaced(operations: Operations) -> dict[tuple[Any, Any], tuple[int, int]]:
    """For each key and value that was certainly replaced: who knew it, and the acknowledged write after that."""
    known: dict[tuple[int, Any], list[tuple[Any, int]]] = {}
    replaced: dict[tuple[Any, Any], tuple[int, int]] = {}
    for row in rows_of(operations, "read", "write", "delete"):
        if operations.type[row] != OK:
            continue
        key, name = operations.key_name(row), operations.name(row)
        session = (int(operations.process[row]), key)
        if name != "read":
            for value, saw in known.pop(session, []):
                replaced.setdefault((key, value), (saw, row))
        seen = operations.argument(row) if name == "write" else operations.result(row) if name == "read" else None
        if seen is not None:
            known.setdefault(session, []).extend(
                (hashable(v), row) for v in (seen if isinstance(seen, list) else [seen])
            )
    return replaced


def _vanished(operations: Operations, finals: Mapping[Any, Mapping[str, int]], periods: list[Period]) -> list[Anomaly]:
    """Keys that hold nothing although a write was acknowledged and nobody ever tried to delete them."""
    deleted = {operations.key_name(row) for row in rows_of(operations, "delete") if operations.type[row] != FAIL}
    written: dict[Any, int] = {}
    for row in rows_of(operations, "write"):
        if operations.type[row] == OK:
            written.setdefault(operations.key_name(row), row)
    anomalies = []
    for key, rows in finals.items():
        for node, row in rows.items():
            if operations.result(row) is None and key in written and key not in deleted:
                text = (
                    f"{about(key)}a write was acknowledged and nobody deleted the key, yet {node} holds nothing at "
                    "last."
                )
                anomalies.append(final_anomaly(operations, periods, "lost write", text, [written[key], row], key))
    return anomalies


def _did(op: Witness, clock: Clock) -> str:
    assert op.ret is not None  # it was acknowledged
    if op.f == "delete":
        return f"it deleted the key from {clock.at(op.call)} to {clock.at(op.ret)}"
    return f"it wrote {show(op.value)} from {clock.at(op.call)} to {clock.at(op.ret)}"
