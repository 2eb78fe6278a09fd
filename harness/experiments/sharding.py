"""The experiment ``sharding``: what each placement of keys moves as shards come and go, and how it spreads load.

Nothing is run: placements are pure functions, and so is all of this. Keys are drawn from the seed, and loads are exact
shares of requests, not samples of them.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import ClassVar, Final, NamedTuple, Protocol, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.experiments.measure import Share
from harness.experiments.modes import STORE
from harness.plugins import load

COUNT: Final = 10_000
"""How many keys there are of each kind."""
SIZES: Final = (3, 4, 5, 8, 9)
"""The numbers of shards whose load is measured."""
SKEW: Final = 0.99
"""The exponent of Zipf's law: the k-th key in popularity gets requests in proportion to 1 / k ** SKEW."""
ORDERS: Final = 20
"""How many orders of popularity are drawn, over which the load is a mean: one alone is luck."""
HOT: Final = 0.9
"""The share of requests that the hot range gets."""
_SLICES: Final = 20
"""Into how many ranges ids are cut in their order, each of which is the hot one by turns."""
_CITIES: Final[Mapping[str, str]] = {
    "eu": "amsterdam berlin lisbon madrid oslo paris rome vienna",
    "us": "austin boston chicago denver miami seattle",
    "asia": "delhi jakarta osaka seoul tokyo",
    "sa": "bogota lima quito",
    "africa": "cairo lagos",
    "au": "perth",
}
"""Regions are not of one size."""

Shards = tuple[int, ...]
Owners = NDArray[np.int64]
"""The shard of each key, by the key's place in the list of keys."""


class Placement(Protocol):
    """Where each key is on a line, and the pieces of that line: where each begins, and the shard that owns it."""

    @property
    def point(self) -> Callable[[str], str]: ...

    @property
    def pieces(self) -> Callable[[Sequence[int]], Sequence[tuple[str, int]]]: ...


class Places(Protocol):
    """A store that has placements, by name."""

    placements: ClassVar[Mapping[str, Placement]]


class Step(NamedTuple):
    """Shards before and after one has come or gone."""

    before: Shards
    after: Shards

    @property
    def title(self) -> str:
        """By the numbers of shards."""
        return f"{len(self.before)} to {len(self.after)}"


STEPS: Final = (
    Step((1, 2, 3), (1, 2, 3, 4)),
    Step((1, 2, 3, 4), (1, 2, 3, 4, 5)),
    # Not the last that came: that would be the way there backwards, which moves the same keys.
    Step((1, 2, 3, 4, 5), (1, 3, 4, 5)),
    Step((1, 3, 4, 5), (3, 4, 5)),
    Step((1, 2, 3, 4, 5, 6, 7, 8), (1, 2, 3, 4, 5, 6, 7, 8, 9)),
)

LESSONS: Final[Mapping[str, str]] = {
    "hash, ids": (
        "Modulo the number of shards: even, and what is hot in the order of keys is spread over all shards. But "
        "another number of shards moves nearly everything, several times what had to move."
    ),
    "hash, prefixes": (
        "The same, since a hash does not see prefixes: what happens in one city is spread over all shards, and "
        "whoever reads a city asks all of them."
    ),
    "range, ids": (
        "Ranges that are cut where keys are, and dealt out by turns: about even, and how much moves when they are "
        "dealt out anew is a matter of how the turns fall. A hot range is one shard's, however many there are."
    ),
    "range, prefixes": (
        "Ranges that were cut for other keys: all of these lie in two of them. One or two shards hold everything, and "
        "more shards help nobody."
    ),
    "consistent-hash, ids": (
        "A shard that comes takes keys, one that goes leaves them, and no other key moves: the least. The price is "
        "some balance, since the arcs between virtual nodes are not equally long."
    ),
    "consistent-hash, prefixes": "The same, since a hash does not see prefixes.",
    "rendezvous, ids": (
        "The least as well, and without a ring. What is dealt out here are 64 slots, each by a lot of its own: the "
        "more shards, the fewer slots has each, and the less even they are."
    ),
    "rendezvous, prefixes": "The same, since a hash does not see prefixes.",
    "hierarchical, ids": (
        "A key of one level is a hash, on a line that is cut into equal parts: even. But with one part more or less "
        "the cuts shift, so that up to half of all keys move, however many shards there are."
    ),
    "hierarchical, prefixes": (
        "Regions stay together, so that reading one asks one shard. They are few and not of one size, and so are "
        "shards: some hold much, and some nothing once there are more than regions. What moves are whole regions, and "
        "a hot city is one shard's."
    ),
}
"""What each row is to teach, by its title."""


class Keys(NamedTuple):
    """Keys of one kind, and the ranges of which each is hot by turns, as indices of keys."""

    name: str
    keys: Sequence[str]
    ranges: Sequence[NDArray[np.int64]]


class Move(msgspec.Struct, frozen=True):
    """What a step moves: ``least`` is the fewest keys that lead to the same counts, ``even`` to equal counts."""

    before: Shards
    after: Shards
    moved: Share
    least: Share
    even: Share


