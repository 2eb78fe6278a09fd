"""Virtual time, the simulated network, disks and processes, each by itself."""

from __future__ import annotations

import asyncio
import inspect
import random
import sys
import time
from collections.abc import Callable, Container, Coroutine
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.environments.base import run_tool
from harness.environments.simulation.disk import SimulatedDisk
from harness.environments.simulation.environment import _OWN, SimulationEnvironment
from harness.environments.simulation.loop import Process, SimulatedLoop
from harness.environments.tools import ask
from harness.errors import MissingError, SplitbrainError
from harness.faults import netem, network, process
from harness.faults.network import Peer
from harness.nemeses.links import watch
from tests.loops import simulated_loop


def simulate(main: Coroutine[Any, Any, Any]) -> Any:
    return simulated_loop().run_to_end(main)


def test_time_passes_only_by_sleeping() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        moments = [loop.time()]
        await asyncio.sleep(3600)
        moments.append(loop.time())
        return moments

    began = time.monotonic()
    first, last = simulate(main())
    assert (first, round(last, 3)) == (0.0, 3600.0)
    assert time.monotonic() - began < 60


def test_a_simulation_that_waits_for_nothing_says_so() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(SplitbrainError, match="stuck"):
        simulate(main())


@pytest.mark.parametrize(("state", "ticks"), [("running", 10), ("paused", 5), ("dead", 5)])
def test_a_process_runs_only_while_it_may(state: str, ticks: int) -> None:
    seen: list[float] = []
    cleaned_up = []

    async def tick() -> None:
        try:
            while True:
                await asyncio.sleep(1)
                seen.append(asyncio.get_running_loop().time())
        finally:
            cleaned_up.append(True)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        one = Process("n1", "ticker")
        task = loop.create_task(tick(), context=one.context)
        assert task in one.tasks
        await asyncio.sleep(5.5)
        one.state = state
        await asyncio.sleep(5)
        assert len(seen) == ticks
        assert not cleaned_up
        if state == "paused":
            loop.resume(one)
            await asyncio.sleep(2.1)
            assert len(seen) > 5

    simulate(main())


def test_a_crash_loses_what_was_not_synced_and_nothing_else() -> None:
    lost = set()
    for seed in range(50):
        disk = SimulatedDisk(random.Random(seed))
        file = disk.open("log")
        file.append(b"safe")
        file.sync()
        file.append(b"maybe")
        disk.crash()
        assert file.read().startswith(b"safe")
        lost.add(len(file.read()))
    assert lost == set(range(4, 10))


ECHO = """
import asyncio

async def run(arguments, host):
    async def serve(reader, writer):
        while data := await reader.readline():
            writer.write(data)
            await writer.drain()
    await asyncio.start_server(serve, arguments[0], 7000)
    await asyncio.get_running_loop().create_future()
"""


def test_cuts_stall_connections_and_kills_end_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "echo_server.py").write_text(ECHO)
    monkeypatch.syspath_prepend(str(tmp_path))

    async def main() -> None:
        made = SimulationEnvironment(seed=3)
        one, two = await made.start(["n1", "n2"], tmp_path, "test")
        with pytest.raises(MissingError, match="can be simulated"):
            await one.start("x", ["redis-server"])
        await one.start("echo", ["python", "-m", "echo_server", one.address])
        await asyncio.sleep(0.1)
        reader, writer = await asyncio.open_connection(one.address, 7000)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"

        cluster = Cluster(made, [one, two], 0)
        both = {("n1", "n2"), ("n2", "n1")}
        peer: Peer = {"addresses": [one.address], "direction": "in"}
        await run_tool(two, ask(network.cut, peers=[peer], how="drop"))
        assert (await watch(cluster, both, 0.3)).open == {("n2", "n1")}
        writer.write(b"clients are not cut\n")
        assert await reader.readline() == b"clients are not cut\n"
        await run_tool(two, ask(network.heal))
        assert (await watch(cluster, both, 0.3)).open == both

        assert [p["command"] for p in await run_tool(one, ask(process.pause))] == ["echo"]
        writer.write(b"late\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await reader.readline()
        await run_tool(one, ask(process.resume))
        assert await reader.readline() == b"late\n"

        assert len(await run_tool(one, ask(process.kill))) == 1
        assert await run_tool(one, ask(process.look)) == []
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(one.address, 7000)
        await one.start("echo", ["python", "-m", "echo_server", one.address])
        await asyncio.sleep(0.1)
        await asyncio.open_connection(one.address, 7000)
        await made.stop()

    simulate(main())


def test_a_cut_resets_connections_if_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "echo_server.py").write_text(ECHO)
    monkeypatch.syspath_prepend(str(tmp_path))

    async def main() -> None:
        made = SimulationEnvironment(seed=3)
        (one,) = await made.start(["n1"], tmp_path, "test")
        await one.start("echo", ["python", "-m", "echo_server", one.address])
        await asyncio.sleep(0.1)
        reader, writer = await asyncio.open_connection(one.address, 7000)
        _, other = await asyncio.open_connection(one.address, 7000)
        peer: Peer = {"addresses": [made.driver["address"]], "direction": "both"}
        await run_tool(one, ask(network.cut, peers=[peer], how="reset"))
        await asyncio.sleep(5)
        assert not reader.at_eof(), "it is reset once something is sent"
        writer.write(b"hello\n")
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(one.address, 7000)
        assert not other.is_closing()
        await run_tool(one, ask(network.heal))
        reader, writer = await asyncio.open_connection(one.address, 7000)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        await made.stop()

    simulate(main())


