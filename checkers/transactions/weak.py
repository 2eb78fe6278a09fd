"""Read committed, read atomic and transactional causal consistency of registers with unique values, exactly.

First every read must be right by itself (``reads``); then session order, reads and the commit order that the level
forces (``commit_order``) must have no cycle: Biswas & Enea ("On the Complexity of Checking Transactional Consistency",
2019), within the bounds of Møldrup & Pavlogiannis ("AWDIT: An Optimal Weak Database Isolation Tester", 2025). Sessions
are processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from harness.checkers.transactions.circular import reach, shortest
from harness.checkers.transactions.columns import Transactions
from harness.checkers.transactions.components import grouped, strong_components
from harness.checkers.transactions.forced import Forced, Level
from harness.checkers.transactions.graph import EXPLAINED
from harness.checkers.transactions.reads import INITIAL, Ints32, Reads, name
from harness.columns import Ints
from harness.verdict import Validity
from harness.words import named, show

__all__ = ["COMMIT_ORDER", "Judgement", "Level", "Step", "Violation", "judge"]

COMMIT_ORDER: Final = "cyclic-commit-order"
"""The kind of a cycle that has an edge of the commit order that the level forces."""

_EFFORT: Final = 30_000_000
"""Edges that the search for shortest cycles may follow in all."""
_WIDEST: Final = 300
"""The most transactions of a cycle in which shortcuts are looked for."""


class Step(NamedTuple):
    """An edge of a cycle: session order, a read of what was written, or commit order that was inferred.

    The latter rests on a third transaction, ``reader``, which read ``key`` of ``target`` although it saw ``source``,
    which wrote the key, too. ``road`` are the steps from ``source`` to ``reader``: how it saw it.
    """

    kind: Literal["so", "wr", "co"]
    source: int
    target: int
    key: int = -1
    reader: int = -1
    road: tuple[Step, ...] = ()


class Violation(NamedTuple):
    """Why a history is not of a level: a wrong read, or a cycle, whose steps are in ``edges``, last to first.

    ``transactions`` are those of the cycle in its order, and then those that its edges rest on.
    """

    kind: str
    transactions: tuple[int, ...]
    text: str
    key: int = -1
    edges: tuple[Step, ...] = ()


@dataclass
class Judgement:
    """Whether a history is of a level of isolation, and why not."""

    level: Level
    found: list[Violation] = field(default_factory=list)
    """At most ten of each kind."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many there are of each kind: reads, or separate knots of cycles."""
    unknown: str = ""
    """Why some reads could not be judged; what was found is wrong all the same."""

    @property
    def validity(self) -> Validity:
        """The verdict."""
        return "invalid" if self.found else "unknown" if self.unknown else "valid"


def judge(
    transactions: Transactions,
    level: Level,
    *,
    sessions: bool = True,
    reads: Reads | None = None,
    deadline: float = math.inf,
) -> Judgement:
    """Hold a history of registers with unique values against a level.

    Without ``sessions`` each transaction is a session of its own; causal consistency is about sessions, and keeps them.
    ``reads`` are those of the history where they are known already. Causal consistency of very many sessions takes as
    many times as long as there are: after ``deadline``, of ``time.monotonic``, what is left of it is unknown.
    """
    reads = Reads.of(transactions) if reads is None else reads
    judgement = Judgement(level, [Violation(*one) for one in reads.found], dict(reads.counts), reads.unknown)
    forced = Forced(reads, level, sessions=sessions or level == "causal", deadline=deadline)
    if forced.unfinished:
        judgement.unknown = judgement.unknown or "the budget of time was spent before all sessions were compared"
    _Graph(forced).report(judgement)
    return judgement


