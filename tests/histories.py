"""Small histories for tests, and the oracle that every checker is held against."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.history import History, from_events
from harness.operation import Event


class Op(NamedTuple):
    """One operation: invoked at ``call``, completed at ``ret``, or never (None)."""

    f: str
    value: Any
    call: int
    ret: int | None
    key: Any = "x"


def history(operations: Sequence[Op]) -> History:
    """Each operation on a process of its own."""
    events = []
    for process, op in enumerate(operations):
        invoked = None if op.f == "read" else op.value
        events.append((op.call, 0, Event(0, op.call, process, "invoke", op.f, op.key, invoked)))
        if op.ret is not None:
            events.append((op.ret, 1, Event(0, op.ret, process, "ok", op.f, op.key, op.value)))
    events.sort(key=lambda item: item[:2])
    return from_events([event for _, _, event in events])


def register_step(state: Any, op: Op) -> tuple[bool, Any]:
    """What a register does with an operation: whether it can answer like that, and its next state."""
    if op.f == "read":
        return op.value == state, state
    if op.f == "write":
        return True, op.value
    expected, new = op.value
    return expected == state, new


def brute_force(operations: Sequence[Op], initial: Any = None) -> bool:
    """Linearizability by trying every order of every choice of crashed operations, one key at a time."""
    keys = {op.key for op in operations}
    return all(_one_key([op for op in operations if op.key == key], initial) for key in keys)


def _one_key(operations: Sequence[Op], initial: Any) -> bool:
    crashed = [op for op in operations if op.ret is None]
    done = [op for op in operations if op.ret is not None]
    for count in range(len(crashed) + 1):
        for chosen in itertools.combinations(crashed, count):
            if _search([*done, *chosen], initial):
                return True
    return False


def _search(left: list[Op], state: Any) -> bool:
    if not left:
        return True
    for at, op in enumerate(left):
        rest = left[:at] + left[at + 1 :]
        if any(other.ret is not None and other.ret < op.call for other in rest):
            continue
        possible, following = register_step(state, op)
        if possible and _search(rest, following):
            return True
    return False
