"""PostgreSQL with failover: Patroni on every node, over an etcd of its own.

Whoever holds the leader's key in etcd is primary, and keeps it alive; when nobody has for ``ttl`` seconds the others
race for it. Replication is asynchronous unless ``synchronous_mode`` is on. There is no watchdog: a primary whose
Patroni stands still stays primary.

A client finds out by itself who is primary: it asks its own node first whether that is in recovery, then the others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

from harness.cluster import Cluster, Role, wait_until
from harness.environments.base import Node
from harness.errors import NodeError, UsageError, option
from harness.operation import Failed
from harness.options import Mebibytes, Seconds
from harness.target import Client
from harness.targets import etcd
from harness.targets.etcd import Etcd
from harness.targets.postgres_client import PORT, USER, PostgresClient, Server, dropped_after, lost
from harness.targets.postgres_servers import BIN, KEYS, OWN_USER, WAITS, Servers, Sessions

API_PORT: Final = 8008
SCOPE: Final = "splitbrain"
_LEADER: Final = f"/service/{SCOPE}/leader"
"""The key that the primary holds."""
_INITDB: Final = ({"encoding": "UTF8"}, {"locale": "C"}, {"wal-segsize": "4"}, {"auth": "scram-sha-256"})
_FORM_SECONDS: Final = 80.0
_ATTEMPTS: Final = 3
_ASK_SHARE: Final = 0.25
"""The part of an operation's time-out for which one node is asked whether it is primary."""

_SCRIPT: Final = f"""
set -eu
umask 077
home=$1 keys=$2
{OWN_USER}
if [ ! -e "$home" ]; then
  mkdir "$home"
  chmod 600 "$keys"/*
  case $own in setpriv*)
    chown postgres:postgres "$home" "$keys"/patroni.* "$keys/trusted.pem"
    chmod 711 "$keys" ;;
  esac
fi
# Patroni takes a server for running as long as its number is in use: somebody takes note of its end, as init does.
if [ -e "$home/data/postmaster.pid" ]; then
  if grep -qs '^State:.Z' "/proc/$(head -n 1 "$home/data/postmaster.pid")/status"; then
    rm "$home/data/postmaster.pid"
  fi
fi
exec $own /usr/bin/python3 -c "$(cat "$keys/reap.py")" patroni "$keys/patroni.yml"
"""
_REAP: Final = """
import ctypes, os, signal, subprocess, sys
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
signal.signal(signal.SIGTERM, lambda *_: None)  # Patroni is told as well, and ends its server first
child = subprocess.Popen(sys.argv[1:])
ended = None
while ended != child.pid:
    ended, status = os.wait()
sys.exit(abs(os.waitstatus_to_exitcode(status)))
"""
"""Runs a command, and takes note of the end of whatever it leaves behind."""


