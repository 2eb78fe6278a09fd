"""What a simulated network does to packets: as ``harness.faults.probe``, by messages over the links of all others."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from harness.environments.simulation.loop import SimulatedLoop
from harness.environments.simulation.network import Network
from harness.faults.probe import LEAST_SIZE, Asked, Tally, Watched, has_enough


class SimulatedWatch:
    """One machine's part of a measurement, on virtual time; the request and the answer are those of the real tool."""

    def __init__(self, loop: SimulatedLoop, network: Network, address: str, asked: Asked) -> None:
        self._loop = loop
        self._network = network
        self._address = address
        self._asked = asked
        self._size = asked.get("size", LEAST_SIZE)
        self._port = f"probe {asked['session']}"
        self._tallies: dict[str, Tally] = defaultdict(Tally)

    async def run(self) -> Watched:
        """Send, echo and count for as long as was asked."""
        asked, began = self._asked, self._loop.time()
        over = began + asked["seconds"]
        number = 0
        self._network.receive(self._address, self._hear, self._port)
        while (now := self._loop.time()) < over and not has_enough(self._tallies, asked):
            for _ in range(asked.get("burst", 1)):
                for name, address in asked["peers"].items():
                    message = ("ping", number, now, asked["me"], name, self._address)
                    self._network.post(self._address, address, message, self._port, self._size)
                    self._tallies[name].sent += 1
                number += 1
            await asyncio.sleep(asked["every"])
        await asyncio.sleep(asked["linger"])
        self._network.deafen(self._address, self._port)
        peers = {name: tally.summary() for name, tally in self._tallies.items()}
        return {"lasted": self._loop.time() - began, "stalled": 0.0, "damaged": None, "peers": peers}

    def _hear(self, message: tuple[str, int, float, str, str, str]) -> None:
        kind, number, sent, sender, receiver, address = message
        now = self._loop.time()
        if kind == "pong":
            self._tallies[sender].answered(now - sent)
            return
        self._tallies[sender].hear(number, self._size, now)
        answer = ("pong", number, sent, receiver, sender, self._address)
        self._network.post(self._address, address, answer, self._port, 0)
