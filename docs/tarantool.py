"""Tarantool 2.6, written from its documents, as the example of ``docs/tutorial.md``: one primary, which stays it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import asynctnt  # type: ignore[import-untyped]
import msgspec

from harness.cluster import Cluster, Role, wait_until
from harness.environments.base import Node
from harness.operation import Declined, Failed, Operation, Served
from harness.options import Number, Seconds
from harness.target import Client, Leadership, Target

logging.getLogger("asynctnt").addHandler(logging.NullHandler())  # it would print what it raises

PORT = 3301
READ_ONLY = 7
"""The code of the error by which a server refuses to write: it has done nothing."""

SERVER = f"""
local keys, data, address, primary, quorum, timeout = unpack(arg)
local password = io.open(keys .. '/password'):read('*l')
require('fio').mktree(data)
box.cfg{{
  work_dir = data, listen = address .. ':{PORT}', read_only = address ~= primary, memtx_memory = 67108864,
  replication = address ~= primary and ('splitbrain:%s@%s:{PORT}'):format(password, primary) or nil,
  replication_timeout = 0.5, replication_synchro_quorum = tonumber(quorum),
  replication_synchro_timeout = tonumber(timeout),
}}
if address == primary then
  box.once('users', function()
    box.schema.user.create('splitbrain', {{password = password}})
    box.schema.user.grant('splitbrain', 'super')
    box.schema.user.disable('guest')
  end)
end
"""
FORM = "box.schema.space.create('kv', {is_sync = ...}):create_index('key', {parts = {1, 'string'}})"
STATUS = "return box.info.ro, box.info.status"
READ = "local tuple = box.space.kv:get(...) return tuple and tuple[2]"
WRITE = "return box.space.kv:replace{...}[2]"
CAS = """local key, old, new = ...
local tuple = box.space.kv:get(key)
return tuple ~= nil and tuple[2] == old and box.space.kv:replace{key, new} ~= nil"""


class Tarantool(Target):
    """A Tarantool server that is written to, and replicas that confirm what it writes."""

    class Options(msgspec.Struct, frozen=True):
        """See Tarantool's manual for each."""

        is_sync: Annotated[bool, "writes wait until a quorum of servers has them"] = True
        replication_synchro_quorum: Annotated[int, Number(1, 31), "servers, the primary included"] = 2
        replication_synchro_timeout: Annotated[float, Seconds(0.1, 60), "until a write without it is undone"] = 1.0

    name: ClassVar[str] = "tarantool"
    workloads: ClassVar[frozenset[str]] = frozenset({"register"})
    programs: ClassVar[Mapping[str, str]] = {"tarantool": "tarantool"}
    ports: ClassVar[Sequence[int]] = (PORT,)
    leadership: Leadership = "primary"
    failover: float = 0.0
    claims: ClassVar[str] = "linearizable: one server executes everything, and a quorum has what it confirms"

    def __init__(self, options: Options) -> None:
        self._options = options
        self.password = secrets.token_hex(16)

    async def start(self, cluster: Cluster, node: Node) -> None:
        keys = f"{node.directory}/.splitbrain-keys"  # no data of the store's, which faults might spoil
        await node.write(f"{keys}/password", f"{self.password}\n".encode())
        await node.write(f"{keys}/server.lua", SERVER.encode())
        quorum, timeout = self._options.replication_synchro_quorum, self._options.replication_synchro_timeout
        what = [keys, f"{node.directory}/tarantool", node.address, cluster.nodes[0].address, str(quorum), str(timeout)]
        await node.start("tarantool", ["tarantool", f"{keys}/server.lua", *what])

    async def form(self, cluster: Cluster) -> None:
        await wait_until(lambda: self.ready(cluster), seconds=20, what="replicas following the primary")
        await self._ask(cluster.nodes[0], FORM, self._options.is_sync)

    async def ready(self, cluster: Cluster) -> bool:
        said = await self._statuses(cluster)
        return len(said) == len(cluster.nodes) and all(status == "running" for _, status in said.values())

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        said = await self._statuses(cluster)
        return [Role(name, "replica" if read_only else "primary") for name, (read_only, _) in said.items()]

    async def _statuses(self, cluster: Cluster) -> Mapping[str, Any]:
        """What the servers that answer say of themselves, by node."""
        said = await asyncio.gather(*(self._ask(node, STATUS) for node in cluster.nodes), return_exceptions=True)
        answers = zip(cluster.nodes, said, strict=True)
        return {node.name: answer for node, answer in answers if not isinstance(answer, BaseException)}

    async def _ask(self, node: Node, what: str, *arguments: Any) -> Any:
        client = TarantoolClient(node, self.password, 1.0)
        try:
            await client.open()
            return await client.evaluate(what, *arguments)
        finally:
            await client.close()

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        return TarantoolClient(cluster.nodes[0], self.password, timeout)


class TarantoolClient:
    """A connection to one server, which executes what it is sent one after the other."""

    def __init__(self, node: Node, password: str, timeout: float) -> None:
        self._name = node.name
        # Without its own way of connecting again: the harness does that, and so knows what was sent.
        how = {"connect_timeout": timeout, "request_timeout": timeout, "reconnect_timeout": 0, "fetch_schema": False}
        login = {"username": "splitbrain", "password": password, "auto_refetch_schema": False}
        self._connection = asynctnt.Connection(host=node.address, port=PORT, **login, **how)

    async def open(self) -> None:
        await self._connection.connect()

    async def evaluate(self, what: str, *arguments: Any) -> Any:
        return (await self._connection.eval(what, list(arguments))).body

    async def invoke(self, operation: Operation) -> Any:
        try:
            if operation.f == "read":
                (answer,) = await self.evaluate(READ, operation.key)
            elif operation.f == "write":
                (answer,) = await self.evaluate(WRITE, operation.key, operation.value)
            elif (await self.evaluate(CAS, operation.key, *operation.value))[0]:
                answer = operation.value
            else:
                raise Declined("the value was another one")
        except asynctnt.exceptions.TarantoolDatabaseError as error:
            if error.code == READ_ONLY:
                raise Failed(error.message) from None
            raise  # a write that is undone because no quorum has it may have been seen: nobody knows
        return Served(answer, by=self._name)

    async def close(self) -> None:
        await self._connection.disconnect()
