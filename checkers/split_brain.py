"""Split brain: two nodes are primary at once. Who acknowledged what meanwhile, and what became of it.

An *episode* is a time in which two or more nodes acknowledged writes as primaries, or said that they are. That alone is
evidence: two reigns may overlap for a moment without harm. An anomaly is what no store with one primary at a time can
show: a term that two nodes claim; a write that was invoked after one had been acknowledged in a higher term, and was
acknowledged in the lower; a list that goes on in two ways, one for each of two primaries that both acknowledge; a write
that one of two such primaries acknowledges, and that is lost. Where no single primary is claimed the same picture is
evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import combinations, pairwise
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.checkers.availability import service_clauses
from harness.checkers.branches import Fork, ListHistory, fork_line, forks_of
from harness.checkers.fates import FATES, LOST, fates
from harness.checkers.lists import Lists
from harness.checkers.reigns import Overlap, acknowledged_writes, merged, overlaps, reigns, terms_of
from harness.checkers.witness import Clock, anomaly, witness
from harness.columns import NOTHING, Ints
from harness.history import MONITOR_PROCESS, History, Operations
from harness.periods import active, fault_periods
from harness.roles import PRIMARY, Sighting, leadership, sightings
from harness.verdict import Anomaly, Budget, Checker, Verdict, Witness
from harness.words import count, duration, named

SPLIT_BRAIN: Final = "split brain"
_EPISODES: Final = 20
"""How many episodes are in the evidence."""
_WRITES: Final = 1000
"""How many writes of an episode are listed, the lost ones first; all are counted."""
_FORKS: Final = 2
"""How many facts an episode's text tells, and how many forks are in the evidence."""
_SHORT: Final = 4
"""How many elements of each branch it lists."""
_LOOKED_AT: Final = 1000
"""How many forked lists are looked at for whose branches they are."""


class Side(msgspec.Struct):
    """One of the primaries of an episode: what it acknowledged meanwhile, by what became of it.

    ``lost_before`` counts the writes that it had acknowledged earlier in the same reign, and that are lost as well.
    """

    node: str
    terms: list[int]
    acknowledged: int
    fates: dict[str, int]
    lost_before: int


class Acknowledged(msgspec.Struct):
    """A write of an episode and its fate. Times in ns."""

    node: str
    term: int | None
    fate: str
    f: str
    key: Any
    value: Any
    process: int
    call: int
    ret: int
    index: int


class Episode(msgspec.Struct):
    """A time (ns) in which nodes were primary at once; ``facts`` are what no store with one primary can show."""

    start: int
    end: int
    nodes: list[str]
    sides: list[Side]
    faults: list[str]
    facts: list[str] = []
    forks: list[str] = []
    writes: list[Acknowledged] = []


class Claim(NamedTuple):
    """Two nodes claimed one term: each at some moment before ``start`` and ``end`` respectively."""

    term: int
    nodes: tuple[str, str]
    start: int
    end: int


class Late(NamedTuple):
    """``node`` acknowledged writes in ``term`` that were invoked after ``other`` had acknowledged one in ``higher``."""

    node: str
    term: int
    other: str
    higher: int
    rows: list[int]
    """The writes, and before each the one of the higher term."""

    @property
    def writes(self) -> list[int]:
        """Those of the lower term."""
        return self.rows[1::2]


class SplitBrain(Checker):
    """Finds episodes in any history that tells who served what, or what nodes said that they are."""

    def check(self, history: History, budget: Budget) -> Verdict:
        """Invalid where the store claims one primary at a time, and a fact shows that it had two."""
        picture = Picture(history)
        evidence: dict[str, Any] = {"leadership": picture.leadership, "episodes_found": len(picture.episodes)}
        evidence["episodes"] = msgspec.to_builtins(picture.episodes[:_EPISODES])
        guilty = [episode for episode in picture.episodes if episode.facts]
        if picture.leadership == "none" or not guilty:
            return Verdict("valid", evidence=evidence)
        anomalies = [picture.anomaly(episode) for episode in guilty[:_EPISODES]]
        return Verdict("invalid", headline(picture, guilty[0]), anomalies, evidence, found=len(guilty))

    def blind(self, history: History) -> str:
        """A store that claims a primary, and other tools' histories, have to tell who served what or was what."""
        told = (history.operations().server > 0).any() or any(
            sighting.role is not None for sighting in sightings(history)
        )
        if told or (len(history.special(MONITOR_PROCESS)) and leadership(history) == "none"):
            return ""
        return "nothing in it tells which node served what, or what any node was"