class Load(msgspec.Struct, frozen=True):
    """How so many shards are loaded.

    ``balance`` is the keys of the largest over the mean; ``skewed`` and ``hot`` are the shares of requests that the
    busiest gets, from 0 to 1, where the popularity of keys is Zipf's, and where one range is hot.
    """

    shards: int
    largest: int
    balance: float
    skewed: float
    hot: float


class Spread(msgspec.Struct, frozen=True):
    """What came of one placement with one kind of keys."""

    placement: str
    keys: str
    lesson: str
    moves: Sequence[Move]
    loads: Sequence[Load]

    @property
    def title(self) -> str:
        """By which the row goes."""
        return f"{self.placement}, {self.keys}"

    def load(self, shards: int) -> Load:
        """The load of so many shards."""
        return next(load for load in self.loads if load.shards == shards)


def spreads(seed: int, count: int = COUNT) -> Iterator[Spread]:
    """Every placement of the bundled store with either kind of keys, in the order of the table."""
    placements = cast(type[Places], load("targets", STORE)).placements
    kinds = (ids(seed, count), prefixed(seed, count))
    popular = popularities(seed, count)
    for name, placement in placements.items():
        for kind in kinds:
            yield spread(name, placement, kind, popular)


def ids(seed: int, count: int = COUNT) -> Keys:
    """Numbers of nine digits; a hot range is one of twenty, of equally many keys in the order of their text."""
    keys = sorted(map(str, _drawing(seed, "ids").sample(range(10**8, 10**9), count)))
    return Keys("ids", keys, np.array_split(np.arange(count), min(_SLICES, count)))


def prefixed(seed: int, count: int = COUNT) -> Keys:
    """``region/city/number``, with about equally many keys in each city; a hot range is a city."""
    cities = [f"{region}/{city}" for region, names in _CITIES.items() for city in names.split()]
    rng = _drawing(seed, "prefixes")
    drawn = [rng.choice(cities) for _ in range(count)]
    members: dict[str, list[int]] = defaultdict(list)
    for number, city in enumerate(drawn):
        members[city].append(number)
    keys = [f"{city}/{number}" for number, city in enumerate(drawn)]
    return Keys("prefixes", keys, [np.array(members[city]) for city in sorted(members)])


def popularities(seed: int, count: int) -> Sequence[NDArray[np.float64]]:
    """The share of requests that each key gets by Zipf's law, for some orders of popularity."""
    weights = 1 / np.arange(1, count + 1, dtype=np.float64) ** SKEW
    weights /= weights.sum()
    rng, order, drawn = _drawing(seed, "popularity"), list(range(count)), []
    for _ in range(ORDERS):
        rng.shuffle(order)
        drawn.append(weights[order])
    return drawn


def spread(name: str, placement: Placement, kind: Keys, popular: Sequence[NDArray[np.float64]]) -> Spread:
    """Measure one placement."""
    points = [placement.point(key) for key in kind.keys]

    @cache
    def held(shards: Shards) -> Owners:
        return owners(placement.pieces(shards), points)

    moves = [move(held(step.before), held(step.after), step) for step in STEPS]
    loads = [loaded(held(tuple(range(1, size + 1))), size, kind, popular) for size in SIZES]
    return Spread(name, kind.name, LESSONS[f"{name}, {kind.name}"], moves, loads)


def owners(pieces: Sequence[tuple[str, int]], points: Sequence[str]) -> Owners:
    """Which shard owns each of these points of the line."""
    starts = [start for start, _ in pieces]
    return np.array([pieces[bisect_right(starts, point) - 1][1] for point in points], dtype=np.int64)


def move(before: Owners, after: Owners, step: Step) -> Move:
    """What comes of keys that were held by ``before`` and are held by ``after``."""
    count, shards = len(before), sorted({*step.before, *step.after})
    was, now = ([int((held == shard).sum()) for shard in shards] for held in (before, after))
    least = count - sum(map(min, was, now))
    # Some of equal counts are greater by one: best those of the shards that have the most.
    each, over = divmod(count, len(step.after))
    there = sorted((held for held, shard in zip(was, shards, strict=True) if shard in step.after), reverse=True)
    even = count - sum(min(held, each + (place < over)) for place, held in enumerate(there))
    moved = int((before != after).sum())
    return Move(step.before, step.after, Share(moved, count), Share(least, count), Share(even, count))


def loaded(held: Owners, size: int, kind: Keys, popular: Sequence[NDArray[np.float64]]) -> Load:
    """How the shards 1 to ``size`` are loaded that hold the keys so."""
    counts = np.bincount(held, minlength=size + 1)
    rest = (1 - HOT) * counts / len(held)
    hot = [(HOT * np.bincount(held[one], minlength=size + 1) / len(one) + rest).max() for one in kind.ranges]
    skewed = [np.bincount(held, weights=weights).max() for weights in popular]
    largest = int(counts.max())
    means = (largest * size / len(held), float(np.mean(skewed)), float(np.mean(hot)))
    return Load(size, largest, *(round(mean, 6) for mean in means))


def _drawing(seed: int, what: str) -> random.Random:
    return random.Random(f"{seed}/sharding/{what}")
