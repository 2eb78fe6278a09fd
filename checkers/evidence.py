"""Does the run mean anything? Counts what was put to the test, and calls a run vacuous that tested nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final, Self

import msgspec
import numpy as np

from harness.history import FAIL, INFO, MONITOR_PROCESS, NEMESIS_PROCESS, NEVER, OK, History, Operations
from harness.periods import HEAL, PROVE, Turns, fault_action, fault_periods, plans, turns
from harness.roles import PRIMARY, sightings
from harness.verdict import Budget, Checker, Verdict

_LEAST_OF_ALL: Final = 0.2
"""The share of a run's operations that must have succeeded."""
_LEAST_SUCCESS: Final = 0.05
"""The share of operations that must have succeeded under a fault for it to be more than weak evidence."""


class Evidence(Checker):
    """Valid when the history can support a verdict, unknown when it is vacuous; never invalid.

    Each nemesis that was asked for by name must have been proved active at least once, and half of those of chaos.
    """

    def __init__(self, asked: Collection[str] = ()) -> None:
        """``asked`` names nemeses that the experiment asks for, whatever the history says of them."""
        self._asked = asked

    @classmethod
    def of_run(cls, asked: Collection[str], seconds: float) -> Self:
        return cls(asked)

    def check(self, history: History, budget: Budget) -> Verdict:
        operations = history.operations()
        ok = operations.type == OK
        evidence: dict[str, Any] = {
            "operations": len(operations),
            "ok": int(ok.sum()),
            "fail": int((operations.type == FAIL).sum()),
            "info": int((operations.type == INFO).sum()),
            "most_concurrent_on_one_key": _concurrency(operations),
            "faults": {
                name: msgspec.to_builtins(fault) for name, fault in _faults(history, operations, self._asked).items()
            },
            "role_changes": _role_changes(history),
        }
        if reasons := list(dict.fromkeys(_reasons(history, evidence))):
            return Verdict("unknown", "the run is vacuous: " + "; ".join(reasons), evidence=evidence)
        untested = [name for name, fault in evidence["faults"].items() if not fault["proved"]]
        return Verdict("valid", f"not tested by {', '.join(untested)}" if untested else "", evidence=evidence)


def _faults(history: History, operations: Operations, asked: Collection[str]) -> dict[str, Turns]:
    """What became of the faults of each nemesis, and how many operations succeeded meanwhile."""
    faults = {**{name: Turns() for name in asked}, **turns(history)}
    tried = dict.fromkeys(faults, 0)
    for period in (period for period in fault_periods(history) if period.proved):
        begun = (operations.call >= period.start) & (operations.call <= period.end)
        succeeded = begun & (operations.type == OK) & (operations.ret <= period.end)
        faults[period.name].ok_operations_during += int(succeeded.sum())
        tried[period.name] += int(begun.sum())
    for name, fault in faults.items():
        fault.weak = fault.proved > 0 and fault.ok_operations_during <= _LEAST_SUCCESS * tried[name]
    return faults


def _reasons(history: History, evidence: dict[str, Any]) -> Iterator[str]:
    """Why a run is vacuous."""
    total, ok = evidence["operations"], evidence["ok"]
    if ok == 0:
        yield "no operation succeeded" if total else "there was no operation"
    elif ok < _LEAST_OF_ALL * total:
        yield f"only {ok} of {total} operations succeeded"
    if None in plans(history):
        yield "the event `planned` is damaged or foreign, so nobody knows which faults were to come"
    for event in history.special(NEMESIS_PROCESS):
        action, _ = fault_action(event.f)
        if event.type == "info" and action != PROVE:
            what = "the faults were not healed" if action == HEAL else f"{event.f} did not do what it should"
            yield f"{what} ({event.error})"
    mixed = {name: fault for name, fault in evidence["faults"].items() if fault["mixed"]}
    if 2 * len(proved := [name for name, fault in mixed.items() if fault["proved"]]) < len(mixed):
        yield f"of the {len(mixed)} nemeses of chaos only {', '.join(proved) or 'none'} could be proved"
    for name, fault in evidence["faults"].items():
        if name in mixed:
            continue
        why = f" ({max(fault['refusals'], key=fault['refusals'].get)})" if fault["refusals"] else ""
        if fault["planned"] == 0 and fault["injected"] == 0:
            yield f"{name} was asked for and had no turn in the time that there was"
        elif fault["injected"] == 0:
            yield f"{name} was asked for and never injected{why}"
        elif fault["proved"] == 0:
            yield f"{name} was asked for, injected and never proved{why}"
    for event in history.special(MONITOR_PROCESS):
        if event.f == "recovered" and event.error:
            yield f"the store did not come back after the heal ({event.error})"


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
    """How often a node was seen to be primary that was none when it was seen before; the first of all is no change."""
    role: dict[str, str] = {}
    changes = -1
    for sighting in sightings(history):
        if sighting.role is not None:
            changes += sighting.role == PRIMARY and role.get(sighting.node) != PRIMARY
            role[sighting.node] = sighting.role
    return max(changes, 0)
