"""Anomalies of registers that are no cycles: what a transaction must not read, or must not have overwritten unseen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.checkers.transactions.columns import READ, UNKNOWN
from harness.checkers.transactions.graph import EXPLAINED, Found
from harness.checkers.transactions.register_kernel import NOTHING
from harness.checkers.transactions.registers import Mask, Registers
from harness.checkers.transactions.version_order import Circle, VersionOrder
from harness.columns import Ints
from harness.history import FAIL, OK
from harness.words import all_of, count

Kind = tuple[str, list[Found], int]
"""The name of an anomaly, the first few explained, and how many there are."""


def anomalies(registers: Registers, order: VersionOrder, *, written_after_read: bool) -> Iterator[Kind]:
    """Those of each kind. ``written_after_read``: what a transaction writes replaces what it has read."""
    yield _aborted_reads(registers)
    yield _intermediate_reads(registers)
    yield _internal(registers)
    yield _future_reads(registers)
    yield _lost_updates(registers)
    if written_after_read:
        yield _dirty_updates(registers)
    yield _cyclic_versions(registers, order.circles)
    yield _garbage_reads(registers, order)


def ambiguous_read(registers: Registers) -> str:
    """Why a read tells nothing: of the first version that was read and that two transactions wrote; else empty."""
    rows = np.flatnonzero(registers.committed & (registers.read >= 0))
    rows = rows[registers.ambiguous[registers.read[rows]]]
    if not len(rows):
        return ""
    row = int(rows[0])
    version = int(registers.read[row])
    reader = registers.transactions.title(int(registers.owner[row]))
    key, value = registers.key_name(int(registers.key[row])), registers.value(version)
    one = registers.title(int(registers.wrote[version]))
    if version < registers.keys:
        return f"{reader} read {key} as {value}, which it was from the start, and which {one} wrote, too"
    other = registers.title(int(registers.other[version]))
    more = count(len(rows) - 1, "further read") if len(rows) > 1 else ""
    return (
        f"values must be unique in their key, but both {one} and {other} wrote {value} to {key}, so that nobody knows "
        f"which of the two {reader} read{f', and so with {more}' if more else ''}"
    )


def _reads(registers: Registers) -> Ints:
    """All reads of committed transactions that found something, micro-operations."""
    transactions = registers.transactions
    found = (transactions.f == READ) & (registers.version >= registers.keys)
    rows: Ints = np.flatnonzero(found)
    committed: Ints = rows[transactions.type[transactions.owner[rows]] == OK]
    return committed


def _aborted_reads(registers: Registers) -> Kind:
    """Reads of what only a failed transaction wrote."""
    transactions = registers.transactions
    if not (transactions.type == FAIL).any():
        return "G1a", [], 0
    reads = _reads(registers)
    version = registers.version[reads]
    reads = reads[(registers.wrote[version] < 0) & (registers.aborted[version] >= 0)]
    found = []
    for read in reads[:EXPLAINED].tolist():
        write = int(registers.aborted[registers.version[read]])
        text = (
            f"{registers.title(read)} committed and read {registers.key_name(int(transactions.key[read]))} as "
            f"{registers.value(int(registers.version[read]))}, which {registers.title(write)} wrote, and that "
            "transaction had failed (aborted read)"
        )
        found.append(_found(registers, "G1a", read, write, text))
    return "G1a", found, len(reads)


def _intermediate_reads(registers: Registers) -> Kind:
    """Reads of what another transaction wrote before it wrote the same key again."""
    transactions = registers.transactions
    final = np.zeros(registers.versions, dtype=bool)
    final[registers.write[registers.write >= 0]] = True
    middle = ~final & (registers.wrote >= 0) & ~registers.ambiguous
    if not middle.any():
        return "G1b", [], 0
    reads = _reads(registers)
    reads = reads[middle[registers.version[reads]]]
    writes = registers.wrote[registers.version[reads]]
    reads = reads[transactions.owner[writes] != transactions.owner[reads]]
    found = []
    for read in reads[:EXPLAINED].tolist():
        write = int(registers.wrote[registers.version[read]])
        text = (
            f"{registers.title(read)} read {registers.key_name(int(transactions.key[read]))} as "
            f"{registers.value(int(registers.version[read]))}, which {registers.title(write)} wrote before it wrote "
            "that key again: it saw the middle of that transaction (intermediate read)"
        )
        found.append(_found(registers, "G1b", read, write, text))
    return "G1b", found, len(reads)


def _found(registers: Registers, kind: str, read: int, write: int, text: str) -> Found:
    """An anomaly of a read and a write, both micro-operations."""
    owner = registers.transactions.owner
    both = dict.fromkeys((int(owner[read]), int(owner[write])))
    return Found(kind, tuple(both), text, int(registers.transactions.key[read]))


def _internal(registers: Registers) -> Kind:
    """Transactions that happened and do not read what they themselves have read or written just before."""
    transactions = registers.transactions
    wrong = np.flatnonzero((registers.wrong >= 0) & registers.happened)
    found = []
    for transaction in wrong[:EXPLAINED].tolist():
        read = int(registers.wrong[transaction])
        key = int(transactions.key[read])
        text = (
            f"{transactions.title(transaction)} read {registers.key_name(key)} as "
            f"{registers.value(int(registers.version[read]))}, though {_step_before(registers, read)} just before in "
            "the same transaction (internal)"
        )
        found.append(Found("internal", (transaction,), text, key))
    return "internal", found, len(wrong)


def _step_before(registers: Registers, read: int) -> str:
    """What the transaction of a read did with its key just before: "it had written 5"."""
    transactions = registers.transactions
    before = read - 1
    while transactions.key[before] != transactions.key[read] or transactions.value[before] == UNKNOWN:
        before -= 1
    did = "read it as" if transactions.f[before] == READ else "written"
    return f"it had {did} {registers.value(int(registers.version[before]))}"


def _future_reads(registers: Registers) -> Kind:
    """Transactions that happened and read what they only write later themselves."""
    happened = registers.happened[registers.owner]
    rows = np.flatnonzero(happened & (registers.read >= registers.keys) & (registers.write >= 0))
    version = registers.read[rows]
    wrote = registers.wrote[version]
    own = (wrote >= 0) & (registers.transactions.owner[wrote] == registers.owner[rows])
    rows = rows[own & ~registers.ambiguous[version]]
    found = []
    for row in rows[:EXPLAINED].tolist():
        who, key = int(registers.owner[row]), int(registers.key[row])
        text = (
            f"{registers.transactions.title(who)} read {registers.key_name(key)} as "
            f"{registers.value(int(registers.read[row]))} before it wrote that itself (future read)"
        )
        found.append(Found("future-read", (who,), text, key))
    return "future-read", found, len(rows)


def _lost_updates(registers: Registers) -> Kind:
    """Committed transactions that read the same version of a key and then wrote the key, each."""
    updates = registers.committed & (registers.read >= 0) & (registers.write >= 0)
    rows = np.flatnonzero(updates)
    rows = rows[~registers.ambiguous[registers.read[rows]]]
    version = registers.read[rows]
    forks = np.flatnonzero(np.bincount(version, minlength=1) > 1)
    if not len(forks):
        return "lost-update", [], 0
    explained = np.isin(version, forks[:EXPLAINED])
    rows, version = rows[explained], version[explained]
    found = []
    for fork in forks[:EXPLAINED].tolist():
        mine = rows[version == fork]
        who = registers.owner[mine[:EXPLAINED]].tolist()
        wrote = [
            f"{registers.transactions.title(int(registers.owner[row]))} {registers.value(int(registers.write[row]))}"
            for row in mine[:EXPLAINED].tolist()
        ]
        more = f" and {len(mine) - EXPLAINED:,} more" if len(mine) > EXPLAINED else ""
        text = (
            f"{count(len(mine), 'transaction')} each read {registers.key_name(int(registers.key_of[fork]))} as "
            f"{registers.value(fork)} and then wrote it ({', '.join(wrote)}{more}): all but one of them have "
            "overwritten what they had not seen (lost update)"
        )
        found.append(Found("lost-update", tuple(who), text, int(registers.key_of[fork])))
    return "lost-update", found, len(forks)


def _dirty_updates(registers: Registers) -> Kind:
    """Committed transactions that replaced what only a failed one wrote, having read it."""
    rows = np.flatnonzero(registers.committed & (registers.read >= registers.keys) & (registers.write >= 0))
    read = registers.read[rows]
    rows = rows[(registers.wrote[read] < 0) & (registers.aborted[read] >= 0)]
    found = []
    for row in rows[:EXPLAINED].tolist():
        version = int(registers.read[row])
        failed = int(registers.transactions.owner[registers.aborted[version]])
        who = int(registers.owner[row])
        text = (
            f"{registers.transactions.title(who)} committed {registers.value(int(registers.write[row]))} in "
            f"{registers.key_name(int(registers.key[row]))} in place of {registers.value(version)}, which it had read, "
            f"and which {registers.transactions.title(failed)} wrote, and that transaction had failed (dirty update)"
        )
        found.append(Found("dirty-update", (who, failed), text, int(registers.key[row])))
    return "dirty-update", found, len(rows)


def _cyclic_versions(registers: Registers, circles: list[Circle]) -> Kind:
    """Versions that would come before themselves by a source of orders, which is not used then."""
    found = []
    for circle in circles[:EXPLAINED]:
        values = ", ".join(registers.value(version) for version in circle.versions[:EXPLAINED])
        more = f" and {len(circle.versions) - EXPLAINED:,} more" if len(circle.versions) > EXPLAINED else ""
        by = all_of(circle.sources)
        touched = np.isin(registers.read, circle.versions) & registers.committed
        touched |= np.isin(registers.write, circle.versions) & registers.happened[registers.owner]
        who = np.unique(registers.owner[touched])[:EXPLAINED].tolist()
        text = (
            f"the values {values}{more} of {registers.key_name(circle.key)} have no order: by {by} each of them would "
            f"have been overwritten by the others before it was there, so {circle.sources[-1]} orders no versions here "
            "(cyclic versions)"
        )
        found.append(Found("cyclic-versions", tuple(who), text, circle.key))
    return "cyclic-versions", found, len(circles)


def _garbage_reads(registers: Registers, order: VersionOrder) -> Kind:
    """Reads of what nobody wrote.

    Of a key whose versions go round in a circle that is enough. And where nobody ever read nothing, keys may have held
    something from the start.
    """
    unwritten = (registers.wrote < 0) & (registers.aborted < 0)
    unwritten[: registers.keys] = False
    reads = registers.committed & (registers.read >= 0)
    rows = np.flatnonzero(reads)
    rows = rows[unwritten[registers.read[rows]]]
    if not len(rows):
        return "garbage-read", [], 0
    circular = np.array([circle.key for circle in order.circles], np.int64)
    rows = rows[~np.isin(registers.key[rows], circular)]
    if not (registers.read[reads] < registers.keys).any():
        rows = rows[~_may_be_initial(registers, order, rows)[registers.read[rows]]]
    found = []
    for row in rows[:EXPLAINED].tolist():
        who, version = int(registers.owner[row]), int(registers.read[row])
        text = (
            f"{registers.transactions.title(who)} committed and read {registers.key_name(int(registers.key[row]))} as "
            f"{registers.value(version)}, which nobody has written (garbage read)"
        )
        found.append(Found("garbage-read", (who,), text, int(registers.key[row])))
    return "garbage-read", found, len(rows)


def _may_be_initial(registers: Registers, order: VersionOrder, rows: Ints) -> Mask:
    """Which versions may be what a key held from the start, of those that the accesses ``rows`` read.

    One for each key at most, that comes after no other, and of which no read began when a write had returned.
    """
    transactions = registers.transactions
    possible = np.zeros(registers.versions, dtype=bool)
    versions = np.unique(registers.read[rows])
    key = registers.key_of[versions]
    alone = np.bincount(key, minlength=registers.keys)[key] == 1
    possible[versions[alone]] = True
    possible[order.node] = False
    wrote = np.flatnonzero(registers.committed & (registers.write != NOTHING))
    returned = np.full(registers.keys, np.iinfo(np.int64).max, np.int64)
    np.minimum.at(returned, registers.key[wrote], transactions.ret[registers.owner[wrote]])
    late = rows[transactions.call[registers.owner[rows]] > returned[registers.key[rows]]]
    possible[registers.read[late]] = False
    return possible
