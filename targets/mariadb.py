"""MariaDB: one server, or on several nodes Galera, where every node takes writes and certifies those of all.

A transaction runs on the node of its client. When it commits, what it has written goes to all nodes in one order, and
each decides in the same way whether somebody else was first; what it has only read is not looked at. So transactions of
several nodes have snapshot isolation at best, and that only with ``innodb_snapshot_isolation``.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Final, Literal

import msgspec

from harness.cluster import Cluster, Role, holds_within, wait_until
from harness.environments.base import Node
from harness.errors import MissingError, NodeError, UsageError, field
from harness.options import Number
from harness.target import LOG_PATTERNS, Client, Target
from harness.targets.mariadb_client import DATABASE, PORT, USER, MariadbClient, connect, dropped_after, missing
from harness.targets.mariadb_servers import (
    ALONE,
    COPY,
    COPY_METHOD,
    COPY_PROGRAM,
    FIRST,
    FOLLOW,
    JOIN,
    KEYS,
    SCRIPT,
    command,
    furthest,
)
from harness.targets.mariadb_statements import CONTENTS, TABLES

PROVIDER: Final = "/usr/lib/galera/libgalera_smm.so"
GROUP_PORT: Final = 4567
"""Where Galera's nodes talk to one another; what a node has missed goes by the next one, or all of it by another."""
MISSED_PORT: Final = 4568
COPY_PORT: Final = 4444

_FORM_SECONDS: Final = 80.0
_BEGIN_SECONDS: Final = 20.0
_QUICK_SECONDS: Final = 0.5
_STATE_SECONDS: Final = 5.0

_STATUS: Final = (
    "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_provider_name', 'wsrep_ready', 'wsrep_local_state_comment', "
    "'wsrep_cluster_status', 'wsrep_cluster_size', 'wsrep_cluster_state_uuid', 'wsrep_last_committed')"
)


