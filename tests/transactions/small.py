"""The transactions of a small history as an oracle sees them, and what orders them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from harness.history import FAIL, INFO, NEVER, TYPES, History

UNKNOWN: Final = "?"
"""What a read answered that nobody knows."""

Step = tuple[str, Any, Any]
"""A micro-operation: "r", "w" or "append"; a key; what was written or read. Lists are tuples, an empty one ()."""
Pairs = frozenset[tuple[int, int]]
"""Which transaction, by number, comes before which one."""


class Txn(NamedTuple):
    """One transaction; times are those of ``Operations``, its number is the row there."""

    number: int
    process: int
    type: str
    call: int
    ret: int
    steps: tuple[Step, ...]

    def writes(self) -> set[Any]:
        """The keys that it writes."""
        return {key for f, key, _ in self.steps if f != "r"}


def transactions(history: History, *, lists: bool) -> list[Txn]:
    """All transactions, on lists or on registers. Without a completion that answers, nobody knows what was read."""
    operations, found = history.operations(), []
    for row in range(len(operations)):
        asked, answer = operations.argument(row), operations.result(row)
        answered = isinstance(answer, list) and len(answer) == len(asked)
        kind = int(operations.type[row])
        steps = []
        for at, (f, key, value) in enumerate(asked):
            read = answer[at][2] if answered else UNKNOWN
            if kind in (INFO, FAIL) and read is None:
                read = UNKNOWN
            elif lists and f == "r" and read != UNKNOWN:
                read = tuple(read or ())
            steps.append((f, key, read if f == "r" else value))
        process, call, ret = int(operations.process[row]), int(operations.call[row]), int(operations.ret[row])
        found.append(Txn(row, process, TYPES[kind], call, ret, tuple(steps)))
    return found


def happened(txns: Sequence[Txn]) -> list[Txn]:
    """Those that did not certainly fail."""
    return [txn for txn in txns if txn.type != "fail"]


def seen(txns: Sequence[Txn]) -> list[Txn]:
    """The ok transactions, and the crashed ones of which somebody has read a write: those certainly happened."""
    found = {txn.number: txn for txn in txns if txn.type == "ok"}
    while True:
        read = set()
        for txn in found.values():
            for f, key, value in txn.steps:
                if f == "r" and value != UNKNOWN:
                    read |= {(key, one) for one in (value if isinstance(value, tuple) else (value,))}
        more = {
            txn.number: txn
            for txn in txns
            if txn.type == "info" and read & {(key, value) for f, key, value in txn.steps if f != "r"}
        }
        if more.keys() <= found.keys():
            return [found[number] for number in sorted(found)]
        found |= more


def real_time(txns: Sequence[Txn]) -> Pairs:
    """One has returned before the other was called. Nothing follows a crash."""
    return frozenset(
        (a.number, b.number) for a in txns for b in txns if a.type == "ok" and a.ret != NEVER and a.ret < b.call
    )


def process_order(txns: Sequence[Txn], *, crashed: bool) -> Pairs:
    """One has returned before the same process called the other; ``crashed``: also one that crashed then."""
    return frozenset(
        (a.number, b.number)
        for a in txns
        for b in txns
        if a.type == "ok" and a.process == b.process and a.ret < b.call and (crashed or b.type == "ok")
    )


def reads_outside(txn: Txn) -> list[tuple[int, Any, Any]]:
    """Place, key and value of the known reads of keys of registers that it had not written itself before."""
    written, found = set(), []
    for at, (f, key, value) in enumerate(txn.steps):
        if f != "r":
            written.add(key)
        elif key not in written and value != UNKNOWN:
            found.append((at, key, value))
    return found


def last_writes(txn: Txn) -> dict[Any, Any]:
    """What it leaves in each key that it writes."""
    return {key: value for f, key, value in txn.steps if f != "r"}


def reads_own_writes(txn: Txn) -> bool:
    """Whether each read of a register that it had written itself found its last write."""
    own: dict[Any, Any] = {}
    for f, key, value in txn.steps:
        if f != "r":
            own[key] = value
        elif value not in (UNKNOWN, own.get(key, value)):
            return False
    return True
