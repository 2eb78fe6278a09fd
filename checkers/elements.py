"""Sets: what was added is there from then on, until it is removed, and nothing else is, or twice.

The classes of elements are those of Jepsen's set-full (Kingsbury, "jepsen.checker/set-full"). An element is *known*
once an add of it was acknowledged, or a read that shows it has returned. It is *lost* if it is known, and no read shows
it any more from some read on that began after that; *stable* if the last read that could show it does; *stale* if it is
stable, or was shown again, and a read that began after it was known does not show it; *never read* otherwise. Of final
reads each by itself says what is lost, of the elements that were known without any of them.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.checkers.final_reads import final_reads, unread
from harness.checkers.findings import Findings
from harness.checkers.timeline import begins, by_key, ends, select
from harness.columns import Ints, hashable
from harness.errors import HistoryError
from harness.history import FAIL, OK, History, Operations
from harness.verdict import Budget, Checker, Verdict
from harness.words import named, show

_READS: Final = ("read", "members")
_DENSE: Final = 1000
"""Whole numbers with few gaps between them, this many beside, are looked up in a table."""
_NEVER: Final = np.iinfo(np.int64).max


class Elements(Checker):
    """Judges sets: ``add`` and ``remove`` of one element, reads (``read``, ``members``) of all.

    ``final`` names the function of final reads: then these decide what is lost, each node's last for itself; else the
    order of all reads does. ``linearizable`` makes a stale read an anomaly, and one that shows what was removed before.

    A remove counts for certain only if the element was known before: to a client of the same node, since a store may
    let a remove ignore what it has not heard of (an observed-remove set); with ``linearizable`` to anybody. Every
    element must be added once only.
    """

    def __init__(self, final: str | None = None, *, linearizable: bool = False) -> None:
        self._final = final
        self._linearizable = linearizable

    def blind(self, history: History) -> str:
        """Why there is nothing to compare with; empty where there is something."""
        operations = history.operations()
        if self._final is None:
            reads = select(operations, *_READS, "members-local")
            return "" if (operations.type[reads] == OK).any() else "no members of a set were read"
        return "" if final_reads(operations, self._final) else "no members of a set were read in the end"

    def check(self, history: History, budget: Budget) -> Verdict:
        operations: Operations = history.operations()
        findings = Findings(operations)
        counts: dict[str, int] = defaultdict(int)
        worst = 0
        adds, removes = select(operations, "add"), select(operations, "remove")
        reads = select(operations, *_READS, *(() if self._final else ("members-local",)))
        reads = reads[operations.type[reads] == OK]
        finals = final_reads(operations, self._final) if self._final else {}
        moments = np.zeros(len(history) + 1, dtype=np.int64)
        moments[operations.invoked] = operations.call
        moments[operations.completed] = operations.ret
        sets = by_key(operations, adds, removes, reads)
        for key, rows in sets.items():
            last = np.array(sorted(finals.get(operations.history.keys[key], {}).values()), dtype=np.int64)
            set_ = _Set(operations, moments, rows, last, findings)
            set_.judge(ended=self._final is not None, linearizable=self._linearizable)
            for name, number in set_.counts.items():
                counts[name] += number
            worst = max(worst, set_.longest_stale)
        evidence: dict[str, Any] = {f"elements_{name}": number for name, number in counts.items()}
        if worst:
            evidence["longest_stale"] = findings.clock.between(0, worst)
        unseen = counts["acknowledged"] - counts["removed"] > 0 or not counts["acknowledged"]
        unknown = "no element was read after it had been added" if unseen and not counts["stable"] else ""
        if self._final is not None:
            last = np.array([row for of_key in finals.values() for row in of_key.values()], dtype=np.int64)
            unknown = unknown or unread(operations, adds, last)
        return findings.verdict("wrong element", evidence, unknown)


class _Set:
    """One set. Elements are numbered in the order of ``names``, and moments are places in the history."""

    def __init__(
        self, operations: Operations, moments: Ints, rows: tuple[Ints, ...], last: Ints, findings: Findings
    ) -> None:
        self._operations, self._moments, self._findings = operations, moments, findings
        adds, removes, reads = rows
        self._reads, self._last = reads, last
        self._adds, self._removes = adds, removes[operations.type[removes] != FAIL]
        self.counts: dict[str, int] = {}
        self.longest_stale = 0
        """The longest time, in ns, after which a known element was still missing."""
        tried = adds[operations.type[adds] != FAIL]
        self._rows = np.concatenate([reads, last])
        listed = [_listed(operations, int(row)) for row in self._rows]
        added = [operations.history.value[event] for event in operations.told[tried].tolist()]
        gone = [operations.history.value[event] for event in operations.told[self._removes].tolist()]
        self._names: list[Any] | Ints
        self._names, (add_of, gone_of, everything) = _numbered(added, gone, list(chain.from_iterable(listed)))
        self._size = len(self._names)
        size = self._size
        call, ret = begins(operations, tried), ends(operations, tried)
        ok = operations.type[tried] == OK
        self._first_call = _least(size, add_of, call)
        self._acknowledged = _least(size, add_of[ok], ret[ok])
        self._last_ret = np.full(size, -1, dtype=np.int64)
        np.maximum.at(self._last_ret, add_of, ret)
        self._times = np.bincount(add_of, minlength=size)
        self._add_row = np.zeros(size, dtype=np.int64)
        self._add_row[add_of[::-1]] = tried[::-1]
        self._add_row[add_of[ok][::-1]] = tried[ok][::-1]
        self._gone_of = gone_of
        self._remove_call = _least(size, gone_of[gone_of >= 0], begins(operations, self._removes)[gone_of >= 0])
        read_of = np.repeat(np.arange(len(listed)), [len(elements) for elements in listed])
        self._listed = listed
        self._read_call = begins(operations, self._rows)
        self._read_ret = ends(operations, self._rows)
        self._phantoms(everything, read_of)
        if self._repeated(everything, read_of):
            once = np.unique(np.stack([read_of, everything]), axis=1)
            read_of, everything = once[0], once[1]
        real = (everything >= 0) & (self._first_call[everything] < self._read_ret[read_of]) if size else everything >= 0
        self._element, self._read = everything[real], read_of[real]
        self._seen = _least(size, self._element, self._read_ret[self._read])
        self._known = np.minimum(self._acknowledged, self._seen)
        regular = self._read < len(reads)
        seen_before = _least(size, self._element[regular], self._read_ret[self._read[regular]])
        self._expected = np.minimum(self._acknowledged, seen_before)
        """When each was known without final reads: what one node has in the end may still be on its way to another."""

    def judge(self, *, ended: bool, linearizable: bool) -> None:
        """Name what is wrong, and count the rest. ``ended``: the last reads of the nodes say what is lost."""
        regular = len(self._reads)
        here = self._read < regular
        elements, read = self._element[here], self._read[here]
        known, removed = self._known, self._remove_call
        calls, rets = self._read_call[:regular], self._read_ret[:regular]
        low = np.searchsorted(calls, known)
        high = np.searchsorted(calls, removed)
        expected = high - low
        kept = removed == _NEVER
        for element in np.flatnonzero(~kept & (expected > 0)).tolist():
            expected[element] = np.count_nonzero(rets[low[element] : high[element]] < removed[element])
        within = (read >= low[elements]) & (rets[read] < removed[elements])
        missing = expected - np.bincount(elements[within], minlength=self._size)
        last_shown = np.full(self._size, -1, dtype=np.int64)
        np.maximum.at(last_shown, elements, read)
        lost = self._lost_in_the_end()
        in_the_end = np.zeros(self._size, dtype=bool)
        in_the_end[self._element[self._read >= regular]] = True
        stale = np.zeros(self._size, dtype=bool)
        suspects = np.flatnonzero(missing > 0)
        order = np.argsort(elements, kind="stable") if len(suspects) else elements
        start = np.searchsorted(elements[order], np.arange(self._size + 1)) if len(suspects) else elements
        for element in suspects.tolist():
            window = np.arange(low[element], high[element])
            window = window[rets[window] < removed[element]]
            without = np.setdiff1d(window, read[order[start[element] : start[element + 1]]], assume_unique=False)
            latest = int(without[-1])
            if lost[element]:
                continue
            # Where last reads are to come, and did not, a store whose reads may be stale has lost nothing yet.
            if last_shown[element] < latest and not in_the_end[element] and (linearizable or not ended):
                lost[element] = True
                self._report_lost(element, self._reads[latest])
                continue
            stale[element] = True
            since = self._time(int(known[element]))
            self.longest_stale = max(self.longest_stale, int(self._operations.call[self._reads[latest]]) - since)
            if linearizable:
                self._report_stale(element, self._reads[latest])
        self._returned(linearizable=linearizable)
        there = kept & ~lost & (in_the_end if ended else self._stable(last_shown))
        acknowledged = known != _NEVER
        tally = {
            "acknowledged": acknowledged,
            "stable": there,
            "stale": stale,
            "lost": lost,
            "never_read": acknowledged & kept & ~there & ~lost,
            "recovered": (self._acknowledged == _NEVER) & (self._seen != _NEVER),
            "removed": acknowledged & ~kept,
        }
        self.counts = {name: int(which.sum()) for name, which in tally.items()}

    def _stable(self, last_shown: Ints) -> NDArray[np.bool_]:
        """The elements that the last read, by invocation, that could show them does show."""
        regular = len(self._reads)
        latest = np.maximum.accumulate(self._read_ret[:regular][::-1])
        could = regular - 1 - np.searchsorted(latest, self._first_call, side="right")
        stable: NDArray[np.bool_] = (last_shown >= 0) & (last_shown >= could)
        return stable

    def _lost_in_the_end(self) -> NDArray[np.bool_]:
        """The elements that some node does not have in the end although they were known without that."""
        lost = np.zeros(self._size, dtype=bool)
        for at in range(len(self._last)):
            read = len(self._reads) + at
            held = np.zeros(self._size, dtype=bool)
            held[self._element[self._read == read]] = True
            gone = (self._expected < self._read_call[read]) & (self._remove_call > self._read_ret[read]) & ~held
            for element in np.flatnonzero(gone).tolist():
                self._report_lost(element, self._last[at])
            lost |= gone
        return lost

    def _returned(self, *, linearizable: bool) -> None:
        """Elements that are shown although they were certainly removed before."""
        if not len(self._removes):
            return
        operations, regular = self._operations, len(self._reads)
        removed = np.full(self._size, _NEVER, dtype=np.int64)
        by = np.zeros(self._size, dtype=np.int64)
        heard = None if linearizable else self._heard()
        done = (operations.type[self._removes] == OK) & (self._gone_of >= 0)
        gone, of = self._removes[done], self._gone_of[done]
        invoked, completed = operations.invoked[gone], operations.completed[gone]
        nodes = operations.history.node[invoked].tolist()
        columns = (gone.tolist(), of.tolist(), invoked.tolist(), completed.tolist(), nodes)
        for row, element, call, ret, node in zip(*columns, strict=True):
            known = int(self._known[element]) if heard is None else heard.get((node, element), _NEVER)
            only_once = self._times[element] == 1 or self._last_ret[element] < call
            if known < call and only_once and ret < removed[element]:
                removed[element], by[element] = ret, row
        wrong = removed[self._element] < self._read_call[self._read]
        if not linearizable:
            wrong &= self._read >= regular
        rows = self._rows
        for at in np.flatnonzero(wrong).tolist():
            element, row = int(self._element[at]), int(rows[self._read[at]])
            if self._findings.enough("resurrected"):
                continue
            who = "" if linearizable else ", by a node that knew it,"
            text = (
                f"{self._title()}: {self._findings.did(by[element])}{who} and that was acknowledged. "
                f"Yet {self._reader(row)} {show(self._name(element))}."
            )
            self._findings.add("resurrected", text, [by[element], row])

    def _heard(self) -> dict[tuple[int, int], int]:
        """When each node had certainly heard of each of the elements that are removed."""
        operations = self._operations
        interesting = np.zeros(self._size, dtype=bool)
        interesting[self._gone_of[self._gone_of >= 0]] = True
        nodes = operations.history.node[operations.invoked[self._rows]]
        heard: dict[tuple[int, int], int] = {}
        regular = len(self._reads)
        shown = np.flatnonzero(interesting[self._element] & (self._read < regular))
        pairs = nodes[self._read[shown]].astype(np.int64) * self._size + self._element[shown]
        moments = self._read_ret[self._read[shown]]
        acknowledged = np.flatnonzero(self._acknowledged != _NEVER)
        acknowledged = acknowledged[interesting[acknowledged]]
        adding = operations.history.node[operations.invoked[self._add_row[acknowledged]]].astype(np.int64)
        pairs = np.concatenate([pairs, adding * self._size + acknowledged])
        moments = np.concatenate([moments, self._acknowledged[acknowledged]])
        order = np.lexsort((moments, pairs))
        which, first = np.unique(pairs[order], return_index=True)
        for pair, moment in zip(which.tolist(), moments[order][first].tolist(), strict=True):
            heard[pair // self._size, pair % self._size] = moment
        return heard

    def _phantoms(self, everything: Ints, read_of: Ints) -> None:
        """Elements that are shown although no add of them can have taken effect by then."""
        strange = everything < 0
        if self._size:
            strange |= self._first_call[everything] > self._read_ret[read_of]
        rows = self._rows
        starts = np.searchsorted(read_of, np.arange(len(rows)))
        for at in np.flatnonzero(strange).tolist():
            if self._findings.enough("phantom"):
                continue
            read = int(read_of[at])
            element = self._listed[read][at - int(starts[read])]
            text = f"{self._title()}: {self._reader(rows[read])} {show(element)}, but no add of it took effect."
            if everything[at] >= 0:
                text = f"{text[:-1]} before that: the first is {self._findings.did(self._add_row[everything[at]])}."
            self._findings.add("phantom", text, [rows[read]])

    def _repeated(self, everything: Ints, read_of: Ints) -> bool:
        """Elements that one read shows twice; whether there are any."""
        places = read_of[everything >= 0] * max(self._size, 1) + everything[everything >= 0]
        if (places[1:] > places[:-1]).all():
            return False
        places = np.sort(places)
        twice = np.unique(places[1:][np.diff(places) == 0])
        rows = self._rows
        for place in twice.tolist():
            if self._findings.enough("duplicated"):
                continue
            row, element = rows[place // self._size], self._name(place % self._size)
            text = f"{self._title()}: {self._reader(row)} {show(element)} more than once, and a set has it once."
            self._findings.add("duplicated", text, [row])
        return len(twice) > 0

    def _report_lost(self, element: int, row: int) -> None:
        self._missing(
            element, row, "lost", "No later read has it: it is lost." if len(self._last) == 0 else "It is lost."
        )

    def _report_stale(self, element: int, row: int) -> None:
        since = int(self._operations.call[row]) - self._time(int(self._known[element]))
        after = self._findings.clock.between(0, since)
        self._missing(element, row, "stale", f"A later read has it: this one was stale, {after} after it was known.")

    def _missing(self, element: int, row: int, kind: str, so: str) -> None:
        if self._findings.enough(kind):
            return
        operations = self._operations
        shown = [int(self._add_row[element])]
        text = f"{self._title()}: {self._findings.did(shown[0])}"
        if self._acknowledged[element] <= self._seen[element]:
            text += ", and that was acknowledged."
        else:
            first = np.flatnonzero((self._element == element) & (self._read_ret[self._read] == self._seen[element]))[0]
            shown.append(int(self._rows[self._read[first]]))
            text += f", and process {operations.process[shown[1]]} read it."
        text += f" Nobody had removed it, yet {self._reader(row, shows=False)} {show(self._name(element))}. {so}"
        self._findings.add(kind, text, [*shown, row])

    def _reader(self, row: int, *, shows: bool = True) -> str:
        operations, at = self._operations, self._findings.clock.at
        node = operations.node_name(row)
        if row in self._last:
            return f"in the end {node} {'holds' if shows else 'does not hold'}"
        where = f" on {named(node)}" if node else ""
        between = f"from {at(int(operations.call[row]))} to {at(int(operations.ret[row]))}"
        return (
            f"process {operations.process[row]}{where}, which read {between}, {'finds' if shows else 'does not find'}"
        )

    def _title(self) -> str:
        rows = self._adds if len(self._adds) else self._rows
        key = self._operations.key_name(int(rows[0]))
        return "Set" if key is None else f"Set {named(key)}"

    def _name(self, element: int) -> Any:
        name = self._names[element]
        return name.item() if isinstance(name, np.integer) else name

    def _time(self, place: int) -> int:
        return int(self._moments[place])


def _least(size: int, of: Ints, moments: Ints) -> Ints:
    """For each element the least of its moments."""
    least = np.full(size, _NEVER, dtype=np.int64)
    np.minimum.at(least, of, moments)
    return least


def _listed(operations: Operations, row: int) -> list[Any]:
    """The elements that a read shows. Raises ``HistoryError`` if what it shows is no collection."""
    shown = operations.result(row)
    if shown is None:
        return []
    if not isinstance(shown, list | tuple | set | frozenset):
        line = operations.history.line_of(int(operations.completed[row]))
        raise HistoryError(f"a read of a set shows a list of elements, not {str(shown)[:40]}", line=line)
    return shown if isinstance(shown, list) else list(shown)


def _numbered(*groups: list[Any]) -> tuple[list[Any] | Ints, list[Ints]]:
    """The elements of the first group, which were added, and each group as their numbers; -1 for any other element."""
    if all(set(map(type, group)) <= {int} for group in groups):
        try:
            return _sorted_numbers([np.fromiter(group, np.int64, len(group)) for group in groups])
        except OverflowError:
            pass
    numbers: dict[Any, int] = {}
    for element in map(hashable, groups[0]):
        numbers.setdefault(element, len(numbers))
    return list(numbers), [
        np.array([numbers.get(hashable(element), -1) for element in group], dtype=np.int64) for group in groups
    ]


def _sorted_numbers(groups: list[Ints]) -> tuple[Ints, list[Ints]]:
    names = np.unique(groups[0])
    if not len(names):
        return names, [np.full(len(group), -1, dtype=np.int64) for group in groups]
    everything = np.concatenate(groups)
    least, span = int(names[0]), int(names[-1]) - int(names[0]) + 1
    if span <= 4 * len(names) + _DENSE:
        table = np.full(span + 1, -1, dtype=np.int64)
        table[names - least] = np.arange(len(names))
        at = table[np.where((everything >= least) & (everything <= names[-1]), everything - least, span)]
    else:
        at = np.minimum(np.searchsorted(names, everything), len(names) - 1)
        at[names[at] != everything] = -1
    return names, np.split(at, np.cumsum([len(group) for group in groups])[:-1])
