"""Dependencies between transactions on lists, the anomalies that are no cycles, and all simple cycles by their classes.

After Adya, "Weak consistency: a generalized theory and optimistic implementations for distributed transactions", 1999,
and Kingsbury and Alvaro, "Elle: inferring isolation anomalies from experimental observations", 2020.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from tests.transactions.small import UNKNOWN, Txn, happened, seen

DATA: Final = ("ww", "wr", "rw")


class Edge(NamedTuple):
    """That one transaction comes before another, and by what."""

    source: int
    target: int
    kind: str
    """ww, wr, rw, wwp, wrp, rwp, process or realtime."""


Elements = tuple[Any, ...]


def _reads(txns: Iterable[Txn]) -> list[tuple[Txn, int, Any, Elements]]:
    """Transaction, place, key and elements of all reads that are known."""
    return [
        (txn, at, key, value)
        for txn in txns
        for at, (f, key, value) in enumerate(txn.steps)
        if f == "r" and value != UNKNOWN
    ]


def _appends(txns: Iterable[Txn]) -> list[tuple[Txn, int, Any, Any]]:
    return [(txn, at, key, value) for txn in txns for at, (f, key, value) in enumerate(txn.steps) if f == "append"]


def version_orders(txns: Sequence[Txn]) -> dict[Any, Elements]:
    """Of every key the longest list that was read, or its only append."""
    taking = happened(txns)
    found: dict[Any, Elements] = {}
    for _, _, key, elements in _reads(taking):
        found[key] = max(found.get(key, ()), elements, key=len)
    appended: dict[Any, list[Any]] = {}
    for _, _, key, element in _appends(taking):
        appended.setdefault(key, []).append(element)
    for key, only in appended.items():
        if not found.get(key) and len(only) == 1:
            found[key] = tuple(only)
    return {key: tuple(dict.fromkeys(order)) for key, order in found.items()}


def data_edges(txns: Sequence[Txn]) -> set[Edge]:
    """Who overwrote, was read by and missed whom.

    The version order of each key must be one: no incompatible reads, no element twice.
    """
    taking = seen(txns)
    orders = version_orders(taking)
    writer = {(key, element): txn.number for txn, _, key, element in _appends(taking)}
    follows: dict[tuple[Any, Any], Any] = {}
    """The element just before each one; None: nothing."""
    for key, order in orders.items():
        follows.update({(key, after): before for before, after in itertools.pairwise((None, *order))})
    for _, _, key, element in _appends(taking):
        order = orders.get(key, ())
        if element not in order:
            follows[key, element] = order[-1] if order else None
    found = set()
    for (key, element), before in follows.items():
        mine = writer.get((key, element))
        theirs = writer.get((key, before))
        if mine is not None and theirs is not None:
            found.add(Edge(theirs, mine, "ww"))
    for txn, _, key, elements in _reads(taking):
        last = elements[-1] if elements else None
        if (theirs := writer.get((key, last))) is not None:
            found.add(Edge(theirs, txn.number, "wr"))
        for (other, element), before in follows.items():
            mine = writer.get((other, element))
            if other == key and before == last and mine is not None:
                found.add(Edge(txn.number, mine, "rw"))
    return {edge for edge in found if edge.source != edge.target}


def phenomena(txns: Sequence[Txn]) -> set[str]:
    """The anomalies that are no cycles, by name."""
    taking = seen(txns)
    certain = [txn for txn in txns if txn.type == "ok"]
    found: set[str] = set()
    failed = {(key, element) for txn, _, key, element in _appends(txns) if txn.type == "fail"}
    every = {(key, element): txn for txn, _, key, element in _appends(txns)}
    final = {(txn.number, key): element for txn, _, key, element in _appends(txns)}
    for txn, _, key, elements in _reads(taking):
        if len(set(elements)) < len(elements):
            found.add("duplicate-elements")
        if any((key, element) in failed for element in elements):
            found.add("G1a")
        if any((key, element) not in every for element in elements):
            found.add("garbage-read")
        author = every.get((key, elements[-1])) if elements else None
        if author is not None and author.number != txn.number and final[author.number, key] != elements[-1]:
            found.add("G1b")
    for txn in taking:
        if not _is_consistent(txn):
            found.add("internal")
        for at, (f, key, value) in enumerate(txn.steps):
            later = {element for g, other, element in txn.steps[at:] if g == "append" and other == key}
            if f == "r" and value != UNKNOWN and later & set(value):
                found.add("future-read")
    for key in {key for _, _, key, _ in _reads(taking)}:
        lists = {elements for _, _, other, elements in _reads(taking) if other == key}
        if any(long[: len(short)] != short for short in lists for long in lists if len(short) <= len(long)):
            found.add("incompatible-order")
    for key, order in version_orders(txns).items():
        if any(not _in_turn([e for _, _, k, e in _appends([txn]) if k == key], order) for txn in txns):
            found.add("incompatible-order")
        dirty = False
        for element in order:
            author = every.get((key, element))
            kind = author.type if author is not None else "info"
            if kind == "ok" and dirty:
                found.add("dirty-update")
            dirty = kind == "fail" or (dirty and kind == "info")
    updates: dict[tuple[Any, Elements], int] = {}
    for txn in certain:
        for key in {key for _, key, _ in txn.steps}:
            own = [(f, value) for f, other, value in txn.steps if other == key]
            if own[0][0] == "r" and own[0][1] != UNKNOWN and any(f == "append" for f, _ in own):
                updates[key, own[0][1]] = updates.get((key, own[0][1]), 0) + 1
    if any(count > 1 for count in updates.values()):
        found.add("lost-update")
    return found


def _in_turn(own: Sequence[Any], order: Elements) -> bool:
    """Whether a transaction's appends of a key became visible in the order in which it made them."""
    places = [order.index(element) if element in order else len(order) for element in own]
    return places == sorted(places)


