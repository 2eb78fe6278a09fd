"""Levels of isolation by brute force.

A serial order, or an order of snapshots and commits, that explains every read (that is snapshot isolation as Berenson,
Bernstein, Gray, Melton, O'Neil and O'Neil define it, "A critique of ANSI SQL isolation levels", 1995). The weak levels
by the axioms of Biswas and Enea, "On the complexity of checking transactional consistency", 2019: there is a total
order of commits that contains sessions and who read from whom, such that a transaction that wrote what another one
read comes after every writer of the key that the reader had to know of.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from tests.transactions.small import UNKNOWN, Pairs, Txn, happened, last_writes, reads_outside

State = dict[Any, Any]

_INITIAL = -1
"""The number of the transaction that wrote nothing into every key, before all others."""


def _after(txn: Txn, state: State) -> State | None:
    """The state after it, if all that it read is what it found or had written itself."""
    state = dict(state)
    for f, key, value in txn.steps:
        if f == "append":
            state[key] = (*(state.get(key) or ()), value)
        elif f == "w":
            state[key] = value
        elif value != UNKNOWN and (state.get(key) or None) != (value or None):
            return None
    return state


def _frozen(state: State) -> tuple[tuple[Any, Any], ...]:
    return tuple(sorted(state.items(), key=repr))


def _preceding(txns: Sequence[Txn], before: Pairs) -> dict[int, frozenset[int]]:
    """The transactions that come before each one, of those that certainly happened."""
    certain = {txn.number for txn in txns if txn.type == "ok"}
    return {txn.number: frozenset(a for a, b in before if b == txn.number and a in certain and a != b) for txn in txns}


def serializable(txns: Sequence[Txn], before: Pairs = frozenset()) -> bool:
    """Whether some serial order of the ok transactions, and of some of the crashed ones, explains all reads.

    ``before`` is what the order must contain.
    """
    taking = happened(txns)
    certain = {txn.number for txn in taking if txn.type == "ok"}
    preceding = _preceding(taking, before)
    dead: set[tuple[frozenset[int], Any]] = set()

    def fits(placed: frozenset[int], state: State) -> bool:
        if certain <= placed:
            return True
        if (known := (placed, _frozen(state))) in dead:
            return False
        for txn in taking:
            if txn.number not in placed and preceding[txn.number] <= placed:
                then = _after(txn, state)
                if then is not None and fits(placed | {txn.number}, then):
                    return True
        dead.add(known)
        return False

    return fits(frozenset(), {})


def snapshot_isolated(txns: Sequence[Txn], before: Pairs = frozenset()) -> bool:
    """Whether each can read a snapshot and commit later, with no other commit of a key that it writes in between.

    What ``before`` says has committed before the other one takes its snapshot.
    """
    taking = happened(txns)
    certain = {txn.number for txn in taking if txn.type == "ok"}
    preceding = _preceding(taking, before)
    writes = {txn.number: frozenset(txn.writes()) for txn in taking}
    by_number = {txn.number: txn for txn in taking}
    dead: set[tuple[frozenset[int], frozenset[tuple[int, frozenset[Any]]], Any]] = set()

    def fits(done: frozenset[int], active: frozenset[tuple[int, frozenset[Any]]], state: State) -> bool:
        """``active``: those with a snapshot, and the keys that others have committed since."""
        if certain <= done and not active:
            return True
        if (known := (done, active, _frozen(state))) in dead:
            return False
        running = {number for number, _ in active}
        for number, overwritten in active:
            if not overwritten & writes[number]:
                others = frozenset((one, keys | writes[number]) for one, keys in active if one != number)
                then = dict(state)
                for f, key, value in by_number[number].steps:
                    if f != "r":
                        then[key] = (*(then.get(key) or ()), value) if f == "append" else value
                if fits(done | {number}, others, then):
                    return True
        for txn in taking:
            number = txn.number
            ready = number not in done and number not in running and preceding[number] <= done
            if ready and _after(txn, state) is not None:
                if not writes[number]:  # what writes nothing may as well commit at once
                    if fits(done | {number}, active, state):
                        return True
                elif fits(done, active | {(number, frozenset())}, state):
                    return True
        dead.add(known)
        return False

    return fits(frozenset(), frozenset(), {})


def committed_by(taking: Sequence[Txn], level: str, sessions: Pairs) -> bool:
    """Whether registers are "read-committed", "read-atomic" or "causal".

    With any choice of the crashed transactions. Values must be unique for each key.
    """
    taking = happened(taking)
    certain = [txn for txn in taking if txn.type == "ok"]
    crashed = [txn for txn in taking if txn.type != "ok"]
    for count in range(len(crashed) + 1):
        for chosen in itertools.combinations(crashed, count):
            if _weakly(sorted([*certain, *chosen]), level, sessions):
                return True
    return False


def _weakly(txns: Sequence[Txn], level: str, sessions: Pairs) -> bool:
    numbers = [txn.number for txn in txns]
    leaves = {(key, value): txn.number for txn in txns for key, value in last_writes(txn).items()}
    writers: dict[Any, set[int]] = {}
    for key, value in leaves:
        writers.setdefault(key, set()).add(leaves[key, value])
    session = {(a, b) for a, b in sessions if a in numbers and b in numbers}
    from_whom: dict[tuple[int, int], int] = {}
    known: set[tuple[int, int]] = set(session)
    for txn in txns:
        own: State = {}
        for f, key, value in txn.steps:
            if f != "r":
                own[key] = value
            elif key in own and value not in (UNKNOWN, own[key]):
                return False
        for at, key, value in reads_outside(txn):
            writer = _INITIAL if value is None else leaves.get((key, value))
            if writer is None or writer == txn.number:
                return False  # nobody left that there, or the reader itself does so later
            from_whom[txn.number, at] = writer
            if writer != _INITIAL:
                known.add((writer, txn.number))
    happens = set(known)
    if level == "causal":
        for middle, a, b in itertools.product(numbers, repeat=3):
            if (a, middle) in happens and (middle, b) in happens:
                happens.add((a, b))
    order = set(known)
    for txn in txns:
        read = [(at, key, from_whom[txn.number, at]) for at, key, _ in reads_outside(txn)]
        for at, key, writer in read:
            for other in writers.get(key, set()) - {writer, txn.number}:
                if level == "read-committed":
                    aware = any(source == other for earlier, _, source in read if earlier < at)
                else:
                    aware = (other, txn.number) in happens
                if aware:
                    order.add((other, writer))
    return _orderable([_INITIAL, *numbers], order)


def _orderable(numbers: list[int], order: set[tuple[int, int]]) -> bool:
    """Whether some total order contains ``order``, with the initial transaction before all others."""
    left, order = set(numbers), order | {(_INITIAL, number) for number in numbers if number != _INITIAL}
    while left:
        free = {one for one in left if not any((other, one) in order for other in left)}
        if not free:
            return False
        left -= free
    return True
