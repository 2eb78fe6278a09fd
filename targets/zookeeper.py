"""ZooKeeper: an ensemble whose leader orders all changes, and whose servers answer reads from what each has applied.

With ``reads=sync`` (the default) a client has its server catch up with the leader before it reads. The leader asks no
majority whether it still is one; with ``reads=write`` the client writes something before, which takes a majority. With
``reads=local`` reads may be stale, as ZooKeeper documents. Servers know one another by a password, and clients are let
at data by another one.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Final

import msgspec

from harness.cluster import Cluster, Role, wait_until
from harness.environments.base import Node
from harness.errors import MissingError, NodeError
from harness.options import Milliseconds, Number
from harness.target import LOG_PATTERNS, Client, Leadership, Target
from harness.targets.zookeeper_client import Reads, ZookeeperClient
from harness.targets.zookeeper_session import CLIENT_PORT, USER, Session, answer, driver, missing, status

PEER_PORT: Final = 2888
ELECTION_PORT: Final = 3888
KEYS: Final = ".splitbrain-keys"
"""The folder in a node's directory that has passwords and configuration. By its name it is no data, which faults might
spoil."""

_JAR: Final = "/usr/share/java/zookeeper.jar"
_LOGGING: Final = "/usr/share/java/slf4j-simple.jar"
_MAIN: Final = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_ROLES: Final = {"leader": "primary", "standalone": "primary", "follower": "replica"}
_FORM_SECONDS: Final = 60.0
_STATE_SECONDS: Final = 5.0
_OWN: Final = "zookeeper"
"""The znode that has what is ZooKeeper's own."""


def absent() -> str | None:
    """Why this machine has no servers of ZooKeeper; None if it has."""
    return None if shutil.which("java") and Path(_JAR).exists() else "zookeeper is not installed"


