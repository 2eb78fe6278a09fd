"""What terms tell: which node claimed which, from when to when, and what no store with one primary at a time can show.

In such a store a term is one node's alone, and once a write was acknowledged in a term, none that is invoked later is
acknowledged in a lower one. Neither needs two nodes that are primary in overlapping times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec
import numpy as np

from harness.columns import NOTHING, Ints
from harness.history import NEVER, Operations
from harness.roles import PRIMARY, Sighting


class Spell(msgspec.Struct, frozen=True):
    """A node claimed a term: certainly at ``start`` and at ``end`` (ns), by its first and its last sign of that."""

    node: str
    term: int
    start: int
    end: int

    def meets(self, other: Spell) -> bool:
        """Whether they have a moment in common."""
        return self.start <= other.end and other.start <= self.end


class Claim(NamedTuple):
    """Several nodes claimed one term, at any times: a spell of each, in the order in which they began."""

    term: int
    spells: tuple[Spell, ...]


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


def spells(operations: Operations, writes: Ints, terms: Ints, seen: Sequence[Sighting]) -> list[Spell]:
    """Every node's terms, as it said itself or as its acknowledged ``writes`` do, whose ``terms`` are given.

    Ordered by term, and then by their beginning. As in reigns, an answer is a sign of some moment between the question
    and the answer: the first one counts from its end, and the last one to its beginning.
    """
    found: dict[tuple[str, int], tuple[int, int]] = {}

    def add(node: str, term: int, first: int, last: int) -> None:
        a, b = found.get((node, term), (first, last))
        found[node, term] = min(a, first), max(b, last)

    for sighting in seen:
        if sighting.role == PRIMARY and sighting.term is not None:
            first, last = (sighting.start, sighting.end) if sighting.lasting else (sighting.end, sighting.start)
            add(sighting.node, sighting.term, first, last)
    rows, terms = writes[terms != NOTHING], terms[terms != NOTHING]
    names = operations.history.nodes
    distinct, code = np.unique(terms, return_inverse=True)
    pairs, which = np.unique(code * len(names) + operations.server[rows], return_inverse=True)
    first_ret = np.full(len(pairs), NEVER, dtype=np.int64)
    last_call = np.full(len(pairs), -1, dtype=np.int64)
    np.minimum.at(first_ret, which, operations.ret[rows])
    np.maximum.at(last_call, which, operations.call[rows])
    for pair, first, last in zip(pairs.tolist(), first_ret.tolist(), last_call.tolist(), strict=True):
        add(str(names[pair % len(names)]), int(distinct[pair // len(names)]), first, last)
    whole = [Spell(node, term, first, max(first, last)) for (node, term), (first, last) in found.items()]
    return sorted(whole, key=lambda spell: (spell.term, spell.start, spell.end, spell.node))


def claims(in_order: Iterable[Spell]) -> list[Claim]:
    """The terms that several nodes claimed, of spells in the order in which ``spells`` has them."""
    by_term = (Claim(term, tuple(group)) for term, group in groupby(in_order, key=lambda spell: spell.term))
    return [claim for claim in by_term if len(claim.spells) > 1]


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