class _Graph:
    """All that has to come before one another."""

    def __init__(self, forced: Forced) -> None:
        self.forced, self.reads, self.t = forced, forced.reads, forced.reads.transactions

    def report(self, judgement: Judgement) -> None:
        """Find what is wrong, and say why."""
        of_initial = self.forced.edges[:, 1] == INITIAL
        stale, forced = self.forced.edges[of_initial], self.forced.edges[~of_initial]
        explain = _Explainer(self.forced)
        if len(stale):
            # One for each transaction that found nothing where it had seen something.
            readers = self.t.owner[self.reads.read_at[stale[:, 2]]]
            rows = np.unique(readers, return_index=True)[1]
            judgement.counts[COMMIT_ORDER] = len(rows)
            judgement.found += [explain.of_initial(*stale[row].tolist()) for row in rows[:EXPLAINED].tolist()]
        if self.forced.acyclic(forced):
            return
        for violation in self._cycles(forced, explain, judgement.counts):
            if sum(one.kind == violation.kind for one in judgement.found) < EXPLAINED:
                judgement.found.append(violation)

    def _cycles(self, forced: Ints32, explain: _Explainer, counts: dict[str, int]) -> list[Violation]:
        n, r = len(self.t), self.reads
        after = np.flatnonzero(self.forced.previous >= 0).astype(np.int32)
        reads = np.flatnonzero(r.read_source >= 0)
        reader = np.repeat(np.arange(n, dtype=np.int32), np.diff(r.read_start))[reads]
        source = np.concatenate([self.forced.previous[after], r.read_source[reads], forced[:, 0]])
        target = np.concatenate([after, reader, forced[:, 1]])
        kind = np.repeat(np.arange(3, dtype=np.int8), [len(after), len(reads), len(forced)])
        # The row of the read that an edge rests on.
        read = np.concatenate([np.full(len(after), -1), reads, forced[:, 2]])
        begin, order = grouped(n, source)
        source, target, kind, read = source[order], target[order], kind[order], read[order]
        component = strong_components(n, source, target)
        sizes = np.bincount(component)
        knots = np.flatnonzero(sizes > 1)
        knots = knots[np.argsort(sizes[knots], kind="stable")]
        violations = []
        for at, knot in enumerate(knots.tolist()):
            if at == EXPLAINED:
                counts[COMMIT_ORDER] = counts.get(COMMIT_ORDER, 0) + len(knots) - at
                break
            nodes = np.flatnonzero(component == knot)
            rows = shortest(nodes, begin, target, component, _EFFORT // min(len(knots), EXPLAINED))
            edges = [(int(kind[e]), int(source[e]), int(target[e]), int(read[e])) for e in rows.tolist()]
            violation = explain.cycle(self._shortened(edges, begin, target, kind, read))
            counts[violation.kind] = counts.get(violation.kind, 0) + 1
            violations.append(violation)
        return violations

    def _shortened(self, edges: list[_Edge], begin: Ints, target: Ints32, kind: Ints, read: Ints) -> list[_Edge]:
        """The shortest cycle among the transactions of one, where all that follow in a session are neighbours."""
        nodes = [edge[1] for edge in edges]
        if len(nodes) > _WIDEST:
            return edges
        inside = set(nodes)
        leads: dict[int, dict[int, _Edge]] = {node: {} for node in nodes}
        for a in nodes:
            for b in nodes:
                if (
                    self.forced.session[a] == self.forced.session[b]
                    and self.forced.position[a] < self.forced.position[b]
                ):
                    leads[a][b] = (0, a, b, -1)
            for row in range(begin[a], begin[a + 1]):
                b = int(target[row])
                if b in inside:
                    leads[a].setdefault(b, (int(kind[row]), a, b, int(read[row])))
        best = edges
        for root in nodes:
            road = _road(root, root, leads)
            if len(road) < len(best):
                best = road
        return best


_Edge = tuple[int, int, int, int]
"""Kind (0 so, 1 wr, 2 co), source, target, row of the read."""


def _road(start: int, end: int, leads: dict[int, dict[int, _Edge]]) -> list[_Edge]:
    """The shortest way along edges, which has at least one; there must be one."""
    reached: dict[int, _Edge] = {}
    level = [start]
    while end not in reached:
        following = []
        for node in level:
            for other, edge in leads[node].items():
                if other not in reached:
                    reached[other] = edge
                    following.append(other)
        level = following
    road = [reached[end]]
    while road[-1][1] != start:
        road.append(reached[road[-1][1]])
    return road[::-1]


class _Explainer:
    """Says in words why transactions come one before another."""

    def __init__(self, graph: Forced) -> None:
        self.graph, self.reads, self.t = graph, graph.reads, graph.t

    def of_initial(self, source: int, _: int, read: int) -> Violation:
        """What is wrong where a transaction found nothing although it saw a write."""
        step = self._step((2, source, INITIAL, read))
        shown = _with_witnesses((source,), (step,))
        text = f"{self._because(step)} But the initial state was there before every transaction."
        return Violation(COMMIT_ORDER, shown, text, step.key, (step, Step("so", INITIAL, source)))

    def cycle(self, edges: list[_Edge]) -> Violation:
        """What is wrong with a cycle."""
        steps = self._closest(tuple(self._step(edge) for edge in edges))
        kinds = {step.kind for step in steps}
        kind = COMMIT_ORDER if "co" in kinds else "G1c-process" if "so" in kinds else "G1c"
        names = [name(self.t, step.source) for step in steps]
        because = " ".join(self._because(step) for step in steps)
        text = f"{because} So {' before '.join([*names, names[0]])}, which is impossible."
        shown = _with_witnesses(tuple(step.source for step in steps), steps)
        keys = {step.key for step in steps if step.kind != "so"}
        return Violation(kind, shown, text, keys.pop() if len(keys) == 1 else -1, steps)

    def _step(self, edge: _Edge) -> Step:
        kind, source, target, read = edge
        if kind == 0:
            return Step("so", source, target)
        key = int(self.reads.read_key[read])
        if kind == 1:
            return Step("wr", source, target, key)
        reader = int(self.t.owner[self.reads.read_at[read]])
        return Step("co", source, target, key, reader, self._road_to(source, reader, read))

    def _road_to(self, source: int, reader: int, read: int) -> tuple[Step, ...]:
        """How a transaction saw another one: it read from it, it came after it in its session, or by others."""
        graph, r = self.graph, self.reads
        for row in range(r.read_start[reader], r.read_start[reader + 1]):
            earlier = row < read or graph.level != "read-committed"
            if r.read_source[row] == source and earlier:
                return (Step("wr", source, reader, int(r.read_key[row])),)
        if graph.session[source] == graph.session[reader]:
            return (Step("so", source, reader),)
        _, parent, along = self._before(reader, source)
        road, at = [], source
        while at != reader:
            road.append(self._between(at, int(parent[at]), along=bool(along[at])))
            at = int(parent[at])
        return tuple(road)

    def _between(self, source: int, target: int, *, along: bool) -> Step:
        """The step from one transaction to another that follows it in its session, or read from it."""
        if along:
            return Step("so", source, target)
        r = self.reads
        rows = range(r.read_start[target], r.read_start[target + 1])
        return Step("wr", source, target, next(int(r.read_key[row]) for row in rows if r.read_source[row] == source))

    def _before(self, reader: int, earliest: int) -> Any:
        """What happens before a transaction, and not before another one."""
        graph, r, place = self.graph, self.reads, self.place
        return reach(reader, graph.previous, r.read_start, r.read_source, place, place[earliest], place[reader])

    @cached_property
    def place(self) -> Ints32:
        """Where each transaction is in an order of all that respects sessions and reads."""
        place = np.full(len(self.t), -1, np.int32)
        place[self.graph.order] = np.arange(len(self.graph.order), dtype=np.int32)
        return place

    def _closest(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """The same cycle by that write in place of the forced one which needs the fewest steps in all.

        A transaction read something although it saw what overwrote it; of all that overwrote it any will do.
        """
        forced = [step for step in steps if step.kind == "co"]
        if self.graph.level != "causal" or len(forced) != 1:
            return steps
        (co,) = forced
        graph, r, place = self.graph, self.reads, self.place
        following = np.full(len(self.t), -1, np.int32)
        after = np.flatnonzero(graph.previous >= 0)
        following[graph.previous[after]] = after
        rows = np.flatnonzero(r.read_source >= 0)
        reader = np.repeat(np.arange(len(self.t), dtype=np.int32), np.diff(r.read_start))[rows]
        begin, by_source = grouped(len(self.t), r.read_source[rows])
        window = place[co.target], place[co.reader]
        depth, parent, along = reach(co.target, following, begin, reader[by_source], place, *window)
        back, back_parent, back_along = self._before(co.reader, co.target)
        writers = np.repeat(np.arange(len(self.t)), np.diff(r.write_start))[r.write_key == co.key]
        writers = writers[(depth[writers] > 0) & (back[writers] > 0)]
        if not len(writers):
            return steps
        best = int(writers[np.argmin(depth[writers] + back[writers])])
        road, at = [], best
        while at != co.reader:
            road.append(self._between(at, int(back_parent[at]), along=bool(back_along[at])))
            at = int(back_parent[at])
        way, at = [Step("co", best, co.target, co.key, co.reader, tuple(road))], best
        while at != co.target:
            way.append(self._between(int(parent[at]), at, along=bool(along[at])))
            at = int(parent[at])
        return tuple(way[::-1])

    def _because(self, step: Step) -> str:
        a, b = name(self.t, step.source), name(self.t, step.target)
        if step.kind == "so":
            return f"{a} came before {b} in process {self.t.process[step.source]}."
        key = named(self.t.keys[step.key])
        if step.kind == "wr":
            return f"{b} read {self._wrote(step.source, step.key)} of key {key}, which {a} wrote."
        reader = name(self.t, step.reader)
        sees = "; ".join(self._because(part)[:-1] for part in step.road)
        if step.target == INITIAL:
            return (
                f"{sees}. Yet {reader} found nothing at key {key}, where {a} wrote "
                f"{self._wrote(step.source, step.key)}: so {a} came before the initial state."
            )
        return (
            f"{sees}. Yet {reader} read {self._wrote(step.target, step.key)} of key {key}, which {b} wrote, and not "
            f"{self._wrote(step.source, step.key)}, which {a} wrote: so {a} committed before {b}."
        )

    def _wrote(self, transaction: int, key: int) -> str:
        return show(self.reads.wrote(transaction, key))


def _with_witnesses(cycle: tuple[int, ...], steps: tuple[Step, ...]) -> tuple[int, ...]:
    """The transactions of a cycle, and those that its edges rest on, each once."""
    rest = [node for step in steps for part in step.road for node in (part.source, part.target)]
    rest += [step.reader for step in steps if step.reader >= 0]
    return tuple(dict.fromkeys([*cycle, *rest]))
