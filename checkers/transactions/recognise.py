"""What a history of transactions is about: lists, registers or predicates, and what registers held in the beginning."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.checkers.transactions.columns import APPEND, NIL, READ, TRANSACTION, WRITE, Transactions
from harness.checkers.transactions.graph import Found
from harness.columns import Ints
from harness.history import FAIL, INFO, NEVER, OK, History
from harness.words import named, show

LIST_APPEND: Final = "list-append"
RW_REGISTER: Final = "rw-register"
READ_MODIFY_WRITE: Final = "rmw"
PREDICATES: Final = "closed-predicate"
WORKLOADS: Final = (LIST_APPEND, RW_REGISTER, READ_MODIFY_WRITE, PREDICATES)
"""What transactions may be about, by the names of those who invented it."""
_INIT: Final = "init"
"""The function that fills the store, where transactions read by predicates."""
_OF_PREDICATES: Final = ("rp", "insert", "delete")
_LOOKED_AT: Final = 1000
"""How many transactions are looked at for predicates, which no others have."""


def is_transactional(history: History) -> bool:
    """Whether clients did nothing but transactions."""
    functions = history.client_functions()
    return TRANSACTION in functions and functions <= {TRANSACTION, _INIT}


def has_predicates(history: History) -> bool:
    """Whether the first transactions read by predicates, insert or delete, or a store was filled for such ones."""
    if _INIT in history.client_functions():
        return True
    if TRANSACTION not in history.functions:
        return False
    rows = np.flatnonzero(history.f == history.functions.index(TRANSACTION))[:_LOOKED_AT]
    for row in rows.tolist():
        value = history.value[row]
        if isinstance(value, list | tuple):
            for part in value:
                if isinstance(part, list | tuple) and part and part[0] in _OF_PREDICATES:
                    return True
    return False


def workload_of(transactions: Transactions) -> str:
    """Lists if anything is appended, or a list is read; else registers, whose writers have all read before, or not."""
    if transactions.listed.any() or (transactions.f == APPEND).any():
        return LIST_APPEND
    counted = transactions.type[transactions.owner] != FAIL
    writes = np.flatnonzero((transactions.f == WRITE) & counted)
    if not len(writes):
        return RW_REGISTER
    width = max(len(transactions.keys), 1)
    pair = transactions.owner.astype(np.int64) * width + transactions.key
    order = np.argsort(pair, kind="stable")
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = pair[order[1:]] != pair[order[:-1]]
    # The first micro-operation of each key in each transaction, at each of them.
    first = np.empty(len(order), np.int64)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return READ_MODIFY_WRITE if (transactions.f[first[writes]] == READ).all() else RW_REGISTER


def as_registers(transactions: Transactions) -> Transactions:
    """Lists as registers that hold the last element: what was read from whom stays the same."""
    value = transactions.value.copy()
    lists = np.flatnonzero(transactions.listed)
    value[lists] = transactions.element[transactions.list_start[value[lists] + 1] - 1]
    f = np.where(transactions.f == APPEND, np.int8(WRITE), transactions.f)
    return replace(transactions, f=f, value=value, listed=np.zeros(len(f), dtype=bool))


def without_sessions(transactions: Transactions) -> Transactions:
    """The same transactions, each of a process of its own."""
    return replace(transactions, process=np.arange(len(transactions), dtype=np.int64))


def unwritten_reads(transactions: Transactions) -> Ints:
    """The reads of registers, as rows of micro-operations, that find what nobody wrote and what was not there at first.

    Only reads of committed transactions count that follow no own write or read of the key. A store need not begin
    empty: the one value of a key that nobody wrote may be what it held in the beginning. It was not if that contradicts
    something: another transaction had written the key, or had read what was written there, before the read began;
    another one found nothing in it, which nobody had written, and had begun before the read ended; or another such
    value was read. In a history without times nothing is there at first, as AWDIT has it.
    """
    t = transactions
    width = max(len(t.keys), 1)
    writes = np.flatnonzero(t.f == WRITE)
    written = _pairs(t.key[writes], t.value[writes], width)
    reads = np.flatnonzero((t.f == READ) & ~t.listed & (t.type[t.owner] == OK))
    suspects = reads[t.value[reads] >= 0]
    suspects = suspects[~np.isin(_pairs(t.key[suspects], t.value[suspects], width), written)]
    if not len(suspects):
        return suspects
    pair = t.owner.astype(np.int64) * width + t.key
    first = np.zeros(len(pair), dtype=bool)
    first[np.unique(pair, return_index=True)[1]] = True
    external = reads[first[reads]]
    unwritten = suspects[first[suspects]]
    if not len(unwritten):
        return unwritten
    if t.operations.history.timeless:
        return unwritten
    committed = writes[t.type[t.owner[writes]] == OK]
    found = external[t.value[external] >= 0]
    later = np.concatenate([committed, found[np.isin(_pairs(t.key[found], t.value[found], width), written)]])
    overwritten = np.full(width, NEVER, np.int64)
    np.minimum.at(overwritten, t.key[later], t.ret[t.owner[later]])
    nothing = external[t.value[external] == NIL]
    empty = np.full(width, NEVER, np.int64)
    np.minimum.at(empty, t.key[nothing], t.call[t.owner[nothing]])
    empty[t.key[writes[t.value[writes] == NIL]]] = NEVER
    key, value = t.key[unwritten], t.value[unwritten]
    least, most = np.full(width, np.iinfo(np.int64).max), np.full(width, -1, np.int64)
    np.minimum.at(least, key, value)
    np.maximum.at(most, key, value)
    call, ret = t.call[t.owner[unwritten]], t.ret[t.owner[unwritten]]
    wrong: Ints = unwritten[(overwritten[key] < call) | (empty[key] < ret) | (least[key] != most[key])]
    return wrong


def garbage_read(transactions: Transactions, row: int) -> Found:
    """What is wrong with such a read."""
    t = transactions
    key, owner = int(t.key[row]), int(t.owner[row])
    read = f"{t.title(owner)} read {named(t.keys[key])} as {show(t.value_name(int(t.value[row])))}"
    return Found("garbage-read", (owner,), f"{read}, which nobody has written (garbage read)", key)


def _pairs(key: NDArray[np.int32], value: Ints, width: int) -> Ints:
    return value * width + key


def depends(transactions: Transactions, order: str) -> bool:
    """Whether an order of time, realtime, process or none, puts one transaction before another."""
    t = transactions
    done = t.type == OK
    if order == "realtime":
        later = done | (t.type == INFO)
        return bool(done.any() and later.any() and t.ret[done].min() < t.call[later].max())
    if order == "process":
        done = done & t.in_session
        return len(np.unique(t.process[done])) < int(done.sum())
    return False
