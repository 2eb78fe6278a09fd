"""Lists that are appended to: all reads of a list lie on one path, and in the end it holds what was acknowledged.

A correct store has one order of appends, so that of any two reads one continues the other. Where they do not, the list
has forked: somebody has seen one history of it, and somebody else another one. Elements must be unique in their list.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from harness.checkers.final_reads import unread
from harness.checkers.lists import Lists, Path, agreement
from harness.checkers.witness import Clock, anomaly, sentence
from harness.history import FAIL, OK, History
from harness.periods import Period, fault_periods
from harness.verdict import Anomaly, Budget, Checker, Verdict
from harness.witness import witness
from harness.words import count, named, show

_REPORTED: Final = 10
"""How many anomalies of each kind are explained; all are counted."""
_TREES: Final = 10
"""How many lists that have forked are in the evidence as trees."""
_NODES: Final = 200
"""The most nodes of such a tree."""
_DEEPEST: Final = 50
"""How many forks behind one another such a tree shows."""
_LISTED: Final = 12
"""The most elements that are listed in a sentence."""


class Tree(msgspec.Struct, omit_defaults=True):
    """Elements that follow one another without a fork, and the branches that begin behind them.

    ``by`` names the nodes that acknowledged them, or else those that served the reads that saw them; ``lost`` are those
    of the elements that were known, as acknowledged or as read before, and are not there in the end. ``survived`` says
    whether the first of them is where it stands in the last read, too, and is None where there is no final read.
    """

    elements: list[Any]
    by: list[str] = []
    lost: list[Any] = []
    survived: bool | None = None
    branches: list[Tree] = []


class Branches(Checker):
    """Checks ``append`` and ``read-list``.

    Anomalies are forks, elements that are there twice ("duplicate"), that nobody has appended, or only later
    ("phantom"), whose append certainly failed ("failed append"), and those that were acknowledged, or read before, and
    that the last final read, by invocation, does not have ("lost"). With ``linearizable`` also those that stand before
    one whose append had returned when theirs was invoked ("out of order"); else these are evidence.
    """

    def __init__(self, *, linearizable: bool = False) -> None:
        self._linearizable = linearizable

    def check(self, history: History, budget: Budget) -> Verdict:
        """The verdict; unknown where elements are not unique, or where nothing could have been wrong.

        Raises ``HistoryError`` for a read that is no list.
        """
        lists = Lists(history.operations())
        if (again := lists.repeated()) is not None:
            append = witness(lists.operations, again)
            return Verdict(
                "unknown", f"elements must be unique, but {append.key} is to hold {show(append.value)} twice"
            )
        explain = _Explainer(lists, fault_periods(history), Clock(history))
        forks = [fork for key in lists.forked for fork in forks_of(lists, key)]
        wrong = wrong_elements(lists)
        lost = sorted(set(lists.append_key[lists.lost].tolist()))
        disordered = lists.disordered.tolist() if self._linearizable else []
        anomalies = [explain.fork(fork) for fork in forks[:_REPORTED]]
        for kind in (DUPLICATE, PHANTOM, FAILED):
            anomalies += [
                explain.wrong(element) for element in [element for element in wrong if element.kind == kind][:_REPORTED]
            ]
        anomalies += [explain.lost(key) for key in lost[:_REPORTED]]
        anomalies += [explain.disordered(append) for append in disordered[:_REPORTED]]
        stalest = int(lists.staleness.max(initial=0))
        evidence: dict[str, Any] = {
            "lists": int((np.bincount(lists.append_key, minlength=1) > 0).sum()),
            "lists_read_in_the_end": int(lists.has_final.sum()),
            "appends_acknowledged": int((lists.operations.type[lists.appends] == OK).sum()),
            "appends_lost": int(lists.lost.sum()),
            "appends_out_of_order": len(lists.disordered),
            "stale_list_reads": int((lists.staleness > 0).sum()),
            "stalest_list_read_ms": round(stalest / 1e6, 3),
        }
        if forks:
            trees = {lists.key_name(key): _bounded(tree(lists, key)) for key in lists.forked[:_TREES]}
            evidence["trees"] = msgspec.to_builtins(trees)
        total = len(forks) + len(wrong) + len(lost) + len(disordered)
        if not total and not len(lists.elements):
            return Verdict("unknown", "no read has found any element in a list", evidence=evidence)
        if not total and not lists.final.any():
            return Verdict("unknown", "no list was read after the last append to it", evidence=evidence)
        if not total and (missing := unread(lists.operations, lists.appends, lists.reads[lists.final])):
            return Verdict("unknown", missing, evidence=evidence)
        if not total:
            return Verdict("valid", evidence=evidence)
        kinds = Counter(element.kind for element in wrong)
        reasons = [
            count(len(lists.forked), "list has", "lists have") + " forked" if forks else "",
            count(int(lists.lost.sum()), f"{_known(lists)} append is", f"{_known(lists)} appends are") + " lost"
            if lost
            else "",
            count(len(disordered), "append is", "appends are") + " out of order" if disordered else "",
            *(count(number, f"{kind} element") for kind, number in kinds.items()),
        ]
        return Verdict("invalid", ", ".join(filter(None, reasons)), anomalies, evidence, found=total)


def _known(lists: Lists) -> str:
    """What the appends that are lost have in common."""
    return "acknowledged" if (lists.operations.type[lists.appends[lists.lost]] == OK).all() else "known"


DUPLICATE: Final = "duplicate"
PHANTOM: Final = "phantom"
FAILED: Final = "failed append"


class Wrong(NamedTuple):
    """An element that should not be where a read found it."""

    kind: str
    key: int
    element: int
    read: int
    append: int
    """Its append, a place in ``Lists.appends``; -1 where there is none."""


def wrong_elements(lists: Lists) -> list[Wrong]:
    """Each wrong element of each list once, with a read that found it."""
    read, element, returned = lists.suspects
    if not len(read):
        return []
    operations = lists.operations
    key = lists.key[read]
    append = lists.append_of(key, element)
    row = lists.appends[append] if len(lists.appends) else append
    known = append >= 0
    failed = known & (operations.type[row] == FAIL)
    phantom = ~known | (~failed & (operations.call[row] > returned))
    order = np.lexsort((element, read))
    twice = np.zeros(len(read), dtype=bool)
    twice[order[1:]] = (read[order[1:]] == read[order[:-1]]) & (element[order[1:]] == element[order[:-1]])
    distinct: dict[tuple[str, int, int], Wrong] = {}
    for kind, which in ((DUPLICATE, twice), (PHANTOM, phantom), (FAILED, failed)):
        for at in np.flatnonzero(which).tolist():
            wrong = Wrong(kind, int(key[at]), int(element[at]), int(read[at]), int(append[at]))
            distinct.setdefault(wrong[:3], wrong)
    return list(distinct.values())


class Fork(NamedTuple):
    """A list goes on in several ways after ``prefix``; each branch goes on with ``elements`` until it forks again."""

    key: int
    prefix: Path
    branches: list[Path]


def forks_of(lists: Lists, key: int) -> list[Fork]:
    """The forks of one list, the earliest first."""
    leaves = lists.leaves(key)
    by_prefix: dict[Path, list[Path]] = {}
    for leaf, next_leaf in pairwise(leaves):
        prefix = leaf[: agreement(leaf, next_leaf)]
        by_prefix.setdefault(prefix, [leaf]).append(next_leaf)
    forks = []
    for prefix, ways in sorted(by_prefix.items(), key=lambda item: (len(item[0]), item[0])):
        following = dict.fromkeys(way[len(prefix)] for way in ways)
        runs = [_run(leaves, (*prefix, first))[len(prefix) :] for first in following]
        forks.append(Fork(key, prefix, runs))
    return forks


def _run(leaves: Sequence[Path], prefix: Path) -> Path:
    """How all leaves that begin with ``prefix`` go on before they part."""
    low = bisect_left(leaves, prefix)
    high = bisect_left(leaves, (*prefix[:-1], prefix[-1] + 1))
    return leaves[low][: agreement(leaves[low], leaves[high - 1])]


def tree(lists: Lists, key: int) -> Tree:
    """All that was read of one list."""
    leaves = lists.leaves(key)
    history = ListHistory(lists, key)

    def grow(low: int, high: int, depth: int, left: int) -> Tree:
        end = agreement(leaves[low], leaves[high - 1])
        grown = history.branch(leaves[low][:depth], leaves[low][depth:end])
        if high - low > 1 and left:
            starts = [low, *(at for at in range(low + 1, high) if leaves[at][end] != leaves[at - 1][end]), high]
            grown.branches = [grow(a, b, end, left - 1) for a, b in pairwise(starts)]
        return grown

    return grow(0, len(leaves), 0, _DEEPEST)


def _bounded(grown: Tree) -> Tree:
    """A tree of no more than so many branches and elements: the first of them."""
    left = [_NODES]

    def cut(subtree: Tree) -> Tree:
        left[0] -= 1
        kept = []
        for branch in subtree.branches:
            if left[0] <= 0:
                break
            kept.append(cut(branch))
        return msgspec.structs.replace(subtree, branches=kept)

    return cut(grown)


class ListHistory:
    """What became of the elements of one list, and who is behind them."""

    def __init__(self, lists: Lists, key: int) -> None:
        self._lists = lists
        self._key = key
        appends = np.flatnonzero(lists.append_key == key)
        elements = lists.appended[appends]
        self._append = dict(
            zip(elements.tolist(), lists.append_of(lists.append_key[appends], elements).tolist(), strict=True)
        )
        reads = np.flatnonzero(lists.key == key).tolist()
        self._reads = [(lists.path(read), read) for read in reads]
        self._last = lists.path(int(lists.last[key])) if lists.has_final[key] else None

    def branch(self, prefix: Path, elements: Path) -> Tree:
        """The elements that follow a prefix."""
        lists = self._lists
        lost = [e for e in elements if e in self._append and lists.lost[self._append[e]]]
        begin = (*prefix, *elements[:1])
        survived = None if self._last is None else self._last[: len(begin)] == begin
        names = [lists.name(e) for e in elements]
        return Tree(names, self._by(begin, elements), [lists.name(e) for e in lost], survived)

    def _by(self, begin: Path, elements: Path) -> list[str]:
        operations = self._lists.operations
        known = [name for name in map(operations.server_name, self.acknowledged(elements)) if name is not None]
        if not known:
            seen = [self._lists.reads[read] for path, read in self._reads if path[: len(begin)] == begin]
            known = [name for name in map(operations.server_name, seen) if name is not None]
        return [name for name, _ in Counter(known).most_common()]

    def acknowledged(self, elements: Path) -> list[int]:
        """The rows of the acknowledged appends of some elements, where it is known by whom."""
        operations = self._lists.operations
        rows = [int(self._lists.appends[self._append[e]]) for e in elements if e in self._append]
        return [row for row in rows if operations.type[row] == OK and operations.server_name(row) is not None]

    def witnesses(self, prefix: Path, elements: Path) -> list[int]:
        """Rows of the operations that a branch rests on: its first append, and the first read that saw it."""
        operations, begin = self._lists.operations, (*prefix, *elements[:1])
        seen = [int(self._lists.reads[read]) for path, read in self._reads if path[: len(begin)] == begin]
        first = [int(self._lists.appends[self._append[e]]) for e in elements[:1] if e in self._append]
        return [*first, *sorted(seen, key=lambda row: int(operations.ret[row]))[:1]]


def fork_line(lists: Lists, fork: Fork, most: int = _LISTED) -> str:
    """A fork in one line: "k3 forked after 41: n1 went on with 42 44 (lost), n3 with 43 45 (kept)".

    Of each branch no more elements than ``most`` are listed.
    """
    history = ListHistory(lists, fork.key)
    clauses = []
    for number, elements in enumerate(fork.branches):
        branch = history.branch(fork.prefix, elements)
        who = " and ".join(map(named, branch.by)) or ("one history" if number == 0 else "another")
        clauses.append(f"{who}{' went on' if number == 0 else ''} with {_listed(branch.elements, most)}{_fate(branch)}")
    after = f"after {show(lists.name(fork.prefix[-1]))}" if fork.prefix else "at its beginning"
    return f"{lists.key_name(fork.key)} forked {after}: {', '.join(clauses)}"


def _listed(elements: Sequence[Any], most: int = _LISTED) -> str:
    more = f" and {len(elements) - most} more" if len(elements) > most else ""
    return " ".join(map(show, elements[:most])) + more


def _fate(branch: Tree) -> str:
    if branch.survived:
        return " (kept)" if not branch.lost else f" ({len(branch.lost)} of {len(branch.elements)} lost)"
    if branch.survived is None:
        return ""
    if not branch.lost:
        return " (gone)"  # though nobody had been told that it is there
    all_of_it = len(branch.lost) == len(branch.elements)
    return " (lost)" if all_of_it else f" (gone, {len(branch.lost)} of them acknowledged)"


class _Explainer:
    """Anomalies, in words."""

    def __init__(self, lists: Lists, periods: list[Period], clock: Clock) -> None:
        self._lists = lists
        self._periods = periods
        self._clock = clock

    def _anomaly(self, kind: str, text: str, key: int, rows: Sequence[int]) -> Anomaly:
        operations = self._lists.operations
        return anomaly(operations, self._periods, kind, text, rows, key=operations.history.keys[key])

    def fork(self, fork: Fork) -> Anomaly:
        history = ListHistory(self._lists, fork.key)
        rows = [row for elements in fork.branches[:4] for row in history.witnesses(fork.prefix, elements)]
        text = (
            f"{fork_line(self._lists, fork)}. Each of them was read; in a store with one order of appends one of two "
            f"reads of a list continues the other."
        )
        return self._anomaly("fork", text, fork.key, rows)

    def wrong(self, wrong: Wrong) -> Anomaly:
        lists = self._lists
        read = int(lists.reads[wrong.read])
        rows = [*([int(lists.appends[wrong.append])] if wrong.append >= 0 else []), read]
        what = f"{lists.key_name(wrong.key)}: {sentence(witness(lists.operations, read), self._clock)}"
        element = show(lists.name(wrong.element))
        if wrong.kind == DUPLICATE:
            text = f"{what}, which has {element} twice. It was appended once."
        elif wrong.kind == FAILED:
            text = f"{what}. But the append of {element} had certainly failed, as its client was told."
        elif wrong.append < 0:
            text = f"{what}. But nobody has ever appended {element} to it."
        else:
            text = f"{what}. But {element} was appended only after it had been read for the first time."
        return self._anomaly(wrong.kind, text, wrong.key, rows)

    def lost(self, key: int) -> Anomaly:
        lists, operations = self._lists, self._lists.operations
        gone = np.flatnonzero(lists.lost & (lists.append_key == key))
        rows = lists.appends[gone].tolist()
        servers = Counter(filter(None, map(operations.server_name, rows)))
        by = " by " + " and ".join(map(named, servers)) if servers else ""
        single = len(rows) == 1
        known = "acknowledged" if (operations.type[rows] == OK).all() else "acknowledged or read"
        text = (
            f"{count(len(rows), 'append')} to {lists.key_name(key)} {'was' if single else 'were'} {known}{by}, and the "
            f"last read does not have {'it' if single else 'them'}: "
            f"{_listed([lists.name(int(lists.appended[at])) for at in gone.tolist()])}."
        )
        return self._anomaly("lost", text, key, [*rows[:_REPORTED], int(lists.reads[lists.last[key]])])

    def disordered(self, append: int) -> Anomaly:
        lists, operations = self._lists, self._lists.operations
        key, row = int(lists.append_key[append]), int(lists.appends[append])
        trunk = int(lists.trunk[key])
        path = lists.path(trunk)
        behind = np.array(path[path.index(int(lists.appended[append])) :], dtype=np.int64)
        after = lists.append_of(np.full(len(behind), key), behind)
        rows = lists.appends[after[after >= 0]]
        earlier = int(rows[np.argmin(operations.ret[rows])])
        did = [sentence(witness(operations, one), self._clock) for one in (earlier, row)]
        text = (
            f"{lists.key_name(key)}: {did[0]}. Later {did[1]}. Yet {show(lists.name(int(lists.appended[append])))} "
            "stands before it."
        )
        return self._anomaly("out of order", text, key, [earlier, row, int(lists.reads[trunk])])
