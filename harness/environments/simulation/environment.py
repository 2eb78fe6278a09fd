"""The environment ``simulation``: servers written for asyncio run in this process, on virtual time.

The same seed and code give the same history, byte for byte. A server is a module with a coroutine
``run(arguments, host)``; it is started by the same command line as a real process, ``python -m MODULE ARGUMENTS``.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import random
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, TypeVar

import msgspec

from harness.capability import Capability
from harness.environments.base import Environment, Node, Result
from harness.environments.simulation.disk import SimulatedDisk
from harness.environments.simulation.host import EPOCH, SimulatedClock, SimulatedHost
from harness.environments.simulation.loop import Process, SimulatedLoop
from harness.environments.simulation.network import HARNESS, Network, Quality
from harness.environments.simulation.probe import SimulatedWatch
from harness.environments.tools import Request, ask
from harness.errors import FaultError, MissingError, field
from harness.faults import addresses, clock, dial, disk, netem, network, probe, process, witness
from harness.faults.network import Peer
from harness.faults.tools import TOOLS
from harness.messages import Message

_LOCAL = field("environment", "local")
A = TypeVar("A")


class SimulatedNode:
    """One node: its processes, its disk, its clocks, its place in the network."""

    def __init__(self, name: str, address: str, loop: SimulatedLoop, network: Network, seed: int, logs: Path) -> None:
        self.name = name
        self.address = address
        self.directory = f"/{name}"
        self.python = "python"
        self.shipped = ""
        self._loop = loop
        self._network = network
        self._seed = seed
        self._logs = logs
        self._clock = SimulatedClock(loop)
        self._disk = SimulatedDisk(random.Random(f"{seed}/{name}/disk"))
        self._processes: dict[str, Process] = {}
        self._hosts: dict[str, SimulatedHost] = {}
        """What each process sees of the node."""
        self._printed: dict[str, list[str]] = {}
        self._started = 0

    async def exec(self, argv: Sequence[str], *, timeout: float = 30.0) -> Result:
        raise FaultError(f"there are no commands on a simulated node, so {argv[0]} cannot run on {self.name}")

    async def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        running = self._processes.get(name)
        if running is not None and running.state != "dead":
            return
        if argv[1:2] != ["-m"]:
            raise MissingError(f"only asyncio servers in Python can be simulated, not {argv[0]}: use {_LOCAL}")
        module = importlib.import_module(argv[2])
        self._started += 1
        server = self._processes[name] = Process(self.name, name)
        server.number, server.since = self._started, self._loop.nanoseconds()
        log = self._printed.setdefault(name, [])
        rng = random.Random(f"{self._seed}/{self.name}/{self._started}")
        host = self._hosts[name] = SimulatedHost(self._clock, self._disk, self._network, rng, log)
        server.exited = lambda last_words: self._exit(server, log, last_words)
        self._loop.create_task(module.run(argv[3:], host), context=server.context)

    def _exit(self, server: Process, log: list[str], last_words: str) -> None:
        """A server has ended itself."""
        log.append(last_words)
        self._die(server)

    def _die(self, server: Process) -> None:
        self._end(server)
        self._disk.crash()

    def _end(self, server: Process) -> None:
        server.state = "dead"
        self._network.reset(server)

    async def running(self) -> Mapping[str, bool]:
        return {name: server.state != "dead" for name, server in self._processes.items()}

    async def write(self, path: str, data: bytes) -> None:
        file = self._disk.open(path)
        file.truncate(0)
        file.append(data)
        file.sync()

    async def log(self, name: str) -> str:
        return "\n".join(self._printed.get(name, []))

    @property
    def own_tools(self) -> frozenset[ModuleType]:
        """The fault tools in whose place it does something itself."""
        return SIMULATED

    async def own_tool(self, request: Request[Any]) -> Any:
        """Do what a fault tool does on a real node, and answer as it does. Raises ``FaultError`` for what it cannot."""
        await asyncio.sleep(0.02)
        if request.do not in _OWN:
            raise FaultError(f"{request.name} cannot {request.do.__name__} on a simulated node; it can with {_LOCAL}")
        answer = _OWN[request.do](self, **request.given)
        return await answer if asyncio.iscoroutine(answer) else answer

    def _look(self) -> list[process.Seen]:
        """The processes by what they do: one that runs answers at once, one that stands still does not."""
        answered: set[str] = set()
        seen: list[process.Seen] = []
        for name, server in self._processes.items():
            used = server.ran
            self._loop.run_as(server, answered.add, name)
            if name in answered or server.state != "dead":
                state = "S" if name in answered else "T"
                seen.append({**_entry(server, state), "threads": state, "used": used})
        return seen

    def _signalled(self, do: Callable[[Process], None], *states: str, only: str = "") -> list[process.Signalled]:
        """The servers that are in one of these states, in which a signal does something to them, after it was sent."""
        running = (server for server in self._processes.values() if only in ("", server.name))
        heard = [server for server in running if server.state in states]
        for server in heard:
            do(server)
        return [{**_entry(server, "S"), "forced": False} for server in heard]

    def _kill(self, at: float = 0.0) -> list[process.Signalled]:
        # Whenever that is asked for: what happens at one moment of virtual time happens together.
        return self._signalled(self._die, "running", "paused")

    def _terminate(self, grace: float = 0.0) -> list[process.Signalled]:
        return self._signalled(self._end, "running")  # what it wrote stays with the operating system

    def _pause(self, only: str = "") -> list[process.Signalled]:
        def stop(server: Process) -> None:
            server.state = "paused"

        return self._signalled(stop, "running", only=only)

    def _resume(self) -> list[process.Signalled]:
        return self._signalled(self._loop.resume, "paused")

    def _cut(self, peers: list[Peer], how: str = "drop", flap: float = 0.0) -> None:
        network, here, now = self._network, self.address, self._loop.time()
        for peer in peers:
            (there,) = peer["addresses"]
            if peer["direction"] in ("out", "both"):
                network.link(here, there).cut(how, now, flap)
            if peer["direction"] in ("in", "both"):
                network.link(there, here).cut(how, now, flap)

    def _restore(self) -> dict[str, int]:
        network, here = self._network, self.address
        lost: dict[str, int] = {}
        for peer in (*network.addresses.values(), HARNESS):
            links = [network.link(peer, here)] + ([network.link(here, HARNESS)] if peer == HARNESS else [])
            for link in links:
                link.restore()
                lost[peer], link.dropped = lost.get(peer, 0) + link.dropped, 0
        return lost

    def _degrade(self, how: str, peers: list[Peer], quality: dict[str, float], seed: str) -> None:
        network, here = self._network, self.address
        for peer in peers:
            (there,) = peer["addresses"]
            link = network.link(here, there) if peer["direction"] == "out" else network.link(there, here)
            link.quality = Quality(**quality)

    def _mend(self) -> None:
        network, here = self._network, self.address
        for peer in (*network.addresses.values(), HARNESS):
            network.link(here, peer).quality = network.link(peer, here).quality = None

    async def _watch(self, asked: probe.Asked) -> probe.Watched:
        return await SimulatedWatch(self._loop, self._network, self.address, asked).run()

    def _skew(
        self, offset: float = 0.0, rate: float = 1.0, period: float = 0.0, monotonic: bool = False
    ) -> dict[str, Any]:
        if monotonic:
            raise FaultError(f"the monotonic clock of a simulated node does not jump; {_LOCAL} has one that does")
        self._clock.skew(offset, rate, period)
        return self._read()

    def _set_right(self) -> dict[str, Any]:
        self._clock.right()
        return self._read()

    def _read(self) -> dict[str, Any]:
        """Seconds by which the clock is ahead, and the servers that see it."""
        living = [name for name, server in self._processes.items() if server.state != "dead"]
        return {"ahead": self._clock.error(), "processes": living}

    async def _read_clocks(self, samples: int, every: float) -> list[dict[str, dict[str, float]]]:
        """By how much the clocks that each server sees are ahead of the true time, so many times."""
        began, taken = self._loop.time(), []
        for number in range(samples):
            await asyncio.sleep(max(0.0, began + number * every - self._loop.time()))
            now, seen = self._loop.time(), {}
            for name, server in self._processes.items():
                if server.state != "dead":
                    host = self._hosts[name]
                    seen[f"{name} {server.number}"] = {"at": now, "wall": host.wall() - (EPOCH + now)}
            taken.append(seen)
        return taken

    def _fill(self, path: str) -> int:
        self._disk.full = True
        return 0

    def _make_room(self, path: str, size: int) -> None:
        self._disk.full = False

    def _flip(self, file: str, at: int, bit: int) -> dict[str, str]:
        self._disk.flip(file, at, bit)
        return {"file": file}

    def _flip_back(self, flipped: list[disk.Flipped]) -> list[bool]:
        return [self._disk.open(byte["file"]).restore() for byte in flipped]

    def _back_up(self, path: str, copy: str) -> None:
        self._disk.copies[copy] = self._disk.contents()

    def _try_to_write(self, path: str) -> witness.Tried:
        """Use the disk as any process may."""
        errors = {}
        try:
            self._disk.open(f"{path}/witness").append(b"witness")
        except OSError as error:
            errors[str(error.strerror)] = 1
        self._disk.remove(f"{path}/witness")
        return {"tries": 1, "errors": errors}

    def _around(self, path: str, at: int) -> witness.Around:
        whole, start = self._disk.open(path).read(), max(at - 16, 0)
        return {"size": len(whole), "from": start, "bytes": whole[start : start + 32].hex()}

    def _digest(self, path: str, copy: str = "") -> str:
        contents = self._disk.copies[copy] if copy else self._disk.contents()
        return hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()

    def save_logs(self) -> None:
        """Write what every server said into the run's directory."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for name, lines in self._printed.items():
            (self._logs / f"{name}.log").write_text("".join(line + "\n" for line in lines))