class Mariadb(Target):
    """A MariaDB server, or a Galera cluster of several."""

    class Options(msgspec.Struct, frozen=True):
        """See MariaDB's manual for each."""

        isolation: Annotated[
            Literal["serializable", "repeatable-read", "read-committed"], "level of isolation of every transaction"
        ] = "serializable"
        innodb_snapshot_isolation: Annotated[
            Literal["on", "off"], "whether repeatable-read is snapshot isolation: who was late to change a row is told"
        ] = "on"
        wsrep_sync_wait: Annotated[
            int, Number(0, 15), "which statements wait for what other nodes have committed: 1 reads, 15 all, 0 none"
        ] = 15
        innodb_flush_log_at_trx_commit: Annotated[
            int, Number(0, 2), "1: a commit is on disk when it is acknowledged; 2: it has left the process; 0: neither"
        ] = 1
        innodb_flush_log_at_timeout: Annotated[
            int, Number(1, 2700), "seconds after which what was not written at its commit is on disk"
        ] = 1

    name: ClassVar[str] = "mariadb"
    workloads: ClassVar[frozenset[str]] = frozenset(
        {"list-append", "rw-register", "rmw", "write-skew", "long-fork"}
        | {"register", "append", "set", "counter", "unique-ids", "bank"}
    )
    programs: ClassVar[Mapping[str, str]] = {"mariadbd": "mariadb-server", "rsync": "rsync"}
    log_patterns: ClassVar[Mapping[str, str]] = {
        **LOG_PATTERNS,
        "panic": LOG_PATTERNS["panic"] + r"|\[ERROR\] \S+ got signal \d|\[ERROR\] \[FATAL\]",
        "failed assertion": LOG_PATTERNS["failed assertion"] + r"|InnoDB: Assertion failure",
        "inconsistent node": r"WSREP: .*Inconsisten(?:t by consensus|cy detected)",
    }
    ports: ClassVar[tuple[int, ...]] = (PORT,)
    claims: ClassVar[str] = (
        "one server: strict serializability with isolation=serializable, snapshot isolation with repeatable-read and "
        "innodb_snapshot_isolation=on, read committed with read-committed; Galera: at most snapshot isolation, of "
        "snapshots that have what was acknowledged before (model=strong-snapshot-isolation) with wsrep_sync_wait=1 or "
        "more, and linearizable keys; without innodb_snapshot_isolation repeatable-read loses updates; with "
        "innodb_flush_log_at_trx_commit=0 the end of all servers loses acknowledged commits"
    )

    def __init__(self, options: Options) -> None:
        self._options = options
        self.password = secrets.token_hex(32)
        """Of clients. It stands in nodes' files only."""
        self._configured: set[Node] = set()
        self._starting: dict[Node, asyncio.Lock] = {}
        """By the first node of a cluster: one server after the other is started, and has its part."""
        self._begins: dict[Node, Node | None] = {}
        """By the first node of a cluster: who is to begin it anew, now that all have been down."""
        self._follows: set[Node] = set()
        """Who is to forget which nodes there were, lest some of them begin a cluster beside that one."""

    def unfit_for(self, workload: str) -> str | None:
        return missing()

    async def start(self, cluster: Cluster, node: Node) -> None:
        keys, first = f"{node.directory}/{KEYS}", cluster.nodes[0]
        if cluster.environment.name == "ssh" and len(cluster.nodes) > 1:
            raise UsageError(
                f"{field('environment', 'ssh')} cannot have mariadb on several nodes: Galera lets in whoever "
                "reaches its ports, and there that may be anybody"
            )
        async with self._starting.setdefault(first, asyncio.Lock()):
            if len(cluster.nodes) > 1 and not self._configured.intersection(cluster.nodes):
                await _refuse_without_galera(cluster)
            part = await self._part(cluster, node)
            if node not in self._configured:
                if part == JOIN:
                    await wait_until(
                        lambda: self._leads_the_way(cluster), seconds=_FORM_SECONDS, what="a cluster that can be joined"
                    )
                await node.write(f"{keys}/my.cnf", self._configuration(cluster, node).encode())
                await node.write(f"{keys}/users.sql", self._users(cluster).encode())
                await node.write(f"{keys}/start.sh", SCRIPT.encode())
                await node.write(f"{keys}/{COPY_PROGRAM}", COPY.encode())
                self._configured.add(node)
            await node.start("mariadb", [*command(node), part])
            if self._begins.get(first) is node and not await self._ends_at_once(node):
                del self._begins[first]

    async def _part(self, cluster: Cluster, node: Node) -> str:
        """How a server is to begin: nobody else must be told to begin a cluster while there is one."""
        first = cluster.nodes[0]
        if len(cluster.nodes) == 1:
            return ALONE
        if node not in self._configured:
            return FIRST if node is first else JOIN
        if not any([(await each.running()).get("mariadb", False) for each in cluster.nodes]):
            found = await furthest(cluster, self._follows)
            self._begins[first] = found
            self._follows |= {each for each in cluster.nodes if found is not None and each is not found}
        if self._begins.get(first) is node and any(map(_serves, (await self._statuses(cluster.nodes)).values())):
            del self._begins[first]
        if self._begins.get(first) is node:
            self._follows.discard(node)
            return FIRST
        if node in self._follows:
            self._follows.discard(node)
            return FOLLOW
        return JOIN

    async def _ends_at_once(self, node: Node) -> bool:
        """Whether a server has ended before it has begun a cluster, as far as can be seen."""
        ended = False

        async def decided() -> bool:
            nonlocal ended
            ended = not (await node.running()).get("mariadb", False)
            return ended or _serves(await self._status(node) or {})

        await holds_within(decided, _BEGIN_SECONDS, 0.1)
        return ended

    async def _leads_the_way(self, cluster: Cluster) -> bool:
        """Whether the first node has begun the cluster. Who looks for it just then may be overlooked for good."""
        first = cluster.nodes[0]
        if not (await first.running()).get("mariadb", False):
            raise NodeError(f"mariadb on {first.name} has ended by itself")
        return _serves(await self._status(first) or {})

    def _users(self, cluster: Cluster) -> str:
        """Whom a new store knows: clients of the run, from where they come."""
        who = f"'{USER}'@'{cluster.environment.driver.get('address', '%')}'"
        return (
            "FLUSH PRIVILEGES;\n"  # without which there are no users yet
            f"CREATE DATABASE {DATABASE};\n"
            f"CREATE USER {who} IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO {who};\n"
        )

    def _configuration(self, cluster: Cluster, node: Node) -> str:
        options, home = self._options, f"{node.directory}/mariadb"
        settings: dict[str, object] = {
            "datadir": f"{home}/data",
            "socket": f"{home}/socket",
            "pid-file": f"{home}/pid",
            "bind-address": node.address,
            "port": PORT,
            "skip-name-resolve": "ON",
            "local-infile": "OFF",
            "max-connections": 500,
            "log-warnings": 1,  # not of clients that are gone
            "transaction-isolation": options.isolation.upper(),
            "innodb-snapshot-isolation": options.innodb_snapshot_isolation.upper(),
            "innodb-flush-log-at-trx-commit": options.innodb_flush_log_at_trx_commit,
            "innodb-flush-log-at-timeout": options.innodb_flush_log_at_timeout,
            "innodb-autoinc-lock-mode": 2,
            "binlog-format": "ROW",
            # A client that has given up leaves nothing locked for long.
            "innodb-lock-wait-timeout": 1,
            "idle-transaction-timeout": 5,
            "tcp-keepalive-time": 2,
            "tcp-keepalive-interval": 2,
            "tcp-keepalive-probes": 3,
            # All of it fits into a node's disk and memory, beside all else, and several servers onto one machine.
            "innodb-buffer-pool-size": "64M",
            "innodb-log-file-size": "16M",
            "innodb-flush-method": "fsync",
            "innodb-use-native-aio": "OFF",
            "performance-schema": "OFF",
        }
        if len(cluster.nodes) > 1:
            settings |= {
                "wsrep-on": "ON",
                "wsrep-provider": PROVIDER,
                "wsrep-cluster-name": "splitbrain",
                "wsrep-cluster-address": f"gcomm://{','.join(each.address for each in cluster.nodes)}",
                "wsrep-node-name": node.name,
                "wsrep-node-address": node.address,
                "wsrep-sync-wait": options.wsrep_sync_wait,
                "wsrep-sst-method": COPY_METHOD,
                "wsrep-sst-receive-address": f"{node.address}:{COPY_PORT}",
                "wsrep-provider-options": ";".join(f"{name}={value}" for name, value in self._provider(node).items()),
            }
        return "[mysqld]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())

    def _provider(self, node: Node) -> Mapping[str, object]:
        return {
            "gmcast.listen_addr": f"tcp://{node.address}:{GROUP_PORT}",
            "ist.recv_addr": f"{node.address}:{MISSED_PORT}",
            "gcache.size": "32M",
            "pc.wait_prim_timeout": "PT1H",  # who finds no others for long is no reason to end
            "evs.keepalive_period": "PT0.5S",
            "evs.suspect_timeout": "PT2S",
            "evs.inactive_timeout": "PT6S",
        }

    async def form(self, cluster: Cluster) -> None:
        """Once every node has joined, make the tables. Raises ``NodeError`` where that does not come about."""

        async def all_joined() -> bool:
            for node in cluster.nodes:
                if not (await node.running()).get("mariadb", True):
                    raise NodeError(f"mariadb on {node.name} has ended by itself")
            return await self.ready(cluster)

        await wait_until(all_joined, seconds=_FORM_SECONDS, what="all nodes being in service")
        link = await connect(cluster.nodes[0].address, self.password, _STATE_SECONDS)
        try:
            with dropped_after(link, _STATE_SECONDS):
                for statement in TABLES:
                    await link.change(statement)
        finally:
            link.drop()

    async def ready(self, cluster: Cluster) -> bool:
        seen = await self._statuses(cluster.nodes)
        if len(cluster.nodes) == 1:
            return len(seen) == 1
        return len(seen) == len(cluster.nodes) and all(
            _serves(status)
            and status.get("wsrep_local_state_comment") == "Synced"
            and status.get("wsrep_cluster_status") == "Primary"
            and status.get("wsrep_cluster_size") == str(len(cluster.nodes))
            for status in seen.values()
        )

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        """Whoever is in the part of a cluster that goes on is one of its peers; none of them leads."""
        return [_role(name, status) for name, status in (await self._statuses(cluster.nodes)).items()]

    async def identities(self, cluster: Cluster) -> Mapping[str, str]:
        """What Galera has drawn for the history of the cluster; one server has nothing like that."""
        return {
            name: identity
            for name, status in (await self._statuses(cluster.nodes)).items()
            if _serves(status) and (identity := status.get("wsrep_cluster_state_uuid"))
        }

    async def own_state(self, cluster: Cluster, node: Node) -> Mapping[str, str] | None:
        link = await connect(node.address, self.password, _STATE_SECONDS)
        try:
            with dropped_after(link, _STATE_SECONDS):
                await link.change("SET SESSION wsrep_sync_wait = 0")
                await link.change("SET SESSION group_concat_max_len = 16777216")
                return {key: text or "" for query in CONTENTS for key, text in await link.fetch(query)}
        finally:
            link.drop()

    async def _statuses(self, nodes: Sequence[Node]) -> dict[str, Mapping[str, str]]:
        """What the servers that answer say of themselves, by node."""
        seen = await asyncio.gather(*(self._status(node) for node in nodes))
        return {node.name: status for node, status in zip(nodes, seen, strict=True) if status is not None}

    async def _status(self, node: Node) -> Mapping[str, str] | None:
        """What a server says of itself; None without an answer."""
        try:
            link = await connect(node.address, self.password, _QUICK_SECONDS)
        except Exception:  # the driver's own, too: whoever does not answer says nothing
            return None
        try:
            with dropped_after(link, _QUICK_SECONDS):
                await link.change("SET SESSION wsrep_sync_wait = 0")
                return {name: text for name, text in await link.fetch(_STATUS)}  # noqa: C416
        except Exception:
            return None
        finally:
            link.drop()

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        return MariadbClient(node.name, node.address, timeout, self.password)


async def _refuse_without_galera(cluster: Cluster) -> None:
    """Raise ``MissingError`` where Galera is not on a node: a library, which not everywhere comes with MariaDB."""
    there = await cluster.on_each(
        [node.name for node in cluster.nodes], lambda node: node.exec(["test", "-r", PROVIDER])
    )
    for name, result in there.items():
        if result.code != 0:
            raise MissingError(f"{PROVIDER} is not on {name}: apt-get install galera-4")


def _serves(status: Mapping[str, str]) -> bool:
    """Whether a node is in a cluster that goes on, and has its state."""
    return status.get("wsrep_ready") == "ON"


def _role(name: str, status: Mapping[str, str]) -> Role:
    if not status.get("wsrep_provider_name"):
        return Role(name, "primary")
    if status.get("wsrep_cluster_status") != "Primary":
        return Role(name, "candidate")
    return Role(name, "peer", None, int(status.get("wsrep_last_committed", 0)))
