"""What a simulated network does to packets: as ``harness.faults.probe``, by messages over the links of all others."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from harness.environments.simulation.loop import SimulatedLoop
from harness.environments.simulation.network import Network
from harness.faults.probe import Tally, has_enough


class SimulatedWatch:
    """One machine's part of a measurement, on virtual time; the request and the answer are those of the real tool."""

    def __init__(self, loop: SimulatedLoop, network: Network, address: str, request: Mapping[str, Any]) -> None:
        self._loop = loop
        self._network = network
        self._address = address
        self._request = request
        self._port = f"probe {request['session']}"
        self._tallies: dict[str, Tally] = defaultdict(Tally)

    async def run(self) -> dict[str, Any]:
        """Send, echo and count for as long as was asked."""
        request, began = self._request, self._loop.time()
        over = began + request["seconds"]
        number = 0
        self._network.receive(self._address, self._hear, self._port)
        while (now := self._loop.time()) < over and not self._has_enough():
            for _ in range(request["burst"]):
                for name, address in request["peers"].items():
                    message = ("ping", number, now, request["me"], name, self._address)
                    self._network.post(self._address, address, message, self._port, request["size"])
                    self._tallies[name].sent += 1
                number += 1
            await asyncio.sleep(request["every"])
        await asyncio.sleep(request["linger"])
        self._network.deafen(self._address, self._port)
        peers = {name: tally.summary() for name, tally in self._tallies.items()}
        return {"lasted": self._loop.time() - began, "damaged": None, "peers": peers}

    def _has_enough(self) -> bool:
        return bool(self._request["enough"]) and has_enough(self._tallies, self._request)

    def _hear(self, message: tuple[str, int, float, str, str, str]) -> None:
        kind, number, sent, sender, receiver, address = message
        now = self._loop.time()
        if kind == "pong":
            self._tallies[sender].answered(now - sent)
            return
        self._tallies[sender].hear(number, self._request["size"], now)
        answer = ("pong", number, sent, receiver, sender, self._address)
        self._network.post(self._address, address, answer, self._port, 0)
