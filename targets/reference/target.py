"""The bundled reference store as a target: starting its processes, and a client that follows its primary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec
from redis.exceptions import RedisError, ResponseError

from harness.cluster import Cluster, Role
from harness.environments.base import Node
from harness.operation import Failed, Indeterminate, Operation
from harness.target import Client
from targets.reference.server import CLIENT_PORT
from targets.resp import connect, quick_info


class Reference:
    """Primary-backup replication, synchronous or asynchronous, with an elected primary."""

    class Options(msgspec.Struct, frozen=True):
        """Options of the reference store."""

        replication: Literal["sync", "async"] = "sync"

    name: ClassVar[str] = "reference"
    workloads: ClassVar[frozenset[str]] = frozenset({"register"})
    programs: ClassVar[Mapping[str, str]] = {}
    claims: ClassVar[str] = (
        "with replication=sync linearizable under partitions, kills and pauses; with replication=async nothing "
        "once a primary is cut off or killed"
    )

    def __init__(self, options: Options) -> None:
        self._options = options

    async def start(self, cluster: Cluster, node: Node) -> None:
        environment = cluster.environment
        argv = [environment.python_reference, "-m", "targets.reference.server", "--name", node.name]
        for other in cluster.nodes:
            argv += ["--node", f"{other.name}={other.address}"]
        argv += ["--data", node.directory, "--replication", self._options.replication]
        await node.start("reference", argv, {"PYTHONPATH": environment.source, "PYTHONUNBUFFERED": "1"})

    async def form(self, cluster: Cluster) -> None:
        """Nothing to do: the nodes find and elect one another."""

    async def ready(self, cluster: Cluster) -> bool:
        roles = await self.roles(cluster)
        primaries = [role for role in roles if role.role == "primary"]
        same_term = len({role.term for role in roles}) == 1
        return len(roles) == len(cluster.nodes) and len(primaries) == 1 and same_term

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        answers = await quick_info([(node.name, node.address) for node in cluster.nodes], CLIENT_PORT)
        return [
            Role(name, "replica" if info["role"] == "backup" else str(info["role"]), int(info["term"]))
            for name, info in answers.items()
        ]

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        return ReferenceClient(node.address, timeout)


class ReferenceClient:
    """Asks its own node; where that is not primary, asks the one that it names, once."""

    def __init__(self, address: str, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._connections: dict[str, Any] = {}

    async def open(self) -> None:
        self._connections[self._address] = await connect(self._address, CLIENT_PORT, self._timeout)

    async def invoke(self, operation: Operation) -> Any:
        try:
            return await self._ask(self._address, operation)
        except _Elsewhere as elsewhere:
            try:
                return await self._ask(elsewhere.address, operation)
            except _Elsewhere:
                raise Failed("neither this node nor the one that it calls primary is primary") from None

    async def _ask(self, address: str, operation: Operation) -> Any:
        if address not in self._connections:
            try:
                self._connections[address] = await connect(address, CLIENT_PORT, self._timeout)
            except (RedisError, OSError) as error:
                raise Failed(f"the primary cannot be reached: {error}") from None
        connection = self._connections[address]
        try:
            if operation.f == "read":
                found = await connection.execute_command("GET", operation.key)
                return None if found is None else int(found)
            if operation.f == "write":
                await connection.execute_command("SET", operation.key, operation.value)
                return operation.value
            old, new = operation.value
            if not await connection.execute_command("CAS", operation.key, old, new):
                raise Failed("the value was another one")
            return operation.value
        except ResponseError as error:
            words = str(error).split()
            if words and words[0] == "NOTPRIMARY":
                if words[-1] in ("?", address):
                    raise Failed("no primary is known") from None
                raise _Elsewhere(words[-1]) from None
            raise Indeterminate(str(error)) from None

    async def close(self) -> None:
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            await connection.aclose()


class _Elsewhere(Exception):  # noqa: N818 - a redirection, not an error
    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address
