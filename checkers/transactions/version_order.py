"""The order in which the versions of a register were written, as far as sources of such orders tell.

Registers do not show in which order they were written. What tells something of it, each a *source* (Kingsbury & Alvaro,
"Elle: Inferring Isolation Anomalies from Experimental Observations", 2020): a key is nothing before it is anything;
what a transaction writes follows what it read of the same key before; and, where keys behave so, what a process, or
real time, has shown later was written later. Sources are tried in this order. One by which the versions of some key
would come before themselves is an anomaly, and is not used for any key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from harness.checkers.transactions.columns import NEVER_CALLED
from harness.checkers.transactions.components import strong_components
from harness.checkers.transactions.register_kernel import (
    ended_before,
    neighbours_in_time,
    successive,
    successors,
)
from harness.checkers.transactions.registers import Mask, Numbers, Registers
from harness.columns import Ints
from harness.history import NEVER, OK

WFR, PROCESS, REALTIME = "wfr", "process", "realtime"
SOURCES: Final = {
    WFR: "writes follow reads",
    PROCESS: "the order of each process",
    REALTIME: "real time",
}
"""What orders versions beside the initial state, in the order in which it is tried, and its name in texts."""

Pair = tuple[Numbers, Numbers]
"""Edges between versions: each of the first column comes before that of the second one."""


class Circle(NamedTuple):
    """Versions of a key each of which would come before the others, and the sources that say so together."""

    key: int
    versions: tuple[int, ...]
    sources: tuple[str, ...]


@dataclass
class VersionOrder:
    """Edges between versions of keys, without those from the initial state, which all others follow."""

    start: Ints
    node: Numbers
    circles: list[Circle] = field(default_factory=list)


def version_order(registers: Registers, sources: Collection[str]) -> VersionOrder:
    """What the initial state and ``sources`` say together; raises ``ValueError`` for a source that does not exist."""
    if unknown := set(sources) - set(SOURCES):
        raise ValueError(f"versions are ordered by {', '.join(SOURCES)}, not by {', '.join(sorted(unknown))}")
    used: list[str] = []
    edges: list[Pair] = []
    order = VersionOrder(*successors(registers.versions, *_joined([])))
    for source in SOURCES:
        if source not in sources:
            continue
        moments = _Moments.of(registers) if source == REALTIME else None
        if moments is None:
            added = _written_after_read(registers) if source == WFR else _in_sessions(registers)
            graph = _joined([*edges, added])
        else:
            graph = moments.with_chains(_joined(edges))
        circles = list(_circles(registers, graph, tuple(SOURCES[one] for one in (*used, source))))
        if circles:
            order.circles += circles
            continue
        if moments is not None:
            added = moments.neighbours(registers.sole >= 0)
        used.append(source)
        # What follows the initial state is known without being told.
        edges.append(_select(added, added[0] >= registers.keys))
        order.start, order.node = successors(registers.versions, *_joined(edges))
    return order


def _joined(pairs: list[Pair]) -> Pair:
    if not pairs:
        return np.empty(0, np.int32), np.empty(0, np.int32)
    return np.concatenate([one for one, _ in pairs]), np.concatenate([other for _, other in pairs])


def _select(pairs: Pair, rows: Mask) -> Pair:
    return pairs[0][rows], pairs[1][rows]


def _without_ambiguous(registers: Registers, pairs: Pair) -> Pair:
    """Edges of versions that were written once: of others nobody knows which writing was met."""
    ambiguous = registers.ambiguous
    if not ambiguous.any():
        return pairs
    return _select(pairs, ~ambiguous[pairs[0]] & ~ambiguous[pairs[1]])


def _written_after_read(registers: Registers) -> Pair:
    """What a transaction read of a key before what it then wrote to it."""
    both = registers.committed & (registers.read >= 0) & (registers.write >= 0) & (registers.read != registers.write)
    return _without_ambiguous(registers, (registers.read[both], registers.write[both]))


def _in_sessions(registers: Registers) -> Pair:
    """What a transaction of a process left of a key before what the next one of that process met there."""
    transactions = registers.transactions
    done = (transactions.type == OK) & transactions.in_session
    order = np.flatnonzero(done)
    process = transactions.process[order]
    order = order[np.argsort(process, kind="stable")]
    session = transactions.process[order]
    first, last = registers.ends
    pairs: Pair = successive(order, session, registers.start, registers.key, first, last, registers.keys)
    return _without_ambiguous(registers, pairs)


@dataclass(frozen=True)
class _Moments:
    """Of each version the first moment at which it was surely there, and the last one at which it was met first.

    ``ended`` is ``NEVER``, and ``met`` ``NEVER_CALLED``, where there is none. A version comes before another one of its
    key if it had ended before the other was met: a transaction that left it returned before one was invoked that met
    the other.
    """

    ended: Ints
    met: Ints
    order: Ints
    """Versions, key by key, by their ends."""
    bounds: Ints
    """Where each key begins in ``order``."""

    @classmethod
    def of(cls, registers: Registers) -> _Moments:
        transactions = registers.transactions
        first, last = registers.ends
        ended = np.full(registers.versions, NEVER, np.int64)
        met = np.full(registers.versions, NEVER_CALLED, np.int64)
        some = np.flatnonzero((last >= 0) & registers.committed)
        np.minimum.at(ended, last[some], transactions.ret[registers.owner[some]])
        some = np.flatnonzero(first >= 0)
        np.maximum.at(met, first[some], transactions.call[registers.owner[some]])
        ended[registers.ambiguous], met[registers.ambiguous] = NEVER, NEVER_CALLED
        order = np.lexsort((ended, registers.key_of))
        bounds = np.searchsorted(registers.key_of[order], np.arange(registers.keys + 1))
        return cls(ended, met, order, bounds)

    @cached_property
    def before(self) -> Ints:
        """For each version the last place in ``order`` of those of its key that had ended when it was met, or -1."""
        places: Ints = ended_before(self.bounds, self.order, self.ended, self.met)
        return places

    def neighbours(self, through: Mask) -> Pair:
        """Edges between versions, without those that follow from two by way of ``through``; there must be no circle."""
        pairs: Pair = neighbours_in_time(self.bounds, self.order, self.ended, self.met, self.before, through)
        return pairs

    def with_chains(self, pairs: Pair) -> Pair:
        """``pairs`` and edges along real time, as many as there are versions, through further nodes.

        Node ``versions + i`` stands for the moment at which the version ``order[i]`` ended. Moments of one key form a
        chain; a version leads to that of its end, and the last one before it was met leads to it.
        """
        versions = len(self.ended)
        places = np.arange(versions)
        key = np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))
        same = key[1:] == key[:-1]
        target = np.flatnonzero(self.before >= 0)
        moment = self.before[target]
        ends = self.ended[self.order] < NEVER
        return (
            np.concatenate([pairs[0], self.order[ends], places[:-1][same] + versions, moment + versions]).astype(
                np.int32
            ),
            np.concatenate([pairs[1], places[ends] + versions, places[1:][same] + versions, target]).astype(np.int32),
        )


def _circles(registers: Registers, pairs: Pair, sources: tuple[str, ...]) -> Iterator[Circle]:
    """The circles of versions that a source makes with what is known already, the initial state among it."""
    before, after = pairs
    nodes = registers.versions
    if len(before):
        nodes = max(nodes, int(before.max()) + 1, int(after.max()) + 1)
    # Only where something comes before the initial state does it matter that all others come after it.
    early = np.unique(after[(after < registers.keys) & (before != after)])
    if len(early):
        of_key = np.zeros(registers.keys, dtype=bool)
        of_key[early] = True
        known = np.zeros(registers.versions, dtype=bool)
        first, last = registers.ends
        for column in (first, last):
            known[column[column >= 0]] = True
        known &= ~registers.ambiguous & of_key[registers.key_of]
        known[: registers.keys] = False
        later = np.flatnonzero(known).astype(np.int32)
        start_of = registers.key_of[later]
        usable = ~registers.ambiguous[start_of]
        before = np.concatenate([before, start_of[usable]])
        after = np.concatenate([after, later[usable]])
    component = strong_components(nodes, before, after)[: registers.versions]
    inside = np.flatnonzero(np.bincount(component)[component] > 1)
    members: dict[int, list[int]] = defaultdict(list)
    for version in inside.tolist():
        members[int(component[version])].append(version)
    for circle in sorted(members.values()):
        yield Circle(int(registers.key_of[circle[0]]), tuple(circle), ("the initial state", *sources))


def edges_of_order(registers: Registers, order: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Direct edges between versions, given that some transactions come before others in the eyes of every key.

    ``order`` are pairs of transactions. What a transaction left of a key comes before what the next ones met of it; the
    search looks through those that have nothing to do with it. Takes time of the order of the pairs for each access.
    """
    following: dict[int, list[int]] = defaultdict(list)
    for one, other in order:
        following[one].append(other)
    first, last = registers.ends
    access = {
        (int(owner), int(key)): row
        for row, (owner, key) in enumerate(zip(registers.owner, registers.key, strict=True))
        if last[row] >= 0
    }
    found = set()
    for (transaction, key), row in access.items():
        seen: set[int] = set()
        ahead = list(following[transaction])
        while ahead:
            other = ahead.pop()
            if other in seen:
                continue
            seen.add(other)
            meeting = access.get((other, key))
            if meeting is None:
                ahead += following[other]
            elif last[row] != first[meeting]:
                found.add((int(last[row]), int(first[meeting])))
    return found
