"""Who was primary when: from what nodes said of themselves, and from the writes that they acknowledged.

Both are intervals: a node that acknowledges a write is primary at some moment between its invocation and its
completion, one that says so at some moment between the question and the answer. A reign is certain from the end of the
first such interval to the beginning of the last, if nothing speaks for an interruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.columns import NOTHING, Ints
from harness.history import Operations
from harness.roles import LARGEST_GAP, PRIMARY, Sighting

_STEP: Final = LARGEST_GAP // 2


class Reign(NamedTuple):
    """A node was primary from ``start`` to ``end`` (ns), in ``term`` if that is known, without an interruption."""

    node: str
    term: int | None
    start: int
    end: int


class Overlap(NamedTuple):
    """Nodes were primary at the same time, from ``start`` to ``end`` (ns)."""

    start: int
    end: int
    nodes: frozenset[str]


class Meeting(NamedTuple):
    """Overlaps that follow one another, from ``start`` to ``end`` (ns), as one.

    For ``shared`` ns of that two of ``nodes`` were primary for certain, and all of them throughout if ``all_at_once``.
    """

    start: int
    end: int
    nodes: frozenset[str]
    shared: int
    all_at_once: bool

    @property
    def overlap(self) -> Overlap:
        """The whole of it, as one."""
        return Overlap(self.start, self.end, self.nodes)


def reigns(operations: Operations, writes: Ints, seen: Sequence[Sighting]) -> list[Reign]:
    """The reigns of every node, as ``writes`` and what was ``seen`` tell of them."""
    names = operations.history.nodes
    server, term = operations.server[writes], operations.term[writes]
    call, ret = operations.call[writes], operations.ret[writes]
    nodes = {names[code] for code in np.unique(server).tolist()} | {sighting.node for sighting in seen}
    all_reigns: list[Reign] = []
    for node in sorted(name for name in nodes if name is not None):
        own = server == names.index(node) if node in names else np.zeros(len(server), dtype=bool)
        signs = [
            sign
            for sighting in seen
            if sighting.node == node and sighting.role is not None
            for sign in _signs(sighting)
        ]
        extra = np.array(signs, dtype=np.int64).reshape(-1, 4)
        start = np.concatenate([call[own], extra[:, 0]])
        end = np.concatenate([ret[own], extra[:, 1]])
        primary = np.concatenate([np.ones(int(own.sum()), dtype=bool), extra[:, 2] == 1])
        terms = np.concatenate([term[own], extra[:, 3]])
        order = np.argsort(end, kind="stable")
        all_reigns += _split(node, start[order], end[order], primary[order], terms[order])
    return sorted(all_reigns, key=lambda reign: (reign.start, reign.end, reign.node))


def _signs(sighting: Sighting) -> list[tuple[int, int, int, int]]:
    """A sighting as moments: start, end, whether of a primary, term. One that lasts is many of them."""
    primary, term = int(sighting.role == PRIMARY), NOTHING if sighting.term is None else sighting.term
    if not sighting.lasting:
        return [(sighting.start, sighting.end, primary, term)]
    return [(at, at, primary, term) for at in (*range(sighting.start, sighting.end, _STEP), sighting.end)]


def _split(node: str, start: Ints, end: Ints, primary: NDArray[np.bool_], terms: Ints) -> list[Reign]:
    """One node's signs, in the order of their ends, as reigns."""
    if not len(end):
        return []
    # The last term that was known at each sign, over all of them: within a reign it cannot be another's.
    places = np.where(terms != NOTHING, np.arange(len(terms)), -1)
    np.maximum.accumulate(places, out=places)
    known = np.where(places >= 0, terms[places], NOTHING)
    breaks = np.ones(len(end), dtype=bool)
    changed = (known[1:] != known[:-1]) & (known[:-1] != NOTHING)
    breaks[1:] = ~primary[1:] | ~primary[:-1] | (start[1:] - end[:-1] > LARGEST_GAP) | changed
    begin = np.flatnonzero(breaks)
    latest = np.maximum.reduceat(start, begin)
    lengths = np.diff([*begin.tolist(), len(end)])
    of_node = []
    for at, last, length in zip(begin.tolist(), latest.tolist(), lengths.tolist(), strict=True):
        if not primary[at]:
            continue
        own = terms[at : at + length]
        own = own[own != NOTHING]
        if last >= end[at]:
            of_node.append(Reign(node, int(own[0]) if len(own) else None, int(end[at]), last))
    return of_node


def overlaps(in_order: Sequence[Reign]) -> list[Overlap]:
    """The times in which two nodes were certainly primary, for every two reigns that meet."""
    meeting: list[Overlap] = []
    open_: list[Reign] = []
    for reign in in_order:
        open_ = [earlier for earlier in open_ if earlier.end > reign.start]
        meeting += [
            Overlap(reign.start, min(earlier.end, reign.end), frozenset({earlier.node, reign.node}))
            for earlier in open_
            if earlier.node != reign.node and min(earlier.end, reign.end) > reign.start
        ]
        open_.append(reign)
    return meeting


def merged(meeting: Sequence[Overlap]) -> list[Meeting]:
    """Overlaps that follow one another within ``LARGEST_GAP`` as one."""
    joined: list[list[Overlap]] = []
    end = 0
    for overlap in sorted(meeting, key=lambda overlap: (overlap.start, overlap.end)):
        if not joined or overlap.start > end + LARGEST_GAP:
            joined.append([])
        joined[-1].append(overlap)
        end = max(end, overlap.end)
    return [_joined(together) for together in joined]


def _joined(in_order: Sequence[Overlap]) -> Meeting:
    """Some overlaps, in the order of their start, as one."""
    start, end = in_order[0].start, max(overlap.end for overlap in in_order)
    nodes = frozenset[str]().union(*(overlap.nodes for overlap in in_order))
    of_each = [_length([overlap for overlap in in_order if node in overlap.nodes]) for node in nodes]
    return Meeting(start, end, nodes, _length(in_order), min(of_each) == end - start)


def _length(in_order: Sequence[Overlap]) -> int:
    """For how many ns there is at least one of some overlaps, which are in the order of their start."""
    length, until = 0, in_order[0].start
    for overlap in in_order:
        length += max(overlap.end - max(overlap.start, until), 0)
        until = max(until, overlap.end)
    return length


def terms_of(operations: Operations, writes: Ints, seen: Sequence[Sighting]) -> Ints:
    """The term in which each write was acknowledged: as its completion says, or as its node said before and after."""
    terms = operations.term[writes].copy()
    names = operations.history.nodes
    call, ret, server = operations.call[writes], operations.ret[writes], operations.server[writes]
    for sighting in seen:
        if sighting.lasting and sighting.role == PRIMARY and sighting.term is not None and sighting.node in names:
            meanwhile = (
                (terms == NOTHING)
                & (server == names.index(sighting.node))
                & (call >= sighting.start)
                & (ret <= sighting.end)
            )
            terms[meanwhile] = sighting.term
    return terms
