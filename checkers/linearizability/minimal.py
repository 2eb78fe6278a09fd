"""The smallest part of a partition that still cannot be linearized: what a person should look at.

Only what can be left out soundly is left out: operations after the return that no order gets past; reads (the rest of a
linearizable history is linearizable); all that touches one part of an object that has parts; and, for objects that are
overwritten, writes of values that nobody saw.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from typing import Any

from harness.checkers.linearizability.models import Model
from harness.checkers.linearizability.search import Outcome, Timed, prepared, search
from harness.history import NEVER
from harness.verdict import Budget


def minimal(model: Model, operations: Sequence[Timed], stuck: Outcome, seconds: float) -> tuple[list[Timed], Timed]:
    """A small sub-history that is impossible, at best effort within ``seconds``, and the operation that it ends at."""
    assert stuck.furthest is not None
    deadline = time.monotonic() + seconds
    kept, furthest = list(operations), stuck.furthest
    if prepared(model, operations).foresees:
        # It was stuck at what makes a later answer impossible. Few operations are needed to be stuck at that answer.
        kept, furthest = _without_parts(model, kept, furthest, deadline)
        plainly = search(model, kept, Budget(seconds), depth_first=False, prepare=False)
        if plainly.verdict != "impossible" or plainly.furthest is None:
            return kept, furthest
        furthest = plainly.furthest
    kept = _prefix(model, kept, furthest.ret)
    kept, furthest = _without_parts(model, kept, furthest, deadline)
    return _without_single(model, kept, furthest, deadline)


def _without_parts(model: Model, kept: list[Timed], furthest: Timed, deadline: float) -> tuple[list[Timed], Timed]:
    """Leave out all operations on parts of the object that it takes none of, such as other elements of a queue."""
    parts = list(dict.fromkeys(part for op in kept for part in model.parts(op.call)))

    def without(some: Sequence[Hashable]) -> list[Timed]:
        gone = set(some)
        return [op for op in kept if gone.isdisjoint(model.parts(op.call))]

    size = max(1, len(parts) // 2)
    while parts and time.monotonic() < deadline:
        at = 0
        while at < len(parts) and time.monotonic() < deadline:
            fewer = without(parts[at : at + size])
            attempt = _impossible(model, fewer, deadline) if len(fewer) < len(kept) else None
            if attempt is not None:
                kept, furthest = fewer, attempt
                del parts[at : at + size]
            else:
                at += size
        if size == 1:
            break
        size //= 2
    return kept, furthest


def _without_single(model: Model, kept: list[Timed], furthest: Timed, deadline: float) -> tuple[list[Timed], Timed]:
    """Leave out single operations that change nothing, or nothing that anybody saw."""
    size = max(1, len(kept) // 2)
    while size >= 1 and time.monotonic() < deadline:
        at = 0
        while at < len(kept) and time.monotonic() < deadline:
            gone = {op.row for op in kept[at : at + size] if _may_go(model, op, kept)}
            fewer = [op for op in kept if op.row not in gone]
            attempt = _impossible(model, fewer, deadline) if gone else None
            if attempt is not None:
                kept, furthest = fewer, attempt
            else:
                at += size
        size //= 2
    return kept, furthest


def _impossible(model: Model, operations: list[Timed], deadline: float) -> Timed | None:
    """The operation that no order gets past, if it is found out in time that there is one."""
    left = Budget(max(0.01, deadline - time.monotonic()))
    attempt = search(model, operations, left, depth_first=False)
    return attempt.furthest if attempt.verdict == "impossible" else None


def closest(model: Model, kept: Sequence[Timed], furthest: Timed, seconds: float) -> list[int] | None:
    """An order, as rows, of everything that returned before ``furthest`` did, if one is found in time."""
    before = [_truncated(op, furthest.ret - 1) for op in kept]
    return search(model, before, Budget(seconds), depth_first=True, prepare=False).order


def _prefix(model: Model, operations: Sequence[Timed], end: int) -> list[Timed]:
    """What had happened when an operation returned; what returned later had not returned yet."""
    known = [_truncated(op, end) for op in operations if op.start <= end]
    return [op for op in known if op.ret != NEVER or not model.observes(op.call)]


def _truncated(op: Timed, end: int) -> Timed:
    """What is known of an operation at ``end``: one still open may have happened or not, but if so, like this."""
    return op if op.ret <= end else op._replace(ret=NEVER)


def _may_go(model: Model, op: Timed, among: Sequence[Timed]) -> bool:
    if model.observes(op.call):
        return True
    if not model.overwrites(op.call):
        return False
    value = op.call.argument
    return not any(_mentions(other.call, value) for other in among if other.row != op.row)


def _mentions(call: Any, value: Any) -> bool:
    """Whether another operation may have seen or wanted the value."""
    expected = call.argument[0] if call.f == "cas" and isinstance(call.argument, tuple) else None
    return value in (call.result, expected) or call.f not in ("read", "get", "write", "put", "cas")