class Picture:
    """Everything that a history tells about primaries."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.operations = history.operations()
        self.leadership = leadership(history)
        self.seen = sightings(history)
        self.clock = Clock(history)
        self.periods = fault_periods(history)
        self.writes = acknowledged_writes(self.operations)
        self.terms = terms_of(self.operations, self.writes, self.seen if self.leadership == "primary" else ())
        # Behind nodes that pass writes on, who acknowledges one need not be primary.
        acting = self.writes if self.leadership != "forwarded" else self.writes[:0]
        self.reigns = reigns(self.operations, acting, self.seen)
        lags = late(self.operations, self.writes, self.terms)
        if self.leadership == "forwarded":
            lags = [lag for lag in lags if self._stays_behind(lag)]
        self.late = sorted(lags, key=lambda lag: lag.node == lag.other)
        self.claims = claims(self.operations, self.writes, self.seen) if self.leadership == "primary" else []
        self.lists = Lists(self.operations)
        self.fates = fates(self.operations, self.lists)
        self.episodes = self._episodes()

    def _stays_behind(self, lag: Late) -> bool:
        """Whether a node that passes writes on has more than once told a term which another one had left behind.

        Its term is that of the last entry that it has applied. The first acknowledgement after a snapshot, or of the
        first entry of a new term, may tell an older one than its entry is of; and who knew better before is only that.
        """
        return lag.node != lag.other and len(lag.writes) > 1

    def _episodes(self) -> list[Episode]:
        operations = self.operations
        meeting = overlaps(self.reigns)
        for lag in self.late:
            start = int(operations.ret[lag.rows[0]])
            end = max(int(operations.ret[row]) for row in lag.writes)
            meeting.append(Overlap(start, end, frozenset({lag.node, lag.other})))
        meeting += [Overlap(claim.start, claim.end, frozenset(claim.nodes)) for claim in self.claims]
        whole = merged(meeting)
        forks = self._forks_of_two() if whole and self.leadership == "primary" else []
        return [self._episode(overlap, forks) for overlap in whole]

    def _forks_of_two(self) -> list[tuple[Fork, list[set[int]]]]:
        """The forks of which several branches were acknowledged, by more than one node: the rows of each branch."""
        lists = self.lists
        forks = []
        for key in lists.forked[:_LOOKED_AT] if lists.repeated() is None else ():
            history = ListHistory(lists, key)
            for fork in forks_of(lists, key):
                branches = [rows for elements in fork.branches if (rows := {*history.acknowledged(elements)})]
                if len(branches) > 1 and len(self._servers(set().union(*branches))) > 1:
                    forks.append((fork, branches))
        return forks

    def _servers(self, rows: Iterable[int]) -> set[str | None]:
        """Who acknowledged some writes."""
        return {self.operations.server_name(row) for row in rows}

    def _episode(self, overlap: Overlap, forks: Sequence[tuple[Fork, list[set[int]]]]) -> Episode:
        operations = self.operations
        call, ret = operations.call[self.writes], operations.ret[self.writes]
        meanwhile = (call <= overlap.end) & (ret >= overlap.start)
        inside = self.writes[meanwhile & (call >= overlap.start)]
        # Who has been succeeded and acknowledges nothing any more is no second primary for the other's writes.
        active_nodes = self._servers(self.writes[meanwhile].tolist()) & overlap.nodes
        lost = inside[self.fates[inside] == LOST] if len(active_nodes) > 1 else inside[:0]
        lost = [row for row in lost.tolist() if operations.server_name(row) in active_nodes]
        begun = set(inside.tolist())
        split = [fork for fork, branches in forks if self._shows(branches, begun)]
        facts = list(self._facts(overlap, split, lost))
        listed = np.flatnonzero(meanwhile) if self.leadership != "forwarded" else np.zeros(0, dtype=np.int64)
        listed = listed[np.argsort(self.fates[self.writes[listed]] != LOST, kind="stable")][:_WRITES]
        rows, terms = self.writes[listed].tolist(), self.terms[listed].tolist()
        return Episode(
            overlap.start,
            overlap.end,
            sorted(overlap.nodes),
            [self._side(node, overlap, meanwhile) for node in sorted(overlap.nodes)],
            active(self.periods, overlap.start, overlap.end),
            facts if self.leadership != "none" else [],
            [fork_line(self.lists, fork, _SHORT) for fork in sorted(split, key=lambda f: not f.prefix)[:_FORKS]],
            [self._acknowledged(row, term) for row, term in zip(rows, terms, strict=True)],
        )

    def _shows(self, branches: Sequence[set[int]], begun: set[int]) -> bool:
        """Whether two nodes went on with a list each in its own way in an episode, whose writes are ``begun``."""
        going = [self._servers(rows & begun) for rows in branches if rows & begun]
        return any(not one & other for one, other in combinations(going, 2))

    def _facts(self, overlap: Overlap, split: Sequence[Fork], lost: Sequence[int]) -> Iterator[str]:
        """What no store with one primary can show, of one episode."""
        for claim in self.claims:
            if set(claim.nodes) <= overlap.nodes and overlap.start <= claim.start <= overlap.end:
                yield f"{named(claim.nodes[0])} and {named(claim.nodes[1])} both claimed term {claim.term}"
        for late in self.late:
            if {late.node, late.other} <= overlap.nodes and overlap.start <= int(
                self.operations.ret[late.rows[0]]
            ) <= overlap.end:
                yield (
                    f"{named(late.node)} acknowledged {count(len(late.writes), 'write')} in term {late.term}, invoked "
                    f"after {named(late.other)} had acknowledged one in term {late.higher}"
                )
        if self.leadership == "primary" and split:
            yield f"{count(len(split), 'list')} forked between them"
        if self.leadership == "primary" and lost:
            are = "is" if len(lost) == 1 else "are"
            yield f"{count(len(lost), 'write')} that one acknowledged while another did, too, {are} lost"

    def _side(self, node: str, overlap: Overlap, meanwhile: NDArray[np.bool_]) -> Side:
        operations, names = self.operations, self.history.nodes
        code = names.index(node) if node in names else -1
        own = operations.server[self.writes] == code
        fate = self.fates[self.writes]
        numbers = np.bincount(fate[own & meanwhile], minlength=len(FATES)).tolist()
        own_reigns = [
            reign
            for reign in self.reigns
            if reign.node == node and reign.start <= overlap.end and reign.end >= overlap.start
        ]
        terms = {reign.term for reign in own_reigns if reign.term is not None}
        terms |= {int(term) for term in self.terms[own & meanwhile].tolist() if term != NOTHING}
        terms |= {
            claim.term for claim in self.claims if node in claim.nodes and overlap.start <= claim.start <= overlap.end
        }
        began = min((reign.start for reign in own_reigns), default=overlap.start)
        before = (
            own
            & (operations.ret[self.writes] < overlap.start)
            & (operations.ret[self.writes] >= began)
            & (fate == LOST)
        )
        return Side(node, sorted(terms), sum(numbers), dict(zip(FATES, numbers, strict=True)), int(before.sum()))

    def _acknowledged(self, row: int, term: int) -> Acknowledged:
        write: Witness = witness(self.operations, row)
        return Acknowledged(
            str(self.operations.server_name(row)),
            None if term == NOTHING else term,
            FATES[self.fates[row]],
            write.f,
            write.key,
            write.value,
            write.process,
            write.call,
            int(self.operations.ret[row]),
            self.history.index_of(int(self.operations.invoked[row])),
        )

    def anomaly(self, episode: Episode) -> Anomaly:
        """An episode as people read it: what happened, who acknowledged what, facts, and what it cost, a line each."""
        sides = "; ".join(_side_line(side) for side in episode.sides)
        lines = [headline(self, episode), sides, *episode.forks[:1]]
        if not episode.forks:
            lines += episode.facts[:_FORKS]
        if costs := self._costs(episode):
            lines.append(costs)
        shown = [row for lag in self.late for row in lag.rows[:2] if {lag.node, lag.other} <= {*episode.nodes}]
        during = episode.start, episode.end
        return anomaly(self.operations, self.periods, SPLIT_BRAIN, "\n".join(lines), shown[:4], during=during)

    def _costs(self, episode: Episode) -> str:
        """How stale reads were at a primary, for how long writes failed, and when the store was back."""
        clauses = []
        lists, operations = self.lists, self.operations
        call = operations.call[lists.reads]
        during = (call >= episode.start) & (call <= episode.end)
        servers = operations.server[lists.reads]
        stale = []
        for node in episode.nodes:
            if node in self.history.nodes:
                at_node = during & (servers == self.history.nodes.index(node))
                if most := int(lists.staleness[at_node].max(initial=0)):
                    stale.append((most, node))
        if stale:
            most, node = max(stale)
            clauses.append(f"reads at {named(node)} were up to {duration(most)} stale")
        return "; ".join([*clauses, ", ".join(self._service)] if self._service else clauses)

    @cached_property
    def _service(self) -> list[str]:
        """For how long writes failed, and when the store was back, in the whole run."""
        return service_clauses(self.history, self.operations)


def late(operations: Operations, writes: Ints, terms: Ints) -> list[Late]:
    """Writes that were acknowledged in a lower term than another write before their invocation, by node and terms."""
    rows, terms = writes[terms != NOTHING], terms[terms != NOTHING]
    if not len(rows):
        return []
    order = np.argsort(operations.ret[rows], kind="stable")
    ends = operations.ret[rows][order]
    highest = np.maximum.accumulate(terms[order])
    first = np.concatenate([[True], highest[1:] != highest[:-1]])
    holder = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    before = np.searchsorted(ends, operations.call[rows], side="left") - 1
    lags: dict[tuple[str, int, str, int], Late] = {}
    for at in np.flatnonzero((before >= 0) & (highest[np.maximum(before, 0)] > terms)).tolist():
        higher = int(holder[before[at]])
        names = str(operations.server_name(int(rows[at]))), str(operations.server_name(int(rows[higher])))
        key = names[0], int(terms[at]), names[1], int(terms[higher])
        lags.setdefault(key, Late(*key, [])).rows.extend((int(rows[higher]), int(rows[at])))
    return list(lags.values())


def claims(operations: Operations, writes: Ints, seen: Sequence[Sighting]) -> list[Claim]:
    """The terms in which two nodes were primary, as they said themselves or as their acknowledgements do."""
    first: dict[int, dict[str, tuple[int, int]]] = {}

    def add(node: str, term: int, start: int, end: int) -> None:
        by_node = first.setdefault(term, {})
        a, b = by_node.get(node, (start, end))
        by_node[node] = min(a, start), max(b, end)

    for sighting in seen:
        if sighting.role == PRIMARY and sighting.term is not None:
            add(sighting.node, sighting.term, sighting.start, sighting.end)
    servers, terms = operations.server[writes], operations.term[writes]
    told = terms != NOTHING
    for server, term in np.unique(np.stack([servers[told], terms[told]]), axis=1).T.tolist():
        rows = writes[told & (servers == server) & (terms == term)]
        node = str(operations.history.nodes[server])
        add(node, term, int(operations.call[rows].min()), int(operations.ret[rows].max()))
    claimed = []
    for term, nodes in sorted(first.items()):
        ordered = sorted(nodes.items(), key=lambda item: item[1])
        for (earlier, (_, ends)), (later, (begins, over)) in pairwise(ordered):
            claimed.append(Claim(term, (earlier, later), begins, max(begins, min(ends, over))))
    return claimed


def headline(picture: Picture, episode: Episode) -> str:
    """An episode in one line."""
    at = f"{episode.start / 1e9:.2f} s to {episode.end / 1e9:.2f} s"
    faults = f", during {'; '.join(episode.faults)}" if episode.faults else ""
    ends = [period.end for period in picture.periods if period.start <= episode.end and period.end >= episode.start]
    if ends and (beyond := episode.end - max(ends)) > 0:
        faults += f", and for {duration(beyond)} after that"
    if len(episode.nodes) == 1:
        return f"{named(episode.nodes[0])} went back to an older term ({at}{faults})"
    who = f"{', '.join(map(named, episode.nodes[:-1]))} and {named(episode.nodes[-1])}"
    both = "both primary" if len(episode.nodes) == 2 else "primary at once"
    return f"{who} were {both} for {duration(episode.end - episode.start)} ({at}{faults})"


def _side_line(side: Side) -> str:
    terms = f" (term {', '.join(map(str, side.terms))})" if side.terms else ""
    if not side.acknowledged:
        return f"{named(side.node)}{terms} acknowledged no write"
    by_fate = {fate: number for fate, number in side.fates.items() if number}
    if len(by_fate) == 1:
        ((fate, _),) = by_fate.items()
        fates = f"all {_FATE_WORDS.get(fate, fate)}" if side.acknowledged > 1 else _FATE_WORDS.get(fate, fate)
    else:
        fates = ", ".join(f"{number} {_FATE_WORDS.get(fate, fate)}" for fate, number in by_fate.items())
    before = f" (and {side.lost_before:,} before that, lost as well)" if side.lost_before else ""
    return f"{named(side.node)}{terms} acknowledged {count(side.acknowledged, 'write')}: {fates}{before}"


_FATE_WORDS: Final = {"unknown": "of unknown fate", "overwritten": "overwritten by its own"}
