"""What a simulated server sees of its node: files, a clock that may be wrong, randomness, and the other nodes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from harness.environments.simulation.disk import SimulatedDisk, SimulatedFile
from harness.environments.simulation.loop import Handle, SimulatedLoop
from harness.environments.simulation.network import Network, Sent
from harness.errors import FaultError

EPOCH: Final = 1_800_000_000.0
"""The true wall clock time, in seconds since 1970, at which every simulation begins."""


_LAST: Final = 2.0**63 / 1e9
"""The seconds since 1970 that a clock can show which counts nanoseconds in 64 bits."""


class SimulatedClock:
    """A node's clocks. ``rate`` is how fast they run, 1 being right; ``offset`` seconds are added to wall time.

    With a strobe ``period`` the last jump comes and goes every so many seconds.
    """

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._since = loop.time()
        self._counted = self._since
        self.rate = 1.0
        self.offset = 0.0
        self._strobe = (0.0, 0.0, 0.0)

    def set_rate(self, rate: float) -> None:
        """Run faster or slower from now on; what was gained or lost so far stays."""
        self._counted, self._since = self.monotonic(), self._loop.time()
        self.rate = rate

    def skew(self, offset: float, rate: float, period: float) -> None:
        """Jump by ``offset`` seconds, and run at another rate. Raises ``FaultError`` where no clock can go."""
        if not 0 <= self.wall() + offset < _LAST:
            raise FaultError(f"a clock that is {offset:+g} s off would leave the years 1970 to 2262")
        self.offset += offset
        self.set_rate(rate)
        self._strobe = (period, self._loop.time(), offset)

    def right(self) -> None:
        """Be right again, as after NTP has stepped the clock; the monotonic clock keeps what it counted."""
        self.set_rate(1.0)
        self.offset = self._loop.time() - self._counted
        self._strobe = (0.0, 0.0, 0.0)

    def monotonic(self) -> float:
        """Seconds since the simulation began, as this node counts them."""
        return self._counted + (self._loop.time() - self._since) * self.rate

    def wall(self) -> float:
        """Seconds since 1970, as this node believes."""
        return EPOCH + self._loop.time() + self.error()

    def error(self) -> float:
        """Seconds by which the wall clock is ahead of the true time."""
        period, since, jump = self._strobe
        away = jump if period and (self._loop.time() - since) // period % 2 else 0.0
        return self.monotonic() + self.offset - away - self._loop.time()


class SimulatedHost:
    """The machine of one run of one server."""

    def __init__(
        self, clock: SimulatedClock, disk: SimulatedDisk, network: Network, rng: random.Random, log: list[str]
    ) -> None:
        self.rng = rng
        self.secret = ""  # nobody else is in here
        self._clock = clock
        self._disk = disk
        self._network = network
        self._log = log
        self.wall = clock.wall
        self.monotonic = clock.monotonic

    def later(self, seconds: float, callback: Callable[..., object], *arguments: Any) -> Handle:
        """Call back after so many seconds of the node's own clock."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        return loop.call_later(seconds / self._clock.rate, callback, *arguments)

    def open(self, path: str) -> SimulatedFile:
        """A file on the node's disk."""
        return self._disk.open(path)

    def say(self, text: str) -> None:
        """Write a line to the server's log."""
        self._log.append(text)

    def join(
        self, name: str, addresses: Mapping[str, str], receive: Callable[[Any], None]
    ) -> Callable[[str, Any], None]:
        """Take part in the cluster: what comes from the others, and the function that sends to one of them."""
        network, own = self._network, addresses[name]
        network.receive(own, receive)

        def send(peer: str, message: Any) -> None:
            arrivals = network.post(own, addresses[peer], message)
            said = message if isinstance(message, dict) else {}
            moment = asyncio.get_running_loop().time()
            for arrived in arrivals or (None,):
                network.sent.append(Sent(name, peer, moment, arrived, said.get("kind"), said.get("term")))

        return send
