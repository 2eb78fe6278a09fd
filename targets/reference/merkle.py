"""Merkle trees over a node's keys: two nodes find what differs by comparing digests from the root down.

Merkle, "A Digital Signature Based on a Conventional Encryption Function" (1987); for replicas as in DeCandia et al.,
"Dynamo: Amazon's Highly Available Key-value Store" (2007).
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Final

FANOUT: Final = 4
DEPTH: Final = 3
LEAVES: Final = FANOUT**DEPTH
ROOT: Final = (0, 0)

Place = tuple[int, int]
"""A node of the tree: its level, the root's being 0, and its number on the level."""


def leaf_of(key: str) -> int:
    """The leaf that a key belongs to."""
    return zlib.crc32(key.encode()) % LEAVES


class Tree:
    """Digests of keys' contents; ``digests`` maps each key to one."""

    def __init__(self, digests: Mapping[str, int]) -> None:
        leaves: list[list[str]] = [[] for _ in range(LEAVES)]
        for key in sorted(digests):
            leaves[leaf_of(key)].append(f"{key}={digests[key]}")
        levels = [[_digest(leaf) for leaf in leaves]]
        while len(levels[0]) > 1:
            below = levels[0]
            levels.insert(0, [_digest(map(str, below[at : at + FANOUT])) for at in range(0, len(below), FANOUT)])
        self._levels = levels

    def __getitem__(self, place: Place) -> int:
        level, number = place
        return self._levels[level][number]

    def differing(self, theirs: Iterable[tuple[Place, int]]) -> list[Place]:
        """Which of the other's nodes of the tree are not the same here."""
        return [place for place, digest in theirs if self[place] != digest]

    def children(self, places: Collection[Place]) -> list[tuple[Place, int]]:
        """The nodes below some, with their digests; empty when these are leaves."""
        below = [(level + 1, number * FANOUT + at) for level, number in places if level < DEPTH for at in range(FANOUT)]
        return [(place, self[place]) for place in below]


def _digest(parts: Iterable[str]) -> int:
    return zlib.crc32("\n".join(parts).encode())
