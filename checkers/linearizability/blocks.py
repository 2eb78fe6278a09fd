"""Registers whose written values are unique: linearizability in O(n log n), however many operations crashed.

All operations of one value (its write and the reads of it) stand together in every linearization; a successful
compare-and-set a→b stands directly between a's operations and b's, so it ties both into one *block*. For each block let
f be the earliest return and s the latest invocation of its operations. Block X must precede Y exactly if
f(X) < s(Y), so blocks can be put in an order exactly if no two of them must precede each other.

After Gibbons & Korach, "Testing Shared Memories", SIAM J. Comput. 26 (1997), whose zones these are, extended to
compare-and-set and to operations without a known outcome. An invocation at the same instant as a return is concurrent
with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from harness.checkers.linearizability.registers import CAS, NOTHING, READ, RegisterOperations
from harness.columns import Ints

ALWAYS: Final = np.iinfo(np.int64).min
"""The return time of the virtual write of the initial value: before everything."""

Kind = Literal["unwritten", "forked", "cycle", "order", "conflict"]


@dataclass(frozen=True)
class Violation:
    """A key is not linearizable, and these rows of the operations prove it.

    ``unwritten``  (read,): it saw a value that nothing can have written
    ``forked``     (cas, cas): both replaced the same value
    ``cycle``      (cas, ...): each observed the value that the one before it wrote, all around
    ``order``      (early, late): late belongs before early in its block, but was invoked after early had returned
    ``conflict``   (x_return, y_call, y_return, x_call): x before y, and y before x; x_return -1: the initial value
    """

    kind: Kind
    key: int
    rows: tuple[int, ...]
    time: int


@dataclass(frozen=True)
class Blocks:
    """The blocks of all keys: earliest return and latest invocation, and the operations that these belong to.

    ``member`` is the block of each operation.
    """

    key: NDArray[np.int32]
    f: Ints
    s: Ints
    f_row: Ints
    s_row: Ints
    member: Ints


def repeated(operations: RegisterOperations) -> NDArray[np.bool_]:
    """Which operations are on a key where some value was written twice, or the initial one again: not for ``check``."""
    written = operations.writes != NOTHING
    times = np.bincount(operations.writes[written], minlength=operations.values)
    times[operations.initial] += 1
    keys = np.unique(operations.key[written][times[operations.writes[written]] > 1])
    return np.isin(operations.key, keys)


def drop_unobserved(operations: RegisterOperations) -> RegisterOperations:
    """Leave out crashed writes and compare-and-sets whose value nobody is known to have observed.

    If a linearization contains such an operation, the same one without it is correct too.
    """
    seen = np.zeros(operations.values, dtype=bool)
    settled = ~operations.crashed
    observed = operations.observes[settled]
    seen[observed[observed != NOTHING]] = True
    crashed = np.flatnonzero(operations.crashed)
    writer_of: dict[int, list[int]] = {}
    for row in crashed.tolist():
        writer_of.setdefault(int(operations.writes[row]), []).append(row)
    keep = settled.copy()
    ready = [value for value in writer_of if seen[value]]
    while ready:
        for row in writer_of.pop(ready.pop(), []):
            keep[row] = True
            expected = int(operations.observes[row])
            if expected != NOTHING and not seen[expected]:
                seen[expected] = True
                if expected in writer_of:
                    ready.append(expected)
    return operations.select(keep)


@dataclass(frozen=True)
class Findings:
    """Violations, the operations that their rows refer to, and the blocks if these could be formed."""

    violations: list[Violation]
    operations: RegisterOperations
    blocks: Blocks | None = None


def check(operations: RegisterOperations) -> list[Findings]:
    """All violations of all keys; empty when the history is linearizable.

    What ``drop_unobserved`` leaves out must be left out, and no key may be ``repeated``.
    """
    writer = _writers(operations)
    violations = _unwritten(operations, writer) + _forked(operations)
    if not violations:
        root, depth = _chains(operations, writer)
        if not len(cyclic := np.flatnonzero(root < 0)):
            return _check_blocks(operations, root, depth)
        violations = _cycles(operations, writer, cyclic)
    # These keys have no blocks; all others still do.
    broken = sorted({violation.key for violation in violations})
    return [Findings(violations, operations), *check(operations.select(~np.isin(operations.key, broken)))]


def _check_blocks(operations: RegisterOperations, root: Ints, depth: Ints) -> list[Findings]:
    block, stage = _places(operations, root, depth)
    order = np.lexsort((stage, block))
    blocks = _blocks(operations, block, order)
    violations = _disordered(operations, block, stage, order) + _conflicts(blocks)
    return [Findings(violations, operations, blocks)] if violations else []


def _writers(operations: RegisterOperations) -> Ints:
    """The row that wrote each value: -1 for none, -2 for the initial values."""
    writer = np.full(operations.values, -1, dtype=np.int64)
    writer[operations.initial] = -2
    rows = np.flatnonzero(operations.writes != NOTHING)
    writer[operations.writes[rows]] = rows
    return writer


def _unwritten(operations: RegisterOperations, writer: Ints) -> list[Violation]:
    observes = operations.observes
    rows = np.flatnonzero((observes != NOTHING) & (writer[np.maximum(observes, 0)] == -1))
    return [_violation("unwritten", operations, (row,)) for row in rows.tolist()]


def _forked(operations: RegisterOperations) -> list[Violation]:
    rows = np.flatnonzero(operations.kind == CAS)
    rows = rows[np.argsort(operations.observes[rows], kind="stable")]
    expected = operations.observes[rows]
    twice = np.flatnonzero(expected[1:] == expected[:-1])
    return [_violation("forked", operations, (int(rows[at]), int(rows[at + 1]))) for at in twice.tolist()]


def _chains(operations: RegisterOperations, writer: Ints) -> tuple[Ints, Ints]:
    """For each value the first value of its chain of compare-and-sets (-1: a ring has none), and its place in it."""
    values = operations.values
    parent = np.arange(values)
    depth = np.zeros(values, dtype=np.int64)
    cas = np.flatnonzero(operations.kind == CAS)
    parent[operations.writes[cas]] = operations.observes[cas]
    depth[operations.writes[cas]] = 1
    if not len(cas):
        return parent, depth
    root, steps = parent.copy(), depth
    for _ in range(len(cas).bit_length() + 1):
        steps = steps + steps[root]
        root = root[root]
    is_root = parent == np.arange(values)
    is_root[operations.writes[cas]] = False
    return np.where(is_root[root], root, -1), steps


def _cycles(operations: RegisterOperations, writer: Ints, cyclic: Ints) -> list[Violation]:
    violations, seen = [], set()
    for value in cyclic.tolist():
        path: list[int] = []
        at: int = value
        while at not in seen:
            seen.add(at)
            path.append(int(writer[at]))
            at = int(operations.observes[writer[at]])
        start = next((i for i, row in enumerate(path) if operations.writes[row] == at), None)
        if start is not None:
            violations.append(_violation("cycle", operations, tuple(path[start:])))
    return violations


def _places(operations: RegisterOperations, root: Ints, depth: Ints) -> tuple[Ints, Ints]:
    """The block of each operation, and its stage there: writer of the first value, its reads, the next writer, ..."""
    value = np.where(operations.writes != NOTHING, operations.writes, operations.observes)
    return root[value], 2 * depth[value] + (operations.kind == READ)


def _disordered(operations: RegisterOperations, block: Ints, stage: Ints, order: Ints) -> list[Violation]:
    """Operations that returned before one of an earlier stage of their block was invoked."""
    if not len(block):
        return []
    block, stage, call, ret = block[order], stage[order], operations.call[order], operations.ret[order]
    new_stage = np.flatnonzero(np.concatenate([[True], (block[1:] != block[:-1]) | (stage[1:] != stage[:-1])]))
    owner = block[new_stage]
    latest = _running_maximum(np.maximum.reduceat(call, new_stage), owner)
    before = np.full(len(new_stage), ALWAYS)
    same = owner[1:] == owner[:-1]
    before[1:][same] = latest[:-1][same]
    earliest = np.minimum.reduceat(ret, new_stage)
    ends = np.append(new_stage[1:], len(order))
    violations = []
    for at in np.flatnonzero(earliest < before).tolist():
        early = int(order[new_stage[at] + np.argmin(ret[new_stage[at] : ends[at]])])
        first = int(np.searchsorted(block[new_stage], owner[at]))
        late = int(order[new_stage[first] + np.argmax(call[new_stage[first] : new_stage[at]])])
        violations.append(_violation("order", operations, (early, late)))
    return violations


def _running_maximum(values: Ints, group: Ints) -> Ints:
    """The running maximum within each group; equal groups stand together."""
    number = np.concatenate([[0], np.cumsum(group[1:] != group[:-1])])
    low = int(values.min())
    span = int(values.max()) - low + 1
    if span * (int(number[-1]) + 1) < 1 << 62:
        offset = number * np.int64(span) - low
        return np.maximum.accumulate(values + offset) - offset
    distinct, ranks = np.unique(values, return_inverse=True)
    offset = number * np.int64(len(distinct))
    return distinct[np.maximum.accumulate(ranks + offset) - offset]


def _blocks(operations: RegisterOperations, block: Ints, order: Ints) -> Blocks:
    sorted_block = block[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_block[1:] != sorted_block[:-1]])) if len(order) else order
    if not len(starts):
        empty = np.zeros(0, dtype=np.int64)
        return Blocks(empty.astype(np.int32), empty, empty, empty, empty, empty)
    ends = np.append(starts[1:], len(order))
    ret, call = operations.ret[order], operations.call[order]
    f, s = np.minimum.reduceat(ret, starts), np.maximum.reduceat(call, starts)
    f_row = order[_first_equal(ret, f, starts, ends)]
    s_row = order[_first_equal(call, s, starts, ends)]
    initial = np.zeros(operations.values, dtype=bool)
    initial[operations.initial] = True
    of_initial = initial[sorted_block[starts]]
    f[of_initial], f_row[of_initial] = ALWAYS, -1
    member = np.empty(len(order), dtype=np.int64)
    member[order] = np.repeat(np.arange(len(starts)), ends - starts)
    return Blocks(operations.key[order[starts]], f, s, f_row, s_row, member)


def _first_equal(column: Ints, wanted: Ints, starts: Ints, ends: Ints) -> Ints:
    """In each segment of ``column`` the place of the first element that equals the segment's wanted one."""
    hits = np.flatnonzero(column == np.repeat(wanted, ends - starts))
    return hits[np.searchsorted(hits, starts)]