def _entry(server: Process, state: str) -> process.Server:
    """A process as its node's table shows it."""
    return {"pid": server.number, "since": server.since, "state": state, "command": server.name}


_OWN: Mapping[Callable[..., Any], Callable[..., Any]] = {
    process.look: SimulatedNode._look,
    process.kill: SimulatedNode._kill,
    process.terminate: SimulatedNode._terminate,
    process.pause: SimulatedNode._pause,
    process.resume: SimulatedNode._resume,
    addresses.further: lambda node: [],
    network.cut: SimulatedNode._cut,
    network.heal: SimulatedNode._restore,
    netem.mechanism: lambda node: "simulation",
    netem.degrade: SimulatedNode._degrade,
    netem.mend: SimulatedNode._mend,
    probe.watch: SimulatedNode._watch,
    clock.skew: SimulatedNode._skew,
    clock.heal: SimulatedNode._set_right,
    clock.read: SimulatedNode._read,
    dial.watch: SimulatedNode._read_clocks,
    disk.fill: SimulatedNode._fill,
    disk.heal: SimulatedNode._make_room,
    disk.find: lambda node, path, file, place: node._disk.find(file, place),
    disk.flip: SimulatedNode._flip,
    disk.mend: SimulatedNode._flip_back,
    disk.truncate: lambda node, file, count: node._disk.cut(file, count),
    disk.back_up: SimulatedNode._back_up,
    disk.restore: lambda node, path, copy: node._disk.roll_back(copy),
    disk.forget: lambda node, path, copy: None,
    witness.room: SimulatedNode._try_to_write,
    witness.around: SimulatedNode._around,
    witness.digest: SimulatedNode._digest,
}
"""What a simulated node does in the place of each function of a fault tool."""
SIMULATED = frozenset(sys.modules[do.__module__] for do in _OWN)


