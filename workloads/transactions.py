"""What workloads of transactions have in common: keys that are in use for a while, models, and final reads.

Every one of them invokes ``txn`` only, whose value is a list of micro-operations: ``["r", key, None]``,
``["w", key, value]`` and ``["append", key, value]``. A client answers with the same list, its reads filled in. Values
are whole numbers from 1 on, and no two of a key are the same, so that a read names the write that it saw.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from harness.errors import UsageError, option
from harness.generator import Generator, Stream, phases
from harness.operation import Event, Operation

Model = Literal[
    "strict-serializable",
    "strong-session-serializable",
    "serializable",
    "strong-snapshot-isolation",
    "strong-session-snapshot-isolation",
    "strong-read-committed",
    "strong-session-read-committed",
    "strong-read-uncommitted",
    "strong-session-read-uncommitted",
    "snapshot-isolation",
    "update-serializable",
    "forward-consistent-view",
    "consistent-view",
    "repeatable-read",
    "parallel-snapshot-isolation",
    "prefix",
    "causal",
    "causal-cerone",
    "update-atomic",
    "read-atomic",
    "cursor-stability",
    "monotonic-view",
    "monotonic-snapshot-read",
    "monotonic-atomic-view",
    "read-committed",
    "read-uncommitted",
]
"""What a store may promise of its transactions. Stores differ, and so do the levels that one of them offers: a history
is held against the one that is claimed."""
MODEL: Final = "the isolation that the store is held against"

FUNCTIONS: Final = frozenset({"txn"})
READS: Final[frozenset[str]] = frozenset()
"""By its name alone no transaction only reads."""

_ROUNDS: Final = 2
"""How often every key is read in the end, by whichever clients are free."""
_TRIES: Final = 20
"""How often keys are read again that nobody could read in the end."""
_AT_ONCE: Final = 8
"""How many keys one transaction reads in the end."""


class Places:
    """Places for keys, numbered from 0: each holds one key, until that was written ``lifetime`` times.

    Then the next key takes its place. A key costs more the longer it is in use: lists grow, and so does what is kept of
    former versions; and a fault has fresh ones to spoil. Keys are numbered from 1, and so are the values of each.
    """

    def __init__(self, count: int, lifetime: int) -> None:
        self._lifetime = lifetime
        self._keys = list(range(1, count + 1))
        self._written = [0] * count
        self.begun = count
        """How many keys there are so far: 1 to this."""

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, place: int) -> int:
        """The key at a place."""
        return self._keys[place]

    def make_room(self, place: int) -> None:
        """Let the key at a place be one that may be written once more."""
        if self._written[place] == self._lifetime:
            self.begun += 1
            self._keys[place], self._written[place] = self.begun, 0

    def write(self, place: int) -> tuple[int, int]:
        """The key at a place, and what it is to hold next."""
        self.make_room(place)
        self._written[place] += 1
        return self._keys[place], self._written[place]


def read_or_write(rng: random.Random, places: Places, write: str, lengths: tuple[int, int], share: float) -> Operation:
    """A transaction on keys drawn evenly, one of which may come up several times: reads, and writes by ``write``.

    It has from ``lengths[0]`` to ``lengths[1]`` micro-operations, of which ``share`` are reads on average.
    """
    steps: list[list[Any]] = []
    for _ in range(rng.randint(*lengths)):
        place = rng.randrange(len(places))
        steps.append(["r", places.key(place), None] if rng.random() < share else [write, *places.write(place)])
    return Operation("txn", None, steps)


def check_lengths(shortest: int, longest: int) -> None:
    """Raises ``UsageError`` where no transaction is as short as it may be long."""
    if shortest > longest:
        raise UsageError(f"{option('shortest')} is {shortest}, but {option('longest')} is {longest}")


def read_all(keys: Iterable[int]) -> Generator:
    """Read every key a few times, and then again those that nobody could read, several keys in each transaction."""
    unread = dict.fromkeys(keys)

    def learn(event: Event) -> None:
        if event.type == "ok" and event.f == "txn":
            for _, key, _ in event.value:
                unread.pop(key, None)

    def reads(rounds: int) -> Generator:
        left: list[Operation] | None = None

        def draw() -> Operation | None:
            nonlocal left
            if left is None:
                left = [_reading(some) for _ in range(rounds) for some in _some_at_once(list(unread))][::-1]
            return left.pop() if left else None

        return Stream(draw, learn)

    return phases(reads(_ROUNDS), *(reads(1) for _ in range(_TRIES)))


def _some_at_once(keys: Sequence[int]) -> list[Sequence[int]]:
    return [keys[at : at + _AT_ONCE] for at in range(0, len(keys), _AT_ONCE)]


def _reading(keys: Iterable[int]) -> Operation:
    return Operation("txn", None, [["r", key, None] for key in keys])
