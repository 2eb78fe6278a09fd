"""Sets: every element that was added and not removed is there in the end, and no other one."""

from __future__ import annotations

from typing import Any

from checkers.final_reads import final_reads, rows_of
from checkers.witness import Clock, sentence, witness
from harness.history import FAIL, OK, History
from harness.periods import active, fault_periods
from harness.verdict import Anomaly, Budget, Checker, Verdict
from harness.words import count

_REPORTED = 10


class Elements(Checker):
    """Compares final reads, operations of the function ``final``, with what ``add`` and ``remove`` acknowledged.

    A remove counts for certain only if a client of the same node had added or read the element before: a store may
    let a remove ignore what it has not heard of (an observed-remove set). Every element must be added once only.
    """

    def __init__(self, final: str = "members-local") -> None:
        self._final = final

    def blind(self, history: History) -> str:
        """Why there is nothing to compare with; empty where there is something."""
        return "" if final_reads(history.operations(), self._final) else "no members of a set were read in the end"

    def check(self, history: History, budget: Budget) -> Verdict:
        operations = history.operations()
        periods = fault_periods(history)
        clock = Clock(history)
        added = _by_element(operations, "add")
        removed = _by_element(operations, "remove")
        removed_knowingly = _removed_knowingly(operations)
        anomalies: list[Anomaly] = []
        for key, rows in final_reads(operations, self._final).items():
            acknowledged = {e: r for (k, e), r in added.items() if k == key and operations.type[r] == OK}
            for node, row in sorted(rows.items()):
                held = set(operations.result(row))
                last = witness(operations, row)
                for element in sorted(held):
                    adding = added.get((key, element))
                    if adding is None or operations.type[adding] == FAIL:
                        text = f"Set {key}: {node} holds {element} in the end, but no add of it took effect."
                        anomalies.append(Anomaly("invented", text, [last], key))
                    elif (key, element) in removed_knowingly:
                        gone = witness(operations, removed_knowingly[key, element])
                        text = (
                            f"Set {key}: {sentence(gone, clock)}, by a node that knew it, and that was acknowledged. "
                            f"Yet {node} holds {element} in the end."
                        )
                        faults = active(periods, gone.call, last.call)
                        anomalies.append(Anomaly("resurrected", text, [gone, last], key, faults))
                for element in sorted(acknowledged.keys() - held):
                    if (key, element) not in removed:
                        add = witness(operations, acknowledged[element])
                        text = (
                            f"Set {key}: {sentence(add, clock)}, and that was acknowledged. Nobody removed it, yet "
                            f"{node} does not hold it in the end."
                        )
                        faults = active(periods, add.call, last.call)
                        anomalies.append(Anomaly("lost", text, [add, last], key, faults))
        evidence = {"elements_added": len(added), "removed_knowingly": len(removed_knowingly)}
        if anomalies:
            kinds = ", ".join(sorted({anomaly.kind for anomaly in anomalies}))
            return Verdict(
                "invalid",
                f"{count(len(anomalies), 'wrong element')} ({kinds})",
                anomalies[:_REPORTED],
                evidence,
                found=len(anomalies),
            )
        return Verdict("valid", evidence=evidence)


def _by_element(operations: Any, function: str) -> dict[tuple[Any, Any], int]:
    """The row of the operation on each element; a remove that certainly failed does not count."""
    found = {}
    for row in rows_of(operations, function):
        if function == "add" or operations.type[row] != FAIL:
            found[operations.key_name(row), operations.argument(row)] = row
    return found


def _removed_knowingly(operations: Any) -> dict[tuple[Any, Any], int]:
    """The acknowledged removes of elements of which a client of the same node had heard before."""
    heard: dict[tuple[Any, Any, Any], int] = {}
    for row in rows_of(operations, "add", "members"):
        if operations.type[row] == OK:
            key, node = operations.key_name(row), operations.node_name(row)
            elements = operations.result(row) if operations.name(row) == "members" else [operations.argument(row)]
            for element in elements:
                before = heard.get((key, node, element))
                heard[key, node, element] = (
                    min(int(operations.ret[row]), before) if before else int(operations.ret[row])
                )
    found = {}
    for row in rows_of(operations, "remove"):
        key, element = operations.key_name(row), operations.argument(row)
        since = heard.get((key, operations.node_name(row), element))
        if operations.type[row] == OK and since is not None and since < operations.call[row]:
            found[key, element] = row
    return found
