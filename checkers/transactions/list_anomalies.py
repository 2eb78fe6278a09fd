"""What transactions on lists show without any cycle: reads of what failed, of half a transaction, of the future."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.checkers.transactions.columns import APPEND, READ, Transactions
from harness.checkers.transactions.graph import EXPLAINED, Found
from harness.checkers.transactions.list_orders import Mask, Orders
from harness.checkers.transactions.lists import find_pairs, first_of_later_appends, internal_errors
from harness.columns import Ints
from harness.history import FAIL, INFO, OK
from harness.words import show

_Kind = tuple[str, list[Found], int]


def anomalies(orders: Orders) -> Iterator[_Kind]:
    """Each kind of anomaly that is no cycle: the first few explained, and how many there are."""
    yield from _wrong_elements(orders)
    yield _intermediate(orders)
    yield _incompatible(orders)
    yield _dirty_updates(orders)
    yield internal(orders.transactions, orders.happened, orders.previous)
    yield _future_reads(orders)
    yield _reversed_appends(orders)
    yield _lost_updates(orders)


def _wrong_elements(orders: Orders) -> Iterator[_Kind]:
    """Elements of transactions that failed, that nobody appended, and that stand in a list twice."""
    transactions = orders.transactions
    failed = np.zeros(len(orders.element), dtype=bool)
    known = orders.writer >= 0
    failed[known] = transactions.type[orders.writer[known]] == FAIL
    marks = (("G1a", failed), ("garbage-read", ~known & orders.first), ("duplicate-elements", ~orders.first))
    astray = _astray(orders)
    for kind, mark in marks:
        first_places = _first_of_key(mark, orders.start)
        key = transactions.key[orders.reads]
        place = first_places[key]
        hit = np.flatnonzero(orders.prefix & (place >= 0) & (place <= orders.seen))
        cases = [
            (int(orders.reads[at]), int(orders.element[place[at]]), int(orders.append[place[at]]))
            for at in hit[:EXPLAINED]
        ]
        more = astray[kind]
        yield (
            kind,
            [_wrong_element(transactions, kind, *case) for case in (cases + more)[:EXPLAINED]],
            len(hit) + len(more),
        )


def _astray(orders: Orders) -> dict[str, list[tuple[int, int, int]]]:
    """The same in lists that do not agree with the order of their key: read, element, and append of the element."""
    transactions = orders.transactions
    cases: dict[str, list[tuple[int, int, int]]] = {"G1a": [], "garbage-read": [], "duplicate-elements": []}
    of = orders.appends
    appended_key, appended = transactions.key[of], transactions.value[of]
    for read in orders.reads[~orders.prefix].tolist():
        number = transactions.value[read]
        elements = transactions.element[transactions.list_start[number] : transactions.list_start[number + 1]]
        keys = np.full(len(elements), transactions.key[read], np.int64)
        rows = find_pairs(orders.table, appended_key, appended, keys, elements)
        have: set[int] = set()
        done: set[str] = set()
        for element, row in zip(elements.tolist(), rows.tolist(), strict=True):
            append = int(of[row]) if row >= 0 else -1
            kind = "duplicate-elements" if element in have else "garbage-read" if append < 0 else ""
            if append >= 0 and not kind and transactions.type[transactions.owner[append]] == FAIL:
                kind = "G1a"
            if kind and kind not in done:
                done.add(kind)
                cases[kind].append((read, element, append))
            have.add(element)
    return cases


def _wrong_element(transactions: Transactions, kind: str, read: int, element: int, append: int) -> Found:
    reader = int(transactions.owner[read])
    key, value = show(transactions.keys[transactions.key[read]]), show(transactions.value_name(element))
    saw = f"{transactions.title(reader)} took effect and read {key} with {value} in it"
    writer = int(transactions.owner[append]) if append >= 0 else reader
    if kind == "G1a":
        text = f"{saw}, which {transactions.title(writer)} appended, and that transaction had failed (aborted read)"
    elif kind == "garbage-read":
        text = f"{saw}, which nobody has appended (garbage read)"
    else:
        text = f"{saw} twice, but it was appended once (duplicate element)"
    return Found(kind, tuple(dict.fromkeys((reader, writer))), text, int(transactions.key[read]))


def _first_of_key(mark: Mask, start: Ints) -> Ints:
    """For each key the first place that is marked; -1: none."""
    places = np.flatnonzero(mark)
    first = np.full(len(start) - 1, -1, np.int64)
    key = np.searchsorted(start, places, side="right") - 1
    first[key[::-1]] = places[::-1]
    return first


def _intermediate(orders: Orders) -> _Kind:
    """Reads that end in what a transaction appended before it appended more (G1b)."""
    transactions = orders.transactions
    # An append is not the last if one of the same key comes behind it; reads may lie between.
    last = orders.append_behind < 0
    owner = transactions.owner[orders.reads]
    wrote = orders.last_append
    wrong = (wrote >= 0) & ~last[wrote] & (transactions.owner[wrote] != owner)
    rows = np.flatnonzero(wrong)
    found = []
    for at in rows[:EXPLAINED].tolist():
        reader, writer = int(owner[at]), int(transactions.owner[wrote[at]])
        key = show(transactions.keys[transactions.key[wrote[at]]])
        value = show(transactions.value_name(int(transactions.value[wrote[at]])))
        text = (
            f"{transactions.title(reader)} read {key} as it was when {transactions.title(writer)} had appended {value} "
            "and not yet all that it appended to it: it saw the middle of that transaction (intermediate read)"
        )
        found.append(Found("G1b", (reader, writer), text, int(transactions.key[wrote[at]])))
    return "G1b", found, len(rows)


def _incompatible(orders: Orders) -> _Kind:
    """Lists of one key of which none begins the other."""
    transactions = orders.transactions
    astray = orders.reads[~orders.prefix]
    longest = np.full(len(transactions.keys), -1, np.int64)
    whole = orders.prefix & (orders.seen == orders.start[transactions.key[orders.reads] + 1] - 1)
    longest[transactions.key[orders.reads[whole]]] = orders.reads[whole]
    found = []
    for read in astray[:EXPLAINED].tolist():
        key = int(transactions.key[read])
        other = int(longest[key])
        one, two = int(transactions.owner[read]), int(transactions.owner[other])
        text = (
            f"{transactions.title(one)} read {show(transactions.keys[key])} as "
            f"{show(transactions.elements(int(transactions.value[read])))} and {transactions.title(two)} as "
            f"{show(transactions.elements(int(transactions.value[other])))}: neither continues the other, so that "
            "there is no one order in which this list was appended to"
        )
        found.append(Found("incompatible-order", tuple(dict.fromkeys((one, two))), text, key))
    return "incompatible-order", found, len(astray)


def _dirty_updates(orders: Orders) -> _Kind:
    """Appends that committed right behind an element of a transaction that failed."""
    transactions = orders.transactions
    known = orders.first & (orders.writer >= 0)
    places = np.flatnonzero(known)
    type_ = transactions.type[orders.writer[places]]
    decided = type_ != INFO
    places, type_ = places[decided], type_[decided]
    key = np.searchsorted(orders.start, places, side="right") - 1
    wrong = np.flatnonzero((key[1:] == key[:-1]) & (type_[:-1] == FAIL) & (type_[1:] == OK))
    found = []
    for at in wrong[:EXPLAINED].tolist():
        dirty, clean = int(places[at]), int(places[at + 1])
        one, two = int(orders.writer[dirty]), int(orders.writer[clean])
        text = (
            f"{transactions.title(one)} failed, and what it appended to {show(transactions.keys[key[at]])}, "
            f"{show(transactions.value_name(int(orders.element[dirty])))}, stands before "
            f"{show(transactions.value_name(int(orders.element[clean])))}, which {transactions.title(two)} appended "
            "and committed on top of it (dirty update)"
        )
        found.append(Found("dirty-update", (one, two), text, int(key[at])))
    return "dirty-update", found, len(wrong)


def internal(transactions: Transactions, happened: Mask, previous: Ints) -> _Kind:
    """Reads that contradict what their own transaction has done before; the rest is as ``Orders`` has it."""
    is_read = transactions.f == READ
    own = np.flatnonzero(is_read & happened[transactions.owner] & (previous >= 0))
    wrong = own[
        internal_errors(
            own,
            previous,
            is_read,
            transactions.listed,
            transactions.value,
            transactions.list_start,
            transactions.element,
        )
    ]
    _, first = np.unique(transactions.owner[wrong], return_index=True)
    wrong = wrong[first]
    found = []
    for at in wrong[:EXPLAINED].tolist():
        owner = int(transactions.owner[at])
        saw = show(transactions.elements(int(transactions.value[at]))) if transactions.listed[at] else "nothing"
        text = (
            f"{transactions.title(owner)} read {show(transactions.keys[transactions.key[at]])} as {saw}, which is not "
            f"what it must be after {_before(transactions, at, previous)} in the same transaction (internal)"
        )
        found.append(Found("internal", (owner,), text, int(transactions.key[at])))
    return "internal", found, len(wrong)


def _before(transactions: Transactions, at: int, previous: Ints) -> str:
    """What a transaction did with a key before, back to the last read."""
    steps: list[str] = []
    before = int(previous[at])
    while before >= 0 and len(steps) < EXPLAINED:
        if transactions.f[before] == READ:
            found = (
                show(transactions.elements(int(transactions.value[before])))
                if transactions.listed[before]
                else "nothing"
            )
            steps.append(f"reading {found}")
            break
        steps.append(f"appending {show(transactions.value_name(int(transactions.value[before])))}")
        before = int(previous[before])
    return " and ".join(reversed(steps))


def _future_reads(orders: Orders) -> _Kind:
    """Reads that find what their own transaction appends later."""
    transactions = orders.transactions
    place = np.full(len(transactions.f), -1, np.int64)
    known = np.flatnonzero(orders.append >= 0)[::-1]
    place[orders.append[known]] = known
    is_append = transactions.f == APPEND
    earliest = first_of_later_appends(transactions.start, transactions.key, is_append, place, len(transactions.keys))[
        orders.reads
    ]
    found = orders.prefix & (earliest >= 0) & (place[earliest] <= orders.seen)
    cases = list(zip(orders.reads[found].tolist(), earliest[found].tolist(), strict=True))
    for read in orders.reads[~orders.prefix & (orders.append_behind[orders.reads] >= 0)].tolist():
        number = transactions.value[read]
        elements = transactions.element[transactions.list_start[number] : transactions.list_start[number + 1]]
        behind = int(orders.append_behind[read])
        while behind >= 0:
            if (elements == transactions.value[behind]).any():
                cases.append((read, behind))
                break
            behind = int(orders.append_behind[behind])
    found_all = []
    for read, append in cases[:EXPLAINED]:
        owner = int(transactions.owner[read])
        text = (
            f"{transactions.title(owner)} read {show(transactions.value_name(int(transactions.value[append])))} in "
            f"{show(transactions.keys[transactions.key[read]])} before it appended that itself (future read)"
        )
        found_all.append(Found("future-read", (owner,), text, int(transactions.key[read])))
    return "future-read", found_all, len(cases)


def _reversed_appends(orders: Orders) -> _Kind:
    """Appends of one transaction that stand in another order than it made them, which no cycle between two shows."""
    transactions = orders.transactions
    place = np.full(len(transactions.f), -1, np.int64)
    known = np.flatnonzero((orders.append >= 0) & orders.first)
    place[orders.append[known]] = known
    appends = orders.appends[place[orders.appends] >= 0]
    before = orders.append_before[appends]
    some = before >= 0
    appends, before = appends[some], before[some]
    # One that is in no order stands behind all that are.
    wrong = np.flatnonzero((place[before] > place[appends]) | (place[before] < 0))
    found = []
    for at in wrong[:EXPLAINED].tolist():
        owner, key = int(transactions.owner[appends[at]]), int(transactions.key[appends[at]])
        first, second = (show(transactions.value_name(int(transactions.value[row[at]]))) for row in (before, appends))
        text = (
            f"{transactions.title(owner)} appended {first} to {show(transactions.keys[key])} and then {second}, and "
            f"{second} stands before {first} there, or without it"
        )
        found.append(Found("incompatible-order", (owner,), text, key))
    return "incompatible-order", found, len(wrong)


def _lost_updates(orders: Orders) -> _Kind:
    """Transactions that read one version of a key and then appended to it, each: one of them has not seen the other."""
    transactions = orders.transactions
    committed = orders.reads[transactions.type[transactions.owner[orders.reads]] == OK]
    first = committed[(orders.previous[committed] < 0) & (orders.append_behind[committed] >= 0)]
    at = np.searchsorted(orders.reads, first)
    known = orders.prefix[at] | (orders.last_append[at] >= 0)
    first, at = first[known], at[known]
    # Lists that agree with the order are one version if they are of one length, others if they end in one append.
    version = np.where(orders.prefix[at], orders.seen[at], -3 - orders.last_append[at])
    key = transactions.key[first]
    order = np.lexsort((first, version, key))
    same = (key[order[1:]] == key[order[:-1]]) & (version[order[1:]] == version[order[:-1]])
    begins = np.flatnonzero(~np.concatenate([[False], same]) & np.concatenate([same, [False]]))[: len(order)]
    found = []
    for begin in begins[:EXPLAINED].tolist():
        end = begin + 1
        while end < len(order) and same[end - 1]:
            end += 1
        group = [int(transactions.owner[first[row]]) for row in order[begin:end].tolist()]
        read = int(first[order[begin]])
        saw = show(transactions.elements(int(transactions.value[read]))) if transactions.listed[read] else "nothing"
        names = ", ".join(transactions.title(one) for one in group[:EXPLAINED])
        text = (
            f"{names} each read {show(transactions.keys[transactions.key[read]])} as {saw} and then appended to it: "
            "all but one of them have overwritten what they had not seen (lost update)"
        )
        found.append(Found("lost-update", tuple(group[:EXPLAINED]), text, int(transactions.key[read])))
    return "lost-update", found, len(begins)
