"""Split brain: two nodes are primary at once. Who acknowledged what meanwhile, and what became of it.

An *episode* is a time in which two or more nodes acknowledged writes as primaries, or said that they are. That alone is
evidence: two reigns may overlap for a moment without harm. An anomaly is what no store with one primary at a time can
show: a term that two nodes claim; a write that was invoked after one had been acknowledged in a higher term, and was
acknowledged in the lower; a list that goes on in two ways, one for each of two primaries that both acknowledge; a write
that one of two such primaries acknowledges, and that is lost. Where no single primary is claimed the same picture is
evidence.

The evidence lists the writes of an episode, each by who acknowledged it and with its fate: all that were under way
meanwhile, and of the reigns that met there the lost ones before and after it. Behind nodes that pass writes on
(``forwarded``) who acknowledged one need not have ordered it.
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
from harness.checkers.reigns import Overlap, Reign, acknowledged_writes, merged, overlaps, reigns, terms_of
from harness.checkers.witness import Clock, anomaly
from harness.columns import NOTHING, Ints
from harness.history import MONITOR_PROCESS, History, Operations
from harness.periods import active, fault_periods
from harness.roles import PRIMARY, Sighting, leadership, sightings
from harness.verdict import Anomaly, Budget, Checker, Verdict
from harness.words import count, duration, named

SPLIT_BRAIN: Final = "split brain"
_EPISODES: Final = 20
"""How many episodes are in the evidence."""
_WRITES: Final = 20_000
"""How many writes of an episode are listed, the lost ones first; all are counted."""
_WRITES_IN_ALL: Final = 50_000
"""How many writes of all episodes are listed, those of episodes that are anomalies first."""
_FORKS: Final = 2
"""How many facts an episode's text tells, and how many forks are in the evidence."""
_SHORT: Final = 4
"""How many elements of each branch it lists."""
_LOOKED_AT: Final = 1000
"""How many forked lists are looked at for whose branches they are."""


class Side(msgspec.Struct):
    """One of the primaries of an episode: what it acknowledged meanwhile, by what became of it.

    ``lost_before`` counts the writes that it had acknowledged earlier in the same reign, and that are lost as well;
    ``lost_after`` those that it acknowledged later in it.
    """

    node: str
    terms: list[int]
    acknowledged: int
    fates: dict[str, int]
    lost_before: int
    lost_after: int


class Acknowledged(msgspec.Struct, omit_defaults=True):
    """A write, who acknowledged it, and its fate. Times in ns; ``index`` is the number of its invocation's event.

    ``outside`` is "before" or "after" for a lost write of a reign that was no part of the overlap.
    """

    node: str
    fate: str
    f: str
    call: int
    ret: int
    index: int
    key: Any = None
    value: Any = None
    term: int | None = None
    outside: str = ""


