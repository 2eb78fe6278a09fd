"""Sessions: what each process did, one transaction after another, as far as anybody knows that it waited for each."""

from __future__ import annotations

import numba
import numpy as np

from harness.checkers.transactions.columns import Transactions
from harness.checkers.transactions.reads import Ints32

njit = numba.njit(cache=True, nogil=True)


def processes(transactions: Transactions) -> Ints32:
    """The process of each transaction, numbered from 0 on.

    A transaction of which nobody knows that its process waited for the one before has a process of its own.
    """
    t = transactions
    process = t.process
    alone = ~t.in_session
    if alone.any():
        process = np.unique(process, return_inverse=True)[1]
        process[alone] = len(t) + np.flatnonzero(alone)
    numbers: Ints32 = np.unique(process, return_inverse=True)[1].astype(np.int32)
    return numbers


@njit
def session_order(happened, crashed, process, processes):  # type: ignore[no-untyped-def]
    """The session of each transaction, the one before it in the order of its process, its place in its session, from
    0 on, and how many sessions there are.

    A session is what a process did, one after another. A crashed transaction comes after what its process had done, but
    before nothing: it may take effect at any later time. So it ends the session, or is one of its own where the
    process went on.
    """
    n = len(happened)
    previous = np.full(n, -1, dtype=np.int32)
    position = np.full(n, -1, dtype=np.int32)
    session = process.copy()
    sessions = processes
    last = np.full(processes, -1, dtype=np.int64)
    end = np.full(processes, -1, dtype=np.int64)
    for i in range(n):
        if happened[i]:
            end[process[i]] = i
    for i in range(n):
        if not happened[i]:
            continue
        before = last[process[i]]
        previous[i] = before
        if crashed[i] and end[process[i]] != i:
            session[i] = sessions
            sessions += 1
            position[i] = 0
            continue
        position[i] = position[before] + 1 if before >= 0 else 0
        last[process[i]] = i
    return session, previous, position, sessions
