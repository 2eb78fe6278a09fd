"""What transactions on registers wrote and read, seen from outside: versions, who wrote them, and accesses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.checkers.transactions.columns import APPEND, READ, Transactions
from harness.checkers.transactions.register_kernel import NOTHING, external, group, number_versions, writers
from harness.columns import Ints
from harness.history import FAIL, INFO, OK
from harness.words import show

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int32]


@dataclass(frozen=True)
class Registers:
    """Transactions on registers. ``NOTHING`` (-1) stands for no version, no transaction and no micro-operation.

    A *version* is what a key holds; the first ones are the initial states, version ``k`` that of key ``k``. ``version``
    is that of each micro-operation; ``key_of`` and ``value_of`` tell of each version its key and the code of its value;
    ``wrote`` and ``aborted`` are the micro-operations that wrote it in a transaction that may have committed, and in
    one that failed; ``other`` is a second one of the first sort, in another transaction.

    An *access* is a pair of a transaction and a key, a row of ``owner``, ``key``, ``read`` (the version that was read
    first, before any write), ``write`` (the version written last) and ``wrote_at`` (by which micro-operation). The
    accesses of transaction ``i`` are the rows ``start[i]`` to ``start[i + 1]``.

    ``wrong`` is of each transaction the first read that contradicts the transaction itself, ``expected`` the version
    that it should have found. ``happened`` marks transactions that committed, or crashed and were read from.
    """

    transactions: Transactions
    version: Numbers
    key_of: Numbers
    value_of: Ints
    wrote: Numbers
    aborted: Numbers
    other: Numbers
    owner: Numbers
    key: Numbers
    read: Numbers
    write: Numbers
    wrote_at: Numbers
    wrong: Ints
    expected: Numbers
    happened: Mask

    @property
    def keys(self) -> int:
        """How many keys there are, and so how many initial versions."""
        return len(self.transactions.keys)

    @property
    def versions(self) -> int:
        """How many versions there are."""
        return len(self.key_of)

    @cached_property
    def start(self) -> Ints:
        """Where the accesses of each transaction begin, and at last how many there are."""
        return np.searchsorted(self.owner, np.arange(len(self.transactions) + 1))

    @cached_property
    def committed(self) -> Mask:
        """Which accesses are of transactions that committed for certain: their reads count."""
        committed: Mask = (self.transactions.type == OK)[self.owner]
        return committed

    @cached_property
    def ends(self) -> tuple[Numbers, Numbers]:
        """The first and the last version that each access surely has to do with: a crashed one only with its write."""
        read = np.where(self.committed, self.read, np.int32(NOTHING))
        write = np.where((self.transactions.type != FAIL)[self.owner], self.write, np.int32(NOTHING))
        return np.where(read >= 0, read, write), np.where(write >= 0, write, read)

    @cached_property
    def ambiguous(self) -> Mask:
        """Which versions nobody can tell from another: two wrote them, or one wrote what was there from the start."""
        twice = self.other >= 0
        twice[: self.keys] |= self.wrote[: self.keys] >= 0
        return twice

    @cached_property
    def readers(self) -> tuple[Ints, Numbers]:
        """The accesses that read each version from outside, in committed transactions: bounds, and rows of accesses."""
        start, rows = group(self.versions, np.where(self.committed, self.read, np.int32(NOTHING)))
        return start, rows

    @cached_property
    def sole(self) -> Numbers:
        """The transaction that installed each version, where there is one that is known to have happened."""
        transaction = np.full(self.versions, NOTHING, np.int32)
        wrote = np.flatnonzero((self.write >= 0) & self.happened[self.owner])
        transaction[self.write[wrote]] = self.owner[wrote]
        transaction[self.ambiguous] = NOTHING
        return transaction

    def title(self, micro: int) -> str:
        """What the transaction of a micro-operation is called."""
        return self.transactions.title(int(self.transactions.owner[micro]))

    def value(self, version: int) -> str:
        """The value of a version, for people."""
        return show(self.transactions.value_name(int(self.value_of[version])))

    def key_name(self, key: int) -> str:
        """A key, for people."""
        return show(self.transactions.keys[key])


def odd(transactions: Transactions) -> str:
    """Why these are no transactions on registers; an empty text if they are."""
    for wrong, what in (
        (transactions.f == APPEND, "{0} is appended, not written"),
        (transactions.listed & (transactions.f == READ), "a read finds a list"),
    ):
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            said = what.format(show(transactions.value_name(int(transactions.value[at]))) if "{" in what else "")
            return f"{said}, in {transactions.title(int(transactions.owner[at]))}"
    return ""


def registers(transactions: Transactions) -> Registers:
    """The versions and accesses of transactions that only write and read."""
    keys = len(transactions.keys)
    version, key_of, value_of = number_versions(transactions.key, transactions.value, keys)
    owner, key, read, write, wrote_at, wrong, expected = external(
        transactions.start, transactions.f, transactions.key, version, keys
    )
    wrote, aborted, other = writers(transactions.f, version, transactions.owner, transactions.type == FAIL, len(key_of))
    committed = transactions.type == OK
    happened = committed.copy()
    if (transactions.type == INFO).any():
        seen = version[(transactions.f == READ) & committed[transactions.owner] & (version >= 0)]
        source = wrote[seen[other[seen] < 0]]
        happened[transactions.owner[source[source >= 0]]] = True
    return Registers(
        transactions,
        version,
        key_of,
        value_of,
        wrote,
        aborted,
        other,
        owner,
        key,
        read,
        write,
        wrote_at,
        wrong,
        expected,
        happened,
    )
