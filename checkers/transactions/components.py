"""Directed graphs as arrays, compiled: what is on no cycle is peeled off, the rest falls into strong components.

A graph is given by the ``source`` and ``target`` of its edges. ``start`` and ``order`` list, for each node, the edges
that leave it: ``order[start[node] : start[node + 1]]``.
"""

from __future__ import annotations

import heapq

import numba
import numpy as np

njit = numba.njit(cache=True, nogil=True)


@njit
def grouped(nodes, source):  # type: ignore[no-untyped-def]
    """The rows of each of ``nodes`` numbers: bounds, and rows by number. Of sources: the edges that leave each node."""
    start = np.zeros(nodes + 1, np.int64)
    for edge in range(len(source)):
        start[source[edge] + 1] += 1
    for node in range(nodes):
        start[node + 1] += start[node]
    place = start[:-1].copy()
    order = np.empty(len(source), np.int32)
    for edge in range(len(source)):
        order[place[source[edge]]] = edge
        place[source[edge]] += 1
    return start, order


@njit
def between_cycles(nodes, source, target):  # type: ignore[no-untyped-def]
    """The nodes on a cycle, or on a way from one cycle to another: all others are peeled off from both ends."""
    left = np.ones(nodes, np.bool_)
    queue = np.empty(nodes, np.int32)
    for backwards in range(2):
        begin, end = (target, source) if backwards else (source, target)
        start, order = grouped(nodes, begin)
        degree = np.zeros(nodes, np.int32)
        for edge in range(len(source)):
            if left[source[edge]] and left[target[edge]]:
                degree[end[edge]] += 1
        filled = 0
        for node in range(nodes):
            if left[node] and degree[node] == 0:
                queue[filled] = node
                filled += 1
        done = 0
        while done < filled:
            node = queue[done]
            done += 1
            left[node] = False
            for at in range(start[node], start[node + 1]):
                after = end[order[at]]
                if left[after]:
                    degree[after] -= 1
                    if degree[after] == 0:
                        queue[filled] = after
                        filled += 1
        if not left.any():
            break
    return left


@njit
def strong_components(nodes, source, target):  # type: ignore[no-untyped-def]
    """The strong component of each node, numbered so that edges lead to components of no higher number.

    Tarjan, "Depth-First Search and Linear Graph Algorithms", 1972, without recursion.
    """
    start, order = grouped(nodes, source)
    component = np.full(nodes, -1, np.int32)
    number = np.full(nodes, -1, np.int32)
    lowest = np.zeros(nodes, np.int32)
    place = start[:-1].copy()
    path = np.empty(nodes, np.int32)
    stack = np.empty(nodes, np.int32)
    numbered, components, stacked = 0, 0, 0
    for root in range(nodes):
        if number[root] >= 0:
            continue
        depth = 0
        path[0] = root
        number[root] = lowest[root] = numbered
        numbered += 1
        stack[stacked] = root
        stacked += 1
        while depth >= 0:
            node = path[depth]
            if place[node] < start[node + 1]:
                after = target[order[place[node]]]
                place[node] += 1
                if number[after] < 0:
                    number[after] = lowest[after] = numbered
                    numbered += 1
                    stack[stacked] = after
                    stacked += 1
                    depth += 1
                    path[depth] = after
                elif component[after] < 0 and number[after] < lowest[node]:
                    lowest[node] = number[after]
                continue
            if lowest[node] == number[node]:
                while True:
                    stacked -= 1
                    member = stack[stacked]
                    component[member] = components
                    if member == node:
                        break
                components += 1
            depth -= 1
            if depth >= 0 and lowest[node] < lowest[path[depth]]:
                lowest[path[depth]] = lowest[node]
    return component


@njit
def topological_places(components, component, source, target, moment):  # type: ignore[no-untyped-def]
    """A place for each component, each after those that lead to it, and else in the order of their ``moment``.

    In a history that is nearly correct, such an order is nearly that in which things were done: edges that point back
    in it are few, and span little.
    """
    degree = np.zeros(components, np.int64)
    for edge in range(len(source)):
        if component[source[edge]] != component[target[edge]]:
            degree[component[target[edge]]] += 1
    outgoing = np.empty(len(source), np.int32)
    for edge in range(len(source)):
        outgoing[edge] = component[source[edge]]
    start, order = grouped(components, outgoing)
    ready = [(np.int64(0), np.int64(0)) for _ in range(0)]
    for one in range(components):
        if degree[one] == 0:
            heapq.heappush(ready, (moment[one], np.int64(one)))
    place = np.zeros(components, np.int64)
    placed = 0
    while len(ready) > 0:
        _, here = heapq.heappop(ready)
        place[here] = placed
        placed += 1
        for at in range(start[here], start[here + 1]):
            after = component[target[order[at]]]
            if after != here:
                degree[after] -= 1
                if degree[after] == 0:
                    heapq.heappush(ready, (moment[after], np.int64(after)))
    return place


@njit
def closed_by_paths(places, place, source, target, from_, to, group, enough):  # type: ignore[no-untyped-def]
    """Of the pairs ``to[i]``, ``from_[i]``, which are joined by a path from ``from_`` to ``to``.

    ``place`` is the place of each node in a topological order of ``places`` components; two nodes of one place are
    joined. The pairs are sorted by the place of ``from_``. 64 of them at a time are followed through that part of the
    order in which their paths must lie. Of each ``group`` only the first ``enough`` pairs that are joined matter.
    """
    joined = np.zeros(len(to), np.bool_)
    outgoing = np.empty(len(source), np.int64)
    for edge in range(len(source)):
        outgoing[edge] = place[source[edge]]
    start, order = grouped(places, outgoing)
    bits = np.zeros(places, np.uint64)
    number = np.zeros(group.max() + 1 if len(group) else 0, np.int64)
    batch = np.empty(64, np.int64)
    at = 0
    while at < len(to):
        size = 0
        last = np.int64(0)
        while at < len(to) and size < 64:
            if number[group[at]] < enough:
                if place[from_[at]] == place[to[at]]:
                    joined[at] = True
                    number[group[at]] += 1
                elif place[from_[at]] < place[to[at]]:
                    batch[size] = at
                    size += 1
                    last = np.int64(max(last, place[to[at]]))
            at += 1
        if size == 0:
            continue
        first = place[from_[batch[0]]]
        for one in range(size):
            bits[place[from_[batch[one]]]] |= np.uint64(1) << np.uint64(one)
        for here in range(first, last):
            if bits[here]:
                for edge in range(start[here], start[here + 1]):
                    after = place[target[order[edge]]]
                    if after <= last:
                        bits[after] |= bits[here]
        for one in range(size):
            pair = batch[one]
            if bits[place[to[pair]]] & (np.uint64(1) << np.uint64(one)):
                joined[pair] = True
                number[group[pair]] += 1
        bits[first : last + 1] = 0
    return joined
