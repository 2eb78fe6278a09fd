"""Which shard holds a key: placements as pure functions, each a line of points that is cut into pieces.

A placement gives every key a point on a line, and cuts the line into pieces, each of which one shard owns. What is
moved between shards later is a range of that line, whatever the placement: of slots, of a ring, of keys in their order.

- ``hash``: the slot of a key is its hash modulo 64, its shard the slot modulo the number of shards. Another number of
  shards moves nearly everything.
- ``rendezvous``: each slot is the shard's that has the highest hash together with it (Thaler & Ravishankar, 1996).
- ``consistent-hash``: each shard has virtual nodes on a ring of hashes, and owns what lies from each of them to the
  next one (Karger et al., 1997). One shard more takes about its share from the others, here as with ``rendezvous``.
- ``range``: keys in the order of their text, cut in advance at digits. Keys that are neighbours stay together.
- ``hierarchical``: level by level along a key's prefixes, ``eu/paris/7``: what shares a prefix shares a part of the
  line, and the first level decides between shards alone as long as nothing is moved.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

SLOTS: Final = 64
VIRTUAL_NODES: Final = 64
"""How often each shard stands on the ring."""
BOUNDARIES: Final = (*"123456789", *(f"k{digit}" for digit in range(10)))
"""Where ranges are cut in advance: keys of transactions are numbers, those of registers begin with k."""
LEVEL: Final = "/"
"""What stands between two levels of a key."""
END: Final = "\U0010ffff"
"""Where the line ends. As the end of a range it stands for none: a key may be greater."""


class Piece(NamedTuple):
    """From ``start`` to the start of the next piece, which is not in it any more, ``shard`` owns the line."""

    start: str
    shard: int


class Placement(NamedTuple):
    """A line: where each key is on it, and its pieces for the given shards, the first of which starts at ''."""

    point: Callable[[str], str]
    pieces: Callable[[Sequence[int]], tuple[Piece, ...]]

    def shard(self, key: str, shards: Sequence[int]) -> int:
        """Which of the shards holds a key."""
        return owner(self.pieces(shards), self.point(key))


def owner(pieces: Sequence[Piece], point: str) -> int:
    """Which shard owns a point."""
    return pieces[bisect_right(pieces, point, key=lambda piece: piece.start) - 1].shard


def within(point: str, low: str, high: str) -> bool:
    """Whether a point is in the range from ``low`` to ``high``, which is not in it."""
    return low <= point and (point < high or high == END)


def moved(pieces: Sequence[Piece], low: str, high: str, shard: int) -> tuple[Piece, ...]:
    """The pieces after ``shard`` has come to own all from ``low`` to ``high``, which is not in it."""
    after = [piece for piece in pieces if not low <= piece.start < high]
    after.append(Piece(low, shard))
    if high < END and all(piece.start != high for piece in after):
        after.append(Piece(high, owner(pieces, high)))
    return joined(sorted(after))


def joined(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The same pieces, with neighbours of one shard made into one."""
    kept: list[Piece] = []
    for piece in pieces:
        if not kept or kept[-1].shard != piece.shard:
            kept.append(piece)
    return tuple(kept)


def _hash(*words: object) -> int:
    """A number of 32 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b("\0".join(map(str, words)).encode(), digest_size=4).digest(), "big")


def _slot(number: int) -> str:
    return f"{number:02x}"


def _in_slots(shard: Callable[[int, Sequence[int]], int]) -> Placement:
    """A placement by a key's slot, and the function that says whose each slot is."""

    def pieces(shards: Sequence[int]) -> tuple[Piece, ...]:
        owned = [Piece(_slot(slot) if slot else "", shard(slot, shards)) for slot in range(SLOTS)]
        return joined(owned)

    return Placement(lambda key: _slot(_hash(key) % SLOTS), pieces)


def _ring(shards: Sequence[int]) -> tuple[Piece, ...]:
    tokens = sorted((_hash(shard, number), shard) for shard in shards for number in range(VIRTUAL_NODES))
    # What lies before the first token belongs to the last one: a ring has no beginning.
    return joined([Piece("", tokens[-1][1]), *(Piece(f"{token:08x}", shard) for token, shard in tokens)])


def _ranges(shards: Sequence[int]) -> tuple[Piece, ...]:
    starts = ["", *sorted(BOUNDARIES)]
    return joined(Piece(start, shards[number % len(shards)]) for number, start in enumerate(starts))


def _levels(key: str) -> str:
    """Two digits of each level's hash: the keys with a prefix are one range."""
    return LEVEL.join(f"{_hash(level) % 256:02x}" for level in key.split(LEVEL))


def _first_levels(shards: Sequence[int]) -> tuple[Piece, ...]:
    """The first level's values, in their order, in as many equal parts as there are shards."""
    starts = [-(-256 * number // len(shards)) for number in range(len(shards))]
    return tuple(Piece(_slot(start) if start else "", shard) for start, shard in zip(starts, shards, strict=True))


PLACEMENTS: Final[Mapping[str, Placement]] = {
    "hash": _in_slots(lambda slot, shards: shards[slot % len(shards)]),
    "range": Placement(lambda key: key, _ranges),
    "consistent-hash": Placement(lambda key: f"{_hash(key):08x}", _ring),
    "rendezvous": _in_slots(lambda slot, shards: max(shards, key=lambda shard: (_hash(shard, slot), shard))),
    "hierarchical": Placement(_levels, _first_levels),
}
"""All placements by name."""
