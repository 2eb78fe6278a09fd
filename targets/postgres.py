"""PostgreSQL: one primary, and replicas that follow its log; each transaction at the level of isolation asked for.

The first node is the primary and stays it: nobody takes its place, and when it is killed all wait until it is back. The
others are hot standbys, made by ``pg_basebackup``. With ``reads=any`` transactions that only read go to the replica of
the client's own node, which knows the primary's past, and an order of commits that need not be the primary's.

PostgreSQL refuses to run as root. Where becoming its own user is allowed, as in containers, it does that; where servers
have no such right, as on local nodes, it lives in a user namespace in which root is nobody.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from harness.cluster import Cluster, Role, wait_until
from harness.environments.base import Node
from harness.errors import NodeError, UsageError, field, option
from harness.options import Number
from harness.target import LOG_PATTERNS, Client, Leadership, Target
from harness.targets.postgres_client import PORT, USER, PostgresClient, connect, dropped_after, missing
from harness.targets.postgres_statements import CONTENTS, TABLES

BIN: Final = "/usr/lib/postgresql/15/bin"
"""Where Debian has the programs of a server; they are in nobody's path."""
KEYS: Final = ".splitbrain-keys"
"""The folder in a node's directory that has passwords and configuration. By its name it is no data, which faults might
spoil."""

_FORM_SECONDS: Final = 80.0
"""Data of a server are a thousand files, which takes its time under the file system of the nemesis ``storage``."""
_QUICK_SECONDS: Final = 0.5
_STATE_SECONDS: Final = 5.0

_STATUS: Final = """
SELECT pg_is_in_recovery() AS replica,
  (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
    - '0/0'::pg_lsn)::bigint AS position,
  (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline,
  (SELECT system_identifier FROM pg_control_system()) AS identity,
  (SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming') AS followers
"""

_SCRIPT: Final = f"""
set -eu
umask 077
home=$1 keys=$2 primary=$3
# Its own user: as in an image's entry point where that is allowed, else as nobody in a namespace of its own.
if [ "$(id -u)" != 0 ]; then
  own=
elif setpriv --reuid=postgres --regid=postgres --clear-groups true 2>/dev/null; then
  own="setpriv --reuid=postgres --regid=postgres --clear-groups"
else
  own="unshare --user --ipc"  # and with it ends the shared memory that a killed server leaves
fi
if [ ! -e "$home/data" ]; then
  mkdir -p "$home"
  chmod 600 "$keys"/*
  # The folder stays root's: what root starts again must not be the database's to change.
  case $own in setpriv*)
    chown -R postgres:postgres "$home" "$keys/password" "$keys/passwords" "$keys/pg_hba.conf" "$keys/postgresql.conf"
    chmod 711 "$keys" ;;
  esac
  rm -rf "$home/new"
  if [ -z "$primary" ]; then
    $own {BIN}/initdb -D "$home/new" -U {USER} -A scram-sha-256 --pwfile="$keys/password" \\
      -E UTF8 --locale=C --data-checksums --wal-segsize=4 --no-instructions >/dev/null
  else
    until $own {BIN}/pg_basebackup -D "$home/new" -X stream -c fast --no-slot \\
      -d "host=$primary port={PORT} user={USER} passfile=$keys/passwords connect_timeout=3" 2>"$home/why"
    do echo "no copy of the primary yet: $(tr -s '\\n\\t' ' ' <"$home/why")"; sleep 0.3; done
    $own touch "$home/new/standby.signal"
  fi
  mv "$home/new" "$home/data"
fi
exec $own {BIN}/postgres -D "$home/data" -c config_file="$keys/postgresql.conf"
"""
"""Makes the data of a node that has none, and becomes the server."""


