"""Lists compared and elements looked up, compiled: the innermost loops of the inference from lists."""

from __future__ import annotations

import numba
import numpy as np

njit = numba.njit(cache=True, nogil=True)
part_of_table = numba.njit(cache=True, nogil=True, forceinline=True)


@part_of_table
def _slot(key, value, mask):  # type: ignore[no-untyped-def]
    """Where a pair would stand in a table: a multiplicative mix of both numbers."""
    mixed = np.uint64(value) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    return np.int64(mixed & np.uint64(mask))


@njit
def index_pairs(keys, values):  # type: ignore[no-untyped-def]
    """A table of pairs of key and value, and the first row that has the pair of an earlier one; -1: none has."""
    size = 16
    while size < 2 * len(keys):
        size *= 2
    table = np.full(size, -1, np.int64)
    mask = size - 1
    repeated = -1
    for row in range(len(keys)):
        slot = _slot(keys[row], values[row], mask)
        while table[slot] >= 0:
            other = table[slot]
            if keys[other] == keys[row] and values[other] == values[row]:
                if repeated < 0:
                    repeated = row
                break
            slot = (slot + 1) & mask
        else:
            table[slot] = row
    return table, repeated


@njit
def find_pairs(table, keys, values, sought_keys, sought_values):  # type: ignore[no-untyped-def]
    """The row of each pair that is sought; -1 where there is none."""
    mask = len(table) - 1
    rows = np.full(len(sought_keys), -1, np.int64)
    for at in range(len(sought_keys)):
        slot = _slot(sought_keys[at], sought_values[at], mask)
        while table[slot] >= 0:
            row = table[slot]
            if keys[row] == sought_keys[at] and values[row] == sought_values[at]:
                rows[at] = row
                break
            slot = (slot + 1) & mask
    return rows


@njit
def longest_lists(keys, key, number, start):  # type: ignore[no-untyped-def]
    """For each of ``keys`` keys the longest list that a read found, the first of them; -1: none was found."""
    longest = np.full(keys, -1, np.int64)
    length = np.zeros(keys, np.int64)
    for at in range(len(key)):
        size = start[number[at] + 1] - start[number[at]]
        if size > length[key[at]]:
            length[key[at]] = size
            longest[key[at]] = number[at]
    return longest


@njit
def are_prefixes(key, number, start, element, longest):  # type: ignore[no-untyped-def]
    """Whether the list of each read begins the longest list of its key."""
    prefix = np.ones(len(key), np.bool_)
    for at in range(len(key)):
        mine, theirs = start[number[at]], start[longest[key[at]]]
        if mine == theirs:
            continue
        for place in range(start[number[at] + 1] - mine):
            if element[mine + place] != element[theirs + place]:
                prefix[at] = False
                break
    return prefix


@njit
def previous_of_key(start, key, keys):  # type: ignore[no-untyped-def]
    """For each micro-operation the one before it in its transaction on the same key; -1 for the first."""
    previous = np.full(len(key), -1, np.int64)
    last = np.full(keys, -1, np.int64)
    for transaction in range(len(start) - 1):
        first = start[transaction]
        for at in range(first, start[transaction + 1]):
            if last[key[at]] >= first:
                previous[at] = last[key[at]]
            last[key[at]] = at
    return previous


@njit
def appends_around(start, key, is_append, keys):  # type: ignore[no-untyped-def]
    """For each micro-operation the next append to its key before it in its transaction, and behind it; or -1."""
    before = np.full(len(key), -1, np.int64)
    behind = np.full(len(key), -1, np.int64)
    last = np.full(keys, -1, np.int64)
    for transaction in range(len(start) - 1):
        first, end = start[transaction], start[transaction + 1]
        for at in range(first, end):
            if last[key[at]] >= first:
                before[at] = last[key[at]]
            if is_append[at]:
                last[key[at]] = at
    last[:] = -1
    for transaction in range(len(start) - 1):
        first, end = start[transaction], start[transaction + 1]
        for at in range(end - 1, first - 1, -1):
            if first <= last[key[at]] < end:
                behind[at] = last[key[at]]
            if is_append[at]:
                last[key[at]] = at
    return before, behind


@njit
def first_of_later_appends(start, key, is_append, place, keys):  # type: ignore[no-untyped-def]
    """For each micro-operation that append behind it, in its transaction and to its key, which stands first; or -1.

    ``place`` is where what was appended stands in the order of its key, or -1 if it is not there.
    """
    earliest = np.full(len(key), -1, np.int64)
    best = np.full(keys, -1, np.int64)
    for transaction in range(len(start) - 1):
        first, end = start[transaction], start[transaction + 1]
        for at in range(end - 1, first - 1, -1):
            known = best[key[at]]
            if not first <= known < end:
                known = np.int64(-1)
            earliest[at] = known
            if is_append[at] and place[at] >= 0 and (known < 0 or place[at] < place[known]):
                best[key[at]] = at
    return earliest


@njit
def internal_errors(rows, previous, is_read, listed, value, start, element):  # type: ignore[no-untyped-def]
    """Of the reads in ``rows``, those that do not find what their own transaction has read and appended before.

    ``value`` is the number of a list where ``listed``, else nothing was found (-1) or nobody knows (-2).
    """
    wrong = np.zeros(len(rows), np.bool_)
    for place in range(len(rows)):
        at = rows[place]
        if value[at] == -2 or previous[at] < 0:
            continue
        begin, end = np.int64(0), np.int64(0)
        if listed[at]:
            begin, end = start[value[at]], start[value[at] + 1]
        before = previous[at]
        while before >= 0 and not is_read[before]:
            end -= 1
            if end < begin or element[end] != value[before]:
                wrong[place] = True
                break
            before = previous[before]
        if wrong[place] or before < 0 or value[before] == -2:
            continue
        size = np.int64(0)
        other = np.int64(0)
        if listed[before]:
            other = start[value[before]]
            size = start[value[before] + 1] - other
        if size != end - begin:
            wrong[place] = True
            continue
        for offset in range(size):
            if element[begin + offset] != element[other + offset]:
                wrong[place] = True
                break
    return wrong
