"""Time stamps for writes without a primary: wall clocks, and hybrid logical clocks that causality cannot outrun."""

from __future__ import annotations

from harness.targets.reference.host import Host
from harness.targets.reference.journal import Journal

Stamp = tuple[float, int, str]
"""Seconds since 1970, a counter within that, and the node: totally ordered, and never given twice."""

_RESERVED = 10.0
"""Seconds of stamps that are reserved on disk at once."""


class WallClock:
    """Stamps from the machine's clock alone: whoever's clock is ahead wins."""

    def __init__(self, host: Host, name: str) -> None:
        self._host = host
        self._name = name
        self._count = 0

    def stamp(self) -> Stamp:
        """A stamp for a write that happens now."""
        self._count += 1
        return (self._host.wall(), self._count, self._name)

    def saw(self, stamp: Stamp) -> None:
        """A stamp of another node's: a wall clock learns nothing from it."""


class HybridClock:
    """Stamps close to the wall clock that are greater than every stamp this node gave or saw, also before a crash.

    Kulkarni, Demirbas, Madappa, Avva & Leone, "Logical Physical Clocks" (2014).
    """

    def __init__(self, host: Host, name: str, journal: Journal) -> None:
        self._host = host
        self._name = name
        self._journal = journal
        reserved = [record["clock"] for record in journal.records if "clock" in record]
        self._time = self.reserved = max(reserved, default=0.0)
        """No stamp given so far is later than ``reserved``, also before a crash."""
        self._count = 0

    def stamp(self) -> Stamp:
        """A stamp for a write that happens now."""
        now = self._host.wall()
        self._time, self._count = (now, 0) if now > self._time else (self._time, self._count + 1)
        if self._time >= self.reserved:
            self.reserved = self._time + _RESERVED
            self._journal.append([{"clock": self.reserved}])
        return (self._time, self._count, self._name)

    def saw(self, stamp: Stamp) -> None:
        """A stamp of another node's: later ones of this node are greater."""
        self._time, self._count = max((self._time, self._count), (stamp[0], stamp[1]))
