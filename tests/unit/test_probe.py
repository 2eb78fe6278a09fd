"""Datagrams between machines, here addresses of the loopback device, as the real tool sends and counts them."""

from __future__ import annotations

import asyncio
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.environments.tools import Request
from harness.errors import FaultError
from harness.faults import probe
from harness.nemeses.links import CLIENTS, watch

ADDRESSES = {"n1": "127.66.0.1", "n2": "127.66.0.2", CLIENTS: "127.66.0.254"}


class Machine:
    """A node on which the probe runs in a thread."""

    own_tools = frozenset({probe})

    def __init__(self, name: str) -> None:
        self.name, self.address = name, ADDRESSES[name]
        self.asked: list[probe.Asked] = []

    async def own_tool(self, request: Request[Any]) -> Any:
        asked: probe.Asked = request.given["asked"]
        self.asked.append(asked)
        return await asyncio.to_thread(probe.watch, {**asked, "address": self.address})


def cluster() -> tuple[Cluster, list[Machine]]:
    machines = [Machine(name) for name in ADDRESSES if name != CLIENTS]
    environment: Any = SimpleNamespace(driver={"address": ADDRESSES[CLIENTS]}, measure=Machine(CLIENTS).own_tool)
    nodes: Any = machines
    return Cluster(environment, nodes, 0), machines


async def test_measurements_at_the_same_time_take_nothing_from_each_other() -> None:
    made, _ = cluster()
    links = [("n1", "n2"), ("n2", "n1"), ("n1", CLIENTS), (CLIENTS, "n1")]

    async def meanwhile() -> Any:
        await asyncio.sleep(0.3)
        return await watch(made, links, 4.0)

    for watched in await asyncio.gather(watch(made, links, 5.0), meanwhile()):
        assert watched.open == set(links)
        for seen in watched.links.values():
            assert seen.missed == 0
            assert seen.round_trips


async def test_what_somebody_else_sends_is_not_heard() -> None:
    made, machines = cluster()
    strangers = [b"", b"\xff\xfe", b"1.2", b"0.0 ping 0 n1 n2 ", b"one two three four five six"]

    async def disturb() -> None:
        while not machines[1].asked:
            await asyncio.sleep(0.01)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            for _ in range(20):
                for data in strangers:
                    line.sendto(data, (ADDRESSES["n2"], machines[1].asked[0]["port"]))
                await asyncio.sleep(0.01)

    watched, _ = await asyncio.gather(watch(made, [("n1", "n2")], 4.0), disturb())
    assert watched.open == {("n1", "n2")}
    assert watched.links["n1", "n2"].missed == 0


async def test_a_machine_that_was_stopped_meanwhile_has_not_measured_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """It heard nothing, though nothing was cut; the others may have been open all the time."""
    made, _ = cluster()
    ping = probe.Watch._ping

    def stopped(self: probe.Watch, now: float) -> None:
        ping(self, now)
        if self._me == "n2":
            time.sleep(1.5)

    monkeypatch.setattr(probe.Watch, "_ping", stopped)
    with pytest.raises(FaultError, match="could not be measured"):
        await watch(made, [("n1", "n2"), ("n2", "n1")], 1.0)
