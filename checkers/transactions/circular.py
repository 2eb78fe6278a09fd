"""Short circles and short ways in a graph of edges, compiled: breadth first."""

from __future__ import annotations

import numba
import numpy as np

njit = numba.njit(cache=True, nogil=True)


@njit
def shortest(nodes, begin, target, component, budget):  # type: ignore[no-untyped-def]
    """A shortest circle inside one component, as the rows of its edges: breadth first from each of its ``nodes``.

    After ``budget`` edges it is the shortest of those that were met; there always is one.
    """
    n = len(begin) - 1
    stamp = np.full(n, -1, dtype=np.int64)
    depth = np.zeros(n, dtype=np.int64)
    via = np.empty(n, dtype=np.int64)
    parent = np.empty(n, dtype=np.int64)
    queue = np.empty(len(nodes), dtype=np.int64)
    best = np.empty(0, dtype=np.int64)
    for root in nodes:
        if len(best) and (budget <= 0 or len(best) <= 2):
            break
        stamp[root] = root
        depth[root] = 0
        queue[0] = root
        head, tail = 0, 1
        closed = False
        while head < tail and not closed:
            i = queue[head]
            head += 1
            if len(best) and depth[i] + 1 >= len(best):
                break
            for edge in range(begin[i], begin[i + 1]):
                other = target[edge]
                budget -= 1
                if other == root:
                    length = depth[i] + 1
                    best = np.empty(length, dtype=np.int64)
                    best[length - 1] = edge
                    for at in range(length - 2, -1, -1):
                        best[at] = via[i]
                        i = parent[i]
                    closed = True
                    break
                if component[other] == component[root] and stamp[other] != root:
                    stamp[other] = root
                    depth[other] = depth[i] + 1
                    via[other] = edge
                    parent[other] = i
                    queue[tail] = other
                    tail += 1
    return best


@njit
def reach(first, beside, begin, other, place, low, high):  # type: ignore[no-untyped-def]
    """How few steps lead from one transaction to each other one: its depth, or -1, the one before it, and how.

    A step goes to ``other[begin[i]:begin[i + 1]]``, or any way along ``beside``, the next of a session, which is told
    by the third answer. Only transactions with a ``place`` from ``low`` to ``high`` are looked at.
    """
    n = len(beside)
    depth = np.full(n, -1, dtype=np.int32)
    parent = np.full(n, -1, dtype=np.int32)
    along = np.zeros(n, dtype=np.bool_)
    queue = np.empty(n, dtype=np.int32)
    queue[0] = first
    depth[first] = 0
    head, tail = 0, 1
    while head < tail:
        i = queue[head]
        head += 1
        at = -1 if along[i] else beside[i]
        while at >= 0 and low <= place[at] <= high:
            if depth[at] >= 0 and (along[at] or depth[at] <= depth[i]):
                break  # all behind it are known already
            if depth[at] < 0:
                depth[at] = depth[i] + 1
                parent[at] = i
                along[at] = True
                queue[tail] = at
                tail += 1
            at = beside[at]
        for row in range(begin[i], begin[i + 1]):
            at = other[row]
            if at >= 0 and depth[at] < 0 and low <= place[at] <= high:
                depth[at] = depth[i] + 1
                parent[at] = i
                queue[tail] = at
                tail += 1
    return depth, parent, along