class Postgres(Target):
    """A PostgreSQL primary on the first node, and hot standbys on the others."""

    class Options(msgspec.Struct, frozen=True):
        """See PostgreSQL's manual for each."""

        isolation: Annotated[
            Literal["serializable", "repeatable-read", "read-committed"], "level of isolation of every transaction"
        ] = "serializable"
        reads: Annotated[
            Literal["primary", "any"], "transactions that only read go to the primary, or to the client's own node"
        ] = "primary"
        synchronous_commit: Annotated[
            Literal["off", "local", "remote_write", "on", "remote_apply", "mixed"],
            "what a commit waits for; mixed: one half of the clients for local, the other for remote_apply",
        ] = "on"
        synchronous: Annotated[
            int, Number(0, 99), "replicas that a commit waits for; 0: replication is asynchronous"
        ] = 0
        max_connections: Annotated[int, Number(12, 1000), "connections, and with them room for conflicts"] = 200

    name: ClassVar[str] = "postgres"
    workloads: ClassVar[frozenset[str]] = frozenset(
        {"list-append", "rw-register", "rmw", "write-skew", "long-fork"}
        | {"register", "append", "set", "counter", "unique-ids", "bank"}
    )
    leadership: Leadership = "primary"
    programs: ClassVar[Mapping[str, str]] = {f"{BIN}/postgres": "postgresql-15"}
    log_patterns: ClassVar[Mapping[str, str]] = {
        **LOG_PATTERNS,
        "panic": LOG_PATTERNS["panic"] + r"|\bPANIC:  |was terminated by signal (?:4|6|7|8|11)\b",
        # Not in hints: who is killed while it recovers is always told what that might mean.
        "corrupt file": r"(?:WARNING|ERROR|FATAL):  .*(?:[Cc]orrupt|invalid page in block|page verification failed"
        r"|could not read block|could not access status of transaction|could not locate a valid checkpoint record"
        r"|unexpected zero page)",
    }
    ports: ClassVar[tuple[int, ...]] = (PORT,)
    failover: float = 0.0
    """Nobody else becomes primary: it makes no sense to wait for that."""
    claims: ClassVar[str] = (
        "on the primary: strict serializability with isolation=serializable, snapshot isolation with repeatable-read, "
        "read committed with read-committed; with reads=any, reads of replicas may be stale, and disagree about the "
        "order of commits; with synchronous_commit=off a kill loses acknowledged commits"
    )

    def __init__(self, options: Options) -> None:
        self._options = options
        self.password = secrets.token_hex(32)
        """Of clients and replicas. It stands in nodes' files only."""
        self._configured: set[Node] = set()
        self._idle: dict[Node, Any] = {}
        """A connection to each node, for those who ask it what it is."""
        self._clients = 0
        """How many there have been."""

    def unfit_for(self, workload: str) -> str | None:
        return missing()

    def misfit(self, zones: Mapping[str, str]) -> str | None:
        if (asked := self._options.synchronous) > len(zones) - 1:
            return f"{option('synchronous')} is {asked}, but {len(zones)} nodes have {len(zones) - 1} replicas"
        if self._options.reads == "any" and len(zones) == 1:
            return f"{option('reads')} is any, but one node has no replicas"
        waits = self._options.synchronous_commit in ("remote_write", "remote_apply", "mixed")
        if waits and not self._options.synchronous:
            commit = self._options.synchronous_commit
            return (
                f"{option('synchronous_commit')} is {commit}, but {option('synchronous')} is 0: it waits for no replica"
            )
        return None

    async def start(self, cluster: Cluster, node: Node) -> None:
        if cluster.environment.name == "ssh":
            # A pause would stop one process of them, and be taken for a pause of all.
            raise UsageError(
                f"{field('environment', 'ssh')} cannot have postgres: there, faults find servers by their session, and "
                "every process of PostgreSQL begins one of its own"
            )
        keys, home = f"{node.directory}/{KEYS}", f"{node.directory}/postgres"
        primary = cluster.nodes[0]
        if node not in self._configured:
            await node.write(f"{keys}/password", f"{self.password}\n".encode())
            await node.write(f"{keys}/passwords", f"*:*:*:{USER}:{self.password}\n".encode())
            await node.write(f"{keys}/pg_hba.conf", self._access(cluster).encode())
            await node.write(f"{keys}/postgresql.conf", self._configuration(cluster, node, keys).encode())
            await node.write(f"{keys}/start.sh", _SCRIPT.encode())
            self._configured.add(node)
        follows = "" if node.name == primary.name else primary.address
        await node.start("postgres", ["sh", f"{keys}/start.sh", home, keys, follows])

    def _access(self, cluster: Cluster) -> str:
        """Who is let in: clients of the run, and for the log the run's nodes."""
        driver = cluster.environment.driver.get("address")
        lines = [f"host all {USER} {f'{driver}/32' if driver else 'samenet'} scram-sha-256"]
        lines += [f"host replication {USER} {node.address}/32 scram-sha-256" for node in cluster.nodes]
        return "\n".join(lines) + "\n"

    def _configuration(self, cluster: Cluster, node: Node, keys: str) -> str:
        options, primary = self._options, cluster.nodes[0]
        settings: dict[str, object] = {
            "listen_addresses": node.address,
            "port": PORT,
            "unix_socket_directories": "",
            "hba_file": f"{keys}/pg_hba.conf",
            "max_connections": options.max_connections,
            "superuser_reserved_connections": 0,
            "shared_buffers": "32MB",
            "dynamic_shared_memory_type": "sysv",
            "jit": "off",
            "log_line_prefix": "%m ",
            "log_error_verbosity": "terse",  # conflicts are many
            "log_min_error_statement": "panic",
            "lc_messages": "C",
            "timezone": "UTC",
            # Locks of what was read are of rows and pages of an index, and not of whole tables.
            "enable_seqscan": "off",
            "enable_bitmapscan": "off",
            "max_pred_locks_per_transaction": 256,
            "deadlock_timeout": "200ms",
            # A client that has given up leaves nothing locked for long, unless its commit waits for a replica.
            "client_connection_check_interval": "1s",
            "idle_in_transaction_session_timeout": "10s",
            "tcp_keepalives_idle": 2,
            "tcp_keepalives_interval": 2,
            "tcp_keepalives_count": 3,
            "tcp_user_timeout": "5s",
            # The log that is kept for replicas fits into a node's disk beside all else.
            "wal_level": "replica",
            "max_wal_size": "96MB",
            "min_wal_size": "32MB",
            "wal_keep_size": "160MB",
            "max_wal_senders": 2 * len(cluster.nodes) + 2,
            "max_replication_slots": 0,
            "wal_sender_timeout": "5s",
            "wal_receiver_timeout": "5s",
            "wal_receiver_status_interval": "1s",
            "wal_retrieve_retry_interval": "500ms",
            "hot_standby": "on",
            "hot_standby_feedback": "on",
            "max_standby_streaming_delay": "5s",
        }
        if options.synchronous:
            replicas = ", ".join(f'"{other.name}"' for other in cluster.nodes[1:])
            settings["synchronous_standby_names"] = f"ANY {options.synchronous} ({replicas})"
        if node.name != primary.name:
            settings["primary_conninfo"] = (
                f"host={primary.address} port={PORT} user={USER} passfile={keys}/passwords "
                f"application_name={node.name} connect_timeout=3 keepalives_idle=2 tcp_user_timeout=5000"
            )
        return "".join(f"{name} = '{value}'\n" for name, value in settings.items())

    async def form(self, cluster: Cluster) -> None:
        """Once every replica follows, make the tables. Raises ``NodeError`` where that does not come about."""

        async def all_follow() -> bool:
            for node in cluster.nodes:
                if not (await node.running()).get("postgres", True):
                    raise NodeError(f"postgres on {node.name} has ended by itself")
            return await self.ready(cluster)

        await wait_until(all_follow, seconds=_FORM_SECONDS, what="replicas following the primary")
        link = await connect(cluster.nodes[0].address, self.password, _STATE_SECONDS)
        try:
            for statement in TABLES:
                await link.execute(statement)
        finally:
            link.terminate()

    async def ready(self, cluster: Cluster) -> bool:
        primary = cluster.nodes[0].name
        seen = await self._statuses(cluster.nodes)
        return (
            len(seen) == len(cluster.nodes)
            and [name for name, status in seen.items() if not status["replica"]] == [primary]
            and seen[primary]["followers"] == len(cluster.nodes) - 1
        )

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        """The term is the timeline, of which there is a new one only where a replica is promoted."""
        return [
            Role(name, "replica", None, status["position"])
            if status["replica"]
            else Role(name, "primary", status["timeline"], status["position"])
            for name, status in (await self._statuses(cluster.nodes)).items()
        ]

    async def identities(self, cluster: Cluster) -> Mapping[str, str]:
        """The number that ``initdb`` has drawn, which replicas have from the primary."""
        return {name: str(status["identity"]) for name, status in (await self._statuses(cluster.nodes)).items()}

    async def own_state(self, cluster: Cluster, node: Node) -> Mapping[str, str] | None:
        link = await connect(node.address, self.password, _STATE_SECONDS)
        try:
            with dropped_after(link, _STATE_SECONDS):
                return {key: text or "" for key, text in await link.fetch(CONTENTS)}
        finally:
            link.terminate()

    async def _statuses(self, nodes: Sequence[Node]) -> dict[str, Mapping[str, Any]]:
        """What the servers that answer say of themselves, by node."""
        seen = await asyncio.gather(*(self._status(node) for node in nodes))
        return {node.name: status for node, status in zip(nodes, seen, strict=True) if status is not None}

    async def _status(self, node: Node) -> Mapping[str, Any] | None:
        """What a server says of itself; None without an answer.

        Every connection is a process there, and a password takes time to be proved: one is kept for the next question.
        """
        link = self._idle.pop(node, None)
        try:
            if link is None or link.is_closed():
                link = await connect(node.address, self.password, _QUICK_SECONDS)
            with dropped_after(link, _QUICK_SECONDS):
                status: Mapping[str, Any] = await link.fetchrow(_STATUS)
        except Exception:  # the driver's own, too: whoever does not answer says nothing
            if link is not None:
                link.terminate()
            return None
        except BaseException:
            if link is not None:
                link.terminate()
            raise
        if node in self._idle:  # somebody else has asked meanwhile
            link.terminate()
        else:
            self._idle[node] = link
        return status

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        primary, options = cluster.nodes[0], self._options
        commit: str = options.synchronous_commit
        if commit == "mixed":
            commit = ("local", "remote_apply")[self._clients % 2]
        self._clients += 1
        return PostgresClient(
            (node.name, node.address),
            (primary.name, primary.address),
            timeout,
            self.password,
            isolation=options.isolation,
            commit=commit,
            any_node=options.reads == "any",
        )
