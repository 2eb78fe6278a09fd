"""Redis with Sentinel: one primary, replicas, a sentinel on every node, automatic failover.

A client is bound to a node: it asks that node's sentinel who the primary is, and follows. Replication is
asynchronous, so acknowledged writes can be lost and two primaries can serve at once; the options narrow the window.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from hiredis import HiredisError, ReplyError

from harness.cluster import Cluster, Role, leader, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.errors import NodeError, NothingToDo, option
from harness.faults import process
from harness.operation import Failed, Indeterminate, Operation, Served
from harness.options import Milliseconds, Number
from harness.target import LOG_PATTERNS, ChangesMembers, Client, Leadership, Target
from harness.targets.redis_commands import READS, REFUSED, apply, contents
from harness.targets.redis_transactions import How, transact
from harness.targets.resp import connect, connected, quick, quick_each, quick_info
from harness.targets.transactions import only_reads

PORT = 6379
SENTINEL_PORT = 26379
SERVICE = "splitbrain"

_HAND_OVER_SECONDS = 15.0
_FOLLOW_SECONDS = 0.2
"""How long a client trusts what its sentinel said about the primary."""
_STATE_SECONDS = 5.0
"""How long a server may take to let somebody in who reads all that it holds."""
_REFUSALS = ("READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN", "OOM", "MISCONF", "NOAUTH", "DENIED", *REFUSED)
"""Errors with which Redis refuses a command before it does anything."""


class Redis(Target):
    """A Redis primary with replicas, watched by a sentinel on every node."""

    class Options(msgspec.Struct, frozen=True):
        """See redis.conf for each."""

        min_replicas_to_write: Annotated[int, Number(0, 99), "replicas without which the primary takes no write"] = 0
        wait: Annotated[int, Number(0, 99), "replicas that WAIT is called with after each write; 0: it is not"] = 0
        appendonly: Annotated[bool, "whether every write goes to a log on disk"] = False
        bank: Annotated[Literal["script", "steps"], "money is moved by a script, or by reading and then writing"] = (
            "script"
        )
        txn: Annotated[How, "transactions by MULTI and EXEC, by these after a WATCH and reads, or by a script"] = (
            "multi"
        )
        down_after_ms: Annotated[int, Milliseconds(1, 600_000), "silence after which a sentinel calls a node down"] = (
            1500
        )

    name: ClassVar[str] = "redis"
    workloads: ClassVar[frozenset[str]] = frozenset(
        {
            *("register", "append", "set", "counter", "queue", "unique-ids", "bank", "lock", "lease"),
            *("list-append", "rw-register", "rmw", "long-fork", "write-skew"),
        }
    )
    leadership: Leadership = "primary"
    programs: ClassVar[Mapping[str, str]] = {
        "redis-server": "redis-server",
        "redis-sentinel": "redis-sentinel",
    }
    log_patterns: ClassVar[Mapping[str, str]] = {
        **LOG_PATTERNS,
        "memory error": LOG_PATTERNS["memory error"] + r"|REDIS BUG REPORT START",
    }
    ports: ClassVar[tuple[int, ...]] = (PORT, SENTINEL_PORT)
    claims: ClassVar[str] = (
        "linearizable while the primary stays the same; no promise for acknowledged writes across a failover"
    )

    def __init__(self, options: Options) -> None:
        self._options = options
        # Sentinels agree that the primary is down, elect one of themselves, and wait for its choice to be followed.
        self.failover = 4.0 + options.down_after_ms / 1000
        self.password = secrets.token_hex(32)
        """Of servers and sentinels, so that other users of the machines stay out. It stands in nodes' files only."""
        self._configured: set[Node] = set()

    @property
    def membership(self) -> ChangesMembers:
        return self

    def misfit(self, zones: Mapping[str, str]) -> str | None:
        for name in ("min_replicas_to_write", "wait"):
            if (asked := getattr(self._options, name)) > len(zones) - 1:
                return f"{option(name)} is {asked}, but {len(zones)} nodes have {len(zones) - 1} replicas"
        return None

    async def start(self, cluster: Cluster, node: Node) -> None:
        conf, sentinel = f"{node.directory}/redis.conf", f"{node.directory}/sentinel.conf"
        if node not in self._configured:
            await self._configure(cluster, node, cluster.nodes[0])
        await node.start("redis", ["redis-server", conf])
        await node.start("sentinel", ["redis-server", sentinel, "--sentinel"])

    async def _configure(self, cluster: Cluster, node: Node, primary: Node) -> None:
        """Written once: Sentinel and Redis rewrite these files as roles change, and a restart must find that."""
        await node.write(f"{node.directory}/redis.conf", self._redis_conf(node, primary).encode())
        await node.write(f"{node.directory}/sentinel.conf", self._sentinel_conf(cluster, node, primary).encode())
        self._configured.add(node)

    def _redis_conf(self, node: Node, primary: Node) -> str:
        options = self._options
        lines = [
            f"bind {node.address} 127.0.0.1",
            f"port {PORT}",
            "protected-mode yes",
            f"requirepass {self.password}",
            f"masterauth {self.password}",
            "daemonize no",
            f"dir {node.directory}",
            'save ""',
            f"appendonly {'yes' if options.appendonly else 'no'}",
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
            "repl-timeout 5",
            "repl-ping-replica-period 1",
            f"min-replicas-to-write {options.min_replicas_to_write}",
            "min-replicas-max-lag 2",
        ]
        if node.name != primary.name:
            lines.append(f"replicaof {primary.address} {PORT}")
        return "\n".join(lines) + "\n"

    def _sentinel_conf(self, cluster: Cluster, node: Node, primary: Node) -> str:
        # Who joins again is the same sentinel: told of its former self, one with a new name would count itself twice.
        identity = hashlib.sha256(node.address.encode()).hexdigest()[:40]
        lines = [
            f"bind {node.address} 127.0.0.1",
            f"port {SENTINEL_PORT}",
            f"sentinel myid {identity}",
            "protected-mode yes",
            f"requirepass {self.password}",  # which sentinels give one another as well
            "daemonize no",
            f"dir {node.directory}",
            f"sentinel monitor {SERVICE} {primary.address} {PORT} {cluster.majority}",
            f"sentinel auth-pass {SERVICE} {self.password}",
            f"sentinel down-after-milliseconds {SERVICE} {self._options.down_after_ms}",
            f"sentinel failover-timeout {SERVICE} 5000",
            f"sentinel parallel-syncs {SERVICE} {len(cluster.nodes)}",
        ]
        return "\n".join(lines) + "\n"

    async def form(self, cluster: Cluster) -> None:
        """Nothing to do: the configuration says who follows whom, and sentinels find one another through it."""

    async def ready(self, cluster: Cluster) -> bool:
        others = len(cluster.nodes) - 1
        infos = await self._infos(cluster.nodes)
        primaries = [info for info in infos.values() if info["role"] == "master"]
        if len(infos) <= others or len(primaries) != 1 or int(primaries[0]["connected_slaves"]) != others:
            return False
        if any(info.get("master_link_status", "up") != "up" for info in infos.values()):
            return False
        addresses = set()
        for node in cluster.nodes:
            seen = await self._sentinel_view(node)
            if seen is None or int(seen["num-other-sentinels"]) != others or int(seen["num-slaves"]) != others:
                return False
            addresses.add(seen["ip"])
        primary = next(node for node in cluster.nodes if infos[node.name]["role"] == "master")
        return addresses == {primary.address}

    async def _infos(self, nodes: Sequence[Node]) -> dict[str, dict[str, str]]:
        """What the servers that answer say of their replication, by node."""
        return await quick_info([(node.name, node.address) for node in nodes], PORT, self.password)

    async def _ask_sentinel(self, node: Node, question: str) -> Any:
        return await quick(node.address, SENTINEL_PORT, "SENTINEL", question, SERVICE, password=self.password)

    async def _sentinel_view(self, node: Node) -> Mapping[str, Any] | None:
        return _view(await self._ask_sentinel(node, "MASTER"))

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        infos = await self._infos(cluster.nodes)
        epochs = await asyncio.gather(*(self._epoch(cluster.node(name)) for name in infos))
        return [
            Role(name, "primary" if info["role"] == "master" else "replica", epoch, _offset(info))
            for (name, info), epoch in zip(infos.items(), epochs, strict=True)
        ]

    async def own_state(self, cluster: Cluster, node: Node) -> Mapping[str, str] | None:
        async with connected(node.address, PORT, _STATE_SECONDS, self.password) as link:
            return await contents(link.execute_command)

    async def _epoch(self, node: Node) -> int | None:
        """Sentinel's configuration epoch in which a node is primary, if its own sentinel names it as that.

        A sentinel that directs a failover has the new epoch beside the old address for a while. What it calls the
        primary now changes together with the epoch: where that is the same before and after, the two belong together.
        """
        where = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        commands = [where, ("SENTINEL", "MASTER", SERVICE), where]
        answers = await quick_each(node.address, SENTINEL_PORT, commands, password=self.password)
        if not answers or not answers[0] == answers[2] == [node.address, str(PORT)]:
            return None
        seen = _view(answers[1])
        return None if seen is None else int(seen["config-epoch"])

    async def leave(self, cluster: Cluster, names: Sequence[str]) -> Sequence[str]:
        """Take nodes out as an administrator does: a primary hands over, the servers end, and sentinels forget them."""
        for name in names:
            others = [node for node in cluster.nodes if node.name != name]
            if await self._primary(cluster) == cluster.node(name):

                async def handed_over(leaving: str = name, left: Sequence[Node] = others) -> bool:
                    """A sentinel that is reset sooner would stay with the old primary, or leave a replica with it."""
                    views = [await self._sentinel_view(node) for node in left]
                    named = {view["ip"] for view in views if view is not None}
                    if named == {cluster.node(leaving).address}:
                        # A sentinel refuses while it knows of no good replica yet, or is about it already.
                        await self._ask_sentinel(left[0], "FAILOVER")
                        return False
                    now = await self._primary(cluster)
                    if now is None or now.name == leaving or named != {now.address}:
                        return False
                    return await self._all_follow(cluster, left)

                try:
                    await wait_until(handed_over, seconds=_HAND_OVER_SECONDS, what=f"{name} handing over", every=0.5)
                except NodeError as error:
                    raise NothingToDo(str(error)) from None
            await run_tool(cluster.node(name), ask(process.terminate))
            for node in others:
                await self._ask_sentinel(node, "RESET")

            async def settled(leaving: str = name) -> bool:
                """A primary counts a replica for a while after it has gone, and a new one has first to be followed."""
                return leaving not in await self.members(cluster) and await self._all_follow(cluster, cluster.nodes)

            with contextlib.suppress(NodeError):
                await wait_until(settled, seconds=_HAND_OVER_SECONDS, what=f"{name} leaving", every=0.3)
        return await self.members(cluster)

    async def join(self, cluster: Cluster, names: Sequence[str]) -> Sequence[str]:
        """Start nodes that left as replicas of whoever is primary now."""
        for name in names:
            primary = await self._primary(cluster)
            if primary is None:
                raise NothingToDo("there is no primary that could be followed")
            node = cluster.node(name)
            if name not in await self.members(cluster):
                await run_tool(node, ask(process.kill))
                await self._configure(cluster, node, primary)
            if name in cluster.kept_down:
                continue

            await self.start(cluster, node)

            async def follows(joining: str = name) -> bool:
                return joining in await self.members(cluster)

            with contextlib.suppress(NodeError):
                await wait_until(follows, seconds=_HAND_OVER_SECONDS, what=f"{name} following")
        return await self.members(cluster)

    async def _all_follow(self, cluster: Cluster, nodes: Sequence[Node]) -> bool:
        """Whether each of these nodes that answers is the primary or one of its replicas."""
        up = {role.node for role in await self.roles(cluster)} & {node.name for node in nodes}
        return up <= {*await self.members(cluster)}

    async def _primary(self, cluster: Cluster) -> Node | None:
        """Of the nodes that believe to be primary, the one that most sentinels name; else that of the highest epoch.

        One that has handed over believes it for some seconds more.
        """
        views = [await self._sentinel_view(node) for node in cluster.nodes]
        named = Counter(view["ip"] for view in views if view is not None)
        claimants = [role for role in await self.roles(cluster) if role.role == "primary"]
        most = max((named[cluster.node(role.node).address] for role in claimants), default=0)
        name = leader([role for role in claimants if named[cluster.node(role.node).address] == most])
        return None if name is None else cluster.node(name)

    async def members(self, cluster: Cluster) -> Sequence[str]:
        """The primary, and those that it has as replicas."""
        primary = await self._primary(cluster)
        if primary is None:
            raise NothingToDo("there is no primary")
        info = (await self._infos([primary])).get(primary.name, {})
        addresses = {primary.address}
        for name, text in info.items():
            if name.startswith("slave") and name[5:].isdigit():
                replica = dict(part.split("=", 1) for part in text.strip().split(","))
                addresses.add(replica["ip"])
        return [node.name for node in cluster.nodes if node.address in addresses]

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        isolated = self._options.bank == "script"
        names = {other.address: other.name for other in cluster.nodes}
        options = self._options
        return RedisClient(
            node.address, timeout, options.wait, self.password, names, isolated=isolated, txn=options.txn
        )