def _is_consistent(txn: Txn) -> bool:
    """Whether each of its reads agrees with what it has read and appended itself before."""
    whole: dict[Any, Elements] = {}
    """What the key certainly holds."""
    end: dict[Any, Elements] = {}
    """What was appended to a key that was not read yet."""
    for f, key, value in txn.steps:
        if f == "append":
            if key in whole:
                whole[key] = (*whole[key], value)
            else:
                end[key] = (*end.get(key, ()), value)
        elif value != UNKNOWN:
            if key in whole and whole[key] != value:
                return False
            own = end.pop(key, ())
            if own and value[-len(own) :] != own:
                return False
            whole[key] = value
    return True


def simple_cycles(edges: Iterable[Edge]) -> dict[str, int]:
    """The classes of all simple cycles, each transaction once, by any one edge from each to the next; and how many
    transactions the shortest of each class has.
    """
    kinds: dict[tuple[int, int], set[str]] = {}
    for edge in edges:
        kinds.setdefault((edge.source, edge.target), set()).add(edge.kind)
    targets: dict[int, set[int]] = {}
    for source, target in kinds:
        targets.setdefault(source, set()).add(target)
    found: dict[str, int] = {}
    for start in targets:
        paths: list[tuple[int, ...]] = [(start,)]
        while paths:
            path = paths.pop()
            for target in targets.get(path[-1], ()):
                if target == start and len(path) > 1:
                    for name in _classes([kinds[a, b] for a, b in itertools.pairwise((*path, start))]):
                        found[name] = min(len(path), found.get(name, len(path)))
                elif target > start and target not in path:
                    paths.append((*path, target))
    return found


class _Seen(NamedTuple):
    """What matters of the first steps of a cycle."""

    first_rw: bool
    last_rw: bool
    rws: int
    """As many as 2 are many."""
    adjacent: bool
    wr: bool
    predicate: bool
    orders: int
    """0: data alone, 1: process order too, 2: real time."""
    data: bool


def _classes(hops: list[set[str]]) -> set[str]:
    """The classes of the cycles that take one edge of each hop."""
    seen = {_begin(kind) for kind in hops[0]}
    for hop in hops[1:]:
        seen = {_then(one, _begin(kind)) for one in seen for kind in hop}
    return {_name(one) for one in seen if one.data}


def _begin(kind: str) -> _Seen:
    rw = kind in ("rw", "rwp")
    orders = {"process": 1, "realtime": 2}.get(kind, 0)
    return _Seen(rw, rw, int(rw), False, kind in ("wr", "wrp"), kind == "rwp", orders, not orders)


def _then(one: _Seen, next_: _Seen) -> _Seen:
    return _Seen(
        one.first_rw,
        next_.last_rw,
        min(one.rws + next_.rws, 2),
        one.adjacent or (one.last_rw and next_.first_rw),
        one.wr or next_.wr,
        one.predicate or next_.predicate,
        max(one.orders, next_.orders),
        one.data or next_.data,
    )


def _name(cycle: _Seen) -> str:
    if not cycle.rws:
        name = "G1c" if cycle.wr else "G0"
    else:
        adjacent = cycle.adjacent or (cycle.first_rw and cycle.last_rw and cycle.rws > 1)
        name = "G-single" if cycle.rws == 1 else "G2" if adjacent else "G-nonadjacent"
        name += "" if cycle.predicate else "-item"
    return name + ("", "-process", "-realtime")[cycle.orders]


def class_of(kinds: Sequence[str]) -> str:
    """The class of one cycle, of the edges from each transaction to the next."""
    (name,) = _classes([{kind} for kind in kinds])
    return name


_FORMS: Final = ("", "-process", "-realtime")
_BASES: Final = ("G0", "G1c", "G-single", "G-nonadjacent", "G2")


def _parts(name: str) -> tuple[int, int, bool]:
    """How much order a class of cycles needs, its rank among those of the same order, and whether no predicate."""
    form = next(at for at in (2, 1, 0) if name.endswith(_FORMS[at]))
    base = name.removesuffix(_FORMS[form]) if form else name
    rank = _BASES.index(base.removesuffix("-item"))
    return form, rank, rank < 2 or base.endswith("-item")


def stands_for(one: str, other: str) -> bool:
    """Whether who is told of cycles of the class ``one`` need not be told of those of ``other``: it needs no more order
    of time, and forbids whatever the other forbids.
    """
    form, rank, item = _parts(one)
    other_form, other_rank, other_item = _parts(other)
    return form <= other_form and rank <= other_rank and (item or not other_item)


def strongest(names: Iterable[str]) -> set[str]:
    """Those that no other one stands for: what must be told."""
    every = set(names)
    return {name for name in every if not any(stands_for(one, name) for one in every - {name})}
