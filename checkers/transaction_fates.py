"""What became of acknowledged transactions in the end: of all that they appended, and last wrote to each register."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.checkers.fate import KEPT, LOST, UNKNOWN, Fates, of_wholes
from harness.checkers.register_fates import RegisterWrites, sides
from harness.checkers.remains import Remains, changed_otherwise, final_reads
from harness.checkers.transactions.columns import APPEND, READ, WRITE, Transactions
from harness.columns import Ints, hashable
from harness.history import FAIL, OK


def transaction_fates(transactions: Transactions) -> Fates:
    """The fate of each transaction; unknown for all but acknowledged ones that change something."""
    parts = [_of_appends(transactions), _of_writes(transactions)]
    owner = np.concatenate([of for of, _ in parts])
    return of_wholes(owner, np.concatenate([fate for _, fate in parts]), len(transactions))


def changed_keys(transactions: Transactions) -> set[Any]:
    """The keys that transactions may have changed, by name."""
    t = transactions
    changed = np.zeros(len(t.keys), dtype=bool)
    changed[t.key[(t.f != READ) & (t.type[t.owner] != FAIL)]] = True
    return {hashable(t.keys[key]) for key in np.flatnonzero(changed).tolist()}


def _of_appends(transactions: Transactions) -> tuple[Ints, Fates]:
    """The transaction of each acknowledged append, and what became of it. Nodes may differ: then nobody knows."""
    left = Remains(transactions)
    by_some, by_all = left.held
    fate = np.full(len(left.acknowledged), UNKNOWN, dtype=np.int8)
    fate[left.told & ~by_some] = LOST
    # Of two that are equal one may be gone.
    fate[by_all & left.unique] = KEPT
    return transactions.owner[left.acknowledged].astype(np.int64), fate


def _of_writes(transactions: Transactions) -> tuple[Ints, Fates]:
    """The same of the last write of each transaction to each register."""
    t = transactions
    if not (t.f == WRITE).any():
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int8)
    # Not before it is needed: it is compiled.
    from harness.checkers.transactions.registers import registers

    seen = registers(t)
    may_be = t.type[t.owner] != FAIL
    unclear = changed_otherwise(t)
    unclear[t.key[(t.f == APPEND) & may_be]] = True
    unclear[t.key[t.listed & (t.f == READ)]] = True  # what was written is no list
    rows = np.flatnonzero((seen.write >= 0) & (t.type != FAIL)[seen.owner])
    owner = seen.owner[rows].astype(np.int64)
    acknowledged = t.type[owner] == OK
    writes = RegisterWrites(
        seen.key_of,
        seen.write[rows],
        acknowledged & ~unclear[seen.key[rows]],
        sides(t.operations, t.rows[owner]),
        t.call[owner],
        t.ret[owner],
        np.where(acknowledged, seen.read[rows], -1),
        seen.keys,
        seen.ambiguous,
    )
    return owner, writes.fates(seen.version[final_reads(t)])
