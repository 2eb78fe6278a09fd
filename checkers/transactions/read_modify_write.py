"""Dependencies of transactions that read each key before they write it, which orders all versions without lists.

What a transaction writes to a key replaces what it read of it, so that the versions of a key form one chain from the
initial state on, in linear time (mini-transactions: Wei et al., "Boosting End-to-End Database Isolation Checking via
Mini-Transactions", 2025). Where two transactions replaced the same version the chain forks, and an update is lost.
Writes without a read before them stay unordered, and all the others are as exact as before.
"""

from __future__ import annotations

import numpy as np

from harness.checkers.transactions.columns import Transactions
from harness.checkers.transactions.graph import Dependencies
from harness.checkers.transactions.registers import registers
from harness.checkers.transactions.rw_register import infer as infer_registers
from harness.checkers.transactions.version_order import WFR


def infer(transactions: Transactions) -> Dependencies:
    """What depends on what, and the anomalies that are no cycles: registers of which a write follows what was read."""
    return infer_registers(transactions, (WFR,))


def share(transactions: Transactions) -> float:
    """Of all writes of a key by transactions that committed, the part that follows a read of it: 1.0 orders all."""
    seen = registers(transactions)
    writes = seen.committed & (seen.write >= 0)
    total = int(np.count_nonzero(writes))
    return int(np.count_nonzero(writes & (seen.read >= 0))) / total if total else 1.0
