"""Dependencies between transactions: edges as columns, and what an inference gives.

The kinds are those of Adya ("Weak Consistency: A Generalized Theory and Optimistic Implementations for Distributed
Transactions", 1999): write-write, write-read and read-write, by item or by predicate, and two orders of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.checkers.transactions.columns import Transactions
from harness.columns import Ints


class Kind(IntEnum):
    """Why one transaction comes before another; those with a P are by predicate."""

    WW = 0
    WR = 1
    RW = 2
    WWP = 3
    WRP = 4
    RWP = 5
    PROCESS = 6
    REALTIME = 7

    @property
    def label(self) -> str:
        """As it is written: ww, rwp, process."""
        return self.name.lower()


@dataclass(frozen=True)
class Edges:
    """Edges between transactions, a row each; no edge leads from a transaction to itself.

    ``source`` and ``target`` are rows of ``Transactions``. ``key`` is a code of a key, -1 where there is none.
    ``before`` is what ``source`` wrote or read of it and ``after`` what ``target`` did: codes of values, ``NIL`` for
    the initial state.
    """

    source: NDArray[np.int32]
    target: NDArray[np.int32]
    kind: NDArray[np.int8]
    key: NDArray[np.int32]
    before: Ints
    after: Ints

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def of(cls, kind: Kind, source: Any, target: Any, key: Any = -1, before: Any = -1, after: Any = -1) -> Edges:
        """Edges of one kind; whatever is one number is so for all of them. Edges to oneself are left out."""
        columns = np.broadcast_arrays(*(np.asarray(c, np.int64) for c in (source, target, key, before, after)))
        other = columns[0] != columns[1]
        source, target, key, before, after = (np.atleast_1d(column[other]) for column in columns)
        narrow = np.int32
        return cls(
            source.astype(narrow),
            target.astype(narrow),
            np.full(len(source), kind, np.int8),
            key.astype(narrow),
            before,
            after,
        )

    @classmethod
    def join(cls, parts: Sequence[Edges]) -> Edges:
        """All edges of these."""
        if not parts:
            return cls.of(Kind.WW, [], [])
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))

    def take(self, rows: Any) -> Edges:
        """Those of some rows: indices, or a mask."""
        return Edges(*(getattr(self, column.name)[rows] for column in fields(self)))


class Found(NamedTuple):
    """An anomaly that is no cycle: its kind, the transactions that show it, what was seen, and the code of its key."""

    kind: str
    transactions: tuple[int, ...]
    text: str
    key: int = -1


EXPLAINED: Final = 10
"""How many anomalies of one kind are explained."""


@dataclass
class Dependencies:
    """What was inferred from the answers that transactions got."""

    transactions: Transactions
    edges: Edges
    found: list[Found] = field(default_factory=list)
    """Anomalies that are no cycles, at most ``EXPLAINED`` of each kind."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many there are of each kind."""
    unknown: str = ""
    """Why nothing can be decided, where that is so."""
    unordered: tuple[Ints, Ints] | None = None
    """The keys and transactions of writes that come after all that was read of a key, in an order that nobody knows."""
    partial: str = ""
    """Why there are dependencies that were not looked at, so that finding no cycle means little."""

    def add(self, kind: str, found: Sequence[Found], number: int | None = None) -> None:
        """Note anomalies of one kind, of which there are ``number`` in all."""
        total = len(found) if number is None else number
        if total:
            self.counts[kind] = self.counts.get(kind, 0) + total
            have = sum(one.kind == kind for one in self.found)
            self.found += found[: max(EXPLAINED - have, 0)]
