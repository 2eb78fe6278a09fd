"""The environment ``simulation``: servers written for asyncio run in this process, on virtual time.

The same seed and code give the same history, byte for byte. A server is a module with a coroutine
``run(arguments, host)``; it is started by the same command line as a real process, ``python -m MODULE ARGUMENTS``.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import random
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness.environments.base import Node, Result
from harness.environments.simulation.disk import SimulatedDisk
from harness.environments.simulation.host import EPOCH, SimulatedClock, SimulatedHost
from harness.environments.simulation.loop import Process, SimulatedLoop
from harness.environments.simulation.network import HARNESS, Network, Quality
from harness.environments.simulation.probe import SimulatedWatch
from harness.errors import FaultError, MissingError

_HEARD_WHILE = {
    "kill": ("running", "paused"), "terminate": ("running",), "pause": ("running",), "resume": ("paused",)
}  # fmt: skip
"""The states of a server in which a signal does something to it."""


class SimulatedNode:
    """One node: its processes, its disk, its clocks, its place in the network."""

    def __init__(self, name: str, address: str, loop: SimulatedLoop, network: Network, seed: int, logs: Path) -> None:
        self.name = name
        self.address = address
        self.directory = f"/{name}"
        self.python = "python"
        self._loop = loop
        self._network = network
        self._seed = seed
        self._logs = logs
        self._clock = SimulatedClock(loop)
        self._disk = SimulatedDisk(random.Random(f"{seed}/{name}/disk"))
        self._processes: dict[str, Process] = {}
        self._hosts: dict[str, SimulatedHost] = {}
        """What each process sees of the node."""
        self._said: dict[str, list[str]] = {}
        self._started = 0

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
        process.number, process.since = self._started, self._loop.nanoseconds()
        said = self._said.setdefault(name, [])
        rng = random.Random(f"{self._seed}/{self.name}/{self._started}")
        host = self._hosts[name] = SimulatedHost(self._clock, self._disk, self._network, rng, said)
        process.exited = lambda last_words: self._exit(process, said, last_words)
        self._loop.create_task(module.run(argv[3:], host), context=process.context)

    def _exit(self, process: Process, said: list[str], last_words: str) -> None:
        """A server has ended itself."""
        said.append(last_words)
        self._die(process)

    def _die(self, process: Process) -> None:
        self._end(process)
        self._disk.crash()

    def _end(self, process: Process) -> None:
        process.state = "dead"
        self._network.reset(process)

    async def running(self) -> Mapping[str, bool]:
        return {name: process.state != "dead" for name, process in self._processes.items()}

    async def write(self, path: str, data: bytes) -> None:
        file = self._disk.open(path)
        file.truncate(0)
        file.append(data)
        file.sync()

    async def log(self, name: str) -> str:
        return "\n".join(self._said.get(name, []))

    own_tools = frozenset({"process", "network", "netem", "probe", "clock", "dial", "disk", "witness"})

    async def own_tool(self, tool: str, request: Mapping[str, Any]) -> Any:
        """Do what a fault tool does on a real node, and answer as it does."""
        await asyncio.sleep(0.02)
        if tool == "probe":
            return await SimulatedWatch(self._loop, self._network, self.address, request).run()
        if tool == "dial":
            return await self._read_clocks(request["samples"], request["every"])
        tools = {
            "process": self._signal,
            "network": self._rewire,
            "netem": self._degrade,
            "clock": self._set_clock,
            "disk": self._spoil,
            "witness": self._use_disk,
        }
        return tools[tool](request)

    def _look(self) -> list[dict[str, Any]]:
        """The processes by what they do: one that runs answers at once, one that stands still does not."""
        answered: set[str] = set()
        seen = []
        for name, process in self._processes.items():
            used = process.ran
            self._loop.run_as(process, answered.add, name)
            if name in answered or process.state != "dead":
                state = "S" if name in answered else "T"
                seen.append({**_entry(process), "state": state, "threads": state, "used": used})
        return seen

    def _signal(self, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        action = request["do"]
        if action == "list":
            return self._look()
        seen = []
        for process in self._processes.values():
            if process.state not in _HEARD_WHILE[action]:
                continue
            seen.append(_entry(process))
            if action == "kill":
                self._die(process)
            elif action == "terminate":
                self._end(process)  # what it wrote stays with the operating system
            elif action == "pause":
                process.state = "paused"
            elif action == "resume":
                self._loop.resume(process)
        return seen

    def _rewire(self, request: Mapping[str, Any]) -> Any:
        network, here = self._network, self.address
        if request["do"] == "addresses":
            return []
        if request["do"] == "cut":
            now, flap = self._loop.time(), request.get("flap", 0.0)
            for peer in request["peers"]:
                (there,) = peer["addresses"]
                if peer["direction"] in ("out", "both"):
                    network.link(here, there).cut(request["how"], now, flap)
                if peer["direction"] in ("in", "both"):
                    network.link(there, here).cut(request["how"], now, flap)
            return None
        lost: dict[str, int] = {}
        for peer in (*network.addresses.values(), HARNESS):
            links = [network.link(peer, here)] + ([network.link(here, HARNESS)] if peer == HARNESS else [])
            for link in links:
                link.restore()
                lost[peer], link.dropped = lost.get(peer, 0) + link.dropped, 0
        return lost

    def _degrade(self, request: Mapping[str, Any]) -> Any:
        network, here = self._network, self.address
        if request["do"] == "mechanism":
            return "simulation"
        if request["do"] == "degrade":
            for peer in request["peers"]:
                (there,) = peer["addresses"]
                link = network.link(here, there) if peer["direction"] == "out" else network.link(there, here)
                link.quality = Quality(**request["quality"])
            return None
        for peer in (*network.addresses.values(), HARNESS):
            network.link(here, peer).quality = network.link(peer, here).quality = None
        return None

    def _set_clock(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Seconds by which the clock is ahead afterwards, and the servers that see it."""
        clock = self._clock
        if request["do"] == "set":
            if request.get("monotonic"):
                raise FaultError("the monotonic clock of a simulated node does not jump; --on local has one that does")
            clock.skew(request["offset"], request["rate"], request["period"])
        elif request["do"] == "heal":
            clock.right()
        living = [name for name, process in self._processes.items() if process.state != "dead"]
        return {"ahead": clock.error(), "processes": living}

    async def _read_clocks(self, samples: int, every: float) -> list[dict[str, Any]]:
        """By how much the clocks that each server sees are ahead of the true time, so many times."""
        began, taken = self._loop.time(), []
        for number in range(samples):
            await asyncio.sleep(max(0.0, began + number * every - self._loop.time()))
            now, seen = self._loop.time(), {}
            for name, process in self._processes.items():
                if process.state != "dead":
                    host = self._hosts[name]
                    seen[f"{name} {process.number}"] = {"at": now, "wall": host.wall() - (EPOCH + now)}
            taken.append(seen)
        return taken

    def _spoil(self, request: Mapping[str, Any]) -> Any:
        disk, action = self._disk, request["do"]
        if action == "fill":
            disk.full = True
            return {"size": 0}
        if action == "find":
            return disk.find(request["file"], request["place"])
        if action == "flip":
            disk.flip(request["file"], request["at"], request["bit"])
            return {"file": request["file"]}
        if action == "truncate":
            disk.cut(request["file"], request["bytes"])
        elif action == "mend":
            return [disk.open(flipped["file"]).restore() for flipped in request["flipped"]]
        elif action == "keep":
            disk.copies[request["copy"]] = disk.contents()
        elif action == "restore":
            disk.roll_back(request["copy"])
        elif action == "heal":
            disk.full = False
        return None

    def _use_disk(self, request: Mapping[str, Any]) -> Any:
        """Use the disk as any process may."""
        disk, action, path = self._disk, request["do"], request["path"]
        if action == "room":
            errors = {}
            try:
                disk.open(f"{path}/witness").append(b"witness")
            except OSError as error:
                errors[error.strerror] = 1
            disk.remove(f"{path}/witness")
            return {"tries": 1, "errors": errors}
        if action == "around":
            whole, start = disk.open(path).read(), max(request["at"] - 16, 0)
            return {"size": len(whole), "from": start, "bytes": whole[start : start + 32].hex()}
        contents = disk.copies[request["copy"]] if "copy" in request else disk.contents()
        return hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()

    def save_logs(self) -> None:
        """Write what every server said into the run's directory."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for name, lines in self._said.items():
            (self._logs / f"{name}.log").write_text("".join(line + "\n" for line in lines))


def _entry(process: Process) -> dict[str, Any]:
    """A process as its node's table shows it."""
    return {"pid": process.number, "since": process.since, "command": process.name}


