"""NATS JetStream: servers that route messages, and one stream, which a Raft group of ``replicas`` servers keeps.

Whoever publishes is told once a majority has written a message, but not once it is on a disk: a server syncs every two
minutes. What the leader is asked it answers by itself, without asking a majority whether it still leads, so that what
was succeeded may answer as well.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

import msgspec

from harness.cluster import Cluster, Role, wait_until
from harness.environments.base import Node
from harness.errors import field, option
from harness.options import Number
from harness.target import LOG_PATTERNS, Client, Leadership, Target
from harness.targets.nats_client import (
    PORT,
    STREAM,
    Appends,
    NatsClient,
    Reads,
    Removes,
    ask,
    configuration,
    connect,
    disconnect,
    lost,
    make,
    missing,
)

ROUTE_PORT: Final = 6222
KEYS: Final = ".splitbrain-keys"
"""The folder in a node's directory that has the configuration, with passwords. By its name it is no data, which faults
might spoil."""
CLIENT: Final = "splitbrain"
ADMINISTRATOR: Final = "administrator"

_FORM_SECONDS: Final = 60.0
_QUICK_SECONDS: Final = 0.5
_MAKE_SECONDS: Final = 2.0


class Nats(Target):
    """A NATS server on every node, and a stream on some of them."""

    class Options(msgspec.Struct, frozen=True):
        """See the documentation of JetStream for each."""

        replicas: Annotated[int, Number(1, 5), "servers that hold the stream: 1, 3 or 5"] = 3
        reads: Annotated[Reads, "registers are read from the leader, or from any replica"] = "leader"
        appends: Annotated[
            Appends, "an element is a message of its own, or replaces the list on condition that it is the latest"
        ] = "publish"
        removes: Annotated[Removes, "the message of an element is deleted, or its subject is purged"] = "delete"

    name: ClassVar[str] = "nats"
    workloads: ClassVar[frozenset[str]] = frozenset({"register", "append", "set", "unique-ids"})
    leadership: Leadership = "forwarded"
    programs: ClassVar[Mapping[str, str]] = {"nats-server": "nats-server"}
    log_patterns: ClassVar[Mapping[str, str]] = {
        **LOG_PATTERNS,
        # A follower that is ahead of its new leader asks for what that does not have, and is told so in these words.
        "corrupt file": rf"^(?!.*malformed or corrupt message).*(?:{LOG_PATTERNS['corrupt file']})",
    }
    ports: ClassVar[tuple[int, ...]] = (PORT, ROUTE_PORT)
    failover: float = 12.0
    """A follower waits for 4 to 9 seconds before it asks for votes."""
    claims: ClassVar[str] = (
        "messages have one order, and what was acknowledged is kept; a condition on the latest message is atomic; "
        "reads may be stale while a leader is succeeded, and with reads=direct at any time"
    )

    def __init__(self, options: Options) -> None:
        self._options = options
        self.password = secrets.token_hex(32)
        """Of clients and servers. It stands in nodes' files only."""
        self._name = f"splitbrain-{secrets.token_hex(8)}"
        """The cluster's, which another one at the same addresses does not have."""
        self._configured: set[Node] = set()
        self._idle: dict[Node, Any] = {}
        """A connection to each node, for those who ask it what it is."""

    def unfit_for(self, workload: str) -> str | None:
        return missing()

    def misfit(self, zones: Mapping[str, str]) -> str | None:
        if len(zones) == 2:
            return f"two servers of NATS cannot keep a stream: {field('nodes')} has to be 1, 3 or more"
        if self._options.replicas not in (1, 3, 5):
            return f"{option('replicas')} is {self._options.replicas}, but it has to be odd: 1, 3 or 5"
        if self._options.replicas > len(zones):
            return f"{option('replicas')} is {self._options.replicas}, but there are only {len(zones)} nodes"
        return None

    async def start(self, cluster: Cluster, node: Node) -> None:
        path = f"{node.directory}/{KEYS}/nats.conf"
        if node not in self._configured:
            await node.write(path, self._configuration(cluster, node).encode())
            self._configured.add(node)
        await node.start("nats", ["nats-server", "-c", path])

    def _configuration(self, cluster: Cluster, node: Node) -> str:
        user = {"user": CLIENT, "password": self.password}
        settings: dict[str, Any] = {
            "server_name": node.name,
            "listen": f"{node.address}:{PORT}",
            "jetstream": {"store_dir": f"{node.directory}/nats", "max_mem": 32 << 20, "max_file": 300 << 20},
            "accounts": {
                "RUN": {"jetstream": "enabled", "users": [user]},
                "SYS": {"users": [{"user": ADMINISTRATOR, "password": self.password}]},
            },
            "system_account": "SYS",
            "ping_interval": "5s",
            "write_deadline": "2s",
        }
        if len(cluster.nodes) > 1:
            settings["cluster"] = {
                "name": self._name,
                "listen": f"{node.address}:{ROUTE_PORT}",
                "authorization": {**user, "timeout": 2},
                "routes": [
                    f"nats-route://{CLIENT}:{self.password}@{other.address}:{ROUTE_PORT}"
                    for other in cluster.nodes
                    if other != node
                ],
            }
        return json.dumps(settings, indent=1) + "\n"

    async def form(self, cluster: Cluster) -> None:
        """Make the stream, once there is somebody who can. Raises ``NodeError`` where that does not come about."""

        async def made() -> bool:
            return await self._make(cluster.nodes[0])

        await wait_until(made, seconds=_FORM_SECONDS, what="a stream being made", every=0.3)

    async def _make(self, node: Node) -> bool:
        """Make the stream unless it is there; whether it is."""
        link = None
        try:
            link = await connect(node.address, CLIENT, self.password, _QUICK_SECONDS)
            return await make(link, configuration(self._options.replicas), _MAKE_SECONDS) is None
        except lost():
            return False
        finally:
            if link is not None:
                await disconnect(link)

    async def ready(self, cluster: Cluster) -> bool:
        """Whether all agree on who leads them and the stream, and the leader's replicas have what it has.

        Where all have lost the stream it is made again, as clients would.
        """
        seen = await self._statuses(cluster.nodes)
        if len(seen) < len(cluster.nodes):
            return False
        details = {name: stream for name, status in seen.items() if (stream := _stream(status)) is not None}
        if not details:
            await self._make(cluster.nodes[0])
            return False
        if len(cluster.nodes) == 1:
            return True
        leaders = {stream.get("cluster", {}).get("leader", "") for stream in details.values()}
        meta = {status.get("meta_cluster", {}).get("leader", "") for status in seen.values()}
        if len(leaders) != 1 or len(meta) != 1 or "" in leaders | meta or len(details) < self._options.replicas:
            return False
        leading = details.get(next(iter(leaders)))
        return leading is not None and all(
            replica.get("current") for replica in leading["cluster"].get("replicas") or []
        )

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        """What each node that has the stream knows of it. It tells no term."""
        return [
            Role(
                name,
                "primary" if _leads(name, stream) else "replica",
                None,
                int(stream["state"]["last_seq"]),
            )
            for name, status in (await self._statuses(cluster.nodes)).items()
            if (stream := _stream(status)) is not None
        ]

    async def identities(self, cluster: Cluster) -> Mapping[str, str]:
        """The name of the cluster, which is drawn for each run."""
        if len(cluster.nodes) == 1:
            return {}
        seen = await self._statuses(cluster.nodes)
        return {name: status["meta_cluster"]["name"] for name, status in seen.items() if "meta_cluster" in status}

    async def own_state(self, cluster: Cluster, node: Node) -> Mapping[str, str] | None:
        """Which messages of the stream a node has, as it tells them in sum."""
        status = await self._status(node)
        stream = None if status is None else _stream(status)
        if stream is None:
            return None
        kept = ("messages", "bytes", "first_seq", "last_seq", "num_subjects", "num_deleted")
        return {name: str(stream["state"].get(name, 0)) for name in kept}

    async def _statuses(self, nodes: Sequence[Node]) -> dict[str, dict[str, Any]]:
        """What the servers that answer say of JetStream, by node."""
        seen = await asyncio.gather(*(self._status(node) for node in nodes))
        return {node.name: status for node, status in zip(nodes, seen, strict=True) if status is not None}

    async def _status(self, node: Node) -> dict[str, Any] | None:
        """What a server says of its own JetStream; None without an answer. A connection is kept for the next time."""
        link = self._idle.pop(node, None)
        try:
            if link is None or link.is_closed:
                link = await connect(node.address, ADMINISTRATOR, self.password, _QUICK_SECONDS)
            asked = {"server_name": node.name, "account": "RUN", "streams": True}  # no other server answers that
            answer = await ask(link, "$SYS.REQ.SERVER.PING.JSZ", asked, _QUICK_SECONDS)
            status: dict[str, Any] = answer["data"]
        except Exception:  # the driver's own, too: whoever does not answer says nothing
            if link is not None:
                await disconnect(link)
            return None
        except BaseException:
            if link is not None:
                await disconnect(link)
            raise
        if node in self._idle:  # somebody else has asked meanwhile
            await disconnect(link)
        else:
            self._idle[node] = link
        return status

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        options = self._options
        return NatsClient(
            (node.name, node.address),
            timeout,
            CLIENT,
            self.password,
            replicas=options.replicas,
            reads=options.reads,
            appends=options.appends,
            removes=options.removes,
        )


def _leads(name: str, stream: Mapping[str, Any]) -> bool:
    """Whether a server says that it leads the stream; in a cluster it names no leader where it knows of none."""
    cluster = stream.get("cluster")
    return cluster is None or cluster.get("leader", "") == name


def _stream(status: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a server says of the stream; None where it has none."""
    for account in status.get("account_details") or []:
        for stream in account.get("stream_detail") or []:
            if stream.get("name") == STREAM:
                found: dict[str, Any] = stream
                return found
    return None
