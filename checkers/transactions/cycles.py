"""Cycles of dependencies, by class: which classes there are, exactly, and a shortest cycle of each.

The classes are Adya's ("Weak Consistency", 1999) as Elle names them: G0 of writes alone, G1c with a read, G-single with
one anti-dependency, G-nonadjacent with several of which none follows another, G2 with two that do; each by itself, with
the order of a process, or with real time. Nothing is searched for under a budget of time. Every cycle lies in a strong
component of all edges; which classes a component has follows from

- G0, G1c: the components of those edges, and a write-read edge within one;
- G-single: an anti-dependency whose end leads back to its beginning by other edges. Those that point forward in a
  topological order of these cannot;
- G-nonadjacent: the components of the graph that has each node twice, the last edge having been an anti-dependency, or
  not. A shortest closed walk there is a cycle, if there is no cycle of a class above: cut in two where it meets itself,
  one half would be a shorter one;
- G2: an anti-dependency within a component.

A class that is implied by one that was found in the same component is left out. Beside G0 and G1c, which refute more
and imply neither of the last two, these are told where a search through their anti-dependencies comes upon a cycle.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.checkers.transactions import walks
from harness.checkers.transactions.components import (
    between_cycles,
    closed_by_paths,
    grouped,
    strong_components,
    topological_places,
)
from harness.checkers.transactions.graph import Dependencies, Kind
from harness.checkers.transactions.order import process_order, real_time
from harness.columns import Ints
from harness.history import NEVER

_WRITES: Final = (Kind.WW, Kind.WWP)
_READS: Final = (Kind.WR, Kind.WRP)
_ANTI: Final = (Kind.RW, Kind.RWP)
_LOOKED: Final = 30_000_000
"""As many edges are looked at, at most, for a cycle that is shorter than the one that is known, of one class."""
_SHOWN: Final = 10
"""The components of a class of which a cycle is shown."""
FREE: Final = -1
"""The kind of an edge from an auxiliary node of real time."""


class Step(NamedTuple):
    """One edge of a cycle: why, from whom to whom; key and values as in ``Edges``."""

    kind: Kind
    source: int
    target: int
    key: int
    before: int
    after: int


class Cycle(NamedTuple):
    """A cycle, and the name of its class. Each transaction leads to the next one, the last to the first."""

    kind: str
    transactions: tuple[int, ...]
    edges: tuple[Step, ...]


class Class(NamedTuple):
    """A class of cycles: its name, which edges it has, and those classes that imply it."""

    name: str
    rank: int
    order: Kind | None
    by_predicate: bool


@dataclass(frozen=True)
class Core:
    """What is left of all edges when those on no cycle are gone.

    Nodes are numbered anew; ``node`` says which they were. ``kind`` is one of ``Kind``, or ``FREE``; ``row`` is the
    edge among those of the dependencies, -1 for an order of time.
    """

    node: Ints
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    kind: NDArray[np.int8]
    row: Ints
    component: NDArray[np.int32]
    moment: Ints


def cycles(dependencies: Dependencies, orders: Collection[Kind]) -> tuple[list[Cycle], dict[str, int]]:
    """The cycles that are shown, and in how many components each class was found. ``orders`` says which count."""
    core = core_of(dependencies, orders)
    if core is None:
        return [], {}
    finder = _Finder(dependencies, core)
    for order in (None, Kind.PROCESS, Kind.REALTIME):
        if order is None or order in orders:
            finder.look(order)
    return finder.found, finder.counts


def core_of(dependencies: Dependencies, orders: Collection[Kind]) -> Core | None:
    """The edges between cycles; None if there is no cycle at all."""
    transactions, edges = dependencies.transactions, dependencies.edges
    total = len(transactions)
    among = np.zeros(total, dtype=bool)
    among[edges.source] = True
    among[edges.target] = True
    sources, targets = [edges.source.astype(np.int64)], [edges.target.astype(np.int64)]
    kinds, moments = [edges.kind], [transactions.ret]
    nodes = total
    for kind_of_order, ordered in ((Kind.PROCESS, process_order), (Kind.REALTIME, real_time)):
        if kind_of_order in orders:
            order = ordered(transactions, among, nodes)
            nodes += len(order.behind)
            sources.append(order.source)
            targets.append(order.target)
            kinds.append(np.where(order.source < total, kind_of_order, FREE).astype(np.int8))
            moments.append(transactions.ret[order.behind])
    source, target = (np.concatenate(parts).astype(np.int32) for parts in (sources, targets))
    left = between_cycles(nodes, source, target)
    if not left.any():
        return None
    inside = np.flatnonzero(left[source] & left[target])
    kept = np.flatnonzero(left)
    number = np.full(nodes, -1, np.int32)
    number[kept] = np.arange(len(kept))
    kind = np.concatenate(kinds)[inside]
    row = np.where(inside < len(edges), inside, -1)
    source, target = number[source[inside]], number[target[inside]]
    component = strong_components(len(kept), source, target)
    within = np.flatnonzero(component[source] == component[target])
    return Core(
        kept, source[within], target[within], kind[within], row[within], component, np.concatenate(moments)[kept]
    )


class _Finder:
    """Looks for each class in each component, the strongest class first."""

    def __init__(self, dependencies: Dependencies, core: Core) -> None:
        self._dependencies = dependencies
        self._core = core
        self.found: list[Cycle] = []
        self.counts: dict[str, int] = {}
        self._have: dict[str, NDArray[np.int32]] = {}
        """For each class the nodes, one of each cycle of it that was found."""
        self._shown: dict[str, int] = {}

    def look(self, order: Kind | None) -> None:
        """Look for all classes that are named after an order of time, or after none."""
        kind = self._core.kind
        allowed = (kind >= 0) & (kind <= Kind.RWP)
        if order is not None:
            allowed |= (kind == Kind.PROCESS) | (kind == FREE)
        if order == Kind.REALTIME:
            allowed |= kind == Kind.REALTIME
        suffix = "" if order is None else f"-{order.label}"
        written = np.isin(kind, _WRITES)
        read = np.isin(kind, _READS)
        by_item = kind == Kind.RW
        time = allowed & ~written & ~read & ~by_item & (kind != Kind.RWP)
        self._look_for(f"G0{suffix}", written, written | time, order, ("G0",))
        # In registers what was read and then written is in order twice, and either name may be looked for.
        implied_by = ("G0", "G1c") if self._dependencies.transactions.listed.any() else ("G1c",)
        self._look_for(f"G1c{suffix}", read, written | read | time, order, implied_by)
        plain = written | read | time
        families: list[tuple[str, NDArray[np.bool_]]] = [("-item", by_item)]
        if (kind == Kind.RWP).any():
            families.append(("", by_item | (kind == Kind.RWP)))
        for item, anti in families:
            single, apart, all_ = (f"{name}{item}{suffix}" for name in ("G-single", "G-nonadjacent", "G2"))
            self._look_for(single, self._closing(anti, plain), plain | anti, order, ("G-single",), others=False)
            self._look_for(
                apart,
                self._alternating(anti, plain),
                plain | anti,
                order,
                ("G-single", "G-nonadjacent"),
                apart=True,
                needed=walks.SECOND,
            )
            self._look_for(
                all_,
                anti,
                plain | anti,
                order,
                ("G-single", "G-nonadjacent", "G2"),
                needed=walks.SECOND | walks.ADJACENT,
            )

    def _look_for(
        self,
        name: str,
        through: NDArray[np.bool_],
        allowed: NDArray[np.bool_],
        order: Kind | None,
        implied_by: Sequence[str],
        *,
        others: bool = True,
        apart: bool = False,
        needed: int = 0,
    ) -> None:
        """Look for cycles of a class through some edges, in each component of the edges that are allowed."""
        if not through.any():
            return
        core = self._core
        component = strong_components(len(core.node), core.source[allowed], core.target[allowed])
        inside = component[core.source] == component[core.target]
        candidates = np.flatnonzero(through & allowed & inside)
        if order is not None:
            timed = component[core.source[allowed & inside & (core.kind == order)]]
            candidates = candidates[np.isin(component[core.source[candidates]], timed)]
            needed |= walks.ORDERED
        taken = [component[nodes] for kind, nodes in self._have.items() if _implies(kind, name, implied_by)]
        if taken:
            candidates = candidates[~np.isin(component[core.source[candidates]], np.concatenate(taken))]
        if not len(candidates):
            return
        self._witnesses(name, component, candidates, allowed & inside, order, others, apart, needed)

    def _witnesses(
        self,
        name: str,
        component: NDArray[np.int32],
        candidates: Ints,
        allowed: NDArray[np.bool_],
        order: Kind | None,
        others: bool,
        apart: bool,
        needed: int,
    ) -> None:
        """A shortest cycle of each component that has candidates; one that turns out to be of another class is none."""
        core = self._core
        where = component[core.source[candidates]]
        sorted_ = np.argsort(where, kind="stable")
        candidates, where = candidates[sorted_], where[sorted_]
        bounds = np.flatnonzero(np.diff(where, prepend=-1, append=-1))
        edges = np.flatnonzero(allowed)
        # Only the edges of the components in question, and those by component, so that each search has a small graph.
        edges = edges[np.isin(component[core.source[edges]], where)]
        edges = edges[np.argsort(component[core.source[edges]], kind="stable")]
        of = component[core.source[edges]]
        number = 0
        nodes: list[int] = []
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            number += 1
            if self._shown.get(name, 0) >= _SHOWN:
                nodes.append(int(core.source[candidates[begin]]))
                continue
            low, high = np.searchsorted(of, where[begin]), np.searchsorted(of, where[begin], side="right")
            cycle = self._shortest(candidates[begin:end], edges[low:high], order, others, apart, needed)
            if cycle is None or cycle.kind != name:
                number -= 1
                continue
            self._shown[name] = self._shown.get(name, 0) + 1
            self.found.append(cycle)
            nodes.append(int(core.source[candidates[begin]]))
        if number:
            self.counts[name] = number
            self._have[name] = np.array(nodes, np.int32)

    def _shortest(
        self, candidates: Ints, edges: Ints, order: Kind | None, others: bool, apart: bool, needed: int
    ) -> Cycle | None:
        """The shortest cycle through any of the candidates within the graph of these edges."""
        core, total = self._core, len(self._dependencies.transactions)
        nodes, renumbered = np.unique(np.concatenate([core.source[edges], core.target[edges]]), return_inverse=True)
        source, target = renumbered[: len(edges)].astype(np.int32), renumbered[len(edges) :].astype(np.int32)
        kind = core.kind[edges]
        counts_as = np.full(len(edges), walks.PLAIN, np.int8)
        counts_as[(kind == Kind.RW) | (kind == Kind.RWP)] = walks.ANTI
        counts_as[kind == FREE] = walks.FREE
        if order is not None:
            counts_as[kind == order] = walks.ORDER
        start, leaves = grouped(len(nodes), source)
        place = np.full(int(edges.max()) + 1, -1, np.int64)
        place[edges] = np.arange(len(edges))
        walk, _ = walks.shortest_walk(
            place[candidates],
            core.node[nodes] < total,
            source,
            target,
            start,
            leaves,
            counts_as,
            others,
            apart,
            needed,
            _LOOKED,
        )
        return self._cycle(edges[walk]) if len(walk) else None

    def _cycle(self, walk: Ints) -> Cycle:
        """A closed walk as a cycle of transactions, cut where it meets itself, and named by what it is."""
        core, edges, total = self._core, self._dependencies.edges, len(self._dependencies.transactions)
        steps: list[Step] = []
        for edge in walk.tolist():
            source, target = int(core.node[core.source[edge]]), int(core.node[core.target[edge]])
            row, kind = int(core.row[edge]), int(core.kind[edge])
            if source >= total:
                if target < total:
                    steps[-1] = steps[-1]._replace(target=target)
                continue
            if row < 0:
                steps.append(Step(Kind(kind), source, target, -1, -1, -1))
            else:
                steps.append(
                    Step(Kind(kind), source, target, int(edges.key[row]), int(edges.before[row]), int(edges.after[row]))
                )
        steps = _simple(steps)
        return Cycle(class_of([step.kind for step in steps]), tuple(step.source for step in steps), tuple(steps))

    def _closing(self, anti: NDArray[np.bool_], plain: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The anti-dependencies whose end leads back to their beginning by the plain edges."""
        core = self._core
        nodes = len(core.node)
        whole = strong_components(nodes, core.source[plain | anti], core.target[plain | anti])
        candidates = np.flatnonzero(anti & (whole[core.source] == whole[core.target]))
        closing = np.zeros(len(anti), dtype=bool)
        if not len(candidates):
            return closing
        inside = plain & (whole[core.source] == whole[core.target])
        source, target = core.source[inside], core.target[inside]
        component = strong_components(nodes, source, target)
        components = int(component.max()) + 1
        moment = np.full(components, NEVER, np.int64)
        np.minimum.at(moment, component, core.moment)
        place = topological_places(components, component, source, target, moment)[component]
        back = place[core.target[candidates]] <= place[core.source[candidates]]
        candidates = candidates[back]
        candidates = candidates[np.argsort(place[core.target[candidates]], kind="stable")]
        _, group = np.unique(whole[core.source[candidates]], return_inverse=True)
        joined = closed_by_paths(
            components,
            place,
            source,
            target,
            core.target[candidates],
            core.source[candidates],
            group.astype(np.int64),
            _SHOWN * 64,
        )
        closing[candidates[joined]] = True
        return closing

    def _alternating(self, anti: NDArray[np.bool_], plain: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The anti-dependencies on a closed walk in which none follows another: see the text above."""
        core = self._core
        nodes = len(core.node)
        source, target = core.source.astype(np.int64), core.target.astype(np.int64)
        p, a = np.flatnonzero(plain), np.flatnonzero(anti)
        begins = np.concatenate([source[p], source[p] + nodes, source[a]])
        ends = np.concatenate([target[p], target[p], target[a] + nodes])
        component = strong_components(2 * nodes, begins.astype(np.int32), ends.astype(np.int32))
        alternating = np.zeros(len(anti), dtype=bool)
        alternating[a] = component[source[a]] == component[target[a] + nodes]
        return alternating


def _implies(kind: str, name: str, families: Sequence[str]) -> bool:
    """Whether a class that was found implies another one: of a family that does, and no further from plain than it."""
    if kind == name:
        return False
    if not any(kind == family or kind.startswith(f"{family}-") for family in families):
        return False
    if "-item" not in kind and "-item" in name:
        return False
    return _distance(kind) <= _distance(name)


def _distance(kind: str) -> int:
    return 2 if kind.endswith("-realtime") else 1 if kind.endswith("-process") else 0


def _simple(steps: list[Step]) -> list[Step]:
    """A closed walk without detours; where it meets itself that half is kept in which fewer rw follow one another."""
    while True:
        places: dict[int, int] = {}
        for at, step in enumerate(steps):
            if step.source in places:
                first = places[step.source]
                halves = [steps[first:at], steps[:first] + steps[at:]]
                steps = min(halves, key=lambda half: (class_rank([step.kind for step in half]), len(half)))
                break
            places[step.source] = at
        else:
            return steps


def class_rank(kinds: Sequence[Kind]) -> int:
    """How weak the class of a cycle of these edges is: 0 G0, 1 G1c, 2 G-single, 3 G-nonadjacent, 4 G2."""
    anti = [kind in _ANTI for kind in kinds]
    if not any(anti):
        return 1 if any(kind in _READS for kind in kinds) else 0
    if sum(anti) == 1:
        return 2
    adjacent = any(one and two for one, two in zip(anti, anti[1:] + anti[:1], strict=True))
    return 4 if adjacent else 3


def class_of(kinds: Sequence[Kind]) -> str:
    """The name of the class of a cycle of these edges."""
    rank = class_rank(kinds)
    name = ("G0", "G1c", "G-single", "G-nonadjacent", "G2")[rank]
    if rank >= 2 and Kind.RWP not in kinds:
        name += "-item"
    if Kind.REALTIME in kinds:
        return f"{name}-realtime"
    return f"{name}-process" if Kind.PROCESS in kinds else name
