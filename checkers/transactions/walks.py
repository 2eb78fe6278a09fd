"""The shortest closed walk through an edge, of one class of cycles, compiled: a breadth-first search.

What a walk has met so far is a few bits: an edge of that order of time which the class is named after, a second
anti-dependency, whether the last edge was one, and whether two stood side by side.
"""

from __future__ import annotations

import numba
import numpy as np

njit = numba.njit(cache=True, nogil=True)

ORDERED, SECOND, LAST, ADJACENT = 1, 2, 4, 8
"""Bits of what a walk has met."""
STATES = 16

_LATER, _NOW, _DONE = 1, 2, 3
"""How far a state has come: it waits for the next level, for this one, or is done."""

PLAIN, ANTI, ORDER, FREE, BARRED = 0, 1, 2, 3, 4
"""What an edge counts as: a dependency; an anti-dependency (rw); an edge of the order of time that is asked for; a step
on from an auxiliary node, which costs nothing; or none that this class may have."""


@njit
def closed_walk(  # type: ignore[no-untyped-def]
    first, source, target, start, order, counts_as, others, apart, needed, longest, mark, stamp, trail
):
    """The edges of the shortest closed walk through the edge ``first``, how many edges were looked at, and ``trail``.

    It has at most ``longest`` edges that cost something; there may be none. ``others``: whether it may have more
    anti-dependencies than ``first``; ``apart``: none may follow another. ``needed`` are the bits that it must have met.
    ``mark`` (by node and state) is scratch and holds four times ``stamp``, and how far a state has come, where this
    search was; ``trail`` is scratch of three columns that grows.
    """
    goal = source[first]
    anti = counts_as[first] == ANTI
    trail[0, 0] = target[first] * STATES + (LAST if anti else 0)
    trail[0, 1] = -1
    trail[0, 2] = first
    pushed, looked = 1, np.int64(0)
    now = np.empty(64, np.int64)
    later = np.empty(64, np.int64)
    now[0] = 0
    size, size_later, cost = 1, 0, 1
    while size and cost <= longest:
        while size:
            size -= 1
            entry = now[size]
            here = trail[entry, 0]
            if mark[here] == stamp * 4 + _DONE:
                continue
            mark[here] = stamp * 4 + _DONE
            node, state = here // STATES, here % STATES
            if node == goal:
                met = state
                if anti and state & LAST:
                    met |= ADJACENT
                if met & needed == needed and not (apart and met & ADJACENT):
                    return _walk(trail, entry), looked, trail
                continue
            for at in range(start[node], start[node + 1]):
                edge = order[at]
                what = counts_as[edge]
                looked += 1
                if what == BARRED:
                    continue
                after = state
                if what == ANTI:
                    if not others or (apart and state & LAST):
                        continue
                    after = state | SECOND | LAST | (ADJACENT if state & LAST else 0)
                elif what == ORDER:
                    after = (state | ORDERED) & ~LAST
                elif what == PLAIN:
                    after = state & ~LAST
                # A state waits at most once for each of two levels: this one, and the next.
                then = target[edge] * STATES + after
                come = _NOW if what == FREE else _LATER
                if mark[then] >= stamp * 4 + come:
                    continue
                mark[then] = stamp * 4 + come
                if pushed == len(trail):
                    trail = np.concatenate((trail, np.empty_like(trail)))
                trail[pushed, 0] = then
                trail[pushed, 1] = entry
                trail[pushed, 2] = edge
                if what == FREE:
                    if size == len(now):
                        now = np.concatenate((now, np.empty_like(now)))
                    now[size] = pushed
                    size += 1
                else:
                    if size_later == len(later):
                        later = np.concatenate((later, np.empty_like(later)))
                    later[size_later] = pushed
                    size_later += 1
                pushed += 1
        now, later = later, now
        size, size_later = size_later, 0
        cost += 1
    return np.empty(0, np.int64), looked, trail


@njit
def _walk(trail, entry):  # type: ignore[no-untyped-def]
    """The edges of a walk, from its last entry back."""
    length = 0
    at = entry
    while at >= 0:
        length += 1
        at = trail[at, 1]
    edges = np.empty(length, np.int64)
    at = entry
    while at >= 0:
        length -= 1
        edges[length] = trail[at, 2]
        at = trail[at, 1]
    return edges


@njit
def _meets_itself(walk, source, real, met, stamp):  # type: ignore[no-untyped-def]
    """Whether a walk comes twice to a node that is ``real``; ``met`` is scratch."""
    for at in range(len(walk)):
        node = source[walk[at]]
        if real[node]:
            if met[node] == stamp:
                return True
            met[node] = stamp
    return False


@njit
def shortest_walk(  # type: ignore[no-untyped-def]
    candidates, real, source, target, start, order, counts_as, others, apart, needed, budget
):
    """The shortest closed walk of one class through any of the edges ``candidates``, and how many edges were looked at.

    One that comes twice to a node that is ``real`` is taken only where there is no other. Once ``budget`` edges were
    looked at, and a walk is known, it looks no further: then there may be a shorter one.
    """
    best, crossed = np.empty(0, np.int64), np.empty(0, np.int64)
    mark = np.zeros(len(real) * STATES, np.int32)
    met = np.zeros(len(real), np.int32)
    trail = np.empty((4096, 3), np.int64)
    longest = np.int64(1) << 40
    looked = np.int64(0)
    for number in range(len(candidates)):
        if looked > budget and (len(best) or len(crossed) or looked > 20 * budget):
            break
        stamp = np.int32(number % (1 << 28) + 1)
        if stamp == 1:
            mark[:] = 0
            met[:] = 0
        walk, more, trail = closed_walk(
            candidates[number],
            source,
            target,
            start,
            order,
            counts_as,
            others,
            apart,
            needed,
            longest,
            mark,
            stamp,
            trail,
        )
        looked += more
        if not len(walk):
            continue
        if _meets_itself(walk, source, real, met, stamp):
            crossed = walk
            continue
        best = walk
        cost = np.int64(0)
        for at in range(len(walk)):
            if counts_as[walk[at]] != FREE:
                cost += 1
        longest = cost - 1
        if longest < 2:
            break
    return (best if len(best) else crossed), looked
