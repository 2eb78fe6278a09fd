"""Orders of events, compiled: one that respects edges and is near to a given one, and what it gets wrong.

An event is what a transaction does at one moment. In a serial order a transaction is one event; under snapshot
isolation it is two, its start, which reads, and its commit, which writes.
"""

from __future__ import annotations

import numba
import numpy as np

njit = numba.njit(cache=True, nogil=True)


@njit
def linear(begin, target, rank):  # type: ignore[no-untyped-def]
    """The events with each after those that lead to it; of those that could come next, the one of the least rank.

    ``rank`` is a permutation. Shorter than the number of events if there is a cycle.
    """
    n = len(begin) - 1
    waits = np.zeros(n, dtype=np.int32)
    for edge in range(len(target)):
        waits[target[edge]] += 1
    by_rank = np.empty(n, dtype=np.int32)
    for i in range(n):
        by_rank[rank[i]] = i
    heap = np.empty(n, dtype=np.int32)
    size = 0
    order = np.empty(n, dtype=np.int32)
    done = 0
    at = 0
    # Ranks that were passed while they had to wait are in the heap once they are free.
    while done < n:
        while at < n and size == 0 and waits[by_rank[at]] > 0:
            at += 1
        if size and (at == n or heap[0] < at):
            chosen = by_rank[heap[0]]
            size -= 1
            moved, hole = heap[size], 0
            while True:
                child = 2 * hole + 1
                if child >= size:
                    break
                if child + 1 < size and heap[child + 1] < heap[child]:
                    child += 1
                if heap[child] >= moved:
                    break
                heap[hole] = heap[child]
                hole = child
            heap[hole] = moved
        elif at < n:
            chosen = by_rank[at]
            at += 1
            if waits[chosen] > 0:
                continue
        else:
            break
        order[done] = chosen
        done += 1
        for edge in range(begin[chosen], begin[chosen + 1]):
            other = target[edge]
            waits[other] -= 1
            if waits[other] == 0 and rank[other] < at:
                hole = size
                size += 1
                while hole > 0 and heap[(hole - 1) >> 1] > rank[other]:
                    heap[hole] = heap[(hole - 1) >> 1]
                    hole = (hole - 1) >> 1
                heap[hole] = rank[other]
    return order[:done]


@njit
def replay(order, split, keys, read_start, read_key, read_source, write_start, write_key):  # type: ignore[no-untyped-def]
    """What goes wrong if the events happen in an order: reads that would have found another write, and conflicts.

    With ``split``, event 2 i is the start of transaction i and 2 i + 1 its commit; else event i is all of it. Answers
    rows (row of the read, its transaction, the transaction whose write it would have found), and for conflicts (-1,
    the one that commits later, the one that commits before although it started later than it).
    """
    wrong, used = np.empty((256, 3), dtype=np.int64), 0
    last = np.full(keys, -1, dtype=np.int64)
    place = np.full(2 * (len(read_start) - 1) if split else 0, -1, dtype=np.int64)
    for at in range(len(order)):
        event = order[at]
        i = event >> 1 if split else event
        if i >= len(read_start) - 1:
            continue
        if split:
            place[event] = at
        if not split or not event & 1:
            for row in range(read_start[i], read_start[i + 1]):
                if last[read_key[row]] != read_source[row]:
                    if used == len(wrong):
                        larger = np.empty((2 * used, 3), dtype=np.int64)
                        larger[:used] = wrong
                        wrong = larger
                    wrong[used] = row, i, last[read_key[row]]
                    used += 1
        if not split or event & 1:
            for row in range(write_start[i], write_start[i + 1]):
                other = last[write_key[row]]
                if split and other >= 0 and place[2 * other + 1] > place[2 * i]:
                    if used == len(wrong):
                        larger = np.empty((2 * used, 3), dtype=np.int64)
                        larger[:used] = wrong
                        wrong = larger
                    wrong[used] = -1 - write_key[row], i, other
                    used += 1
                last[write_key[row]] = i
    return wrong[:used]


@njit
def way_back(begin, source, target, chosen, component, first, goal, via, now, later):  # type: ignore[no-untyped-def]
    """The rows of edges of a path inside one component with as few chosen edges as can be; there must be one.

    It begins with the edge ``first`` and ends at ``goal``. ``via`` is all -1 before and after, and has room for all
    nodes; ``now`` and ``later`` have room for all edges.
    """
    here = component[goal]
    now[0] = first
    count, following = 1, 0
    settled = [goal]
    settled.clear()
    while via[goal] < 0:
        if count == 0:
            now, later = later, now
            count, following = following, 0
        count -= 1
        edge = now[count]
        i = target[edge]
        if via[i] >= 0:
            continue
        via[i] = edge
        settled.append(i)
        for onward in range(begin[i], begin[i + 1]):
            other = target[onward]
            if component[other] != here or via[other] >= 0:
                continue
            if chosen[onward]:
                later[following] = onward
                following += 1
            else:
                now[count] = onward
                count += 1
    length = 1
    edge = via[goal]
    while edge != first:
        length += 1
        edge = via[source[edge]]
    path = np.empty(length, dtype=np.int64)
    edge = via[goal]
    for at in range(length - 1, -1, -1):
        path[at] = edge
        if edge != first:
            edge = via[source[edge]]
    for node in settled:
        via[node] = -1
    return path