def _offset(info: Mapping[str, str]) -> int | None:
    """How many bytes of the stream of changes a server has; None where it does not tell, as while it copies all."""
    text = info.get("master_repl_offset" if info["role"] == "master" else "slave_repl_offset", "")
    return int(text) if text.isdecimal() and info.get("master_sync_in_progress", "0") == "0" else None


def _view(answer: Any) -> Mapping[str, Any] | None:
    """What a sentinel tells of the primary, by name."""
    if isinstance(answer, list):
        return dict(zip(answer[::2], answer[1::2], strict=True))
    return answer if isinstance(answer, Mapping) else None


class RedisClient:
    """Follows the primary that the sentinel of its own node names.

    A server knows no epoch, and that client's sentinel may have an old one: which epoch a server was primary in is told
    by ``roles``, which asks its own sentinel.
    """

    def __init__(
        self,
        address: str,
        timeout: float,
        wait: int,
        password: str,
        names: Mapping[str, str],
        *,
        isolated: bool = True,
        txn: How = "multi",
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._wait = wait
        self._password = password
        self._isolated = isolated
        self._txn: How = txn
        self._names = names
        """The nodes by address."""
        self._sentinel: Any = None
        self._own: Any = None
        self._primary: Any = None
        self._primary_address = ""
        self._asked = 0.0

    async def open(self) -> None:
        self._sentinel = await connect(self._address, SENTINEL_PORT, self._timeout, self._password)
        await self._follow()

    async def _follow(self) -> None:
        """Be connected to whoever the sentinel says is primary now."""
        answer = await self._sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        self._asked = time.monotonic()
        if answer is None:
            raise Failed("the sentinel knows no primary")
        if answer[0] != self._primary_address:
            if self._primary is not None:
                await self._primary.aclose()
                self._primary, self._primary_address = None, ""
            self._primary = await connect(answer[0], int(answer[1]), self._timeout, self._password)
            self._primary_address = answer[0]

    async def invoke(self, operation: Operation) -> Any:
        if self._primary is None or time.monotonic() - self._asked > _FOLLOW_SECONDS:
            try:
                await (self.open() if self._sentinel is None else self._follow())
            except (HiredisError, OSError) as error:
                await self.close()
                raise Failed(f"the sentinel or the primary cannot be reached: {error}") from None
        try:
            served = self._names.get(self._address if operation.f.endswith("-local") else self._primary_address)
            value = await self._apply(operation)
            return value if served is None else Served(value, by=served)
        except Failed as failure:
            if isinstance(failure.__cause__, OSError):  # nobody else closes it after a failure
                await self.close()
            raise
        except ReplyError as error:
            if str(error).split(maxsplit=1)[0] in _REFUSALS:
                raise Failed(str(error)) from None
            raise Indeterminate(str(error)) from None

    async def _apply(self, operation: Operation) -> Any:
        connection = self._primary
        if operation.f.endswith("-local"):
            # Its own node, whatever that is now: what it holds, not what the primary does.
            if self._own is None:
                self._own = await connect(self._address, PORT, self._timeout, self._password)
            connection = self._own
        if operation.f == "txn":
            changes = not only_reads(operation.value)
            answer: Any = await transact(connection.execute_each, operation.value, self._txn)
        else:
            changes = operation.f not in READS
            answer = await apply(connection.execute_command, operation, isolated=self._isolated)
        if self._wait and changes:
            try:
                reached = await connection.execute_command("WAIT", self._wait, int(self._timeout * 500))
            except ReplyError as error:
                raise Indeterminate(f"it is done, but WAIT was refused: {error}") from None
            if reached < self._wait:
                raise Indeterminate(f"WAIT reached {reached} of {self._wait} replicas")
        return answer

    async def close(self) -> None:
        for connection in (self._primary, self._sentinel, self._own):
            if connection is not None:
                await connection.aclose()
        self._primary = self._sentinel = self._own = None
        self._primary_address = ""