class Zookeeper(Target):
    """A ZooKeeper ensemble with one server on each node."""

    class Options(msgspec.Struct, frozen=True):
        """See ZooKeeper's administrator's guide for each, and of its clients ``sync``."""

        reads: Annotated[
            Reads, "from the client's own server at once, after it has caught up with the leader, or after a write"
        ] = "sync"
        tick_ms: Annotated[int, Milliseconds(50, 10_000), "tickTime, in which all other times are counted"] = 500
        sync_limit: Annotated[int, Number(2, 100), "syncLimit, ticks after which a silent leader is left"] = 4
        force_sync: Annotated[bool, "forceSync, whether a change is on disk before it is acknowledged"] = True

    name: ClassVar[str] = "zookeeper"
    workloads: ClassVar[frozenset[str]] = frozenset(
        {
            *("register", "append", "set", "counter", "queue", "unique-ids", "bank", "lock"),
            *("list-append", "rw-register", "rmw", "long-fork", "write-skew"),
        }
    )
    leadership: Leadership = "forwarded"
    """Every server acknowledges what it has passed on to the leader."""
    programs: ClassVar[Mapping[str, str]] = {"java": "zookeeper"}
    log_patterns: ClassVar[Mapping[str, str]] = {
        **LOG_PATTERNS,
        "panic": LOG_PATTERNS["panic"] + r"|fatal error has been detected by the Java",
    }
    ports: ClassVar[tuple[int, ...]] = (CLIENT_PORT,)
    sizes: ClassVar[frozenset[int] | None] = frozenset({1, 3, 5, 7})
    claims: ClassVar[str] = (
        "writes and transactions are linearizable; reads are with reads=write, and with reads=sync unless a leader has "
        "been succeeded and does not know it yet; with reads=local they may be stale"
    )

    def __init__(self, options: Options) -> None:
        self._options = options
        # A leader is silent for as long before it is left, and an election takes a while.
        self.failover = 2.0 + options.tick_ms * options.sync_limit / 1000
        self.password, self._peers = secrets.token_hex(32), secrets.token_hex(32)
        """Of clients, and of servers among themselves. They stand in nodes' files, and in what a client sends."""
        self._configured: set[Node] = set()

    def unfit_for(self, workload: str) -> str | None:
        return missing()

    async def start(self, cluster: Cluster, node: Node) -> None:
        keys, home = f"{node.directory}/{KEYS}", f"{node.directory}/zookeeper"
        if node not in self._configured:
            if (await node.exec(["test", "-e", _JAR])).code != 0:
                raise MissingError(f"zookeeper needs {_JAR} on {node.name}: apt install zookeeper")
            number = 1 + [other.name for other in cluster.nodes].index(node.name)
            await node.write(f"{home}/myid", f"{number}\n".encode())
            await node.write(f"{keys}/jaas.conf", self._passwords().encode())
            await node.write(f"{keys}/zoo.cfg", self._configuration(cluster, node, home).encode())
            self._configured.add(node)
        # Little of a machine that others need as well: a small heap, and code that is compiled once and fast.
        java = ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
        settings = {
            "java.net.preferIPv4Stack": "true",
            "java.security.auth.login.config": f"{keys}/jaas.conf",
            "org.slf4j.simpleLogger.showDateTime": "true",
            "org.slf4j.simpleLogger.dateTimeFormat": "yyyy-MM-dd HH:mm:ss.SSS",
        }
        defined = [f"-D{name}={value}" for name, value in settings.items()]
        await node.start("zookeeper", [*java, *defined, "-cp", f"{_JAR}:{_LOGGING}", _MAIN, f"{keys}/zoo.cfg"])

    def _passwords(self) -> str:
        """Servers prove to one another that they know a password."""
        module = "org.apache.zookeeper.server.auth.DigestLoginModule required"
        return (
            f'QuorumServer {{ {module} user_{USER}="{self._peers}"; }};\n'
            f'QuorumLearner {{ {module} username="{USER}" password="{self._peers}"; }};\n'
        )

    def _configuration(self, cluster: Cluster, node: Node, home: str) -> str:
        options = self._options
        settings: dict[str, object] = {
            "dataDir": home,
            "clientPort": CLIENT_PORT,
            "clientPortAddress": node.address,
            "tickTime": options.tick_ms,
            "syncLimit": options.sync_limit,
            "initLimit": max(options.sync_limit, 10_000 // options.tick_ms),
            "minSessionTimeout": 1,
            "maxSessionTimeout": 2**31 - 1,
            "maxClientCnxns": 0,
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "srvr",
            "forceSync": "yes" if options.force_sync else "no",
            "preAllocSize": 4096,
            "quorum.auth.enableSasl": "true",
            "quorum.auth.learnerRequireSasl": "true",
            "quorum.auth.serverRequireSasl": "true",
            # Who was cut off asks the others again soon after the network has healed, and not after a minute.
            "fastleader.maxNotificationInterval": 1000,
            "cnxTimeout": 1000,
        }
        servers = {
            f"server.{number}": f"{other.address}:{PEER_PORT}:{ELECTION_PORT}"
            for number, other in enumerate(cluster.nodes, 1)
        }
        return "".join(f"{name}={value}\n" for name, value in {**settings, **servers}.items())

    async def form(self, cluster: Cluster) -> None:
        """Once there is a leader, keep others than the run's clients from its data."""

        async def in_service() -> bool:
            for node in cluster.nodes:
                if not (await node.running()).get("zookeeper", True):
                    raise NodeError(f"zookeeper on {node.name} has ended by itself")
            return await self.ready(cluster)

        await wait_until(in_service, seconds=_FORM_SECONDS, what="servers following a leader")
        session = await self._session(cluster.nodes[0])
        try:
            async with asyncio.timeout(_STATE_SECONDS):
                await answer(session.kazoo.set_acls_async("/", driver().security.CREATOR_ALL_ACL))
        finally:
            session.close()

    async def _session(self, node: Node) -> Session:
        session = Session(node.address, self.password)
        await session.open(_STATE_SECONDS)
        return session

    async def ready(self, cluster: Cluster) -> bool:
        """A server that follows has caught up before it answers."""
        roles = [role.role for role in await self.roles(cluster)]
        return sorted(roles) == ["primary"] + ["replica"] * (len(cluster.nodes) - 1)

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        """The term is the epoch of the last change that a leader has applied, once it has proposed one itself."""
        seen = await asyncio.gather(*(_said(node.address) for node in cluster.nodes))
        return [_role(node.name, said) for node, said in zip(cluster.nodes, seen, strict=True) if said is not None]

    async def own_state(self, cluster: Cluster, node: Node) -> Mapping[str, str] | None:
        session = await self._session(node)
        try:
            async with asyncio.timeout(_STATE_SECONDS):
                return await _contents(session)
        finally:
            session.close()

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        # A follower tells its leader twice in a tick which sessions live.
        grace = 2 * self._options.tick_ms / 1000
        return ZookeeperClient(
            (node.name, node.address), timeout, self.password, reads=self._options.reads, grace=grace
        )


async def _said(address: str) -> Mapping[str, str] | None:
    """What a server says of itself. One that has proposed something is asked again: first it tells its last change."""
    said = await status(address)
    return await status(address) if said and _has_proposed(said) else said


def _has_proposed(said: Mapping[str, str]) -> bool:
    """Whether a leader has proposed a change; until then its last one may be its predecessor's."""
    return not said.get("Proposal sizes last/min/max", "-1").startswith("-1")


def _role(node: str, said: Mapping[str, str]) -> Role:
    role = _ROLES.get(said.get("Mode", ""), "candidate")
    epoch = int(said.get("Zxid", "0"), 16) >> 32
    return Role(node, role, epoch if role == "primary" and epoch and _has_proposed(said) else None)


async def _contents(session: Session) -> dict[str, str]:
    """Each znode with what it holds, and by which change it has that; those below it go with it."""
    held: dict[str, str] = {}
    paths = [f"/{name}" for name in await answer(session.kazoo.get_children_async("/")) if name != _OWN]
    while paths:
        found = await asyncio.gather(*(answer(session.kazoo.get_async(path)) for path in paths))
        below = await asyncio.gather(*(answer(session.kazoo.get_children_async(path)) for path in paths))
        for path, (data, stat) in zip(paths, found, strict=True):
            held[path] = f"{data.decode()} (zxid {stat.mzxid:#x})"
        paths = [f"{path}/{name}" for path, names in zip(paths, below, strict=True) for name in names]
    return held