class SimulationEnvironment:
    """The bundled reference store in this process, on virtual time, all from one seed."""

    name: ClassVar[str] = "simulation"
    real_time: ClassVar[bool] = False
    most: ClassVar[int] = 200
    driver: Mapping[str, Any] = {"address": HARNESS}

    def __init__(self, image: str | None = None, seed: int = 0) -> None:
        self.python_reference = "python"
        self.source = ""
        self._seed = seed
        self._nodes: list[SimulatedNode] = []

    @classmethod
    def missing(cls, image: str | None) -> str | None:
        return None

    def refuses(self, nodes: int, programs: Mapping[str, str]) -> str | None:
        if not programs:
            return None
        return f"only asyncio servers in Python can be simulated, not {', '.join(programs)}: use --on local"

    def lacks(self, capability: str) -> str | None:
        if capability == "monotonic":
            return "a simulated monotonic clock does not jump; --on local has one that does"
        return f"the simulation has no {capability}" if capability in ("storage", "squeeze") else None

    async def measure(self, tool: str, request: Mapping[str, Any]) -> Any:
        if tool != "probe":
            return []  # further addresses, of which there are none
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        await asyncio.sleep(0.02)
        return await SimulatedWatch(loop, loop.network, HARNESS, request).run()

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run on virtual time."""
        SimulatedLoop().run_to_end(main)  # type: ignore[abstract]

    def clock(self) -> int:
        """Virtual nanoseconds; asked for by the live line as well, whose thread has no loop."""
        return self._loop.nanoseconds()

    async def start(self, names: Sequence[str], logs: Path, run_id: str) -> list[Node]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        self._loop = loop
        network = loop.network = Network(loop, self._seed)
        for number, name in enumerate(names, 1):
            network.addresses[name] = f"10.66.0.{number}"
            node = SimulatedNode(name, network.addresses[name], loop, network, self._seed, logs / name)
            self._nodes.append(node)
        return list(self._nodes)

    async def stop(self) -> None:
        for node in self._nodes:
            await node.own_tool("process", {"do": "kill"})
            node.save_logs()
