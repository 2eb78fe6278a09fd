"""What became of acknowledged writes in the end: of appends, of registers' values, of sets' elements.

A fate is told only where it is certain. A value that is gone may have been overwritten: that its own side did it is
certain where the node that acknowledged it has acknowledged another one afterwards; that it is lost, where nothing else
that was written could have come after it, or where what is there in the end had been written before it.

Nothing is told of what other functions do (counters, queues, locks, banks, ...), nor of a key that one of them has
changed beside those that are followed here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.checkers.final_reads import final_reads, rows_of, settled
from harness.checkers.lists import APPEND, Lists
from harness.checkers.reigns import writing
from harness.checkers.timeline import select
from harness.columns import Ints, hashable
from harness.history import FAIL, NEVER, OK, Operations

FATES: Final = ("kept", "lost", "overwritten", "unknown")
KEPT, LOST, OVERWRITTEN, UNKNOWN = range(4)
_REGISTER: Final = ("write", "cas", "delete")
_SET: Final = ("add", "remove")


def fates(operations: Operations, lists: Lists) -> NDArray[np.int8]:
    """The fate of each operation, a code into ``FATES``; unknown for all but acknowledged writes."""
    fate = np.full(len(operations), UNKNOWN, dtype=np.int8)
    names = set(operations.history.functions)
    if APPEND in names and lists.repeated() is None:
        acknowledged = (operations.type[lists.appends] == OK) & lists.has_final[lists.append_key]
        acknowledged &= ~_changed_otherwise(operations, APPEND)[lists.append_key]
        by_some, by_all = lists.final_holders
        clear = np.where(by_all, KEPT, np.where(by_some, UNKNOWN, LOST))
        fate[lists.appends[acknowledged]] = clear[acknowledged]
    if names & {"write", "cas"}:
        _registers(operations, fate)
    if "add" in names:
        _sets(operations, fate)
    return fate


def _changed_otherwise(operations: Operations, *functions: str) -> NDArray[np.bool_]:
    """By key, whether any other function than these may have changed it."""
    others = writing(operations) & (operations.type != FAIL)
    others[select(operations, *functions)] = False
    changed = np.zeros(len(operations.history.keys), dtype=bool)
    changed[operations.key[others]] = True
    return changed


def _registers(operations: Operations, fate: NDArray[np.int8]) -> None:
    rows = select(operations, *_REGISTER)
    otherwise = _changed_otherwise(operations, *_REGISTER)
    rows = rows[operations.type[rows] != FAIL]
    key, call, ret = operations.key[rows], operations.call[rows], operations.ret[rows]
    finals = _final_values(operations, rows)
    # The latest moment at which each node has begun a write of each key that it acknowledged.
    server = operations.server[rows].astype(np.int64)
    side = key * (len(operations.history.nodes) + 1) + server
    latest = np.full(int(side.max(initial=0)) + 1, -1, dtype=np.int64)
    own = (operations.type[rows] == OK) & (server > 0)
    np.maximum.at(latest, side[own], call[own])
    # The latest moment at which another write of the key may still have taken effect.
    keys = int(key.max(initial=0)) + 1
    most, second = np.full(keys, -1, dtype=np.int64), np.full(keys, -1, dtype=np.int64)
    for k, end in zip(key.tolist(), ret.tolist(), strict=True):
        if end > most[k]:
            most[k], second[k] = end, most[k]
        elif end > second[k]:
            second[k] = end
    over = _written_by(operations, rows)
    for at in np.flatnonzero(operations.type[rows] == OK).tolist():
        row, k = int(rows[at]), int(key[at])
        if k not in finals or otherwise[k]:
            continue
        others = second[k] if ret[at] == most[k] else most[k]
        if _written(operations, row) in finals[k]:
            fate[row] = KEPT
        elif own[at] and latest[side[at]] > ret[at]:
            fate[row] = OVERWRITTEN
        elif others < call[at] or all(over.get((k, value), NEVER) < call[at] for value in finals[k]):
            fate[row] = LOST


def _written_by(operations: Operations, writes: Ints) -> dict[tuple[int, Any], int]:
    """By key and value when the write of it had returned; never, where several wrote it. Nothing is there at first."""
    returned: dict[tuple[int, Any], int] = {(key, None): -1 for key in operations.key[writes].tolist()}
    for row in writes.tolist():
        written = int(operations.key[row]), _written(operations, row)
        # A deletion is one of several, since nothing was there at first as well.
        returned[written] = NEVER if written in returned else int(operations.ret[row])
    return returned


def _written(operations: Operations, row: int) -> Any:
    """What a write left behind."""
    argument = operations.argument(row)
    match operations.name(row):
        case "cas":
            return hashable(argument[1]) if isinstance(argument, list | tuple) and len(argument) == 2 else _NO_VALUE
        case "delete":
            return None
    return hashable(argument)


_NO_VALUE: Final = object()


def _final_values(operations: Operations, writes: Ints) -> dict[int, set[Any]]:
    """By key what reads found that began after every fault was healed and all writes of known outcome had returned."""
    finals: dict[int, set[Any]] = {}
    rows = select(operations, "read", "read-local")
    rows = rows[operations.type[rows] == OK]
    for row in rows[settled(operations, writes, rows)].tolist():
        finals.setdefault(int(operations.key[row]), set()).add(hashable(operations.result(row)))
    return finals


def _sets(operations: Operations, fate: NDArray[np.int8]) -> None:
    last_reads = final_reads(operations, "members-local")
    rows = np.array([row for by_node in last_reads.values() for row in by_node.values()], dtype=np.int64)
    changes = select(operations, *_SET)
    changes = changes[operations.type[changes] != FAIL]
    final = set(rows[settled(operations, changes, rows)].tolist())
    held: dict[Any, list[set[Any]]] = {}
    for key, by_node in last_reads.items():
        found = [operations.result(row) for row in by_node.values() if row in final]
        if all(elements is None or isinstance(elements, list | tuple) for elements in found):
            held[key] = [{hashable(element) for element in elements or ()} for elements in found]
    removed = {
        (operations.key_name(row), hashable(operations.argument(row)))
        for row in rows_of(operations, "remove")
        if operations.type[row] != FAIL
    }
    otherwise = _changed_otherwise(operations, *_SET)
    for row in rows_of(operations, "add"):
        key, element = operations.key_name(row), hashable(operations.argument(row))
        unclear = otherwise[operations.key[row]] or (key, element) in removed
        if operations.type[row] != OK or not held.get(key) or unclear:
            continue
        by = [element in elements for elements in held[key]]
        fate[row] = KEPT if all(by) else UNKNOWN if any(by) else LOST