class Patroni(Servers):
    """A PostgreSQL cluster that Patroni forms, and keeps with one primary."""

    class Options(Sessions, frozen=True):
        """See PostgreSQL's manual, and Patroni's for its dynamic configuration."""

        synchronous_mode: Annotated[bool, "whether only who has every acknowledged commit is promoted"] = False
        synchronous_mode_strict: Annotated[bool, "whether commits wait even while no replica is there"] = False
        ttl: Annotated[int, Seconds(7, 300), "after how long the leader's key expires"] = 8
        loop_wait: Annotated[int, Seconds(1, 60), "how long Patroni sleeps between two looks"] = 1
        retry_timeout: Annotated[int, Seconds(3, 60), "how long etcd and PostgreSQL are tried again"] = 3
        maximum_lag_on_failover: Annotated[int, Mebibytes(0, 1024), "how far behind who is promoted may be"] = 1
        check_timeline: Annotated[bool, "whether who is promoted must know the last timeline"] = False

    name: ClassVar[str] = "patroni"
    programs: ClassVar[Mapping[str, str]] = {**Servers.programs, "patroni": "patroni", **Etcd.programs}
    ports: ClassVar[tuple[int, ...]] = (*Servers.ports, API_PORT, *Etcd.ports)
    sizes: ClassVar[frozenset[int] | None] = Etcd.sizes
    claims: ClassVar[str] = (
        "one primary at a time as long as Patroni itself runs beside it, of the same isolation as postgres; no promise "
        "for acknowledged commits across a failover, unless synchronous_mode is on"
    )

    def __init__(self, options: Options) -> None:
        if options.ttl < options.loop_wait + 2 * options.retry_timeout:
            raise UsageError(
                f"{option('ttl')} is {options.ttl}, but Patroni wants at least loop_wait + 2 x retry_timeout, which is "
                f"{options.loop_wait + 2 * options.retry_timeout}"
            )
        super().__init__(options)
        self._options = options
        # The key expires, the others notice, one is promoted, and the rest follow.
        self.failover = options.ttl + 2.0 * options.loop_wait + 3.0
        self._etcd = Etcd(Etcd.Options())
        self._configured: set[Node] = set()

    def misfit(self, zones: Mapping[str, str]) -> str | None:
        if self._options.synchronous_mode_strict and not self._options.synchronous_mode:
            return f"{option('synchronous_mode_strict')} is true, but {option('synchronous_mode')} is false"
        commit = self._options.synchronous_commit
        if commit in WAITS and not self._options.synchronous_mode:
            mode = option("synchronous_mode")
            return f"{option('synchronous_commit')} is {commit}, but {mode} is false: it waits for no replica"
        return super().misfit(zones)

    async def start(self, cluster: Cluster, node: Node) -> None:
        self._refuse_ssh(cluster)
        keys, home = f"{node.directory}/{KEYS}", f"{node.directory}/postgres"
        await self._etcd.start(cluster, node)
        if node not in self._configured:
            own = self._etcd.authority.issue(node.name, node.address)
            await node.write(f"{keys}/trusted.pem", self._etcd.authority.certificate)
            await node.write(f"{keys}/patroni.pem", own.certificate)
            await node.write(f"{keys}/patroni.key", own.key)
            await node.write(f"{keys}/patroni.yml", json.dumps(self._configuration(cluster, node, keys, home)).encode())
            await node.write(f"{keys}/reap.py", _REAP.encode())
            await node.write(f"{keys}/start.sh", _SCRIPT.encode())
            self._configured.add(node)
        await self._start_patroni(node)

    async def _start_patroni(self, node: Node) -> None:
        keys = f"{node.directory}/{KEYS}"
        await node.start("patroni", ["sh", f"{keys}/start.sh", f"{node.directory}/postgres", keys])

    def _configuration(self, cluster: Cluster, node: Node, keys: str, home: str) -> dict[str, Any]:
        """What Patroni is told, which of YAML is JSON."""
        options = self._options
        here, user = f"{node.address}:{PORT}", {"username": USER, "password": self.password}
        own, trusted = {"certfile": f"{keys}/patroni.pem", "keyfile": f"{keys}/patroni.key"}, f"{keys}/trusted.pem"
        shared = {
            "ttl": options.ttl,
            "loop_wait": options.loop_wait,
            "retry_timeout": options.retry_timeout,
            "maximum_lag_on_failover": options.maximum_lag_on_failover << 20,
            "check_timeline": options.check_timeline,
            "synchronous_mode": options.synchronous_mode,
            "synchronous_mode_strict": options.synchronous_mode_strict,
            "postgresql": {"use_pg_rewind": True, "use_slots": False, "parameters": self._settings(cluster)},
        }
        return {
            "scope": SCOPE,
            "name": node.name,
            "restapi": {
                "listen": f"{node.address}:{API_PORT}",
                "connect_address": f"{node.address}:{API_PORT}",
                "cafile": trusted,
                "verify_client": "required",
                **own,
            },
            "ctl": {"cacert": trusted, **own},
            "etcd3": {
                # Its own member alone: with several it looks for others for longer than retry_timeout, and so gives up
                # being primary after somebody else has become that.
                "hosts": [f"{node.address}:{etcd.CLIENT_PORT}"],
                "use_proxies": True,
                "protocol": "https",
                "cacert": trusted,
                "cert": own["certfile"],
                "key": own["keyfile"],
            },
            "bootstrap": {"dcs": shared, "initdb": ["data-checksums", *_INITDB]},
            "postgresql": {
                "listen": here,
                "connect_address": here,
                "data_dir": f"{home}/data",
                "bin_dir": BIN,
                "pgpass": f"{home}/passwords",
                "authentication": {"superuser": user, "replication": user, "rewind": user},
                "parameters": {"unix_socket_directories": ""},
                "pg_hba": self._admitted(cluster),
                "basebackup": [{"checkpoint": "fast"}],
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
            },
            "watchdog": {"mode": "off"},
        }

    def _admitted(self, cluster: Cluster) -> list[str]:
        """Beside clients every Patroni, of its own server and of the one that it rewinds from."""
        nodes = [f"host all {USER} {node.address}/32 scram-sha-256" for node in cluster.nodes]
        return nodes + super()._admitted(cluster)

    async def form(self, cluster: Cluster) -> None:
        """Once there is a primary that every other node follows, make the tables.

        A Patroni whose first attempt has failed, as when others were too slow, ends; whoever runs it starts it again.
        Raises ``NodeError`` where that does not come about.
        """
        attempts = dict.fromkeys((node.name for node in cluster.nodes), 1)

        async def formed() -> bool:
            for node in cluster.nodes:
                if (await node.running()).get("patroni", True):
                    continue
                if attempts[node.name] == _ATTEMPTS:
                    raise NodeError(f"patroni on {node.name} has ended by itself, {_ATTEMPTS} times")
                attempts[node.name] += 1
                await self._start_patroni(node)
            return await self.ready(cluster)

        await wait_until(formed, seconds=_FORM_SECONDS, what="Patroni forming a cluster", every=0.3)
        primary = next(role.node for role in await self.roles(cluster) if role.role == "primary")
        await self._make_tables(cluster.node(primary))

    async def ready(self, cluster: Cluster) -> bool:
        seen = await self._statuses(cluster.nodes)
        primaries = [status for status in seen.values() if not status["replica"]]
        if len(seen) < len(cluster.nodes) or len(primaries) != 1:
            return False
        others = len(cluster.nodes) - 1
        awaited = min(others, 1) if self._options.synchronous_mode else 0
        return bool(primaries[0]["followers"] == others and primaries[0]["awaited"] >= awaited)

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        """The term is the revision at which a node wrote the leader's key in etcd, if it has that now.

        A timeline is not one: who is promoted before it has heard of another's takes the same.
        """
        return await asyncio.gather(
            *(self._role(cluster.node(name), status) for name, status in (await self._statuses(cluster.nodes)).items())
        )

    async def _role(self, node: Node, status: Mapping[str, Any]) -> Role:
        if status["replica"]:
            return Role(node.name, "replica", None, status["position"])
        held = await self._etcd.holder(node, _LEADER)
        term = held[1] if held is not None and held[0] == node.name else None
        return Role(node.name, "primary", term, status["position"])

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        others = [other for other in cluster.nodes if other.name != node.name]
        nodes = [(each.name, each.address) for each in (node, *others)]
        return FollowingClient(nodes, timeout, self.password, **self._session())