class Episode(msgspec.Struct):
    """A time (ns) in which nodes were primary at once; ``facts`` are what no store with one primary can show.

    ``writes`` are listed where the episode is in the evidence, and ``writes_left_out`` counts those that are not, since
    there were too many.
    """

    start: int
    end: int
    nodes: list[str]
    sides: list[Side]
    faults: list[str]
    facts: list[str] = []
    forks: list[str] = []
    writes: list[Acknowledged] = []
    writes_left_out: int = 0

    @property
    def overlap(self) -> Overlap:
        """When it was, and whose."""
        return Overlap(self.start, self.end, frozenset(self.nodes))


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
        guilty = [episode for episode in picture.episodes if episode.facts]
        shown = sorted(picture.episodes, key=lambda episode: not episode.facts)[:_EPISODES]
        picture.list_writes(shown)
        evidence: dict[str, Any] = {
            "leadership": picture.leadership,
            "episodes_found": len(picture.episodes),
            "episodes_left_out": len(picture.episodes) - len(shown),
            "episodes": msgspec.to_builtins(sorted(shown, key=lambda episode: episode.start)),
        }
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
        meanwhile = self._meanwhile(overlap)
        inside = self.writes[meanwhile & (operations.call[self.writes] >= overlap.start)]
        # Who has been succeeded and acknowledges nothing any more is no second primary for the other's writes.
        active_nodes = self._servers(self.writes[meanwhile].tolist()) & overlap.nodes
        lost = inside[self.fates[inside] == LOST] if len(active_nodes) > 1 else inside[:0]
        lost = [row for row in lost.tolist() if operations.server_name(row) in active_nodes]
        begun = set(inside.tolist())
        split = [fork for fork, branches in forks if self._shows(branches, begun)]
        facts = list(self._facts(overlap, split, lost))
        return Episode(
            overlap.start,
            overlap.end,
            sorted(overlap.nodes),
            [self._side(node, overlap, meanwhile) for node in sorted(overlap.nodes)],
            active(self.periods, overlap.start, overlap.end),
            facts if self.leadership != "none" else [],
            [fork_line(self.lists, fork, _SHORT) for fork in sorted(split, key=lambda f: not f.prefix)[:_FORKS]],
        )

    def _meanwhile(self, overlap: Overlap) -> NDArray[np.bool_]:
        """Which writes were under way at some moment of an overlap."""
        call, ret = self.operations.call[self.writes], self.operations.ret[self.writes]
        meanwhile: NDArray[np.bool_] = (call <= overlap.end) & (ret >= overlap.start)
        return meanwhile

    def list_writes(self, episodes: Iterable[Episode]) -> None:
        """Put the writes of each episode into it, the lost ones first, as far as there is room: the first have most."""
        room = _WRITES_IN_ALL
        for episode in episodes:
            overlap = episode.overlap
            meanwhile = self._meanwhile(overlap)
            before, after = np.zeros_like(meanwhile), np.zeros_like(meanwhile)
            for node in overlap.nodes:
                earlier, later = self._lost_outside(node, overlap)
                before |= earlier
                after |= later
            places = np.flatnonzero(meanwhile | before | after)
            places = places[np.argsort(self.fates[self.writes[places]] != LOST, kind="stable")]
            listed = places[: min(_WRITES, room)]
            outside = np.where(before[listed], "before", np.where(after[listed], "after", ""))
            episode.writes = [
                self._acknowledged(place, where) for place, where in zip(listed.tolist(), outside.tolist(), strict=True)
            ]
            episode.writes_left_out = len(places) - len(listed)
            room -= len(listed)

    def _shows(self, branches: Sequence[set[int]], begun: set[int]) -> bool:
        """Whether two nodes went on with a list each in its own way in an episode, whose writes are ``begun``."""
        going = [self._servers(rows & begun) for rows in branches if rows & begun]
        return any(not left & right for left, right in combinations(going, 2))

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

    def _own(self, node: str) -> NDArray[np.bool_]:
        """Which writes a node has acknowledged."""
        names = self.history.nodes
        own: NDArray[np.bool_] = self.operations.server[self.writes] == (names.index(node) if node in names else -1)
        return own

    def _reigns_in(self, node: str, overlap: Overlap) -> list[Reign]:
        """The reigns of a node that have a part in an overlap."""
        return [
            reign
            for reign in self.reigns
            if reign.node == node and reign.start <= overlap.end and reign.end >= overlap.start
        ]

    def _lost_outside(self, node: str, overlap: Overlap) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which lost writes a node acknowledged before, and which after an overlap, in the reigns that met there."""
        operations, own_reigns = self.operations, self._reigns_in(node, overlap)
        began = min((reign.start for reign in own_reigns), default=overlap.start)
        ended = max((reign.end for reign in own_reigns), default=overlap.end)
        call, ret = operations.call[self.writes], operations.ret[self.writes]
        lost = self._own(node) & (self.fates[self.writes] == LOST)
        return lost & (ret < overlap.start) & (ret >= began), lost & (call > overlap.end) & (call <= ended)

    def _side(self, node: str, overlap: Overlap, meanwhile: NDArray[np.bool_]) -> Side:
        own = self._own(node)
        numbers = np.bincount(self.fates[self.writes][own & meanwhile], minlength=len(FATES)).tolist()
        terms = {reign.term for reign in self._reigns_in(node, overlap) if reign.term is not None}
        terms |= {int(term) for term in self.terms[own & meanwhile].tolist() if term != NOTHING}
        terms |= {
            claim.term for claim in self.claims if node in claim.nodes and overlap.start <= claim.start <= overlap.end
        }
        before, after = (int(lost.sum()) for lost in self._lost_outside(node, overlap))
        return Side(node, sorted(terms), sum(numbers), dict(zip(FATES, numbers, strict=True)), before, after)

    def _acknowledged(self, place: int, outside: str) -> Acknowledged:
        """A write, by its place among all that were acknowledged."""
        operations, row, term = self.operations, int(self.writes[place]), int(self.terms[place])
        return Acknowledged(
            str(operations.server_name(row)),
            FATES[self.fates[row]],
            operations.name(row),
            int(operations.call[row]),
            int(operations.ret[row]),
            self.history.index_of(int(operations.invoked[row])),
            operations.key_name(row),
            operations.done(row),
            None if term == NOTHING else term,
            outside,
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
    more = [(side.lost_before, "before that"), (side.lost_after, "after that")]
    outside = " and ".join(f"{number:,} {when}" for number, when in more if number)
    if not side.acknowledged:
        lost_ones = f" (but {outside}, lost now)" if outside else ""
        return f"{named(side.node)}{terms} acknowledged no write{lost_ones}"
    by_fate = {fate: number for fate, number in side.fates.items() if number}
    if len(by_fate) == 1:
        ((fate, _),) = by_fate.items()
        fates = f"all {_FATE_WORDS.get(fate, fate)}" if side.acknowledged > 1 else _FATE_WORDS.get(fate, fate)
    else:
        fates = ", ".join(f"{number} {_FATE_WORDS.get(fate, fate)}" for fate, number in by_fate.items())
    lost_too = f" (and {outside}, lost as well)" if outside else ""
    return f"{named(side.node)}{terms} acknowledged {count(side.acknowledged, 'write')}: {fates}{lost_too}"


_FATE_WORDS: Final = {"unknown": "of unknown fate", "overwritten": "overwritten by its own"}
