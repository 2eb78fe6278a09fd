"""The order in which each list was appended to, and where each read stands in it.

The order of a key is its longest list that a transaction read that has happened: those that committed, and crashed ones
of which such a transaction has read an element. What was appended and is in no list comes after all that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.checkers.transactions.columns import APPEND, READ, UNKNOWN, Transactions
from harness.checkers.transactions.lists import (
    appends_around,
    are_prefixes,
    find_pairs,
    index_pairs,
    longest_lists,
    previous_of_key,
)
from harness.columns import Ints
from harness.history import INFO, OK

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Orders:
    """The order of each key's elements, and where each read stands in it.

    The elements of key ``k`` are the places ``start[k]`` to ``start[k + 1]`` of ``element``; ``append`` is the
    micro-operation that appended each, or -1, ``writer`` its transaction. ``chain`` marks places that count: the first
    of an element, of a transaction that has happened.

    ``reads`` are the reads of transactions that have happened; ``prefix`` says which of them agree with the order;
    ``seen`` is the place of the last element that each found, ``start[k] - 1`` for nothing, -2 if it is not in the
    order; ``last_append`` is the micro-operation that appended it, -1 if nobody did. ``previous`` is, for each
    micro-operation, the one before it in its transaction on the same key, or -1; ``append_before`` and
    ``append_behind`` are the next appends to it there.
    """

    transactions: Transactions
    happened: Mask
    appends: Ints
    table: Ints
    start: Ints
    element: Ints
    append: Ints
    writer: Ints
    first: Mask
    chain: Mask
    reads: Ints
    prefix: Mask
    seen: Ints
    last_append: Ints
    previous: Ints
    append_before: Ints
    append_behind: Ints

    @cached_property
    def around(self) -> tuple[Ints, Ints]:
        """For each place the last place of its key's chain up to it, and the first from it on; -1: there is none."""
        total = len(self.element)
        places = np.arange(total)
        sizes = np.diff(self.start)
        begin = np.repeat(self.start[:-1], sizes)
        end = np.repeat(self.start[1:], sizes)
        upto = np.maximum.accumulate(np.where(self.chain, places, -1)) if total else places
        upto = np.where(upto >= begin, upto, -1)
        onward = np.where(self.chain, places, total)
        onward = np.minimum.accumulate(onward[::-1])[::-1] if total else places
        onward = np.where(onward < end, onward, -1)
        return upto, onward

    @cached_property
    def unread(self) -> Ints:
        """The appends that have happened and are in no order."""
        in_order = np.zeros(len(self.transactions.f), dtype=bool)
        in_order[self.append[self.append >= 0]] = True
        happened = self.happened[self.transactions.owner[self.appends]]
        unread: Ints = self.appends[~in_order[self.appends] & happened]
        return unread


def orders_of(transactions: Transactions, appends: Ints, table: Ints) -> Orders:
    """The orders of all keys; ``table`` finds the ``appends`` by key and element (see ``index_pairs``)."""
    happened = transactions.type == OK
    is_read = (transactions.f == READ) & (transactions.value != UNKNOWN)
    while True:
        reads = np.flatnonzero(is_read & happened[transactions.owner])
        listed = reads[transactions.listed[reads]]
        key, number = transactions.key[listed], transactions.value[listed]
        longest = longest_lists(len(transactions.keys), key, number, transactions.list_start)
        prefix = are_prefixes(key, number, transactions.list_start, transactions.element, longest)
        seen_lists = np.concatenate([longest[longest >= 0], number[~prefix]])
        elements, of_list = _elements(transactions, seen_lists)
        keys = np.concatenate([np.flatnonzero(longest >= 0), key[~prefix]])[of_list]
        rows = find_pairs(table, transactions.key[appends], transactions.value[appends], keys, elements)
        writers = transactions.owner[appends[rows[rows >= 0]]]
        crashed = np.unique(writers[(transactions.type[writers] == INFO) & ~happened[writers]])
        if not len(crashed):
            break
        happened = happened.copy()
        happened[crashed] = True
    ordered = int(np.diff(transactions.list_start)[longest[longest >= 0]].sum())
    sizes = np.zeros(len(transactions.keys), np.int64)
    known = longest >= 0
    sizes[known] = np.diff(transactions.list_start)[longest[known]]
    start = np.concatenate([[0], np.cumsum(sizes)])
    element, rows = elements[:ordered], rows[:ordered]
    append = np.where(rows >= 0, appends[rows], -1) if len(appends) else np.full(len(rows), -1, np.int64)
    writer = np.where(append >= 0, transactions.owner[append], -1) if len(append) else append
    first = np.ones(ordered, dtype=bool)
    key_of = np.repeat(np.arange(len(sizes)), sizes)
    _, again = index_pairs(key_of, element)
    if again >= 0:
        order = np.lexsort((np.arange(ordered), element, key_of))
        same = (key_of[order[1:]] == key_of[order[:-1]]) & (element[order[1:]] == element[order[:-1]])
        first[order[1:][same]] = False
    chain = first & (writer >= 0) & happened[writer]
    found = transactions.listed[reads]
    agrees = np.ones(len(reads), dtype=bool)
    agrees[found] = prefix
    read_key = transactions.key[reads]
    length = np.zeros(len(reads), np.int64)
    length[found] = np.diff(transactions.list_start)[transactions.value[reads[found]]]
    seen = start[read_key] + length - 1
    last_append = np.full(len(reads), -1, np.int64)
    some = found & agrees
    last_append[some] = append[seen[some]]
    if not agrees.all():
        astray = np.flatnonzero(~agrees)
        last = transactions.element[transactions.list_start[transactions.value[reads[astray]] + 1] - 1]
        row = find_pairs(table, transactions.key[appends], transactions.value[appends], read_key[astray], last)
        last_append[astray] = np.where(row >= 0, appends[row], -1) if len(appends) else -1
        place_table, _ = index_pairs(key_of, element)
        place = find_pairs(place_table, key_of, element, read_key[astray].astype(np.int64), last)
        seen[astray] = np.where(place >= 0, place, -2)
    return Orders(
        transactions,
        happened,
        appends,
        table,
        start,
        element,
        append,
        writer,
        first,
        chain,
        reads,
        agrees,
        seen,
        last_append,
        previous_of_key(transactions.start, transactions.key, len(transactions.keys)),
        *appends_around(transactions.start, transactions.key, transactions.f == APPEND, len(transactions.keys)),
    )


def _elements(transactions: Transactions, lists: Ints) -> tuple[Ints, Ints]:
    """The elements of some lists, one after the other, and the place among ``lists`` of the list of each."""
    sizes = np.diff(transactions.list_start)[lists]
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    shift = np.repeat(transactions.list_start[:-1][lists] - (ends - sizes), sizes)
    return transactions.element[shift + np.arange(total)], np.repeat(np.arange(len(lists)), sizes)
