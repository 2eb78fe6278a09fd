"""Registers, compiled: versions numbered, the order of versions, and what follows from it between transactions.

The innermost loops of ``harness.checkers.transactions.registers``, ``version_order`` and ``rw_register``.
"""

from __future__ import annotations

import numba
import numpy as np

NOTHING = -1
"""No version, no transaction, no micro-operation."""

_READ, _WRITE = 0, 1
_UNKNOWN, _NIL = -2, -1
_BLOCK = 8
"""Neighbouring values share a line of the processor's cache in the table of versions: most are written in a row."""

_FEW = 64
"""So many predecessors are kept of which nobody knows who wrote them."""

njit = numba.njit(cache=True, nogil=True)
part_of_table = numba.njit(cache=True, nogil=True, forceinline=True)


@part_of_table
def _slot(key, value, mask):  # type: ignore[no-untyped-def]
    """Where a version would stand in the table."""
    mixed = np.uint64(value // _BLOCK) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    return np.int64((mixed * np.uint64(_BLOCK) + np.uint64(value % _BLOCK)) & np.uint64(mask))


@njit
def number_versions(key, value, keys):  # type: ignore[no-untyped-def]
    """The number of the version of each micro-operation, and key and value of each version.

    A version is what a key holds; the first ``keys`` ones are the initial states. ``NOTHING`` for an unknown value.
    """
    count = len(key)
    size = 16
    while size < 2 * count:
        size *= 2
    mask = size - 1
    table = np.full(size, NOTHING, np.int32)
    version = np.empty(count, np.int32)
    version_key = np.empty(keys + count, np.int32)
    version_value = np.empty(keys + count, np.int64)
    for at in range(keys):
        version_key[at] = at
        version_value[at] = _NIL
    versions = keys
    for at in range(count):
        if value[at] == _UNKNOWN:
            version[at] = NOTHING
        elif value[at] == _NIL:
            version[at] = key[at]
        else:
            slot = _slot(key[at], value[at], mask)
            while True:
                found = table[slot]
                if found < 0:
                    table[slot] = found = versions
                    version_key[versions] = key[at]
                    version_value[versions] = value[at]
                    versions += 1
                    break
                if version_value[found] == value[at] and version_key[found] == key[at]:
                    break
                slot = (slot + 1) & mask
            version[at] = found
    return version, version_key[:versions].copy(), version_value[:versions].copy()


@njit
def external(start, f, key, version, keys):  # type: ignore[no-untyped-def]
    """What each transaction has to do with each of its keys, seen from outside: a row of accesses for each pair.

    Answers transaction, key, the version that it read first, before it wrote (or ``NOTHING``), the version that it
    wrote last (or ``NOTHING``) and the micro-operation of that; and for each transaction the first read that did not
    find what the transaction itself had read or written just before, and what it should have found.
    """
    most = len(f)
    owner = np.empty(most, np.int32)
    of_key = np.empty(most, np.int32)
    read = np.full(most, NOTHING, np.int32)
    write = np.full(most, NOTHING, np.int32)
    wrote_at = np.full(most, NOTHING, np.int32)
    held = np.empty(most, np.int32)
    last = np.full(keys, -1, np.int64)
    wrong = np.full(len(start) - 1, -1, np.int64)
    expected = np.full(len(start) - 1, NOTHING, np.int32)
    used = 0
    for transaction in range(len(start) - 1):
        first = used
        for at in range(start[transaction], start[transaction + 1]):
            row = last[key[at]]
            if row < first:
                row = last[key[at]] = used
                used += 1
                owner[row] = transaction
                of_key[row] = key[at]
                held[row] = NOTHING
                if f[at] == _READ:
                    read[row] = version[at]
            if f[at] == _WRITE:
                write[row] = version[at]
                wrote_at[row] = at
                held[row] = version[at]
            elif version[at] >= 0:
                if held[row] >= 0 and held[row] != version[at] and wrong[transaction] < 0:
                    wrong[transaction] = at
                    expected[transaction] = held[row]
                held[row] = version[at]
    return (
        owner[:used].copy(),
        of_key[:used].copy(),
        read[:used].copy(),
        write[:used].copy(),
        wrote_at[:used].copy(),
        wrong,
        expected,
    )


@njit
def writers(f, version, owner, failed, versions):  # type: ignore[no-untyped-def]
    """Who wrote each version: a micro-operation of a transaction that may have committed, and one of a failed one.

    And of each version whether two transactions that may have committed wrote it, and the micro-operation of the other.
    """
    wrote = np.full(versions, NOTHING, np.int32)
    aborted = np.full(versions, NOTHING, np.int32)
    other = np.full(versions, NOTHING, np.int32)
    for at in range(len(f)):
        if f[at] != _WRITE or version[at] < 0:
            continue
        which = version[at]
        if failed[owner[at]]:
            aborted[which] = at
        elif wrote[which] < 0 or owner[wrote[which]] == owner[at]:
            wrote[which] = at
        else:
            other[which] = at
    return wrote, aborted, other


@njit
def group(nodes, node):  # type: ignore[no-untyped-def]
    """The rows of each node, in order: those of node ``i`` are ``row[start[i]:start[i + 1]]``; rows of -1 are none."""
    start = np.zeros(nodes + 1, np.int64)
    for at in range(len(node)):
        if node[at] >= 0:
            start[node[at] + 1] += 1
    for at in range(nodes):
        start[at + 1] += start[at]
    row = np.empty(start[nodes], np.int32)
    place = start[:-1].copy()
    for at in range(len(node)):
        if node[at] >= 0:
            row[place[node[at]]] = at
            place[node[at]] += 1
    return start, row


@njit
def successors(nodes, before, after):  # type: ignore[no-untyped-def]
    """A graph by its edges: the successors of node ``i``, each once, are ``node[start[i]:start[i + 1]]``."""
    bounds, rows = group(nodes, before)
    seen = np.full(nodes, -1, np.int32)
    start = np.zeros(nodes + 1, np.int64)
    node = np.empty(len(rows), np.int32)
    used = 0
    for source in range(nodes):
        for at in range(bounds[source], bounds[source + 1]):
            target = after[rows[at]]
            if seen[target] != source and target != source:
                seen[target] = source
                node[used] = target
                used += 1
        start[source + 1] = used
    return start, node[:used].copy()


@njit
def successive(order, session, start, key, first, last, keys):  # type: ignore[no-untyped-def]
    """Edges between versions from sessions: what one transaction left, before what the next one on that key met.

    ``order`` are transactions, session after session; ``start`` bounds the accesses of each, ``first`` and ``last``
    are the first and the last version that an access has to do with (``NOTHING``: it is passed over).
    """
    previous = np.full(keys, -1, np.int64)
    of_session = np.full(keys, -1, np.int64)
    before = np.empty(len(key), np.int32)
    after = np.empty(len(key), np.int32)
    used = 0
    for place in range(len(order)):
        transaction = order[place]
        for access in range(start[transaction], start[transaction + 1]):
            if last[access] < 0:
                continue
            which = key[access]
            if of_session[which] == session[place] and last[previous[which]] != first[access]:
                before[used] = last[previous[which]]
                after[used] = first[access]
                used += 1
            of_session[which] = session[place]
            previous[which] = access
    return before[:used].copy(), after[:used].copy()


@njit
def ended_before(start, version, ended, met):  # type: ignore[no-untyped-def]
    """For each version the last place of ``version``, of the same key, that had ended when it was met; or ``NOTHING``.

    ``version`` are the versions of each key in the order of ``ended``.
    """
    place = np.full(len(version), NOTHING, np.int64)
    for which in range(len(start) - 1):
        for at in range(start[which], start[which + 1]):
            low, high = start[which], start[which + 1]
            while low < high:
                middle = (low + high) // 2
                if ended[version[middle]] < met[version[at]]:
                    low = middle + 1
                else:
                    high = middle
            if low > start[which]:
                place[version[at]] = low - 1
    return place


@njit
def neighbours_in_time(start, version, ended, met, place_before, through):  # type: ignore[no-untyped-def]
    """Edges between versions of a key from real time, without those that follow from two others.

    ``version`` are the versions of each key in the order of ``ended``, the first moment at which one was surely there;
    ``met`` is the last moment at which one was still to come. One comes before another if it ended before the other was
    met. Of the predecessors of a version are kept those that ended no earlier than another predecessor was met that is
    ``through``, and that one; without such a one, a few. ``place_before`` is what ``ended_before`` answers. The
    relation must have no cycle.
    """
    latest_met = np.empty(len(version), np.int64)
    next_met = np.empty(len(version), np.int64)
    before = np.empty(0, np.int32)
    after = np.empty(0, np.int32)
    for fills in range(2):
        used = 0
        for which in range(len(start) - 1):
            begin, end = start[which], start[which + 1]
            if fills == 0:
                first, second = np.int64(-1), np.int64(-1)
                for at in range(begin, end):
                    row = np.int64(at)
                    if through[version[at]]:
                        if first < 0 or met[version[at]] > met[version[first]]:
                            second = first
                            first = row
                        elif second < 0 or met[version[at]] > met[version[second]]:
                            second = row
                    latest_met[at] = first
                    next_met[at] = second
            for at in range(begin, end):
                mine = version[at]
                place = place_before[mine]
                if place < 0:
                    continue
                latest = latest_met[place]
                if latest == at:
                    latest = next_met[place]
                stop = begin
                threshold = np.int64(-1)
                if latest >= 0:
                    threshold = met[version[latest]]
                else:
                    stop = max(begin, place - _FEW)
                while place >= stop and ended[version[place]] >= threshold:
                    if place != at:
                        if fills:
                            before[used] = version[place]
                            after[used] = mine
                        used += 1
                    place -= 1
                if 0 <= latest <= place:
                    if fills:
                        before[used] = version[latest]
                        after[used] = mine
                    used += 1
        if fills == 0:
            before = np.empty(used, np.int32)
            after = np.empty(used, np.int32)
    return before, after


@njit
def neighbours(start, node, through):  # type: ignore[no-untyped-def]
    """The same graph without edges that follow from two others, of which the middle one is ``through``."""
    nodes = len(start) - 1
    stamp = np.full(nodes, -1, np.int32)
    kept_start = np.zeros(nodes + 1, np.int64)
    kept = np.empty(len(node), np.int32)
    used = 0
    for source in range(nodes):
        begin, end = start[source], start[source + 1]
        if end - begin > 1:
            for at in range(begin, end):
                middle = node[at]
                if through[middle]:
                    for further in range(start[middle], start[middle + 1]):
                        stamp[node[further]] = source
        for at in range(begin, end):
            if stamp[node[at]] != source:
                kept[used] = node[at]
                used += 1
        kept_start[source + 1] = used
    return kept_start, kept[:used].copy()


@njit
def dependencies(start, node, sole, reader_start, reader, owner, overlooked):  # type: ignore[no-untyped-def]
    """Edges between transactions from edges between versions: (source, target, version before, after) of ww, and of rw.

    ``sole`` is the transaction that is known to have installed a version, ``reader`` are the accesses that read it
    from outside. Versions that are ``overlooked`` give none.
    """
    nodes = len(start) - 1
    columns = np.empty((2, 4, 0), np.int32)
    sizes = np.zeros(2, np.int64)
    for fills in range(2):
        writes = reads = 0
        for version in range(nodes):
            if overlooked[version]:
                continue
            mine = sole[version]
            for at in range(start[version], start[version + 1]):
                after = node[at]
                theirs = sole[after]
                if theirs < 0 or overlooked[after]:
                    continue
                if mine >= 0 and mine != theirs:
                    if fills:
                        columns[0, 0, writes] = mine
                        columns[0, 1, writes] = theirs
                        columns[0, 2, writes] = version
                        columns[0, 3, writes] = after
                    writes += 1
                for place in range(reader_start[version], reader_start[version + 1]):
                    who = owner[reader[place]]
                    if who != theirs:
                        if fills:
                            columns[1, 0, reads] = who
                            columns[1, 1, reads] = theirs
                            columns[1, 2, reads] = version
                            columns[1, 3, reads] = after
                        reads += 1
        if fills == 0:
            sizes[0], sizes[1] = writes, reads
            columns = np.empty((2, 4, max(writes, reads)), np.int32)
    return columns[0, :, : sizes[0]], columns[1, :, : sizes[1]]


@njit
def followers(source, target, start, key, write):  # type: ignore[no-untyped-def]
    """Which accesses write a key after, by an edge from an earlier transaction, another transaction that wrote it.

    Then who comes before all writers of that key comes before this one by coming before the other.
    """
    covered = np.zeros(len(key), np.bool_)
    for edge in range(len(source)):
        if source[edge] >= target[edge]:
            continue
        for mine in range(start[target[edge]], start[target[edge] + 1]):
            if write[mine] < 0 or covered[mine]:
                continue
            for theirs in range(start[source[edge]], start[source[edge] + 1]):
                if key[theirs] == key[mine] and write[theirs] >= 0:
                    covered[mine] = True
                    break
    return covered