def _conflicts(blocks: Blocks) -> list[Violation]:
    """Pairs of blocks that must precede each other."""
    forward = np.flatnonzero(blocks.f < blocks.s)
    forward = forward[np.lexsort((blocks.f[forward], blocks.key[forward]))]
    x, y = forward[:-1], forward[1:]
    clash = (blocks.key[x] == blocks.key[y]) & (blocks.f[y] < blocks.s[x])
    pairs = list(zip(x[clash].tolist(), y[clash].tolist(), strict=True))

    # Each other block conflicts at most with the last forward block that begins before it is over.
    backward = np.flatnonzero(blocks.f >= blocks.s)
    both = np.concatenate([forward, backward])
    is_forward = np.arange(len(both)) < len(forward)
    order = np.lexsort((is_forward, np.where(is_forward, blocks.f[both], blocks.s[both]), blocks.key[both]))
    both, is_forward = both[order], is_forward[order]
    last = np.maximum.accumulate(np.where(is_forward, np.arange(len(both)), -1)) if len(both) else order
    inside = both[np.maximum(last, 0)]
    hit = ~is_forward & (last >= 0) & (blocks.key[inside] == blocks.key[both])
    hit &= (blocks.f[inside] < blocks.s[both]) & (blocks.f[both] < blocks.s[inside])
    pairs += zip(inside[hit].tolist(), both[hit].tolist(), strict=True)
    return [_conflict(blocks, a, b) for a, b in pairs]


def _conflict(blocks: Blocks, x: int, y: int) -> Violation:
    if blocks.f[y] < blocks.f[x]:
        x, y = y, x
    rows = (blocks.f_row[x], blocks.s_row[y], blocks.f_row[y], blocks.s_row[x])
    return Violation("conflict", int(blocks.key[x]), tuple(int(row) for row in rows), int(blocks.s[x]))


def _violation(kind: Kind, operations: RegisterOperations, rows: tuple[int, ...]) -> Violation:
    time = max(int(operations.call[row]) for row in rows)
    return Violation(kind, int(operations.key[rows[0]]), rows, time)
