"""What all targets that run PostgreSQL have in common: how its servers are set up, and asked what they are."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from harness.cluster import Cluster, Role
from harness.environments.base import Node
from harness.errors import UsageError, field, option
from harness.options import Milliseconds, Number
from harness.target import LOG_PATTERNS, Leadership, Target
from harness.targets.postgres_client import PORT, USER, connect, dropped_after, missing
from harness.targets.postgres_statements import CONTENTS, TABLES

BIN: Final = "/usr/lib/postgresql/15/bin"
"""Where Debian has the programs of a server; they are in nobody's path."""
KEYS: Final = ".splitbrain-keys"
"""The folder in a node's directory that has passwords and configuration. By its name it is no data, which faults might
spoil."""

WAITS: Final = ("remote_write", "remote_apply", "mixed")
"""What a commit may be told to wait for that is of replicas alone."""
_QUICK_SECONDS: Final = 0.5
_STATE_SECONDS: Final = 5.0

_STATUS: Final = """
SELECT pg_is_in_recovery() AS replica,
  (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
    - '0/0'::pg_lsn)::bigint AS position,
  (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline,
  (SELECT system_identifier FROM pg_control_system()) AS identity,
  (SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming') AS followers,
  (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS awaited
"""

OWN_USER: Final = """
# Its own user: as in an image's entry point where that is allowed, else as nobody in a namespace of its own.
if [ "$(id -u)" != 0 ]; then
  own=
elif setpriv --reuid=postgres --regid=postgres --clear-groups true 2>/dev/null; then
  own="setpriv --reuid=postgres --regid=postgres --clear-groups"
else
  own="unshare --user --ipc"  # and with it ends the shared memory that a killed server leaves
fi
"""
"""Shell that sets ``own`` to what has a command run as somebody whom PostgreSQL does not refuse."""


class Sessions(msgspec.Struct, frozen=True):
    """Options of whatever runs PostgreSQL: see its manual for each."""

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
    max_connections: Annotated[int, Number(12, 1000), "connections, and with them room for conflicts"] = 200
    max_pred_locks_per_transaction: Annotated[int, Number(10, 65_536), "room for what serializable reads lock"] = 256
    cancel: Annotated[
        bool,
        "whether a client cancels what is not answered in half of its time, as drivers do; else it goes away later",
    ] = False
    think_ms: Annotated[
        int, Milliseconds(1, 600_000, zero="not at all"), "how long one half of the clients waits before each write"
    ] = 0


class Servers(Target):
    """What all that runs PostgreSQL has in common: how its servers are set up, and asked what they are."""

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

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self.password = secrets.token_hex(32)
        """Of clients and servers. It stands in nodes' files only."""
        self._idle: dict[Node, Any] = {}
        """A connection to each node, for those who ask it what it is."""
        self._clients = 0
        """How many there have been."""

    def unfit_for(self, workload: str) -> str | None:
        return missing()

    def misfit(self, zones: Mapping[str, str]) -> str | None:
        if self._sessions.reads == "any" and len(zones) == 1:
            return f"{option('reads')} is any, but one node has no replicas"
        return None

    def _refuse_ssh(self, cluster: Cluster) -> None:
        """Raise ``UsageError`` where a pause would stop one process of a server, and be taken for a pause of all."""
        if cluster.environment.name == "ssh":
            raise UsageError(
                f"{field('environment', 'ssh')} cannot have {self.name}: there, faults find servers by their session, "
                "and every process of PostgreSQL begins one of its own"
            )

    def _settings(self, cluster: Cluster) -> dict[str, object]:
        """The parameters of a server that are the same on every node."""
        return {
            "max_connections": self._sessions.max_connections,
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
            "max_pred_locks_per_transaction": self._sessions.max_pred_locks_per_transaction,
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
            "wal_sender_timeout": "5s",
            "wal_receiver_timeout": "5s",
            "wal_receiver_status_interval": "1s",
            "wal_retrieve_retry_interval": "500ms",
            "hot_standby": "on",
            "hot_standby_feedback": "on",
            "max_standby_streaming_delay": "5s",
        }

    def _admitted(self, cluster: Cluster) -> list[str]:
        """Who is let in: clients of the run, and for the log the run's nodes; lines of ``pg_hba.conf``."""
        driver = cluster.environment.driver.get("address")
        lines = [f"host all {USER} {f'{driver}/32' if driver else 'samenet'} scram-sha-256"]
        return lines + [f"host replication {USER} {node.address}/32 scram-sha-256" for node in cluster.nodes]

    async def _make_tables(self, primary: Node) -> None:
        link = await connect(primary.address, self.password, _STATE_SECONDS)
        try:
            for statement in TABLES:
                await link.execute(statement)
        finally:
            link.terminate()

    def _session(self) -> dict[str, Any]:
        """What the next client is told of its sessions."""
        sessions, second = self._sessions, self._clients % 2 == 1
        self._clients += 1
        commit: str = sessions.synchronous_commit
        if commit == "mixed":
            commit = "remote_apply" if second else "local"
        return {
            "isolation": sessions.isolation,
            "commit": commit,
            "any_node": sessions.reads == "any",
            "cancel": sessions.cancel,
            "think": sessions.think_ms / 1000 if second else 0.0,
        }

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
