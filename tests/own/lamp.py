"""A target of one's own: a lamp that any client may switch. Its only copy is on the first node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec

from harness.cluster import Cluster, Role
from harness.environments.base import Node
from harness.operation import Failed, Operation
from harness.options import Milliseconds
from harness.target import Client, Target

PORT = 7447


class Lamp(Target):
    """A lamp, on or off."""

    class Options(msgspec.Struct, frozen=True):
        """How long the lamp takes."""

        delay: Annotated[float, Milliseconds(0, 1000), "before each answer"] = 2.0
        late: Annotated[float, Milliseconds(0, 10_000), "before any node but the first listens"] = 0.0

    name: ClassVar[str] = "lamp"
    workloads: ClassVar[frozenset[str]] = frozenset({"toggling"})
    ships: ClassVar[Sequence[str]] = ("lamp_server",)
    ports: ClassVar[Sequence[int]] = (PORT,)
    claims: ClassVar[str] = "linearizable while the first node lives"

    def __init__(self, options: Options) -> None:
        self._options = options
        self._first = ""

    async def start(self, cluster: Cluster, node: Node) -> None:
        argv = [node.python, "-m", "lamp_server", node.address, str(PORT), str(self._options.delay / 1000)]
        argv.append(str(0.0 if node is cluster.nodes[0] else self._options.late / 1000))
        await node.start("lamp", argv, {"PYTHONPATH": node.shipped})

    async def form(self, cluster: Cluster) -> None:
        self._first = cluster.nodes[0].name

    async def ready(self, cluster: Cluster) -> bool:
        return await asks(cluster.nodes[0].address, "look", 1.0) is not None

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        names = [node.name for node in cluster.nodes]
        return [Role(name, "primary" if name == self._first else "replica") for name in names]

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        return Switch(cluster.nodes[0].address, timeout)


class Switch:
    """A client, which has a connection for each operation."""

    def __init__(self, address: str, timeout: float) -> None:
        self._address = address
        self._timeout = timeout

    async def open(self) -> None:
        """Nothing to do."""

    async def invoke(self, operation: Operation) -> bool:
        lit = await asks(self._address, operation.f, self._timeout)
        if lit is None:
            raise Failed("nobody listens")
        return lit

    async def close(self) -> None:
        """Nothing to do."""


async def asks(address: str, word: str, seconds: float) -> bool | None:
    """What the server answers; None when there was no connection, so that it cannot have done anything."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(address, PORT)
    except OSError:
        return None
    try:
        async with asyncio.timeout(seconds):
            writer.write(json.dumps(word).encode() + b"\n")
            answer: bool = json.loads(await reader.readline())
            return answer
    finally:
        writer.close()
