"""What final reads tell of transactions: which reads are final, and which acknowledged appends they have."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.checkers.pairs import Pairs, distinct
from harness.checkers.timeline import select
from harness.checkers.transactions.columns import (
    APPEND,
    NEVER_CALLED,
    NIL,
    READ,
    TRANSACTION,
    UNKNOWN,
    WRITE,
    Transactions,
)
from harness.columns import Ints, hashable
from harness.history import FAIL, NEVER, OK
from harness.periods import healed_at
from harness.writes import writing

Mask = NDArray[np.bool_]


class Remains:
    """What final reads tell of the acknowledged appends.

    Final reads began after every fault was healed, and after all transactions that change the key had returned, but for
    those whose outcome is unknown. Nothing is told of a list that anything else than appends may have changed, nor of
    one that was read as something else.
    """

    def __init__(self, transactions: Transactions) -> None:
        self.transactions = t = transactions
        may_be = t.type[t.owner] != FAIL
        self.acknowledged: Ints = np.flatnonzero((t.f == APPEND) & (t.type[t.owner] == OK))
        """The acknowledged appends, rows of micro-operations."""
        self.final: Ints = final_reads(t)
        """The final reads, rows of micro-operations."""
        self._appends: Ints = np.flatnonzero((t.f == APPEND) & may_be)
        unclear = changed_otherwise(t)
        unclear[t.key[(t.f == WRITE) & may_be]] = True
        unclear[t.key[self.final[~t.listed[self.final] & (t.value[self.final] != NIL)]]] = True
        # An element that is nothing is not to be found again.
        unclear[t.key[self._appends[t.value[self._appends] == NIL]]] = True
        self._clear: Mask = ~unclear

    @cached_property
    def unread(self) -> Ints:
        """Lists with acknowledged appends and without a final read, as codes of keys."""
        return np.setdiff1d(self.transactions.key[self.acknowledged], self.transactions.key[self.final])

    @cached_property
    def unclear(self) -> Ints:
        """Lists with acknowledged appends of which final reads tell nothing, as codes of keys."""
        key = self.transactions.key[self.acknowledged]
        return np.unique(key[~self._clear[key]])

    @cached_property
    def _reads(self) -> Ints:
        """By acknowledged append, how many final reads tell of its list."""
        t = self.transactions
        reads = np.bincount(t.key[self.final], minlength=len(t.keys))
        key = t.key[self.acknowledged]
        return np.where(self._clear[key], reads[key], 0)

    @cached_property
    def _holders(self) -> Ints:
        """By acknowledged append, how many final reads of its list have the element."""
        t, pairs = self.transactions, self._pairs
        reads = self.final[t.listed[self.final]]
        number = t.value[reads]
        start = t.list_start[number]
        lengths = t.list_start[number + 1] - start
        which = np.repeat(np.arange(len(reads)), lengths)
        place = np.repeat(start - (np.cumsum(lengths) - lengths), lengths) + np.arange(len(which))
        append = pairs.find(t.key[reads][which], t.element[place])
        # A list may have an element twice.
        found = distinct((which * len(self._appends) + append)[append >= 0])
        holders: Ints = np.bincount(found % max(len(self._appends), 1), minlength=len(self._appends))
        return holders[pairs.find(t.key[self.acknowledged], t.value[self.acknowledged])]

    @cached_property
    def _pairs(self) -> Pairs:
        t = self.transactions
        return Pairs(t.key[self._appends], t.value[self._appends])

    @cached_property
    def told(self) -> Mask:
        """By acknowledged append, whether there is a final read that tells of its list."""
        told: Mask = self._reads > 0
        return told

    @cached_property
    def held(self) -> tuple[Mask, Mask]:
        """By acknowledged append, whether any final read of its list has the element, and whether all have."""
        return self._holders > 0, (self._holders == self._reads) & self.told

    @cached_property
    def unique(self) -> Mask:
        """By acknowledged append, whether no other one that may have happened put the same element into its list."""
        t, appends, pairs = self.transactions, self._appends, self._pairs
        unique = np.ones(len(appends), dtype=bool)
        again = appends[pairs.again]
        unique[pairs.find(t.key[again], t.value[again])] = False
        return unique[pairs.find(t.key[self.acknowledged], t.value[self.acknowledged])]

    @cached_property
    def lost(self) -> Ints:
        """The acknowledged appends whose elements no final read has, where there is one: rows of micro-operations."""
        by_some, _ = self.held
        return self.acknowledged[self.told & ~by_some]

    def of(self, transaction: int) -> dict[str, Any]:
        """A lost transaction as data: the index of its event, who acknowledged it, and its appends that are lost."""
        t = self.transactions
        by = t.operations.server_name(int(t.rows[transaction]))
        gone = [[t.keys[t.key[row]], t.value_name(int(t.value[row]))] for row in self.lost_of(transaction)]
        return {"index": t.index(transaction), **({"by": by} if by is not None else {}), "appends": gone}

    def lost_of(self, transaction: int) -> list[int]:
        """Which appends of a transaction are lost."""
        gone = self.lost
        lost: list[int] = gone[self.transactions.owner[gone] == transaction].tolist()
        return lost


def final_reads(transactions: Transactions) -> Ints:
    """The answered reads, as rows of micro-operations, that began after every fault was healed and after all
    transactions that change their key, of known outcome, had returned. None where nothing is known of times.
    """
    t = transactions
    if t.operations.history.timeless:
        return np.zeros(0, dtype=np.int64)
    over = np.full(len(t.keys), healed_at(t.operations.history), dtype=np.int64)
    returned = np.flatnonzero((t.f != READ) & (t.ret[t.owner] != NEVER))
    np.maximum.at(over, t.key[returned], t.ret[t.owner[returned]])
    reads = np.flatnonzero((t.f == READ) & (t.value != UNKNOWN) & (t.type[t.owner] == OK))
    call = t.call[t.owner[reads]]
    final: Ints = reads[(call != NEVER_CALLED) & (call > over[t.key[reads]])]
    return final


def changed_otherwise(transactions: Transactions) -> Mask:
    """By key of transactions, whether anything that is no transaction may have changed it."""
    operations = transactions.operations
    others = writing(operations) & (operations.type != FAIL)
    others[select(operations, TRANSACTION)] = False
    names = {hashable(operations.history.keys[code]) for code in np.unique(operations.key[others]).tolist()}
    if not names:
        return np.zeros(len(transactions.keys), dtype=bool)
    return np.array([hashable(key) in names for key in transactions.keys], dtype=bool)
