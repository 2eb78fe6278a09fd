"""The one plan that every mode is put through: which faults when, and which operation of which client when.

All of it is explicit, and drawn from the seed before anything starts, so that modes differ in nothing but themselves.
The last nodes are the far region, ``DISTANCE`` away from the near one. At first they are cut off for a moment, so that
whoever is primary is near; then come a time without faults, a cut that leaves the far nodes alone, a pause, and a cut
that leaves the primary alone. From the end of that on nobody writes any more, and every node is asked what it holds.

Some clients of each node read and write a few registers all the time. While something is cut, two of them on different
nodes also write a *pair*: a key that is written by nobody else, so that neither can know of the other's write where
they are on different sides. The other clients do *litmus tests*, as those of shared memory are called, with keys of
their own: *store buffering*, where each writes one key and then reads those of the others, and *message passing*, where
one writes x while something is cut and y once it is healed, and the others read y and then x, and *torn writes*, where
what one wrote while something was cut is read once it is healed, first by the one and then by the others. In the end
each reads again what it wrote itself. A write of unknown outcome comes before nothing by itself: so that it counts as
well, whoever has written in the first two tests reads it before going on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from harness.timetable import Fault, Planned, Timetable

DISTANCE: Final = 0.04
"""Seconds that a message between the regions takes, one way, beyond what every message takes."""
TIMEOUT: Final = 0.5
"""Seconds after which a client gives an operation up."""
EVERY: Final = 0.6
"""Seconds between two operations of a client on registers: more than it waits for one, so that none is late."""
REGISTERS: Final = tuple(f"k{number}" for number in range(5))
"""The keys that clients read and write all the time."""
LITMUS: Final = "litmus"
"""What the keys of litmus tests begin with."""
_TESTERS: Final = 3
"""The clients of each node that do litmus tests."""
_HASTY: Final = 2
"""The clients of each node that write pairs as soon as something is cut: while a primary does not know it yet."""
_HASTE: Final = (0.25, 0.06, 12)
"""When they begin, in seconds since the cut is begun, how far their pairs are apart, and how many there are."""
_POLLS: Final = ((1.0, 0.05), (4.0, 0.1), (math.inf, 0.25))
"""How many seconds lie between two questions to a node for what it holds of a key, until so many after the heal."""
_PAIRS: Final = 0.5
"""The share of the moments within a cut at which a pair is written."""
_POLLED: Final = 5
"""How many pairs every node is asked for after the heal: the last ones, of which it had the least time to hear."""
_SETTLED: Final = 0.2
"""Seconds after which a fault that was begun is certainly there, and one that was ended over."""
_BUFFERED: Final = (0.25, 0.45, 0.8, 1.5, 2.6, 3.7)
"""When the tests of store buffering begin, in seconds since the cut."""
_PASSED: Final = (0.05, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3)
"""When the second write of each test of message passing is made, in seconds since the heal."""
_TORN: Final = ((0.14, 0.1), (0.16, 0.2))
"""When each torn write begins, in seconds since a cut is begun, so that it is under way when the cut is there; and when
it is read first, in seconds since the heal."""
_READ: Final = 0.09
"""Seconds after which that read has been answered, by whoever is far away, if need be."""


@dataclass(frozen=True)
class Scale:
    """How long the parts of the plan are (s), and how many clients of each node are busy with registers."""

    clients: int = 4
    calm: float = 8.0
    cut: float = 6.0
    pause: float = 3.0
    quiet: float = 10.0
    litmus: bool = True
    """Whether there are litmus tests and hasty pairs, and clients for them."""
    arranged: float = 4.0
    """When the time without faults begins, after the moment that makes a near node primary."""

    @property
    def cuts(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """From when to when the far nodes are alone, and the primary is."""
        first = self.arranged + self.calm
        second = first + self.cut + self.pause
        return (first, first + self.cut), (second, second + self.cut)

    @property
    def healed(self) -> float:
        """When the last cut ends, and with it all writing."""
        return self.cuts[1][1]

    @property
    def end(self) -> float:
        """When every node was asked for the last time."""
        return self.healed + self.quiet

    @property
    def workers(self) -> int:
        """How many clients a node has in all."""
        return self.clients + (_TESTERS + _HASTY if self.litmus else 0)


FULL: Final = Scale()
REDUCED: Final = Scale(clients=3, calm=2.0, cut=3.0, pause=2.0, quiet=5.0)
"""Enough for the rough shape."""
REGULAR: Final = Scale(clients=5, calm=6.0, cut=3.0, pause=1.5, quiet=0.5, litmus=False)
"""Only registers and pairs, for the comparison of many quorums."""


@dataclass(frozen=True)
class Place:
    """The nodes of a mode: all of them, those of the far region, and those that hold data."""

    nodes: Sequence[str]
    far: Sequence[str]
    holders: Sequence[str]

    @property
    def zones(self) -> str:
        """The region of each node, as an experiment has it."""
        return ",".join("far" if node in self.far else "near" for node in self.nodes)


@dataclass(frozen=True)
class Plan:
    """The timetable, and the keys of pairs with the two nodes that write each."""

    timetable: Timetable
    pairs: dict[str, tuple[str, str]]


def plan(seed: int, place: Place, scale: Scale) -> Plan:
    """The plan of a seed for a mode with these nodes."""
    drawn = _Drawing(random.Random(f"{seed}/tradeoffs"), place, scale)
    drawn.registers()
    for number, (start, end) in enumerate(scale.cuts if scale.litmus else ()):
        if number == 0:
            drawn.torn_writes(start, end)
            drawn.message_passing(start, end)
        drawn.store_buffering(number, start)
        drawn.hasty_pairs(start)
    drawn.own_writes(min(scale.healed + 2.0, scale.end - 0.1))
    polled = [*REGISTERS, *list(drawn.pairs)[-_POLLED:]]
    drawn.polls(polled)
    final = drawn.final([*REGISTERS, *drawn.pairs])
    return Plan(Timetable(_faults(place, scale), tuple(drawn.operations), final), drawn.pairs)


def _faults(place: Place, scale: Scale) -> tuple[Fault, ...]:
    apart = [*place.far, *(node for node in place.nodes if node not in place.far)]
    far_alone = {"kind": "majority", "order": apart, "minority": len(place.far)}
    (first, healed), (second, end) = scale.cuts
    distance = {"aim": "zone", "order": apart, "quality": {"delay": DISTANCE}, "direction": "both", "seed": "0"}
    return (
        Fault("netem", 0.0, scale.end, distance),
        Fault("partition", 0.5, 2.5, far_alone),
        Fault("partition", first, healed, far_alone),
        Fault("partition", second, end, {"kind": "primary", "order": list(place.nodes)}),
    )


class _Drawing:
    """Draws what clients do. Those of one number, one of each node, do the same things at the same moments."""

    def __init__(self, rng: random.Random, place: Place, scale: Scale) -> None:
        self._rng, self._place, self._scale = rng, place, scale
        self._couples = list(combinations(place.nodes, 2))
        self._written = 0
        self._tested: dict[int, list[str]] = {}
        """By client, the keys that it has written for a litmus test."""
        self.operations: list[Planned] = []
        self.pairs: dict[str, tuple[str, str]] = {}

    def _worker(self, number: int, node: str) -> int:
        return number * len(self._place.nodes) + self._place.nodes.index(node)

    def _add(self, at: float, worker: int, f: str, key: str) -> None:
        self._written += f == "write"
        self.operations.append(Planned(round(at, 6), worker, f, key, self._written if f == "write" else None))

    def registers(self) -> None:
        """Reads and writes of registers and pairs until the last cut is healed."""
        turns = range(int(self._scale.healed / EVERY))
        moments = [(0.2 + (turn + number / self._scale.clients) * EVERY, number) for turn in turns
                   for number in range(self._scale.clients)]  # fmt: skip
        for at, number in moments:
            if at > self._scale.healed - TIMEOUT:
                continue
            couple = self._couple(at)
            key = f"pair{len(self.pairs)}"
            if couple is not None:
                self.pairs[key] = couple
            for node in self._place.nodes:
                paired = couple is not None and node in couple
                f = "write" if paired or self._rng.random() < 0.5 else "read"
                self._add(at, self._worker(number, node), f, key if paired else self._rng.choice(REGISTERS))

    def _couple(self, at: float) -> tuple[str, str] | None:
        """The two nodes whose clients write a pair at this moment, if any do."""
        within = any(start + _SETTLED <= at <= end - TIMEOUT for start, end in self._scale.cuts)
        return self._rng.choice(self._couples) if within and self._rng.random() < _PAIRS else None

    def store_buffering(self, cut: int, start: float) -> None:
        """Each node's client writes its own key, reads it, and then reads those of the others."""
        for test, after in enumerate(_BUFFERED):
            if after > self._scale.cut - 2 * TIMEOUT:
                continue
            keys = {node: f"{LITMUS}-buffer-{cut}-{test}-{node}" for node in self._place.nodes}
            for node, own in keys.items():
                worker = self._worker(self._scale.clients + test % _TESTERS, node)
                self._add(start + after, worker, "write", own)
                self._tested.setdefault(worker, []).append(own)
                for key in (own, *(key for key in keys.values() if key != own)):
                    self._add(start + after + 0.01, worker, "read", key)

    def message_passing(self, start: float, end: float) -> None:
        """Each node's client writes x during the cut, later reads it and writes y; the others' read y, and then x."""
        for test, after in enumerate(_PASSED):
            for source in self._place.nodes:
                x, y = (f"{LITMUS}-{name}-{test}-{source}" for name in ("x", "y"))
                number = self._scale.clients + test % _TESTERS
                writer = self._worker(number, source)
                self._add(max(start + 1.0, end - 2.0), writer, "write", x)
                self._add(end + after, writer, "read", x)
                self._add(end + after, writer, "write", y)
                for node in self._place.nodes:
                    if node != source:
                        reader = self._worker(number, node)
                        # A message between the regions has arrived by then.
                        self._add(end + after + DISTANCE + 0.01, reader, "read", y)
                        self._add(end + after + DISTANCE + 0.01, reader, "read", x)

    def torn_writes(self, start: float, end: float) -> None:
        """Each node's client is just writing when the cut comes; later its node's reads it, and then the others'."""
        for test, (written, read) in enumerate(_TORN):
            for source in self._place.nodes:
                key = f"{LITMUS}-torn-{test}-{source}"
                self._add(start + written, self._worker(self._scale.clients + _TESTERS + test, source), "write", key)
                for node in self._place.nodes:
                    # By clients that do nothing else then.
                    reader = self._worker(self._scale.clients + _TESTERS + test, node)
                    self._add(end + read + (0.0 if node == source else _READ), reader, "read", key)

    def hasty_pairs(self, start: float) -> None:
        """Pairs that are written one soon after the other when the cut has come."""
        begin, every, count = _HASTE
        for number in range(count):
            key, couple = f"pair{len(self.pairs)}", self._rng.choice(self._couples)
            self.pairs[key] = couple
            for node in couple:
                worker = self._worker(self._scale.clients + _TESTERS + number % _HASTY, node)
                self._add(start + begin + every * number, worker, "write", key)

    def own_writes(self, at: float) -> None:
        """Each client reads what it wrote itself."""
        for worker, keys in self._tested.items():
            for key in keys:
                self._add(at, worker, "read", key)

    def polls(self, keys: Sequence[str]) -> None:
        """Questions to every node for what it holds itself."""
        after = 0.0
        while after < self._scale.quiet:
            for node in self._place.holders:
                for number, key in enumerate(keys):
                    worker = self._worker(number % self._scale.clients, node)
                    self._add(self._scale.healed + after, worker, "read-local", key)
            after = round(after + next(every for until, every in _POLLS if after < until), 6)

    def final(self, keys: Sequence[str]) -> tuple[Planned, ...]:
        """The same once all faults are over, for every key."""
        return tuple(
            Planned(self._scale.end, self._worker(number % self._scale.clients, node), "read-local", key)
            for node in self._place.holders
            for number, key in enumerate(keys)
        )
