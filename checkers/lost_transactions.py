"""Transactions on lists that were acknowledged, and of which nothing is left: what final reads tell of every append.

Models of isolation without real time allow that a read is behind, however late it is. That what was acknowledged is
there once all faults are over is another promise, which is judged here. Registers do not tell: there a value may be
gone since it was overwritten.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.checkers.transactions.columns import (
    APPEND,
    NEVER_CALLED,
    READ,
    UNKNOWN,
    Transactions,
)
from harness.checkers.witness import Clock, anomaly
from harness.columns import Ints
from harness.history import NEVER, OK, History
from harness.periods import Period, fault_periods, healed_at
from harness.verdict import Anomaly, Budget, Checker, Verdict
from harness.words import count, named, show

LOST: Final = "lost write"
_EXPLAINED: Final = 10
_LISTED: Final = 1000
"""How many lost transactions are in the evidence."""


class LostTransactions(Checker):
    """Finds acknowledged transactions whose appends no final read has."""

    def check(self, history: History, budget: Budget) -> Verdict:
        """The verdict; unknown where lists with acknowledged appends were not read in the end.

        Raises ``HistoryError`` for what is no transaction.
        """
        transactions = Transactions.of(history.operations_or_completions())
        left = Remains(transactions)
        lost = np.unique(transactions.owner[left.lost])
        evidence: dict[str, Any] = {
            "transactions_acknowledged": len(np.unique(transactions.owner[left.acknowledged])),
            "transactions_lost": len(lost),
        }
        if len(lost):
            told = [left.of(transaction) for transaction in lost[:_LISTED].tolist()]
            evidence["lost"] = told
            clock, periods = Clock(history), fault_periods(history)
            anomalies = [_anomaly(left, transaction, clock, periods) for transaction in lost[:_EXPLAINED].tolist()]
            reason = f"{count(len(lost), 'acknowledged transaction is', 'acknowledged transactions are')} lost"
            return Verdict("invalid", reason, anomalies, evidence, found=len(lost))
        unread = len(left.unread)
        if unread:
            were = "was" if unread == 1 else "were"
            reason = f"{count(unread, 'list')} with acknowledged appends {were} not read in the end"
            return Verdict("unknown", reason, evidence=evidence)
        return Verdict("valid", evidence=evidence)

    def blind(self, history: History) -> str:
        """It takes an acknowledged append to a list that was read in the end."""
        left = Remains(Transactions.of(history.operations_or_completions()))
        return "" if left.told.any() else "no list was read after the last append to it"


class Remains:
    """What final reads tell of the acknowledged appends. All arrays but ``unread`` are rows of micro-operations.

    Final reads began after every fault was healed, and after all transactions that append to the list had returned, but
    for those whose outcome is unknown.
    """

    def __init__(self, transactions: Transactions) -> None:
        self.transactions = t = transactions
        appends = np.flatnonzero(t.f == APPEND)
        self.acknowledged: Ints = appends[t.type[t.owner[appends]] == OK]
        over = np.full(len(t.keys), healed_at(t.operations.history), dtype=np.int64)
        returned = appends[t.ret[t.owner[appends]] != NEVER]
        np.maximum.at(over, t.key[returned], t.ret[t.owner[returned]])
        reads = np.flatnonzero((t.f == READ) & (t.value != UNKNOWN))
        calls = t.call[t.owner[reads]]
        final = (t.type[t.owner[reads]] == OK) & (calls != NEVER_CALLED) & (calls > over[t.key[reads]])
        self.final: Ints = reads[final]
        """The final reads."""
        self.unread: Ints = np.setdiff1d(t.key[self.acknowledged], t.key[self.final])
        """Lists with acknowledged appends and without a final read."""

    @property
    def told(self) -> NDArray[np.bool_]:
        """By acknowledged append, whether there is a final read of its list."""
        t = self.transactions
        told: NDArray[np.bool_] = np.isin(t.key[self.acknowledged], t.key[self.final])
        return told

    @cached_property
    def kept(self) -> NDArray[np.bool_]:
        """By acknowledged append, whether any final read of its list has the element."""
        t = self.transactions
        held: dict[int, set[int]] = {}
        for row in self.final[t.listed[self.final]].tolist():
            number = int(t.value[row])
            elements = t.element[t.list_start[number] : t.list_start[number + 1]].tolist()
            held.setdefault(int(t.key[row]), set()).update(elements)
        pairs = zip(t.key[self.acknowledged].tolist(), t.value[self.acknowledged].tolist(), strict=True)
        return np.array([value in held.get(key, ()) for key, value in pairs], dtype=bool)

    @cached_property
    def lost(self) -> Ints:
        """The acknowledged appends whose elements no final read has, where there is one."""
        return self.acknowledged[self.told & ~self.kept]

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


def _anomaly(left: Remains, transaction: int, clock: Clock, periods: list[Period]) -> Anomaly:
    t = left.transactions
    gone = left.lost_of(transaction)
    keys = np.unique(t.key[gone])
    finals = left.final[np.isin(t.key[left.final], keys)]
    row = int(t.rows[transaction])
    by = t.operations.server_name(row)
    what = " and ".join(f"{show(t.value_name(int(t.value[at])))} to {named(t.keys[t.key[at]])}" for at in gone)
    first = int(t.call[t.owner[finals]].min())
    reads = count(len(finals), "final read has", "final reads have")
    text = (
        f"{t.title(transaction)} (process {t.process[transaction]} at {named(t.operations.node_name(row))}) appended "
        f"{what}, and was acknowledged{f' by {named(by)}' if by is not None else ''} at "
        f"{clock.at(int(t.ret[transaction]))}. "
        f"{reads} nothing of it, the first from {clock.at(first)}, when all faults were over and everybody who appends "
        f"to {'this list' if len(keys) == 1 else 'these lists'} had returned: what was acknowledged is lost."
    )
    witnesses = [row, *t.rows[np.unique(t.owner[finals])][:2].tolist()]
    key = t.keys[int(keys[0])] if len(keys) == 1 else None
    return anomaly(t.operations, periods, LOST, text, witnesses, key=key, completed=True)
