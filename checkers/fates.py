"""What became of acknowledged writes in the end: of appends, registers' values, sets' elements, and transactions.

A fate is told only where it is certain. A value that is gone may have been overwritten: that its own side did it is
certain where the node that acknowledged it has acknowledged another one afterwards in the same term; that it is lost,
where nothing else that was written could have come after it, or where what is there in the end had been written before.

Nothing is told of what other functions do (counters, queues, locks, banks, ...), nor of a key that one of them has
changed beside those that are followed here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.checkers.fate import KEPT, LOST, UNKNOWN, Fates
from harness.checkers.final_reads import final_reads, rows_of, settled
from harness.checkers.lists import APPEND, Lists
from harness.checkers.register_fates import RegisterWrites, sides
from harness.checkers.timeline import select
from harness.checkers.transaction_fates import changed_keys, transaction_fates
from harness.checkers.transactions.columns import TRANSACTION, Transactions
from harness.columns import Ints, hashable
from harness.errors import HistoryError
from harness.history import FAIL, OK, Operations
from harness.writes import writing

_REGISTER: Final = ("write", "cas", "delete")
_SET: Final = ("add", "remove")


def fates(operations: Operations, lists: Lists) -> Fates:
    """The fate of each operation, a code into ``FATES``; unknown for all but acknowledged writes."""
    fate = np.full(len(operations), UNKNOWN, dtype=np.int8)
    names = set(operations.history.functions)
    transactions = _transactions(operations) if TRANSACTION in names else None
    within = set() if transactions is None else changed_keys(transactions)
    if APPEND in names and lists.repeated() is None:
        acknowledged = (operations.type[lists.appends] == OK) & lists.has_final[lists.append_key]
        acknowledged &= ~_changed_otherwise(operations, within, APPEND)[lists.append_key]
        by_some, by_all = lists.final_holders
        clear = np.where(by_all, KEPT, np.where(by_some, UNKNOWN, LOST))
        fate[lists.appends[acknowledged]] = clear[acknowledged]
    if names & {"write", "cas"}:
        _registers(operations, within, fate)
    if "add" in names:
        _sets(operations, within, fate)
    if transactions is not None:
        fate[transactions.rows] = transaction_fates(transactions)
    return fate


def _transactions(operations: Operations) -> Transactions | None:
    """The transactions; none where they are not of the kind that is known here, and nothing is told of them."""
    try:
        return Transactions.of(operations)
    except HistoryError:
        return None


def _changed_otherwise(operations: Operations, within: Collection[Any], *functions: str) -> NDArray[np.bool_]:
    """By key, whether any other function than these may have changed it; ``within`` are those that transactions did."""
    others = writing(operations) & (operations.type != FAIL)
    others[select(operations, *functions)] = False
    changed = np.zeros(len(operations.history.keys), dtype=bool)
    changed[operations.key[others]] = True
    if within:
        changed |= np.array([hashable(key) in within for key in operations.history.keys], dtype=bool)
    return changed


def _registers(operations: Operations, within: Collection[Any], fate: Fates) -> None:
    rows = select(operations, *_REGISTER)
    rows = rows[operations.type[rows] != FAIL]
    keys = len(operations.history.keys)
    versions: dict[tuple[int, Any], int] = {(key, None): key for key in range(keys)}

    def number(key: int, value: Any) -> int:
        return versions.setdefault((key, value), len(versions))

    written = [number(key, _written(operations, row)) for row, key in _with_keys(operations, rows)]
    reads = _final_reads(operations, rows)
    found = [number(key, hashable(operations.result(row))) for row, key in _with_keys(operations, reads)]
    otherwise = _changed_otherwise(operations, within, *_REGISTER)
    writes = RegisterWrites(
        np.array([key for key, _ in versions], dtype=np.int64),
        np.array(written, dtype=np.int64),
        (operations.type[rows] == OK) & ~otherwise[operations.key[rows]],
        sides(operations, rows),
        operations.call[rows],
        operations.ret[rows],
        np.full(len(rows), -1, dtype=np.int64),
        keys,
        np.zeros(len(versions), dtype=bool),
    )
    fate[rows] = writes.fates(np.array(found, dtype=np.int64))


def _with_keys(operations: Operations, rows: Ints) -> Iterator[tuple[int, int]]:
    """Some rows, each with the code of its key."""
    return zip(rows.tolist(), operations.key[rows].tolist(), strict=True)


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


def _final_reads(operations: Operations, writes: Ints) -> Ints:
    """The reads that began after every fault was healed and all writes of known outcome had returned."""
    rows = select(operations, "read", "read-local")
    rows = rows[operations.type[rows] == OK]
    final: Ints = rows[settled(operations, writes, rows)]
    return final


def _sets(operations: Operations, within: Collection[Any], fate: Fates) -> None:
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
    otherwise = _changed_otherwise(operations, within, *_SET)
    for row in rows_of(operations, "add"):
        key, element = operations.key_name(row), hashable(operations.argument(row))
        unclear = otherwise[operations.key[row]] or (key, element) in removed
        if operations.type[row] != OK or not held.get(key) or unclear:
            continue
        by = [element in elements for elements in held[key]]
        fate[row] = KEPT if all(by) else UNKNOWN if any(by) else LOST
