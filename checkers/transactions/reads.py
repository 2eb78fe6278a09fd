"""Which write each read of a register observed, and the reads that no store of any isolation may answer so.

Values are unique: of a key each is written once. Then a read names the transaction it read from, and what follows rests
on that alone. The conditions are those of Biswas & Enea ("On the Complexity of Checking Transactional Consistency",
2019) as Møldrup & Pavlogiannis ("AWDIT: An Optimal Weak Database Isolation Tester", 2025) check them first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from harness.checkers.transactions.columns import APPEND, NIL, READ, UNKNOWN, WRITE, Transactions
from harness.checkers.transactions.components import grouped
from harness.checkers.transactions.graph import EXPLAINED, Found
from harness.columns import Ints
from harness.history import FAIL, INFO, OK
from harness.words import named, show

Ints32 = NDArray[np.int32]

INITIAL: Final = -1
"""The transaction before all others, which wrote nothing to every key."""

_SILENT, _SOURCE, _OWN, _GARBAGE, _ABORTED, _INTERMEDIATE, _FUTURE, _INTERNAL, _AMBIGUOUS = range(9)
"""What became of a micro-operation: no read with a known answer; reads another transaction's last write, or its own;
five that are wrong; and one that two may have written."""

KINDS: Final = {
    _GARBAGE: "garbage-read",
    _ABORTED: "G1a",
    _INTERMEDIATE: "G1b",
    _FUTURE: "future-read",
    _INTERNAL: "internal",
}
"""The names of what is wrong."""

njit = numba.njit(cache=True, nogil=True)


@dataclass(frozen=True)
class Reads:
    """What the transactions that happened observed of one another.

    ``happened`` holds for those that were acknowledged, and for crashed ones whose writes one of these has read. The
    reads of transaction ``i`` from others are the rows ``read_start[i]`` to ``read_start[i + 1]`` of ``read_key``,
    ``read_source`` (a transaction, or ``INITIAL``) and ``read_at`` (the micro-operation), in program order. What it
    wrote last to each key are the rows of ``write_key`` and ``write_at``, by key.
    """

    transactions: Transactions
    happened: NDArray[np.bool_]
    read_start: Ints
    read_key: Ints32
    read_source: Ints32
    read_at: Ints
    write_start: Ints
    write_key: Ints32
    write_at: Ints
    found: list[Found]
    """Reads that are wrong by themselves, at most ``EXPLAINED`` of each kind."""
    counts: dict[str, int]
    """How many there are of each kind."""
    unknown: str
    """Why nothing more can be said of some reads; empty where all are understood."""

    @classmethod
    def of(cls, transactions: Transactions) -> Reads:
        """Those of a history of registers; reads whose source is not known are left out, and ``unknown`` says so."""
        t = transactions
        n, f, key, value = len(t), t.f, t.key, t.value
        unknown = ""
        if (f == APPEND).any() or t.listed.any():
            unknown = "there are lists among the values: these are no registers"
            f = np.where((f == APPEND) | t.listed, np.int8(APPEND), f)
        table, final, doubled, nil_written = _writes(t.start, t.type, f, key, value, len(t.keys))
        status, source = _resolve(
            t.start, t.type, f, key, value, len(t.keys), t.owner, table, final, doubled, nil_written
        )
        happened = _happened(t.start, t.type, status, source)
        counted = happened[t.owner]
        if not unknown and (status[counted] == _AMBIGUOUS).any():
            at = int(np.flatnonzero(counted & (status == _AMBIGUOUS))[0])
            what = show(t.value_name(int(value[at])))
            unknown = f"values must be unique, but {what} of key {named(t.keys[key[at]])} is written twice, and read"
        read_at = np.flatnonzero(counted & (status == _SOURCE))
        write_at = np.flatnonzero(counted & (f == WRITE) & final)
        # By key inside each transaction: counted twice, by key and then by transaction.
        write_at = write_at[grouped(len(t.keys), key[write_at])[1]]
        write_at = write_at[grouped(n, t.owner[write_at])[1]]
        found, counts = _wrong(t, status, source, counted)
        return cls(
            t,
            happened,
            _bounds(t.owner[read_at], n),
            key[read_at],
            source[read_at],
            read_at,
            _bounds(t.owner[write_at], n),
            key[write_at],
            write_at,
            found,
            counts,
            unknown,
        )

    def wrote(self, transaction: int, key: int) -> Any:
        """What a transaction wrote last to a key, as the workload knows it; None where it wrote nothing to it."""
        for row in range(self.write_start[transaction], self.write_start[transaction + 1]):
            if self.write_key[row] == key:
                return self.transactions.value_name(int(self.transactions.value[self.write_at[row]]))
        return None


def name(transactions: Transactions, transaction: int) -> str:
    """A transaction, or the initial state, in a sentence."""
    if transaction == INITIAL:
        return "the initial state"
    return transactions.title(transaction)


def _bounds(owner: Ints32, n: int) -> Ints:
    start = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=n), out=start[1:])
    return start


def _wrong(
    t: Transactions, status: NDArray[np.int8], source: Ints32, counted: NDArray[np.bool_]
) -> tuple[list[Found], dict[str, int]]:
    found: list[Found] = []
    counts: dict[str, int] = {}
    for code, kind in KINDS.items():
        rows = np.flatnonzero(counted & (status == code))
        if not len(rows):
            continue
        counts[kind] = len(rows)
        for at in rows[:EXPLAINED].tolist():
            reader, key = int(t.owner[at]), int(t.key[at])
            me, what = name(t, reader), show(t.value_name(int(t.value[at])))
            read = f"{me} read {what} of key {named(t.keys[key])}"
            other = int(source[at])
            shown: tuple[int, ...] = (reader,)
            match code:
                case 3:
                    text = f"{read}, which nobody has written."
                case 4:
                    shown = (other, reader)
                    text = f"{read}, which {name(t, other)} wrote, and {name(t, other)} certainly did not commit."
                case 5:
                    shown = (other, reader)
                    text = (
                        f"{read}, which {name(t, other)} wrote and then overwrote itself: nobody else may see a value "
                        "from the middle of a transaction."
                    )
                case 6:
                    text = f"{read}, which it writes itself only later."
                case _:
                    text = f"{read}, although it had itself written another value to it before."
            found.append(Found(kind, shown, text, key))
    return found, counts


@njit
def _slot(table, f, key, value, wanted_key, wanted_value):  # type: ignore[no-untyped-def]
    """Where in the table of writes the one of this key and value is, or would be."""
    mask = np.uint64(len(table) - 1)
    mixed = np.uint64(wanted_value) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(wanted_key)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    at = (mixed >> np.uint64(24)) & mask
    while True:
        row = table[at]
        if row < 0 or (key[row] == wanted_key and value[row] == wanted_value):
            return at
        at = (at + np.uint64(1)) & mask


@njit
def _writes(start, type_, f, key, value, keys):  # type: ignore[no-untyped-def]
    """A hash table of the writes by key and value, which writes are their transaction's last of their key, which values
    two transactions may have written, and the keys to which nothing was written on purpose.

    Writes of failed transactions are in it only where nobody else wrote the same.
    """
    writes = 0
    for row in range(len(f)):
        writes += f[row] == WRITE
    size = 16
    while size < 2 * writes + 2:
        size *= 2
    table = np.full(size, -1, dtype=np.int32)
    final = np.zeros(len(f), dtype=np.bool_)
    doubled = np.zeros(len(f), dtype=np.bool_)
    nil_written = np.zeros(keys, dtype=np.bool_)
    last = np.full(keys, -1, dtype=np.int64)
    for failed in (False, True):
        for i in range(len(start) - 1):
            if (type_[i] == FAIL) != failed:
                continue
            for row in range(start[i], start[i + 1]):
                if f[row] != WRITE:
                    continue
                before = last[key[row]]
                if before >= start[i]:
                    final[before] = False
                final[row] = True
                last[key[row]] = row
                if value[row] == NIL:
                    nil_written[key[row]] |= not failed
                    continue
                at = _slot(table, f, key, value, key[row], value[row])
                there = table[at]
                if there < 0 or (there >= start[i] and there < start[i + 1]):
                    table[at] = row
                    if there >= 0:
                        doubled[row] = doubled[there]
                elif not failed:
                    doubled[there] = True
        last[:] = -1
    return table, final, doubled, nil_written


@njit
def _resolve(start, type_, f, key, value, keys, owner, table, final, doubled, nil_written):  # type: ignore[no-untyped-def]
    """What became of each micro-operation, and the transaction that each read observed or should not have."""
    status = np.zeros(len(f), dtype=np.int8)
    source = np.full(len(f), -1, dtype=np.int32)
    own = np.full(keys, -1, dtype=np.int64)
    for i in range(len(start) - 1):
        if type_[i] == FAIL:
            continue
        for row in range(start[i], start[i + 1]):
            if f[row] == WRITE:
                own[key[row]] = row
                continue
            if f[row] != READ or value[row] == UNKNOWN or (type_[i] == INFO and value[row] == NIL):
                continue
            mine = own[key[row]]
            if mine >= start[i]:
                status[row] = _OWN if value[mine] == value[row] else _INTERNAL
                continue
            if value[row] == NIL:
                status[row] = _AMBIGUOUS if nil_written[key[row]] else _SOURCE
                continue
            there = table[_slot(table, f, key, value, key[row], value[row])]
            if there < 0:
                status[row] = _GARBAGE
                continue
            writer = owner[there]
            source[row] = writer
            if doubled[there]:
                status[row] = _AMBIGUOUS
            elif writer == i:
                status[row] = _FUTURE
            elif type_[writer] == FAIL:
                status[row] = _ABORTED
            elif not final[there]:
                status[row] = _INTERMEDIATE
            else:
                status[row] = _SOURCE
    return status, source


@njit
def _happened(start, type_, status, source):  # type: ignore[no-untyped-def]
    """The transactions that were acknowledged, and the crashed ones that these have read from."""
    n = len(start) - 1
    happened = type_ == OK
    stack = np.empty(n, dtype=np.int64)
    height = 0
    for i in range(n):
        if type_[i] == OK:
            stack[height] = i
            height += 1
            while height:
                height -= 1
                reader = stack[height]
                for row in range(start[reader], start[reader + 1]):
                    writer = source[row]
                    seen = status[row] == _SOURCE or status[row] == _INTERMEDIATE
                    if seen and writer >= 0 and not happened[writer]:
                        happened[writer] = True
                        stack[height] = writer
                        height += 1
    return happened
