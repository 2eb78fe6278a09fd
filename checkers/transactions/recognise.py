"""What a history of transactions is about: lists, registers or predicates, and what registers held in the beginning."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.checkers.transactions.columns import APPEND, NEVER_CALLED, NIL, READ, TRANSACTION, WRITE, Transactions
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


def client_functions(history: History) -> set[str]:
    """The functions that clients called, by name."""
    return {history.functions[code] for code in np.unique(history.f[history.process >= 0]).tolist()}


def is_transactional(history: History) -> bool:
    """Whether clients did nothing but transactions."""
    functions = client_functions(history)
    return TRANSACTION in functions and functions <= {TRANSACTION, _INIT}


def has_predicates(history: History) -> bool:
    """Whether the first transactions read by predicates, insert or delete, or a store was filled for such ones."""
    if _INIT in client_functions(history):
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
    empty: the one value of a key that nobody wrote, of several the first, can be what it held in the beginning. It was
    not if another transaction had written the key before the read began, or found nothing in it and began no later;
    and two must have read it, or one before anybody else came to that key. In a history without times nothing is there
    at first, as AWDIT has it.
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
    keys = np.unique(t.key[unwritten])
    committed = writes[t.type[t.owner[writes]] == OK]
    return np.array(
        [row for key in keys.tolist() for row in _not_initial(t, key, unwritten, committed, external)],
        np.int64,
    )


def garbage_read(transactions: Transactions, row: int) -> Found:
    """What is wrong with such a read."""
    t = transactions
    key, owner = int(t.key[row]), int(t.owner[row])
    read = f"{t.title(owner)} read {named(t.keys[key])} as {show(t.value_name(int(t.value[row])))}"
    return Found("garbage-read", (owner,), f"{read}, which nobody has written (garbage read)", key)


def _not_initial(t: Transactions, key: int, unwritten: Ints, committed: Ints, external: Ints) -> list[int]:
    """Those reads of one key that are wrong."""
    mine = unwritten[t.key[unwritten] == key]
    if t.operations.history.timeless:
        return [int(row) for row in mine]
    written = t.ret[t.owner[committed[t.key[committed] == key]]].min(initial=NEVER)
    others = external[t.key[external] == key]
    nothing = t.call[t.owner[others[t.value[others] == NIL]]]
    nothing = nothing[nothing != NEVER_CALLED]
    touched = t.owner[np.flatnonzero(t.key == key)]
    first = int(t.value[mine[0]])
    confirmed = int((t.value[mine] == first).sum()) > 1
    wrong = []
    for row in mine.tolist():
        owner = int(t.owner[row])
        call, ret = int(t.call[owner]), int(t.ret[owner])
        other = t.call[touched[touched != owner]]
        begins = len(other) > 0 and call != NEVER_CALLED and ret < int(other.min())
        was_else = call != NEVER_CALLED and (written < call or (nothing < ret).any())
        alone = not confirmed and not begins and not _contradicts_itself(t, row)
        if int(t.value[row]) != first or was_else or alone:
            wrong.append(row)
    return wrong


def _contradicts_itself(t: Transactions, row: int) -> bool:
    """Whether a transaction reads the key of a read again, and something else: that is what is wrong with it, then."""
    span = np.arange(t.start[t.owner[row]], t.start[t.owner[row] + 1])
    again = span[(t.key[span] == t.key[row]) & (t.f[span] == READ)]
    return bool((t.value[again] != t.value[row]).any())


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
        return len(np.unique(t.process[done])) < int(done.sum())
    return False
