"""Dependencies of transactions that append unique elements to lists and read them whole.

A list shows the whole order in which it was written, so nothing has to be guessed (Kingsbury & Alvaro, "Elle: Inferring
Isolation Anomalies from Experimental Observations", 2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.checkers.transactions.columns import APPEND, NIL, READ, Transactions
from harness.checkers.transactions.graph import Dependencies, Edges, Kind
from harness.checkers.transactions.list_anomalies import anomalies, internal
from harness.checkers.transactions.list_orders import Orders, orders_of
from harness.checkers.transactions.lists import index_pairs, previous_of_key
from harness.columns import Ints
from harness.history import OK
from harness.words import show

_MOST_PAIRS: Final = 5_000_000


def infer(transactions: Transactions) -> Dependencies:
    """What depends on what, and the anomalies that are no cycles; unknown where elements are not unique."""
    dependencies = Dependencies(transactions, Edges.join([]))
    if why := _odd(transactions):
        dependencies.unknown = why
        return dependencies
    appends = np.flatnonzero(transactions.f == APPEND)
    table, repeated = index_pairs(transactions.key[appends], transactions.value[appends])
    if repeated >= 0:
        again = int(appends[repeated])
        key, value = transactions.keys[transactions.key[again]], transactions.value_name(int(transactions.value[again]))
        who = transactions.title(int(transactions.owner[again]))
        dependencies.unknown = f"elements must be unique, but {who} appends {show(value)} to {show(key)} a second time"
        previous = previous_of_key(transactions.start, transactions.key, len(transactions.keys))
        dependencies.add(*internal(transactions, transactions.type == OK, previous))
        return dependencies
    orders = orders_of(transactions, appends, table)
    ends = _ends(orders)
    missed, left_out = _missed_unread(orders, ends)
    dependencies.edges = Edges.join([*_write_edges(orders), _seen_edges(orders), _missed_next(orders, ends), missed])
    unread = orders.unread
    dependencies.unordered = (transactions.key[unread].astype(np.int64), transactions.owner[unread].astype(np.int64))
    if left_out:
        dependencies.partial = f"there are more than {_MOST_PAIRS:,} pairs of reads and appends that nobody has read"
    for kind, found, number in anomalies(orders):
        dependencies.add(kind, found, number)
    return dependencies


def _odd(transactions: Transactions) -> str:
    """Why these are no transactions on lists."""
    read = transactions.f == READ
    numbers = read & ~transactions.listed & (transactions.value >= 0)
    other = ~read & (transactions.f != APPEND)
    nothing = (transactions.f == APPEND) & (transactions.value < 0)
    for wrong, what in (
        (numbers, "a read finds {0}, which is no list"),
        (other, "{0} is written, not appended"),
        (nothing, "{0} is appended, which is nothing"),
    ):
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            said = what.format(show(transactions.value_name(int(transactions.value[at]))))
            return f"{said}, in {transactions.title(int(transactions.owner[at]))}"
    return ""


def _write_edges(orders: Orders) -> Iterator[Edges]:
    """Each writer before the writer of the next element; the last before those of whom nobody has read."""
    places = np.flatnonzero(orders.chain)
    key = np.searchsorted(orders.start, places, side="right") - 1
    follows = key[1:] == key[:-1]
    before, after = places[:-1][follows], places[1:][follows]
    yield Edges.of(
        Kind.WW,
        orders.writer[before],
        orders.writer[after],
        key[1:][follows],
        orders.element[before],
        orders.element[after],
    )
    transactions, unread = orders.transactions, orders.unread
    upto, _ = orders.around
    last = np.full(len(transactions.keys), -1, np.int64)
    some = np.flatnonzero(np.diff(orders.start))
    last[some] = upto[orders.start[some + 1] - 1]
    ends = last[transactions.key[unread]]
    known = ends >= 0
    appended = unread[known]
    yield Edges.of(
        Kind.WW,
        orders.writer[ends[known]],
        transactions.owner[appended],
        transactions.key[appended],
        orders.element[ends[known]],
        transactions.value[appended],
    )


def _seen_edges(orders: Orders) -> Edges:
    """Writers before those that read their element."""
    transactions = orders.transactions
    wrote = orders.last_append
    known = (wrote >= 0) & orders.happened[transactions.owner[wrote]]
    reads, wrote = orders.reads[known], wrote[known]
    value = transactions.value[wrote]
    return Edges.of(
        Kind.WR, transactions.owner[wrote], transactions.owner[reads], transactions.key[reads], value, value
    )


class _Ends(NamedTuple):
    """Where reads end whose place in the order is known: who read what key, up to which element, or ``NIL``.

    ``following`` is the place in the chain that comes next, or -1. Who read an own append comes before the writer of
    the next element by writing already, and is left out.
    """

    reader: NDArray[np.int32]
    key: Ints
    before: Ints
    following: Ints


def _ends(orders: Orders) -> _Ends:
    transactions = orders.transactions
    owner, wrote = transactions.owner[orders.reads], orders.last_append
    other = (orders.seen != -2) & ~((wrote >= 0) & (transactions.owner[wrote] == owner))
    key, seen = transactions.key[orders.reads[other]].astype(np.int64), orders.seen[other]
    found = seen >= orders.start[key]
    before = np.full(len(seen), NIL, np.int64)
    before[found] = orders.element[seen[found]]
    inside = seen + 1 < orders.start[key + 1]
    following = np.full(len(seen), -1, np.int64)
    following[inside] = orders.around[1][seen[inside] + 1]
    return _Ends(owner[other], key, before, following)


def _missed_next(orders: Orders, ends: _Ends) -> Edges:
    """Readers before the writer of the element next to what they read."""
    some = ends.following >= 0
    places = ends.following[some]
    writer, element = orders.writer[places], orders.element[places]
    return Edges.of(Kind.RW, ends.reader[some], writer, ends.key[some], ends.before[some], element)


def _missed_unread(orders: Orders, ends: _Ends) -> tuple[Edges, bool]:
    """Who read the last element of a key before those whose append nobody has read: all pairs of each key.

    If these are more than memory should be spent on, some are left out, and the second answer says so.
    """
    transactions = orders.transactions
    last = ends.following < 0
    reader, key, before = ends.reader[last], ends.key[last], ends.before[last]
    unread = orders.unread[np.argsort(transactions.key[orders.unread], kind="stable")]
    number = np.bincount(transactions.key[unread], minlength=len(transactions.keys))
    begin = np.concatenate([[0], np.cumsum(number)])
    times = number[key]
    left_out = bool(times.sum() > _MOST_PAIRS)
    if left_out:
        times = np.minimum(times, max(_MOST_PAIRS // len(reader), 1))
    pairs = np.repeat(np.arange(len(reader)), times)
    offset = np.arange(len(pairs)) - np.repeat(np.cumsum(times) - times, times)
    append = unread[begin[key[pairs]] + offset]
    edges = Edges.of(
        Kind.RW, reader[pairs], transactions.owner[append], key[pairs], before[pairs], transactions.value[append]
    )
    return edges, left_out
