"""Orders of time between transactions, that of each process and that of real time, with linearly many edges.

No edge is needed for each pair. In real time every completion is an auxiliary node, these form a chain, and each
transaction leads to the node of its completion, and is led to by the newest one before its invocation. So it is with
the transactions of one process.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.checkers.transactions.columns import NEVER_CALLED, Transactions
from harness.columns import Ints
from harness.history import INFO, OK


@dataclass(frozen=True)
class Order:
    """Edges of an order of time. A transaction leads to an auxiliary node, and auxiliary nodes to each other and back.

    Auxiliary nodes are numbered from ``first`` on; ``behind`` is the transaction that leads to each of them.
    """

    source: Ints
    target: Ints
    first: int
    behind: Ints


def process_order(transactions: Transactions, among: NDArray[np.bool_], first: int) -> Order:
    """Who was done before whom by one process, of those ``among``; a crashed one is the last of its process.

    Where the history does not tell of an invocation, a process is no order: nobody knows that it waited.
    """
    happened = (transactions.type == OK) | (transactions.type == INFO)
    rows = np.flatnonzero(among & happened & (transactions.call != NEVER_CALLED))
    rows = rows[np.argsort(transactions.process[rows], kind="stable")]
    same = np.zeros(len(rows), dtype=bool)
    same[:-1] = transactions.process[rows[:-1]] == transactions.process[rows[1:]]
    same &= transactions.type[rows] == OK
    at = np.flatnonzero(same)
    nodes = first + np.arange(len(at))
    follows = np.flatnonzero(np.diff(at) == 1)
    return Order(
        np.concatenate([rows[at], nodes, nodes[follows]]),
        np.concatenate([nodes, rows[at + 1], nodes[follows + 1]]),
        first,
        rows[at],
    )


def real_time(transactions: Transactions, among: NDArray[np.bool_], first: int) -> Order:
    """Who had completed before who was invoked, of those ``among``; nothing follows what crashed."""
    done = np.flatnonzero(among & (transactions.type == OK))
    done = done[np.argsort(transactions.ret[done], kind="stable")]
    nodes = np.arange(first, first + len(done))
    called = np.flatnonzero(among & (transactions.call != NEVER_CALLED))
    newest = np.searchsorted(transactions.ret[done], transactions.call[called], side="left") - 1
    some = newest >= 0
    return Order(
        np.concatenate([done, nodes[:-1], first + newest[some]]),
        np.concatenate([nodes, nodes[1:], called[some]]),
        first,
        done,
    )
