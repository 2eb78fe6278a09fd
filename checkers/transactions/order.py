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

    ``behind`` is the transaction that leads to each auxiliary node; these are numbered from ``first`` on, which whoever
    asks for the order says.
    """

    source: Ints
    target: Ints
    behind: Ints


def process_order(transactions: Transactions, among: NDArray[np.bool_], first: int) -> Order:
    """Who was done before whom by one process, of those ``among``; a crashed one is the last of its process.

    Where it is not known that a process waited, it is no order.
    """
    happened = (transactions.type == OK) | (transactions.type == INFO)
    rows = np.flatnonzero(among & happened & transactions.in_session)
    rows = rows[np.argsort(transactions.process[rows], kind="stable")]
    process, done = transactions.process[rows], transactions.type[rows] == OK
    committed = np.flatnonzero(done)
    node = first + np.cumsum(done) - 1
    # What stands before each row: the last one of its process that committed, of which it takes the place among these.
    newest = np.concatenate([[-1], np.maximum.accumulate(np.where(done, np.arange(len(rows)), -1))[:-1]])[: len(rows)]
    led = np.flatnonzero((newest >= 0) & (process[newest] == process))
    follows = led[done[led]]
    return Order(
        np.concatenate([rows[committed], node[newest[led]], node[newest[follows]]]),
        np.concatenate([node[committed], rows[led], node[follows]]),
        rows[committed],
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
        done,
    )