class SimulationEnvironment(Environment):
    """Servers written for asyncio in this process, on virtual time, all from one seed."""

    name: ClassVar[str] = "simulation"
    real_time: ClassVar[bool] = False
    most: ClassVar[int] = 200
    driver: Mapping[str, Any] = {"address": HARNESS}

    never: ClassVar[Mapping[Capability, str]] = {
        Capability.MONOTONIC: f"a simulated monotonic clock does not jump; {_LOCAL} has one that does",
        **{
            Capability(name): f"the simulation has no {name}"
            for tool in TOOLS
            if tool.module not in SIMULATED
            for name in tool.capabilities
        },
    }

    def __init__(self, image: str | None = None, seed: int = 0, options: msgspec.Struct | None = None) -> None:
        self._seed = seed
        self._nodes: list[SimulatedNode] = []

    @classmethod
    def missing(cls, image: str | None) -> str | None:
        return None

    def refuses(self, nodes: int, programs: Mapping[str, str]) -> str | None:
        if not programs:
            return None
        return f"only asyncio servers in Python can be simulated, not {', '.join(programs)}: use {_LOCAL}"

    async def measure(self, request: Request[A]) -> A:
        answer: Any = []  # further addresses, of which there are none
        if request.tool is probe:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SimulatedLoop)
            await asyncio.sleep(0.02)
            answer = await SimulatedWatch(loop, loop.network, HARNESS, **request.given).run()
        measured: A = answer
        return measured

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run on virtual time."""
        SimulatedLoop().run_to_end(main)  # type: ignore[abstract]

    def clock(self) -> int:
        """Virtual nanoseconds; asked for by the live line as well, whose thread has no loop."""
        return self._loop.nanoseconds()

    async def start(self, names: Sequence[str], logs: Path, run_id: str, ships: Sequence[str] = ()) -> list[Node]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        self._loop = loop
        network = loop.network = Network(loop, self._seed)
        for number, name in enumerate(names, 1):
            network.addresses[name] = f"10.66.0.{number}"
            node = SimulatedNode(name, network.addresses[name], loop, network, self._seed, logs / name)
            self._nodes.append(node)
        return list(self._nodes)

    def messages(self, began: int) -> Iterator[Message]:
        for source, target, sent, arrived, kind, term in self._loop.network.sent:
            yield Message(
                source,
                target,
                round(sent * 1e9) - began,
                None if arrived is None else round(arrived * 1e9) - began,
                kind if isinstance(kind, str) else "",
                term if isinstance(term, int) else None,
            )

    async def stop(self) -> None:
        for node in self._nodes:
            await node.own_tool(ask(process.kill))
            node.save_logs()
