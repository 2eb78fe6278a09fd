"""Unique identifiers: nobody is ever given one that somebody else was given. Jepsen's unique-ids."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from harness.checkers.findings import Findings
from harness.checkers.timeline import select
from harness.columns import NOTHING, OTHER, SINGLE, hashable
from harness.history import OK, History, Operations
from harness.verdict import Budget, Checker, Verdict
from harness.words import named, show


class UniqueIds(Checker):
    """Judges ``generate``, which is answered with an identifier; those of one key must all differ."""

    def blind(self, history: History) -> str:
        """Why nothing could have been wrong; empty where something could."""
        operations: Operations = history.operations()
        rows = select(operations, "generate")
        return "" if (operations.type[rows] == OK).sum() > 1 else "fewer than two identifiers were given"

    def check(self, history: History, budget: Budget) -> Verdict:
        operations: Operations = history.operations()
        findings = Findings(operations)
        rows = select(operations, "generate")
        rows = rows[operations.type[rows] == OK]
        given: dict[Any, list[int]] = {}
        events, key = operations.completed[rows], operations.key[rows]
        number, plain = history.number[events], history.second[events] == SINGLE
        plain &= (number != OTHER) & (number != NOTHING)
        order = np.flatnonzero(plain)[np.lexsort((number[plain], key[plain]))]
        same = (np.diff(number[order]) == 0) & (np.diff(key[order]) == 0)
        for before, after in zip(order[:-1][same].tolist(), order[1:][same].tolist(), strict=True):
            group = given.setdefault((int(key[after]), int(number[after])), [before])
            group.append(after)
        others: dict[Any, list[int]] = defaultdict(list)
        for at in np.flatnonzero(~plain).tolist():
            others[int(key[at]), _as_key(history.value[events[at]])].append(at)
        given |= {name: group for name, group in others.items() if len(group) > 1}
        for group in sorted(given.values(), key=min):
            if findings.enough("duplicated"):
                continue
            shown = [int(rows[at]) for at in sorted(group)]
            identifier, of = operations.result(shown[0]), operations.key_name(shown[0])
            whose = "" if of is None else f" of {named(of)}"
            text = (
                f"The identifier {show(identifier)}{whose} was given {len(shown)} times: "
                f"{'; '.join(findings.did(row) for row in shown[:3])}. Each must be given once only."
            )
            findings.add("duplicated", text, shown[:10])
        return findings.verdict("repeated identifier", {"identifiers": len(rows)})


def _as_key(value: Any) -> Any:
    """A value that differs from those that only Python takes for equal, such as True and 1."""
    return type(value).__name__, hashable(value)
