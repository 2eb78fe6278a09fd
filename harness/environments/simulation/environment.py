"""The environment ``simulation``: servers written for asyncio run in this process, on virtual time.

The same seed and code give the same history, byte for byte. A server is a module with a coroutine
``run(arguments, host)``; it is started by the same command line as a real process, ``python -m MODULE ARGUMENTS``.
"""

from __future__ import annotations

import asyncio
import importlib
import random
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness.environments.base import Node, Result
from harness.environments.simulation.disk import SimulatedDisk, SimulatedFile
from harness.environments.simulation.loop import Process, SimulatedLoop
from harness.environments.simulation.network import Network
from harness.errors import FaultError, MissingError


class SimulatedHost:
    """What a server sees of its node."""

    def __init__(self, disk: SimulatedDisk, rng: random.Random, log: list[str]) -> None:
        self.rng = rng
        self._disk = disk
        self._log = log

    def open(self, path: str) -> SimulatedFile:
        """A file on the node's disk."""
        return self._disk.open(path)

    def say(self, text: str) -> None:
        """Write a line to the server's log."""
        self._log.append(text)


class SimulatedNode:
    """One node: its processes, its disk, its place in the network."""

    def __init__(self, name: str, address: str, network: Network, seed: int, logs: Path) -> None:
        self.name = name
        self.address = address
        self.directory = f"/{name}"
        self.python = "python"
        self._network = network
        self._seed = seed
        self._logs = logs
        self._disk = SimulatedDisk(random.Random(f"{seed}/{name}/disk"))
        self._processes: dict[str, Process] = {}
        self._said: dict[str, list[str]] = {}
        self._started = 0
        self._dead: list[Process] = []

    async def exec(self, argv: Sequence[str], *, timeout: float = 30.0) -> Result:
        raise FaultError(f"there are no commands on a simulated node, so {argv[0]} cannot run on {self.name}")

    async def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        running = self._processes.get(name)
        if running is not None and running.state != "dead":
            return
        if argv[1:2] != ["-m"]:
            raise MissingError(f"only asyncio servers in Python can be simulated, not {argv[0]}: use --on local")
        module = importlib.import_module(argv[2])
        self._started += 1
        process = self._processes[name] = Process(self.name, name)
        said = self._said.setdefault(name, [])
        host = SimulatedHost(self._disk, random.Random(f"{self._seed}/{self.name}/{self._started}"), said)
        loop = asyncio.get_running_loop()
        process.keep.append(loop.create_task(module.run(argv[3:], host), context=process.context()))

    async def running(self) -> Mapping[str, bool]:
        return {name: process.state != "dead" for name, process in self._processes.items()}

    async def write(self, path: str, data: bytes) -> None:
        file = self._disk.open(path)
        file.truncate(0)
        file.append(data)
        file.sync()

    async def log(self, name: str) -> str:
        return "\n".join(self._said.get(name, []))

    async def simulate_tool(self, tool: str, request: Mapping[str, Any]) -> Any:
        """Do what a fault tool does on a real node, and answer as it does."""
        await asyncio.sleep(0.02)
        if tool == "process":
            return self._signal(request["do"])
        if tool == "network":
            return await self._rewire(request)
        raise FaultError(f"the tool {tool} does not exist on simulated nodes")

    def _signal(self, action: str) -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        seen = []
        for name, process in self._processes.items():
            if process.state == "dead":
                continue
            if action == "kill":
                process.state = "dead"
                self._dead.append(process)
                self._network.reset(process)
            elif action == "pause":
                process.state = "paused"
            elif action == "resume" and process.state == "paused":
                process.resume(loop)
            seen.append({"pid": self._started, "state": "T" if process.state == "paused" else "S", "command": name})
        if action == "kill" and seen:
            self._disk.crash()
        return seen

    async def _rewire(self, request: Mapping[str, Any]) -> Any:
        network, here = self._network, self.address
        if request["do"] == "cut":
            for peer in request["peers"]:
                direction, there = peer.get("direction", "both"), peer["address"]
                if direction in ("out", "both"):
                    network.cut[here, there] = request["how"]
                if direction in ("in", "both"):
                    network.cut[there, here] = request["how"]
            return None
        if request["do"] == "reach":
            await asyncio.sleep(request["patience"] / 10)
            return {p: not (network.cut.get((here, p)) or network.cut.get((p, here))) for p in request["peers"]}
        mine = [link for link in network.cut if here in link]
        for link in mine:
            del network.cut[link]
        lost = {link: network.dropped.pop(link) for link in list(network.dropped) if here == link[0]}
        return {there: count for (_, there), count in lost.items()}

    def save_logs(self) -> None:
        """Write what every server said into the run's directory."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for name, lines in self._said.items():
            (self._logs / f"{name}.log").write_text("".join(line + "\n" for line in lines))


class SimulationEnvironment:
    """The bundled reference store in this process, on virtual time, all from one seed."""

    name: ClassVar[str] = "simulation"
    real_time: ClassVar[bool] = False
    capabilities: frozenset[str] = frozenset({"partition", "kill", "pause"})

    def __init__(self, image: str | None = None, seed: int = 0) -> None:
        self.python_reference = "python"
        self.source = ""
        self._seed = seed
        self._nodes: list[SimulatedNode] = []

    @classmethod
    def missing(cls, image: str | None) -> str | None:
        return None

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run on virtual time."""
        SimulatedLoop().run_to_end(main)

    def clock(self) -> int:
        """Virtual nanoseconds."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        return loop.nanoseconds()

    async def start(self, names: Sequence[str], logs: Path, run_id: str) -> list[Node]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        network = loop.network = Network(loop, random.Random(f"{self._seed}/network"))
        for number, name in enumerate(names, 1):
            network.addresses[name] = f"10.66.0.{number}"
            self._nodes.append(SimulatedNode(name, network.addresses[name], network, self._seed, logs / name))
        return list(self._nodes)

    async def stop(self) -> None:
        for node in self._nodes:
            await node.simulate_tool("process", {"do": "kill"})
            node.save_logs()
