"""Split brain: two nodes are primary at once. Who acknowledged what meanwhile, and what became of it.

An *episode* is a time in which two or more nodes acknowledged writes as primaries, or said that they are: reigns of two
nodes certainly overlap. That alone is evidence: two reigns may overlap for a moment without harm. An anomaly is what no
store with one primary at a time can show: a term that two nodes claim; a write that was invoked after one had been
acknowledged in a higher term, and was acknowledged in the lower; a list that goes on in two ways, one for each of two
primaries that both acknowledge; a write that one of two such primaries acknowledges, and that is lost. Where no single
primary is claimed the same picture is evidence.

The first two are facts of an episode where they fall into one. Else they are a *conflict* of terms, an anomaly of its
own, with the times of each node: it was primary before the other one was, or nobody knows for how long.

The evidence lists the writes of an episode, each by who acknowledged it and with its fate: all that were under way
meanwhile, and of the reigns that met there the lost ones before and after it; of a conflict those of its terms. Behind
nodes that pass writes on (``forwarded``) who acknowledged one need not have ordered it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import combinations
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.checkers.availability import service_clauses
from harness.checkers.branches import Fork, ListHistory, fork_line, forks_of
from harness.checkers.episodes import (
    CLAIMED_TWICE,
    OLDER_TERM,
    Account,
    Acknowledged,
    Conflict,
    Episode,
    Side,
    conflict_headline,
    headline,
    side_line,
    when,
)
from harness.checkers.fate import FATES, LOST
from harness.checkers.fates import fates
from harness.checkers.lists import Lists
from harness.checkers.reigns import Meeting, Overlap, Reign, merged, overlaps, reigns, terms_of
from harness.checkers.terms import Claim, Late, Spell, claims, late, spells
from harness.checkers.witness import Clock, anomaly
from harness.columns import LARGEST, NOTHING, Ints
from harness.errors import HistoryError
from harness.history import MONITOR_PROCESS, History
from harness.periods import active, fault_periods
from harness.roles import Sighting, leadership, sightings
from harness.verdict import Anomaly, Budget, Checker, Verdict
from harness.words import all_of, count, duration, named
from harness.writes import acknowledged_writes

SPLIT_BRAIN: Final = "split brain"
_EPISODES: Final = 20
"""How many episodes are in the evidence, and how many conflicts."""
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


class SplitBrain(Checker):
    """Finds episodes in any history that tells who served what, or what nodes said that they are."""

    def check(self, history: History, budget: Budget) -> Verdict:
        """Invalid where the store claims one primary at a time, and a fact shows that it had two."""
        picture = Picture(history)
        guilty = [episode for episode in picture.episodes if episode.facts]
        shown = sorted(picture.episodes, key=lambda episode: not episode.facts)[:_EPISODES]
        conflicts = picture.conflicts[:_EPISODES]
        picture.list_writes([*shown[: len(guilty)], *conflicts, *shown[len(guilty) :]])
        evidence: dict[str, Any] = {
            "leadership": picture.leadership,
            "episodes_found": len(picture.episodes),
            "episodes_left_out": len(picture.episodes) - len(shown),
            "episodes": msgspec.to_builtins(sorted(shown, key=lambda episode: episode.start)),
            "term_conflicts_found": len(picture.conflicts),
            "term_conflicts": msgspec.to_builtins(conflicts),
        }
        found = len(guilty) + len(picture.conflicts)
        if picture.leadership == "none" or not found:
            return Verdict("valid", evidence=evidence)
        anomalies = [picture.anomaly(episode) for episode in guilty[:_EPISODES]]
        anomalies += [picture.conflict_anomaly(conflict) for conflict in conflicts]
        reason = headline(guilty[0], picture.periods) if guilty else conflict_headline(conflicts[0])
        return Verdict("invalid", reason, anomalies, evidence, found=found)

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
        self.seen = _with_sound_terms(sightings(history))
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
        primary = self.leadership == "primary"
        self.spells = spells(self.operations, self.writes, self.terms, self.seen if primary else ())
        self.claims = claims(self.spells) if primary else []
        self.lists = Lists(self.operations)
        self.fates = fates(self.operations, self.lists)
        whole = [self._to_the_last(meeting) for meeting in merged(overlaps(self.reigns))]
        self._forks = self._forks_of_two() if primary and (whole or self.claims or self.late) else []
        self.episodes = [self._episode(meeting) for meeting in whole]
        self.conflicts = self._conflicts(whole)

    def _stays_behind(self, lag: Late) -> bool:
        """Whether a node that passes writes on has more than once told a term which another one had left behind.

        Its term is that of the last entry that it has applied. The first acknowledgement after a snapshot, or of the
        first entry of a new term, may tell an older one than its entry is of; and who knew better before is only that.
        """
        return lag.node != lag.other and len(lag.writes) > 1

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

    def _episode(self, meeting: Meeting) -> Episode:
        operations, overlap = self.operations, meeting.overlap
        meanwhile = self._meanwhile(overlap)
        inside = self.writes[meanwhile & (operations.call[self.writes] >= overlap.start)]
        # Who has been succeeded and acknowledges nothing any more is no second primary for the other's writes.
        active_nodes = self._servers(self.writes[meanwhile].tolist()) & overlap.nodes
        lost = inside[self.fates[inside] == LOST] if len(active_nodes) > 1 else inside[:0]
        lost = [row for row in lost.tolist() if operations.server_name(row) in active_nodes]
        split = self._split(inside)
        facts = list(self._facts(overlap, split, lost))
        return Episode(
            overlap.start,
            overlap.end,
            sorted(overlap.nodes),
            [self._side(node, overlap, meanwhile) for node in sorted(overlap.nodes)],
            active(self.periods, overlap.start, overlap.end),
            facts if self.leadership != "none" else [],
            self._fork_lines(split),
            shared=meeting.shared,
            all_at_once=meeting.all_at_once,
        )

    def _to_the_last(self, meeting: Meeting) -> Meeting:
        """The same, until a write of a lower term is answered that was under way when it ended.

        A reign is certain until its last write is invoked. Such a write was acknowledged while the other one certainly
        was primary, and that it was in the lower term is what is wrong.
        """
        overlap, end = meeting.overlap, meeting.end
        for lag in self.late:
            if {lag.node, lag.other} <= overlap.nodes:
                call, ret = self.operations.call[lag.writes], self.operations.ret[lag.writes]
                answered = ret[(call <= meeting.end) & (ret > meeting.end)].tolist()
                others = [reign for reign in self._reigns_in(lag.other, overlap) if reign.end > meeting.end]
                end = max([end, *(at for at in answered if any(reign.end >= at for reign in others))])
        return meeting._replace(end=end, shared=meeting.shared + end - meeting.end)

    def _conflicts(self, whole: Sequence[Meeting]) -> list[Conflict]:
        """What terms tell of nodes that were not certainly primary at once, in the order in which it was seen."""
        episodes = [meeting.overlap for meeting in whole]
        found = []
        for claim in self.claims:
            if not any(len(_shared(claim, overlap)) == len(claim.spells) for overlap in episodes):
                names = [spell.node for spell in claim.spells]
                each = ", ".join(f"{named(spell.node)} {when(spell.start, spell.end)}" for spell in claim.spells)
                found.append(self._conflict(CLAIMED_TWICE, claim.spells, [f"{_claim_fact(claim, names)}: {each}"]))
        behind: dict[tuple[str, int], list[Late]] = {}
        for lag in self.late:
            if not any(self._falls_into(lag, overlap) for overlap in episodes):
                behind.setdefault((lag.node, lag.term), []).append(lag)
        by_term = {(spell.node, spell.term): spell for spell in self.spells}
        for lower, lags in behind.items():
            met = [by_term[lower], *(by_term[pair] for pair in dict.fromkeys((lag.other, lag.higher) for lag in lags))]
            in_order = sorted(met, key=lambda spell: (spell.start, spell.term))
            found.append(self._conflict(OLDER_TERM, in_order, [self._late_fact(lag, times=True) for lag in lags]))
        return sorted(found, key=lambda conflict: conflict.start)

    def _conflict(self, kind: str, in_order: Sequence[Spell], facts: list[str]) -> Conflict:
        start, end = in_order[0].start, max(spell.end for spell in in_order)
        nodes = sorted({spell.node for spell in in_order})
        own = [self._in_term(spell) for spell in in_order]
        split = self._split(self.writes[np.logical_or.reduce(own)]) if len(nodes) > 1 else []
        return Conflict(
            start,
            end,
            nodes,
            [Side(spell.node, [spell.term], *self._by_fate(of), 0, 0) for spell, of in zip(in_order, own, strict=True)],
            active(self.periods, start, end),
            [*facts, *_fork_facts(split)],
            self._fork_lines(split),
            kind=kind,
            spells=list(in_order),
        )

    def _in_term(self, spell: Spell) -> NDArray[np.bool_]:
        """Which writes a node has acknowledged in a term."""
        of_term: NDArray[np.bool_] = self._own(spell.node) & (self.terms == spell.term)
        return of_term

    def _split(self, rows: Ints) -> list[Fork]:
        """The lists with which two nodes went on each in its own way, by some writes."""
        begun = set(rows.tolist()) if self._forks else set()
        return [fork for fork, branches in self._forks if self._shows(branches, begun)]

    def _fork_lines(self, split: Sequence[Fork]) -> list[str]:
        return [fork_line(self.lists, fork, _SHORT) for fork in sorted(split, key=lambda f: not f.prefix)[:_FORKS]]

    def _meanwhile(self, overlap: Overlap) -> NDArray[np.bool_]:
        """Which writes were under way at some moment of an overlap."""
        call, ret = self.operations.call[self.writes], self.operations.ret[self.writes]
        meanwhile: NDArray[np.bool_] = (call <= overlap.end) & (ret >= overlap.start)
        return meanwhile

    def list_writes(self, accounts: Iterable[Account]) -> None:
        """Put the writes of each account into it, the lost ones first, as far as there is room: the first have most."""
        room = _WRITES_IN_ALL
        for account in accounts:
            meanwhile, before, after = self._listed_of(account)
            places = np.flatnonzero(meanwhile | before | after)
            places = places[np.argsort(self.fates[self.writes[places]] != LOST, kind="stable")]
            listed = places[: min(_WRITES, room)]
            outside = np.where(before[listed], "before", np.where(after[listed], "after", ""))
            account.writes = [
                self._acknowledged(place, where) for place, where in zip(listed.tolist(), outside.tolist(), strict=True)
            ]
            account.writes_left_out = len(places) - len(listed)
            room -= len(listed)

    def _listed_of(self, account: Account) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Which writes an account lists: those of its time or its terms, and those of its reigns before and after."""
        before, after = np.zeros(len(self.writes), dtype=bool), np.zeros(len(self.writes), dtype=bool)
        if isinstance(account, Conflict):
            return np.logical_or.reduce([self._in_term(spell) for spell in account.spells]), before, after
        overlap = Overlap(account.start, account.end, frozenset(account.nodes))
        for node in overlap.nodes:
            earlier, later = self._lost_outside(node, overlap)
            before |= earlier
            after |= later
        return self._meanwhile(overlap), before, after

    def _shows(self, branches: Sequence[set[int]], begun: set[int]) -> bool:
        """Whether two nodes went on with a list each in its own way in an episode, whose writes are ``begun``."""
        going = [self._servers(rows & begun) for rows in branches if rows & begun]
        return any(not left & right for left, right in combinations(going, 2))

    def _facts(self, overlap: Overlap, split: Sequence[Fork], lost: Sequence[int]) -> Iterator[str]:
        """What no store with one primary can show, of one episode."""
        for claim in self.claims:
            if names := [spell.node for spell in _shared(claim, overlap)]:
                yield _claim_fact(claim, names)
        for lag in self.late:
            if self._falls_into(lag, overlap):
                yield self._late_fact(lag)
        yield from _fork_facts(split)
        if self.leadership == "primary" and lost:
            are = "is" if len(lost) == 1 else "are"
            yield f"{count(len(lost), 'write')} that one acknowledged while another did, too, {are} lost"

    def _falls_into(self, lag: Late, overlap: Overlap) -> bool:
        """Whether some of those writes of a lower term were under way while both nodes were primary."""
        if not {lag.node, lag.other} <= overlap.nodes:
            return False
        call, ret = self.operations.call[lag.writes], self.operations.ret[lag.writes]
        return bool(((call <= overlap.end) & (ret >= overlap.start)).any())

    def _late_fact(self, lag: Late, *, times: bool = False) -> str:
        """Those writes as a clause; with ``times``, when they and the one before them were acknowledged."""
        ret = self.operations.ret
        first = int(ret[lag.rows[0]])
        then = f" ({when(int(ret[lag.writes[0]]), max(ret[lag.writes].tolist()))})" if times else ""
        before = f" ({when(first, first)})" if times else ""
        return (
            f"{named(lag.node)} acknowledged {count(len(lag.writes), 'write')} in term {lag.term}{then}, invoked after "
            f"{'it' if lag.node == lag.other else named(lag.other)} had acknowledged one in term {lag.higher}{before}"
        )

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
        terms = {reign.term for reign in self._reigns_in(node, overlap) if reign.term is not None}
        terms |= {int(term) for term in self.terms[own & meanwhile].tolist() if term != NOTHING}
        before, after = (int(lost.sum()) for lost in self._lost_outside(node, overlap))
        return Side(node, sorted(terms), *self._by_fate(own & meanwhile), before, after)

    def _by_fate(self, which: NDArray[np.bool_]) -> tuple[int, dict[str, int]]:
        """How many writes these are, and how many of each fate."""
        numbers = np.bincount(self.fates[self.writes][which], minlength=len(FATES)).tolist()
        return sum(numbers), dict(zip(FATES, numbers, strict=True))

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
        sides = "; ".join(side_line(side) for side in episode.sides)
        lines = [headline(episode, self.periods), sides, *episode.forks[:1]]
        if not episode.forks:
            lines += episode.facts[:_FORKS]
        if costs := self._costs(episode):
            lines.append(costs)
        shown = [row for lag in self.late for row in self._witnesses(lag, episode)]
        during = episode.start, episode.end
        return anomaly(self.operations, self.periods, SPLIT_BRAIN, "\n".join(lines), shown[:4], during=during)

    def _witnesses(self, lag: Late, episode: Episode) -> list[int]:
        """A write of a lower term that was under way in an episode, and the one before it that shows it to be late."""
        if not {lag.node, lag.other} <= {*episode.nodes}:
            return []
        call, ret = self.operations.call[lag.writes], self.operations.ret[lag.writes]
        meanwhile = np.flatnonzero((call <= episode.end) & (ret >= episode.start))
        return lag.rows[2 * meanwhile[0] : 2 * meanwhile[0] + 2] if len(meanwhile) else []

    def conflict_anomaly(self, conflict: Conflict) -> Anomaly:
        """A conflict of terms as people read it: what contradicts what, and who acknowledged what, a line each."""
        sides = "; ".join(side_line(side) for side in conflict.sides)
        lines = [conflict_headline(conflict), sides, *(conflict.forks[:1] or conflict.facts[1:_FORKS])]
        spells_of = {(spell.node, spell.term) for spell in conflict.spells}
        shown = [row for lag in self.late for row in lag.rows[:2] if (lag.node, lag.term) in spells_of]
        if conflict.kind == CLAIMED_TWICE:
            shown = [int(self.writes[of][0]) for of in map(self._in_term, conflict.spells) if of.any()]
        during = conflict.start, conflict.end
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


def _with_sound_terms(seen: list[Sighting]) -> list[Sighting]:
    """The same. Raises ``HistoryError`` for a term that is far too large, as one of ``served_by`` does."""
    for sighting in seen:
        if sighting.term is not None and abs(sighting.term) >= LARGEST:
            raise HistoryError(f"the term {str(sighting.term)[:40]} of {named(sighting.node)} is too large a number")
    return seen


def _shared(claim: Claim, overlap: Overlap) -> list[Spell]:
    """The spells of a term that two nodes claimed at once while both were primary."""
    here = [
        spell
        for spell in claim.spells
        if spell.node in overlap.nodes and spell.start <= overlap.end and spell.end >= overlap.start
    ]
    return [spell for spell in here if any(spell is not other and spell.meets(other) for other in here)]


def _claim_fact(claim: Claim, names: Sequence[str]) -> str:
    return f"{all_of([*map(named, names)])} {'both ' if len(names) == 2 else ''}claimed term {claim.term}"


def _fork_facts(split: Sequence[Fork]) -> list[str]:
    return [f"{count(len(split), 'list')} forked between them"] if split else []
