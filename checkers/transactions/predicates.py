"""Dependencies of transactions that read by predicates, in a universe of which every version is known.

One operation ``init`` fills the store; then transactions ``insert``, ``delete`` and ``w``rite keys, ``r``ead one, or
read all that match a predicate, ``rp``. Such a read has chosen a version of every key (Adya, "Weak Consistency", 1999),
also of those that it does not show: a key that is missing was at a version that does not match, and if the key only
ever had one such version it was that one (the closed universe of Kingsbury's Elle). From the chosen versions follow
dependencies by predicate. A version that is there before all others is the unborn one, or that of ``init``; the others
are in the order of a transaction's own writes, and unordered between transactions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.checkers.transactions.graph import EXPLAINED, Dependencies, Edges, Found, Kind
from harness.checkers.transactions.universe import (
    BASE,
    Coder,
    Step,
    Universe,
    Version,
    as_transactions,
    matches,
    read_universe,
    spoken,
    unborn,
)
from harness.columns import hashable
from harness.history import OK, History
from harness.words import show


@dataclass(frozen=True)
class _Seen:
    """That a transaction has read, or has chosen for a predicate, a version."""

    reader: int
    version: Version
    predicate: Any = None
    """The predicate; None: the key itself was read."""


def infer(history: History) -> Dependencies:
    """What depends on what, by key and by predicate, and the anomalies that are no cycles.

    Unknown where a value was read that two transactions wrote to its key. Raises ``HistoryError`` with the line of what
    is neither a transaction with predicates nor the one ``init``.
    """
    operations = history.operations_or_completions()
    rows, universe = read_universe(operations)
    result = Dependencies(as_transactions(operations, rows, universe), Edges.join([]))
    reading = _Reading(universe, result)
    seen = list(reading.all())
    for kind, number in reading.number.items():
        result.add(kind, reading.found[kind], number)
    result.edges = _edges(universe, seen, result)
    return result


class _Reading:
    """Finds out which version each read has found, or chosen, and what is wrong with it."""

    def __init__(self, universe: Universe, result: Dependencies) -> None:
        self._universe = universe
        self._result = result
        self._title = result.transactions.title
        self._by_value: dict[tuple[Any, Any], list[Version]] = defaultdict(list)
        for versions in universe.versions.values():
            for version in versions:
                self._by_value[version.key, hashable(version.value)].append(version)
        self._others: dict[Any, dict[Any, list[Version]]] = {}
        self.found: dict[str, list[Found]] = defaultdict(list)
        self.number: dict[str, int] = defaultdict(int)

    def all(self) -> Iterator[_Seen]:
        """What committed transactions have seen."""
        for transaction, steps in enumerate(self._universe.steps):
            if self._universe.types[transaction] != OK:
                continue
            held: dict[Any, Any] = {}
            consistent = True
            for step in steps:
                if step.f == "rp":
                    yield from self._by_predicate(transaction, step)
                    continue
                if step.f == "r":
                    if consistent and step.key in held and held[step.key] != step.value:
                        consistent = False
                        text = (
                            f"{self._title(transaction)} read {show(step.key)} as {show(step.value)}, though it had "
                            f"read or written {show(held[step.key])} just before in the same transaction (internal)"
                        )
                        self._note("internal", (transaction,), step.key, text)
                    version = self._version(transaction, step.key, step.value)
                    if version is not None:
                        yield _Seen(transaction, version)
                held[step.key] = step.value

    def _note(self, kind: str, transactions: tuple[int, ...], key: Any, text: str) -> None:
        self.number[kind] += 1
        if len(self.found[kind]) < EXPLAINED:
            keys = self._result.transactions.keys
            self.found[kind].append(Found(kind, transactions, text, keys.index(key) if key in keys else -1))

    def _version(self, reader: int, key: Any, value: Any) -> Version | None:
        """The version that a value shows; None if nobody knows."""
        candidates = self._by_value.get((key, hashable(value)), [])
        if len(candidates) > 1:
            mine = [version for version in candidates if version.transaction == reader]
            if mine:
                return mine[-1]
            if value is not None and not self._result.unknown:
                one, other = (self._title(version.transaction) for version in candidates[:2])
                self._result.unknown = (
                    f"values must be unique in their key, but both {one} and {other} wrote {show(value)} to "
                    f"{show(key)}, so that nobody knows which of the two {self._title(reader)} read"
                )
            return None
        if candidates:
            version = candidates[0]
            if not version.final and version.transaction != reader:
                text = (
                    f"{self._title(reader)} read {show(key)} as {show(value)}, which "
                    f"{self._title(version.transaction)} wrote before it wrote that key again: it saw the middle of "
                    "that transaction (intermediate read)"
                )
                self._note("G1b", (reader, version.transaction), key, text)
            return version
        if value is None:
            return unborn(key)
        saw = f"{self._title(reader)} committed and read {show(key)} as {show(value)}, which"
        failed = self._universe.aborted.get((key, hashable(value)))
        if failed is None:
            self._note("garbage-read", (reader,), key, f"{saw} nobody has written (garbage read)")
        else:
            text = f"{saw} {self._title(failed)} wrote, and that transaction had failed (aborted read)"
            self._note("G1a", (reader, failed), key, text)
        return None

    def _by_predicate(self, reader: int, step: Step) -> Iterator[_Seen]:
        """The versions that a read by a predicate shows, and those that it must have chosen, not showing them."""
        for key, value in step.value.items():
            version = self._version(reader, key, value)
            if version is not None:
                yield _Seen(reader, version, step.key)
        others = self._others.get(step.key)
        if others is None:
            others = self._others[step.key] = {
                key: [version for version in versions if not matches(step.key, version.value)]
                for key, versions in self._universe.versions.items()
            }
        for key, candidates in others.items():
            if key in step.value:
                continue
            if not candidates:
                values = ", ".join(show(version.value) for version in self._universe.versions[key][:EXPLAINED])
                text = (
                    f"{self._title(reader)} read all that match {spoken(step.key)} and did not find {show(key)}, "
                    f"though whatever it held ({values}) matches (predicate-read miss)"
                )
                who = dict.fromkeys((reader, self._universe.versions[key][-1].transaction))
                self._note("predicate-read-miss", tuple(who), key, text)
            elif len(candidates) == 1:
                yield _Seen(reader, candidates[0], step.key)


_Columns = dict[Kind, dict[tuple[int, int, int, int, int], None]]


def _edges(universe: Universe, seen: list[_Seen], result: Dependencies) -> Edges:
    """The dependencies that follow from what was seen."""
    happened = [type_ == OK for type_ in universe.types]
    for one in seen:
        if one.version.transaction != BASE:
            happened[one.version.transaction] = True
    coder = Coder.of(result.transactions)
    columns: _Columns = defaultdict(dict)

    def add(kind: Kind, source: int, target: int, before: Version, after: Version) -> None:
        edge = (source, target, coder.key(before.key), coder.value(before), coder.value(after))
        columns[kind][edge] = None

    installed = {
        key: [one for one in versions if one.final and one.transaction != BASE and happened[one.transaction]]
        for key, versions in universe.versions.items()
    }
    for versions in installed.values():
        for first in versions:
            if first.transaction == universe.init:
                for other in versions:
                    if other.transaction != universe.init:
                        add(Kind.WW, first.transaction, other.transaction, first, other)
    for one in seen:
        version, reader, by_predicate = one.version, one.reader, one.predicate is not None
        if version.transaction == reader:
            continue
        if version.final and version.transaction != BASE:
            add(Kind.WRP if by_predicate else Kind.WR, version.transaction, reader, version, version)
        later = [other for other in installed.get(version.key, []) if universe.before(version, other)]
        if by_predicate:
            did = matches(one.predicate, version.value)
            for other in later:
                if matches(one.predicate, other.value) != did:
                    add(Kind.RWP, reader, other.transaction, version, other)
            continue
        for other in later:
            if not any(universe.before(between, other) for between in later):
                add(Kind.RW, reader, other.transaction, version, other)
    return Edges.join([Edges.of(kind, *np.array(list(rows), np.int64).T) for kind, rows in columns.items()])
