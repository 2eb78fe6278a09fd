"""Transactions on lists that were acknowledged, and of which nothing is left: what final reads tell of every append.

Models of isolation without real time allow that a read is behind, however late it is. That what was acknowledged is
there once all faults are over is another promise, which is judged here. Registers do not tell: there a value may be
gone since it was overwritten.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from harness.checkers.remains import Remains
from harness.checkers.transactions.columns import Transactions
from harness.checkers.witness import Clock, anomaly
from harness.history import History
from harness.periods import Period, fault_periods
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
        if reason := _untold(left):
            return Verdict("unknown", reason, evidence=evidence)
        return Verdict("valid", evidence=evidence)

    def blind(self, history: History) -> str:
        """It takes an acknowledged append to a list that was read in the end."""
        left = Remains(Transactions.of(history.operations_or_completions()))
        return "" if left.told.any() else "no list was read after the last append to it"


def _untold(left: Remains) -> str:
    """Why nothing is known of some lists in the end; empty where all is known."""
    unread, unclear = len(left.unread), len(left.unclear)
    if unread:
        were = "was" if unread == 1 else "were"
        return f"{count(unread, 'list')} with acknowledged appends {were} not read in the end"
    if unclear:
        were = "was" if unclear == 1 else "were"
        return f"{count(unclear, 'list')} with acknowledged appends {were} changed or read as something else, too"
    return ""


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
