"""What has to come before what at a weak level of isolation: sessions, reads, and the commit order that these force."""

from __future__ import annotations

import math
import time
from typing import Any, Final, Literal

import numpy as np

from harness.checkers.transactions import commit_order
from harness.checkers.transactions.components import grouped
from harness.checkers.transactions.reads import Ints32, Reads
from harness.checkers.transactions.sessions import processes, session_order
from harness.history import INFO

Level = Literal["read-committed", "read-atomic", "causal"]

_SESSIONS: Final = 32
"""How many sessions the clocks of one pass have: what a million transactions need is 128 MB."""
_CHAINS: Final = 64
"""How many chains they may have instead: twice that."""


class Forced:
    """Session order, reads, and the commit order that a level forces.

    ``session``, ``previous`` (in the session, or -1) and ``position`` (there, from 0 on) are those of each transaction.
    ``edges`` are rows (t2, t1, row of the read that forces t2 before t1), ``order`` all transactions in an order of
    sessions and reads; it is shorter where these have a cycle (``circular``), and then causal consistency has no edges.
    """

    def __init__(self, reads: Reads, level: Level, *, sessions: bool, deadline: float = math.inf) -> None:
        t = reads.transactions
        self.t, self.reads, self.level, self.deadline = t, reads, level, deadline
        self.unfinished = False
        """Whether edges may be missing, since the time was over."""
        n = len(t)
        self.process = processes(t) if sessions else np.arange(n, dtype=np.int32)
        self.processes = int(self.process.max(initial=-1)) + 1
        self.crashed = t.type == INFO
        self.session, self.previous, self.position, self.sessions = session_order(
            reads.happened, self.crashed, self.process, self.processes
        )
        self.order: Ints32 = commit_order.topological(
            reads.happened, self.previous, reads.read_start, reads.read_source
        )
        self.circular = len(self.order) < int(reads.happened.sum())
        """Whether session order and reads alone have a cycle: then no commit order can be inferred."""
        self.edges: Ints32 = np.zeros((0, 3), np.int32)
        if not (self.circular and level == "causal"):
            self.edges = self._forced()

    def _forced(self) -> Ints32:
        r, keys = self.reads, len(self.t.keys)
        forced: Ints32
        if self.level == "read-committed":
            forced = commit_order.read_committed(
                keys, r.read_start, r.read_key, r.read_source, r.write_start, r.write_key
            )
        elif self.level == "read-atomic":
            forced = commit_order.read_atomic(
                keys,
                r.happened,
                self.crashed,
                self.process,
                self.processes,
                r.read_start,
                r.read_key,
                r.read_source,
                r.write_start,
                r.write_key,
            )
        else:
            forced = self._causal()
        return forced

    def _causal(self) -> Ints32:
        """By all sessions at once, by chains of them where they are many, or else by some sessions after others."""
        r = self.reads
        if self.sessions > _SESSIONS:
            clock, chain, place, used = commit_order.chains(
                self.order, self.previous, r.read_start, r.read_source, _CHAINS
            )
            if used >= 0:
                return self._seen(clock, 0, self._pairs(chain, place, used))
            del clock
        pairs = self._pairs(self.session, self.position, self.sessions)
        parts = []
        for base in range(0, self.sessions, _SESSIONS):
            if time.monotonic() > self.deadline:
                self.unfinished = True
                break
            width = min(_SESSIONS, self.sessions - base)
            clock = commit_order.clocks(
                self.order, self.previous, self.session, self.position, r.read_start, r.read_source, base, width
            )
            parts.append(self._seen(clock, base, pairs))
        return np.concatenate(parts) if parts else np.zeros((0, 3), np.int32)

    def _pairs(self, session: Ints32, position: Ints32, sessions: int) -> Any:
        r = self.reads
        placed = self.order[session[self.order] >= 0]
        by_session = placed[grouped(sessions, session[placed])[1]]
        return commit_order.pairs_of(len(self.t.keys), by_session, session, position, r.write_start, r.write_key)

    def _seen(self, clock: Ints32, base: int, pairs: Any) -> Ints32:
        r = self.reads
        edges: Ints32 = commit_order.causal(self.order, clock, base, r.read_start, r.read_key, r.read_source, *pairs)
        return edges

    def acyclic(self, forced: Ints32) -> bool:
        """Whether there is no cycle of sessions, reads and some of the edges."""
        if self.circular:
            return False
        if not len(forced):
            return True
        place = np.empty(len(self.t), np.int32)
        place[self.order] = np.arange(len(self.order), dtype=np.int32)
        if (place[forced[:, 0]] < place[forced[:, 1]]).all():
            return True
        n, r = len(self.t), self.reads
        reader = np.repeat(np.arange(n, dtype=np.int32), np.diff(r.read_start))
        target = np.concatenate([reader, forced[:, 1]])
        start, order = grouped(n, target)
        source = np.concatenate([r.read_source, forced[:, 0]])[order]
        return len(commit_order.topological(r.happened, self.previous, start, source)) == len(self.order)
