"""Writes that nobody has read: under snapshot isolation they, too, must have been in some order.

Of two transactions that both wrote a key, one has committed before the other began. Where no read tells which, neither
order may close a cycle in which no anti-dependency follows another: then there is none. An order that would is known to
be the other way round, which may decide further pairs. (The axioms of Cerone, Bernardi & Gotsman, "A Framework for
Transactional Consistency Models with Atomic Visibility", 2015.) Serializability does not ask: what nobody reads can be
put in any order behind the rest.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations
from typing import Final, NamedTuple

import numba
import numpy as np

from harness.checkers.transactions.components import grouped
from harness.checkers.transactions.cycles import Core, core_of
from harness.checkers.transactions.gathering import Gathering
from harness.checkers.transactions.graph import Dependencies, Kind
from harness.checkers.transactions.levels import cycle_exists
from harness.words import named

_MOST_PAIRS: Final = 2000
_MOST_STEPS: Final = 1_000_000_000
njit = numba.njit(cache=True, nogil=True)


class Contradiction(NamedTuple):
    """Two transactions that wrote a key, neither of which can have been the first; or why that was not found out."""

    key: int
    one: int
    other: int
    unknown: str = ""


def contradiction(dependencies: Dependencies, orders: Collection[Kind]) -> Contradiction | None:
    """Two writes of a key that have no order under snapshot isolation; None if there are none."""
    core = core_of(dependencies, orders) if dependencies.unordered is not None else None
    if core is None:
        return None
    pairs = _pairs(dependencies, core)
    if len(pairs) > _MOST_PAIRS or len(pairs) * len(core.source) > _MOST_STEPS:
        return Contradiction(-1, -1, -1, "there are too many writes that nobody has read, whose order is not known")
    anti = (core.kind == Kind.RW) | (core.kind == Kind.RWP)
    source, target = core.source.astype(np.int64), core.target.astype(np.int64)
    start, order = grouped(len(core.node), source)
    left = pairs
    while left:
        undecided = []
        for key, one, other in left:
            bad = [_leads(*ends, target, start, order, anti) for ends in ((other, one), (one, other))]
            if all(bad):
                return Contradiction(key, int(core.node[one]), int(core.node[other]))
            if not any(bad):
                undecided.append((key, one, other))
                continue
            first, second = (other, one) if bad[0] else (one, other)
            source, target, anti = np.append(source, first), np.append(target, second), np.append(anti, False)
            start, order = grouped(len(core.node), source)
        if len(undecided) == len(left):
            return None
        left = undecided
    return None


_SNAPSHOTS: Final = (
    ("strong-snapshot-isolation", (Kind.REALTIME,)),
    ("strong-session-snapshot-isolation", (Kind.PROCESS,)),
    ("snapshot-isolation", ()),
)
"""The models that ask for an order of all writes of a key, and the orders of time that count."""


def hold_to_snapshots(dependencies: Dependencies, gathering: Gathering, models: Collection[str]) -> str:
    """Add what refutes those of the models that are forms of snapshot isolation; answers why that is unknown, if so."""
    transactions = dependencies.transactions
    for model, orders in _SNAPSHOTS:
        if model not in models or (wrong := contradiction(dependencies, orders)) is None:
            continue
        if wrong.unknown:
            return wrong.unknown
        one, other = transactions.title(wrong.one), transactions.title(wrong.other)
        text = (
            f"{one} and {other} both wrote {named(transactions.keys[wrong.key])}, and what they wrote was never read. "
            "Under snapshot isolation one of them had committed before the other began; but whichever it was, what was "
            "read and written elsewhere puts the other one first"
        )
        kind = cycle_exists(model)
        gathering.single[kind] = 1
        gathering.add(kind, (wrong.one, wrong.other), text, wrong.key)
    return ""


def _pairs(dependencies: Dependencies, core: Core) -> list[tuple[int, int, int]]:
    """The pairs of nodes that wrote one key in an unknown order, of one component: others cannot close a cycle."""
    assert dependencies.unordered is not None
    keys, writers = dependencies.unordered
    number = np.full(len(dependencies.transactions), -1, np.int64)
    real = core.node < len(number)
    number[core.node[real]] = np.flatnonzero(real)
    near = number[writers] >= 0
    by_key: dict[tuple[int, int], set[int]] = {}
    for key, node in zip(keys[near].tolist(), number[writers[near]].tolist(), strict=True):
        by_key.setdefault((key, int(core.component[node])), set()).add(node)
    pairs: list[tuple[int, int, int]] = []
    for (key, _), nodes in by_key.items():
        for one, other in combinations(sorted(nodes), 2):
            pairs.append((key, one, other))
            if len(pairs) > _MOST_PAIRS:
                return pairs
    return pairs


@njit
def _leads(begin, goal, target, start, order, anti):  # type: ignore[no-untyped-def]
    """Whether there is a way from one node to another on which no anti-dependency follows another."""
    nodes = len(start) - 1
    seen = np.zeros(2 * nodes, np.bool_)
    queue = np.empty(2 * nodes, np.int64)
    queue[0] = begin
    seen[begin] = True
    done, filled = 0, 1
    while done < filled:
        here = queue[done]
        done += 1
        node, late = here % nodes, here >= nodes
        if node == goal:
            return True
        for at in range(start[node], start[node + 1]):
            edge = order[at]
            if anti[edge] and late:
                continue
            then = target[edge] + (nodes if anti[edge] else 0)
            if not seen[then]:
                seen[then] = True
                queue[filled] = then
                filled += 1
    return False