class FollowingClient(PostgresClient):
    """Asks its own node, then the primary that it knew last, then all others, who is primary, as libpq does."""

    def __init__(self, nodes: Sequence[tuple[str, str]], timeout: float, password: str, **session: Any) -> None:
        """``nodes`` are names and addresses, the client's own first."""
        super().__init__(nodes[0], nodes[0], timeout, password, **session)
        self._nodes = nodes
        self._promoted: dict[str, Any] = {}
        """By node, a connection that was a primary's once: it is as long as it lasts, since a primary becomes a replica
        by starting again."""

    async def open(self) -> None:
        """Nothing to do: connections are made when they are needed, and to whom that moment tells."""

    async def _at_own(self) -> Server:
        link = await self._reach(self._own)
        try:
            return Server(self._own, link, primary=await self._is_primary(self._own[0], link))
        except lost() as error:
            raise Failed(f"{self._own[0]} does not answer: {error}") from None

    async def _at_primary(self) -> Server:
        for where in dict.fromkeys((self._own, self._primary)):
            if server := await self._if_primary(where):
                return server
        answers = await asyncio.gather(*(self._if_primary(where) for where in self._nodes[1:]))
        for server in filter(None, answers):
            self._primary = server.where
            return server
        raise Failed("no node that answers is primary")

    async def _if_primary(self, where: tuple[str, str]) -> Server | None:
        """The server there if it is a primary that answers."""
        try:
            async with asyncio.timeout(self._timeout * _ASK_SHARE):
                link = await self._link(where)
                return Server(where, link, primary=True) if await self._is_primary(where[0], link) else None
        except lost():
            return None

    async def _is_primary(self, name: str, link: Any) -> bool:
        if self._promoted.get(name) is link:
            return True
        try:
            with dropped_after(link, self._timeout * _ASK_SHARE):
                if await link.fetchval("SELECT pg_is_in_recovery()"):
                    return False
        except asyncio.CancelledError:
            link.terminate()  # its answer may still come
            raise
        self._promoted[name] = link
        return True
