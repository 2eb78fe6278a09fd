"""The protocol between a run and the place where its nodes live."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from abc import abstractmethod
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Final, Protocol, TypeVar, runtime_checkable

import msgspec

from harness.capability import ALWAYS, Capability
from harness.environments.tools import Request, command
from harness.errors import FaultError
from harness.faults.tools import TOOLS
from harness.messages import Message
from harness.options import Plugin

A = TypeVar("A")

DISK_BYTES: Final = 512 << 20
"""How large the file system of a node's data is."""
LOG_TAIL: Final = 64 * 1024
"""How much of a log is read, its last bytes."""


class Result(msgspec.Struct, frozen=True):
    """What a command in a node ended with."""

    code: int
    out: bytes
    err: bytes = b""

    @property
    def text(self) -> str:
        """Everything that the command printed, errors last."""
        return (self.out + self.err).decode(errors="replace").strip()


class Node(Protocol):
    """One machine of the cluster, seen from the harness.

    ``address`` is reachable from the harness and from the other nodes. ``directory`` is where servers on the node
    keep their data. ``python`` is an interpreter in the node that runs the fault tools (standard library only).
    ``shipped`` is where Python finds there what the environment was told to ship.
    """

    name: str
    address: str
    directory: str
    python: str
    shipped: str

    async def exec(self, argv: Sequence[str], *, timeout: float = 30.0) -> Result:
        """Run a command inside the node's namespaces, as root, with the fault tools at hand."""
        ...

    async def start(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start a server that goes on running; what it prints goes to the log ``name``.

        Starting a name again after the server ended starts it anew; while it runs nothing is done. Raises
        ``MissingError`` when the program is not there.
        """
        ...

    async def running(self) -> Mapping[str, bool]:
        """The servers that were started on this node, and whether each still runs."""
        ...

    async def write(self, path: str, data: bytes) -> None:
        """Write a file inside the node, making the folders above it."""
        ...

    async def log(self, name: str) -> str:
        """What the server has printed so far, its last 64 KiB."""
        ...


class Environment(Plugin, Protocol):
    """A place that can start nodes."""

    name: ClassVar[str]
    real_time: ClassVar[bool]
    most: ClassVar[int]
    """How many nodes it can have."""
    one_machine: ClassVar[bool] = False
    """Whether all nodes are on this machine, and so have its monotonic clock."""
    never: ClassVar[Mapping[Capability, str]] = {}
    """What it cannot do to any nodes: why, in one clause with what to do."""
    driver: Mapping[str, Any] = {}
    """Who drives the clients, as nodes see it, for a cut: its ``address``; perhaps ``spare``, a port to keep."""

    def __init__(self, image: str | None = None, seed: int = 0, options: msgspec.Struct | None = None) -> None:
        """``image`` names that of the servers, where they have one; ``options`` is one of its ``Options``."""
        return

    @classmethod
    @abstractmethod
    def missing(cls, image: str | None) -> str | None:
        """Why this machine cannot have this environment, in one sentence with what to do; None if it can."""
        ...

    def tried(self) -> Mapping[Capability, str | None]:
        """Of what only an attempt can tell: why it cannot be had here, None if it can. Nothing is tried twice."""
        return {}

    def lacks(self, capability: Capability) -> str | None:
        """Why it cannot do something to nodes here, in one clause with what to do; None if it can."""
        if capability in self.never:
            return self.never[capability]
        return None if capability in ALWAYS else self.tried().get(capability)

    @abstractmethod
    async def measure(self, request: Request[A]) -> A:
        """Run, on the machine that drives the clients, a tool that only measures."""
        ...

    @abstractmethod
    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end, on the event loop that this environment needs."""
        ...

    @abstractmethod
    def clock(self) -> int:
        """Monotonic nanoseconds of the machine that drives the clients, from any moment on."""
        ...

    @abstractmethod
    async def start(self, names: Sequence[str], logs: Path, run_id: str, ships: Sequence[str] = ()) -> list[Node]:
        """Start one node for each name, with the Python packages ``ships``; logs end up below ``logs/<node>/``."""
        ...

    @abstractmethod
    async def stop(self) -> None:
        """End everything that ``start`` and the nodes started; safe to call at any moment."""
        ...


class RealEnvironment(Environment, Protocol):
    """What all places have in common whose nodes run in real time, on a network that this machine is on."""

    real_time: ClassVar[bool] = True

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end as fast as it goes.

        On Python's own event loop. Loops upon libuv end the whole process when a client gives up connecting, as it does
        under faults, and closes a socket that they have yet to watch (libuv pull request 5129).
        """
        asyncio.run(main)

    def clock(self) -> int:
        """Nanoseconds of this machine's monotonic clock."""
        return time.monotonic_ns()

    async def measure(self, request: Request[A]) -> A:
        """Run a tool in this process, beside everything else. Raises ``FaultError`` for one that changes something."""
        if not any(request.do in tool.measures for tool in TOOLS):
            raise FaultError(f"{request.name} does more than measure, and this is nobody's node")
        return await asyncio.to_thread(request.do, **request.given)


@runtime_checkable
class Refuses(Protocol):
    """An environment that cannot have every store."""

    def refuses(self, nodes: int, programs: Mapping[str, str]) -> str | None:
        """Why it cannot have so many nodes, or servers that need these programs, with what to do; None if it can."""
        ...


@runtime_checkable
class SeesMessages(Protocol):
    """An environment that sees what servers send to one another."""

    def messages(self, began: int) -> Iterable[Message]:
        """The messages of the run that began at this moment of ``clock``, as far back as they are remembered."""
        ...


@runtime_checkable
class Guards(Protocol):
    """An environment on whose machines there are other users, who can be kept from the store."""

    async def guard(self, ports: Sequence[int]) -> str | None:
        """Let only the nodes and the clients connect to these TCP ports; why that cannot be had, None if it is."""
        ...


@runtime_checkable
class HasImage(Protocol):
    """An environment whose servers are of an image."""

    def pin_image(self) -> str:
        """Take no other image from now on, whatever its name comes to mean; the digest that it can be told by."""
        ...


@runtime_checkable
class HasTools(Protocol):
    """A node that does itself what some of the fault tools would do, because they could not."""

    @property
    def own_tools(self) -> frozenset[ModuleType]: ...

    async def own_tool(self, request: Request[Any]) -> Any: ...


def reasons(answered: Mapping[str, str | None]) -> dict[Capability, str | None]:
    """What the tool ``abilities`` has answered of the capabilities that it tries."""
    return {Capability(name): why for name, why in answered.items()}


_calls = itertools.count()


async def run_tool(node: Node, request: Request[A], *, timeout: float = 30.0) -> A:
    """Have a fault tool do what is asked of it (see ``ask``) inside a node, and return what it answers.

    A tool needs only the standard library: its source is handed to the node's interpreter, so that what runs is
    always this version, in an image, in a namespace or over ssh alike. Raises ``FaultError`` with the tool's own
    words when it fails.
    """
    if isinstance(node, HasTools) and request.tool in node.own_tools:
        answer: A = await node.own_tool(request)
        return answer
    return await run_inside(node, request, timeout=timeout)


async def run_inside(node: Node, request: Request[A], *, timeout: float = 30.0) -> A:
    """The same, always inside the node."""
    tool, call = request.name, str(next(_calls))
    try:
        result = await node.exec(command(node.python, request, call), timeout=timeout)
    except TimeoutError:
        raise FaultError(f"{tool} did not finish on {node.name} within {timeout:g} s") from None
    if result.code != 0:
        last_lines = result.text.splitlines()[-1:] or ["it said nothing"]
        raise FaultError(f"{tool} failed on {node.name}: {last_lines[0]}")
    try:
        answered, answer = json.loads(result.out)
    except ValueError:
        raise FaultError(f"{tool} on {node.name} answered something odd: {result.text[:200]}") from None
    if answered != call:
        raise FaultError(f"{tool} on {node.name} gave no answer")
    typed: A = answer
    return typed
