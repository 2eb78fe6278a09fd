"""Redis Cluster: three primaries, each with a part of the keys and replicas of its own, which fail over by votes.

Replication is asynchronous: what a primary has acknowledged while it was cut off from the others is lost once one of
its replicas has been elected. It stops by itself after ``cluster-node-timeout``, about when the election begins.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from hiredis import HiredisError

from harness.cluster import Cluster, Role, wait_until
from harness.environments.base import Node
from harness.errors import NodeError, option
from harness.options import Milliseconds, Number
from harness.target import LOG_PATTERNS, Client, Target
from harness.targets.redis_cluster_client import PORT, RedisClusterClient
from harness.targets.resp import connected, quick, quick_info
from harness.words import count

BUS_PORT: Final = 16379
PRIMARIES: Final = 3
SLOTS: Final = 16384

_FORM_SECONDS: Final = 30.0
_STATE_SECONDS: Final = 5.0


class RedisCluster(Target):
    """A Redis Cluster whose first three nodes begin as primaries, the others as their replicas."""

    class Options(msgspec.Struct, frozen=True):
        """See redis.conf for each."""

        cluster_node_timeout_ms: Annotated[
            int, Milliseconds(100, 600_000), "silence after which a node is thought to have failed"
        ] = 2000
        cluster_require_full_coverage: Annotated[
            bool, "whether nothing is served while nobody serves a part of the keys"
        ] = True
        wait: Annotated[int, Number(0, 99), "replicas that WAIT is called with after each write; 0: it is not"] = 0
        appendonly: Annotated[bool, "whether every write goes to a log on disk"] = False
        appendfsync: Annotated[Literal["always", "everysec", "no"], "when that log is synced"] = "everysec"

    name: ClassVar[str] = "redis-cluster"
    workloads: ClassVar[frozenset[str]] = frozenset(
        {"register", "append", "set", "counter", "queue", "unique-ids", "bank", "lock", "lease"}
    )
    programs: ClassVar[Mapping[str, str]] = {"redis-server": "redis-server"}
    log_patterns: ClassVar[Mapping[str, str]] = {
        **LOG_PATTERNS,
        "memory error": LOG_PATTERNS["memory error"] + r"|REDIS BUG REPORT START",
    }
    ports: ClassVar[tuple[int, ...]] = (PORT, BUS_PORT)
    sizes: ClassVar[frozenset[int] | None] = frozenset({6, 9, 12})
    """Every primary has as many replicas."""
    claims: ClassVar[str] = (
        "linearizable, key by key, while primaries stay the same and keep their memory; no promise for acknowledged "
        "writes across a failover; without appendonly a primary that is killed and back within cluster-node-timeout "
        "stays primary, and is empty"
    )

    def __init__(self, options: Options) -> None:
        self._options = options
        # A replica waits for half a second and a bit before it asks for votes, and may have to ask twice.
        self.failover = 3.0 + options.cluster_node_timeout_ms / 1000
        self.password = secrets.token_hex(32)
        """Of servers and clients, so that other users of the machines stay out. It stands in nodes' files only."""
        self._configured: set[Node] = set()

    def misfit(self, zones: Mapping[str, str]) -> str | None:
        replicas = len(zones) // PRIMARIES - 1
        if self._options.wait > replicas:
            few = count(replicas, "replica")
            return f"{option('wait')} is {self._options.wait}, but with {len(zones)} nodes each primary has only {few}"
        if self._options.appendfsync != "everysec" and not self._options.appendonly:
            return f"{option('appendfsync')} is {self._options.appendfsync}, but without appendonly there is no log"
        return None

    async def start(self, cluster: Cluster, node: Node) -> None:
        conf = f"{node.directory}/redis.conf"
        if node not in self._configured:
            await node.write(conf, self._configuration(node).encode())
            self._configured.add(node)
        await node.start("redis", ["redis-server", conf])

    def _configuration(self, node: Node) -> str:
        options = self._options
        lines = [
            f"bind {node.address} 127.0.0.1",
            f"port {PORT}",
            f"cluster-port {BUS_PORT}",
            "protected-mode yes",
            f"requirepass {self.password}",
            f"masterauth {self.password}",
            "daemonize no",
            f"dir {node.directory}",
            'save ""',
            f"appendonly {_yes(options.appendonly)}",
            f"appendfsync {options.appendfsync}",
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
            "repl-timeout 5",
            "repl-ping-replica-period 1",
            "cluster-enabled yes",
            "cluster-config-file nodes.conf",
            f"cluster-announce-ip {node.address}",
            f"cluster-node-timeout {options.cluster_node_timeout_ms}",
            f"cluster-require-full-coverage {_yes(options.cluster_require_full_coverage)}",
            "cluster-replica-validity-factor 0",  # a replica that was cut off for long may be all that is left
            "cluster-allow-replica-migration no",
        ]
        return "\n".join(lines) + "\n"

    async def form(self, cluster: Cluster) -> None:
        """Make the nodes known to one another, give the first three the keys, and make the others their replicas."""

        async def all_answer() -> bool:
            for node in cluster.nodes:
                if not (await node.running()).get("redis", True):
                    raise NodeError(f"redis on {node.name} has ended by itself")
            return len(await self._infos(cluster.nodes)) == len(cluster.nodes)

        async def all_known() -> bool:
            whole = f"cluster_known_nodes:{len(cluster.nodes)}"
            told = [await self._ask(node, "CLUSTER", "INFO") for node in cluster.nodes]
            links = [await self._ask(node, "CLUSTER", "NODES") for node in cluster.nodes]
            return all(whole in text.split() for text in told) and not any("handshake" in text for text in links)

        await wait_until(all_answer, seconds=_FORM_SECONDS, what="all servers answering")
        first, *others = cluster.nodes
        for epoch, node in enumerate(cluster.nodes, 1):
            await self._ask(node, "CLUSTER", "SET-CONFIG-EPOCH", str(epoch))
        for node in others:
            await self._ask(first, "CLUSTER", "MEET", node.address, str(PORT))
        await wait_until(all_known, seconds=_FORM_SECONDS, what="all servers knowing one another")
        primaries, replicas = cluster.nodes[:PRIMARIES], cluster.nodes[PRIMARIES:]
        for number, node in enumerate(primaries):
            begin, end = (SLOTS * place // PRIMARIES for place in (number, number + 1))
            await self._ask(node, "CLUSTER", "ADDSLOTSRANGE", str(begin), str(end - 1))
        for number, node in enumerate(replicas):
            identity = await self._ask(primaries[number % PRIMARIES], "CLUSTER", "MYID")
            await self._ask(node, "CLUSTER", "REPLICATE", identity)

    async def _ask(self, node: Node, *words: str) -> Any:
        """The answer to a command. Raises ``NodeError`` where there is none, or it is refused."""
        try:
            async with connected(node.address, PORT, _STATE_SECONDS, self.password) as link:
                return await link.execute_command(*words, patience=_STATE_SECONDS)
        except (HiredisError, OSError) as error:
            raise NodeError(f"redis on {node.name} did not do {' '.join(words[:2])}: {error}") from None

    async def _infos(self, nodes: Sequence[Node]) -> dict[str, dict[str, str]]:
        """What the servers that answer say of their replication, by node."""
        return await quick_info([(node.name, node.address) for node in nodes], PORT, self.password)

    async def ready(self, cluster: Cluster) -> bool:
        """Every key has a primary, in the eyes of each node, and all other nodes follow one."""
        infos = (await self._infos(cluster.nodes)).values()
        primaries = [info for info in infos if info["role"] == "master"]
        replicas = len(cluster.nodes) - PRIMARIES
        if (len(infos), len(primaries)) != (len(cluster.nodes), PRIMARIES):
            return False
        if sum(int(info["connected_slaves"]) for info in primaries) != replicas:
            return False
        if any(info.get("master_link_status", "up") != "up" for info in infos):
            return False
        told = await asyncio.gather(*(self._quick(node, "CLUSTER", "INFO") for node in cluster.nodes))
        return all(isinstance(text, str) and "cluster_state:ok" in text.split() for text in told)

    async def _quick(self, node: Node, *words: str) -> Any:
        return await quick(node.address, PORT, *words, password=self.password)

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        """Several are primaries at once, of different keys; the term is the configuration epoch, which is one's own."""
        told = await asyncio.gather(*(self._quick(node, "CLUSTER", "NODES") for node in cluster.nodes))
        return [
            role
            for node, text in zip(cluster.nodes, told, strict=True)
            if isinstance(text, str) and (role := _role(node.name, text)) is not None
        ]

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        names = {other.address: other.name for other in cluster.nodes}
        return RedisClusterClient(node.address, timeout, self._options.wait, self.password, names)


def _role(node: str, text: str) -> Role | None:
    """What a node says of itself in the answer to ``CLUSTER NODES``."""
    for line in text.splitlines():
        _, _, flags, _, _, _, epoch, *_ = line.split()
        if "myself" in flags.split(","):
            primary = "master" in flags.split(",")
            return Role(node, "primary" if primary else "replica", int(epoch) if primary else None)
    return None


def _yes(value: bool) -> str:
    return "yes" if value else "no"