def test_a_flapping_cut_comes_and_goes_in_the_simulation(tmp_path: Path) -> None:
    async def main() -> None:
        made = SimulationEnvironment(seed=3)
        cluster = Cluster(made, await made.start(["n1", "n2"], tmp_path, "test"), 0)
        peer: Peer = {"addresses": [cluster.nodes[0].address], "direction": "in"}
        await run_tool(cluster.nodes[1], ask(network.cut, peers=[peer], flap=1.0))
        began, seen = made.clock(), []
        for period in range(4):
            await asyncio.sleep(period + 0.1 - (made.clock() - began) / 1e9)
            seen.append(bool((await watch(cluster, {("n1", "n2")}, 0.5)).open))
        assert seen == [False, True, False, True]

    simulate(main())


def test_a_thin_line_lets_no_more_through_than_it_says(tmp_path: Path) -> None:
    async def main() -> None:
        made = SimulationEnvironment(seed=3)
        cluster = Cluster(made, await made.start(["n1", "n2"], tmp_path, "test"), 0)
        peer: Peer = {"addresses": [cluster.nodes[0].address], "direction": "in"}
        thin = ask(netem.degrade, how="simulation", peers=[peer], quality={"rate": 10_000.0}, seed="1")
        link = ("n1", "n2")
        assert (await watch(cluster, {link}, 3.0, rate=40_000.0)).links[link].rate == pytest.approx(40_000, rel=0.05)
        await run_tool(cluster.nodes[1], thin)
        seen = (await watch(cluster, {link}, 3.0, rate=40_000.0, linger=2.0)).links[link]
        assert seen.rate == pytest.approx(10_000, rel=0.05)
        assert seen.missed > 0, "what does not fit into a second of waiting is lost"

    simulate(main())


KEEP = """
import asyncio

async def run(arguments, host):
    file = host.open("kept")
    host.say(f"found {len(file.read())}")
    file.append(b"written, and never synced")
    await asyncio.get_running_loop().create_future()
"""


@pytest.mark.parametrize(("signal", "found"), [("terminate", {25}), ("kill", range(25))])
def test_a_terminated_server_ends_and_leaves_its_writes_to_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal: str, found: Container[int]
) -> None:
    (tmp_path / "keeping_server.py").write_text(KEEP)
    monkeypatch.syspath_prepend(str(tmp_path))

    async def main() -> None:
        made = SimulationEnvironment(seed=3)
        (node,) = await made.start(["n1"], tmp_path, "test")
        for start in (1, 2):
            await node.start("keep", ["python", "-m", "keeping_server"])
            await asyncio.sleep(0.1)
            said = (await node.log("keep")).split()
            await run_tool(node, ask(process.pause))
            assert await run_tool(node, ask(process.terminate)) == []
            assert (await node.running())["keep"]
            await run_tool(node, ask(process.resume))
            assert len(await run_tool(node, ask(getattr(process, signal)))) == 1
            assert not (await node.running())["keep"]
            assert await run_tool(node, ask(getattr(process, signal))) == []
            assert len(said) == 2 * start
        assert said[:3] == ["found", "0", "found"]
        assert int(said[3]) in found

    simulate(main())


@pytest.mark.parametrize("do", _OWN, ids=lambda do: f"{do.__module__.rpartition('.')[2]}.{do.__name__}")
def test_what_a_simulated_node_does_takes_what_the_tool_takes(do: Callable[..., Any]) -> None:
    _, *own = inspect.signature(_OWN[do]).parameters
    assert own == list(inspect.signature(do).parameters)
    assert do in sys.modules[do.__module__].VERBS
