"""Dependencies of transactions that write unique values to registers and read them.

What was read tells who wrote it; in which order a register was written is only known as far as some source tells, see
``harness.checkers.transactions.version_order`` (Kingsbury & Alvaro, "Elle: Inferring Isolation Anomalies from
Experimental Observations", 2020). Unlike there, transactions that crashed have happened if one that committed read what
they wrote; what nobody wrote must not be read; and a value that two transactions wrote only matters if it was read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

import numpy as np

from harness.checkers.transactions.columns import NIL, Transactions
from harness.checkers.transactions.graph import Dependencies, Edges, Kind
from harness.checkers.transactions.register_anomalies import ambiguous_read, anomalies
from harness.checkers.transactions.register_kernel import (
    dependencies,
    followers,
    group,
    neighbours,
    successors,
)
from harness.checkers.transactions.registers import Mask, Registers, odd, registers
from harness.checkers.transactions.version_order import WFR, VersionOrder, edges_of_order, version_order
from harness.words import count

_MANY_EDGES: Final = 2_000_000
"""As many edges are written out even if some follow from others, so that cycles are as short as can be.

An edge that is left out beyond that leads to where a way leads that begins with an edge as strong or stronger, and has
no other anti-dependency: so each of its cycles has another of the same class, or of a class that refutes more.
"""
_MOST_EDGES: Final = 10_000_000
"""As many edges from transactions that found nothing to those that wrote are written out; else to those that returned
first of each key, at least one.
"""


def infer(transactions: Transactions, versions: Collection[str] = ()) -> Dependencies:
    """What depends on what, and the anomalies that are no cycles.

    ``versions`` says what orders the versions of a key beside the initial state: "wfr", "process", "realtime".
    Unknown if a value was read that two transactions wrote; partial if edges from the initial state are left out, which
    are too many. Raises ``ValueError`` for another source of versions.
    """
    if why := odd(transactions):
        return Dependencies(transactions, Edges.join([]), unknown=why)
    seen = registers(transactions)
    order = version_order(seen, versions)
    result = Dependencies(transactions, Edges.join([]), unknown=ambiguous_read(seen))
    wr = write_read_edges(seen)
    initial, left_out = _initial_edges(seen, order, wr)
    result.edges = Edges.join([*version_edges(seen, order), wr, initial])
    for kind, found, number in anomalies(seen, order, written_after_read=WFR in versions):
        result.add(kind, found, number)
    result.partial = left_out
    return result


def write_read_edges(seen: Registers) -> Edges:
    """Who wrote a value before all who read it from outside."""
    rows = np.flatnonzero(seen.committed & (seen.read >= seen.keys))
    version = seen.read[rows]
    writer = seen.sole[version]
    known = writer >= 0
    rows, version, writer = rows[known], version[known], writer[known]
    value = seen.value_of[version]
    return Edges.of(Kind.WR, writer, seen.owner[rows], seen.key[rows], value, value)


def version_edges(seen: Registers, order: VersionOrder) -> list[Edges]:
    """From edges between versions: their writers, one after the other, and readers before the next writers."""
    start, node = order.start, order.node
    reader_start, reader = seen.readers
    times = np.diff(start)
    if int((times * (1 + np.diff(reader_start))).sum()) > _MANY_EDGES:
        start, node = neighbours(start, node, seen.sole >= 0)
    overlooked = seen.ambiguous
    columns = dependencies(start, node, seen.sole, reader_start, reader, seen.owner, overlooked)
    return [
        Edges(
            source,
            target,
            np.full(len(source), kind, np.int8),
            seen.key_of[after],
            seen.value_of[before],
            seen.value_of[after],
        )
        for kind, (source, target, before, after) in zip((Kind.WW, Kind.RW), columns, strict=True)
    ]


def _initial_edges(seen: Registers, order: VersionOrder, wr: Edges) -> tuple[Edges, str]:
    """Who found nothing in a key before all who wrote it; and why some of these edges are left out, if so.

    Where that is much, edges are left out that follow from such a one to an earlier transaction and an edge from there.
    """
    usable = ~seen.ambiguous[: seen.keys]
    readers = np.flatnonzero(seen.committed & (seen.read >= 0) & (seen.read < seen.keys))
    readers = readers[usable[seen.key[readers]]]
    if not len(readers):
        return Edges.of(Kind.RW, [], []), ""
    writers = np.flatnonzero((seen.write >= seen.keys) & seen.happened[seen.owner])
    sought = np.zeros(seen.keys, dtype=bool)
    sought[seen.key[readers]] = True
    writers = writers[sought[seen.key[writers]]]
    number = np.bincount(seen.key[readers], minlength=seen.keys)
    if int(number[seen.key[writers]].sum()) > _MANY_EDGES:
        writers = writers[~_follows_another(seen, order, wr)[writers]]
    left_out = ""
    if int(number[seen.key[writers]].sum()) > _MOST_EDGES:
        ends = seen.transactions.ret[seen.owner[writers]]
        writers = writers[np.lexsort((ends, seen.key[writers]))]
        key = seen.key[writers]
        place = np.arange(len(key)) - np.searchsorted(key, key)
        left_out = (
            f"{count(len(readers), 'read')} found nothing in keys that were written {count(len(writers), 'time')}: too "
            "many pairs to look at all of them"
        )
        writers = writers[place < max(_MOST_EDGES // len(readers), 1)]
    start, row = group(seen.keys, seen.key[writers])
    writers = writers[row]
    key = seen.key[readers]
    times = np.diff(start)[key]
    pair = np.repeat(np.arange(len(readers)), times)
    offset = np.arange(len(pair)) - np.repeat(np.cumsum(times) - times, times)
    writer = writers[start[key[pair]] + offset]
    reader = readers[pair]
    return (
        Edges.of(Kind.RW, seen.owner[reader], seen.owner[writer], key[pair], NIL, seen.value_of[seen.write[writer]]),
        left_out,
    )


def _follows_another(seen: Registers, order: VersionOrder, wr: Edges) -> Mask:
    """Which accesses write a key after an earlier transaction that wrote it, too, by one other edge."""
    covered: Mask = followers(wr.source, wr.target, seen.start, seen.key, seen.write)
    before = np.repeat(np.arange(seen.versions), np.diff(order.start))
    after = order.node
    earlier = (seen.sole[before] >= 0) & (seen.sole[before] < seen.sole[after])
    followed = np.zeros(seen.versions, dtype=bool)
    followed[after[earlier]] = True
    wrote = seen.write >= 0
    covered[wrote] |= followed[seen.write[wrote]]
    return covered


def edges_of_versions(transactions: Transactions, pairs: Iterable[tuple[Any, Any, Any]]) -> Edges:
    """The ww and rw edges that follow if some versions come directly before others: (key, before, after), as values."""
    seen = registers(transactions)
    number = {
        (transactions.keys[key], transactions.value_name(int(value))): version
        for version, (key, value) in enumerate(zip(seen.key_of, seen.value_of, strict=True))
    }
    known = [(number.get((key, one), -1), number.get((key, other), -1)) for key, one, other in pairs]
    columns = np.array([pair for pair in known if min(pair) >= 0], np.int32).reshape(-1, 2)
    order = VersionOrder(*successors(seen.versions, columns[:, 0].copy(), columns[:, 1].copy()))
    return Edges.join(version_edges(seen, order))


def versions_of_order(transactions: Transactions, order: Iterable[tuple[int, int]]) -> dict[Any, set[tuple[Any, Any]]]:
    """Of each key the direct edges between its values, if some transactions (rows) come before others."""
    seen = registers(transactions)
    found: dict[Any, set[tuple[Any, Any]]] = {}
    for before, after in edges_of_order(seen, order):
        key = transactions.keys[seen.key_of[before]]
        pair = tuple(transactions.value_name(int(seen.value_of[version])) for version in (before, after))
        found.setdefault(key, set()).add((pair[0], pair[1]))
    return found
