"""PostgreSQL: one primary, and replicas that follow its log; each transaction at the level of isolation asked for.

The first node is the primary and stays it: nobody takes its place, and when it is killed all wait until it is back. The
others are hot standbys, made by ``pg_basebackup``. With ``reads=any`` transactions that only read go to the replica of
the client's own node, which knows the primary's past, and an order of commits that need not be the primary's.

PostgreSQL refuses to run as root. Where becoming its own user is allowed, as in containers, it does that; where servers
have no such right, as on local nodes, it lives in a user namespace in which root is nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node
from harness.errors import NodeError, option
from harness.options import Number
from harness.target import Client
from harness.targets.postgres_client import PORT, USER, PostgresClient
from harness.targets.postgres_servers import BIN, KEYS, OWN_USER, WAITS, Servers, Sessions

_FORM_SECONDS: Final = 80.0
"""Data of a server are a thousand files, which takes its time under the file system of the nemesis ``storage``."""

_SCRIPT: Final = f"""
set -eu
umask 077
home=$1 keys=$2 primary=$3
{OWN_USER}
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


class Postgres(Servers):
    """A PostgreSQL primary on the first node, and hot standbys on the others."""

    class Options(Sessions, frozen=True):
        """See PostgreSQL's manual for each."""

        synchronous: Annotated[
            int, Number(0, 99), "replicas that a commit waits for; 0: replication is asynchronous"
        ] = 0

    name: ClassVar[str] = "postgres"
    failover: float = 0.0
    """Nobody else becomes primary: it makes no sense to wait for that."""
    claims: ClassVar[str] = (
        "on the primary: strict serializability with isolation=serializable, snapshot isolation with repeatable-read, "
        "read committed with read-committed; with reads=any, reads of replicas may be stale, and disagree about the "
        "order of commits; with synchronous_commit=off a kill loses acknowledged commits"
    )

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._options = options
        self._configured: set[Node] = set()

    def misfit(self, zones: Mapping[str, str]) -> str | None:
        if (asked := self._options.synchronous) > len(zones) - 1:
            return f"{option('synchronous')} is {asked}, but {len(zones)} nodes have {len(zones) - 1} replicas"
        commit = self._options.synchronous_commit
        if commit in WAITS and not self._options.synchronous:
            return (
                f"{option('synchronous_commit')} is {commit}, but {option('synchronous')} is 0: it waits for no replica"
            )
        return super().misfit(zones)

    async def start(self, cluster: Cluster, node: Node) -> None:
        self._refuse_ssh(cluster)
        keys, home = f"{node.directory}/{KEYS}", f"{node.directory}/postgres"
        primary = cluster.nodes[0]
        if node not in self._configured:
            access = "".join(f"{line}\n" for line in self._admitted(cluster))
            await node.write(f"{keys}/password", f"{self.password}\n".encode())
            await node.write(f"{keys}/passwords", f"*:*:*:{USER}:{self.password}\n".encode())
            await node.write(f"{keys}/pg_hba.conf", access.encode())
            await node.write(f"{keys}/postgresql.conf", self._configuration(cluster, node, keys).encode())
            await node.write(f"{keys}/start.sh", _SCRIPT.encode())
            self._configured.add(node)
        follows = "" if node.name == primary.name else primary.address
        await node.start("postgres", ["sh", f"{keys}/start.sh", home, keys, follows])

    def _configuration(self, cluster: Cluster, node: Node, keys: str) -> str:
        primary = cluster.nodes[0]
        settings = self._settings(cluster) | {
            "listen_addresses": node.address,
            "port": PORT,
            "unix_socket_directories": "",
            "hba_file": f"{keys}/pg_hba.conf",
            "max_replication_slots": 0,
        }
        if self._options.synchronous:
            replicas = ", ".join(f'"{other.name}"' for other in cluster.nodes[1:])
            settings["synchronous_standby_names"] = f"ANY {self._options.synchronous} ({replicas})"
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
        await self._make_tables(cluster.nodes[0])

    async def ready(self, cluster: Cluster) -> bool:
        primary = cluster.nodes[0].name
        seen = await self._statuses(cluster.nodes)
        return (
            len(seen) == len(cluster.nodes)
            and [name for name, status in seen.items() if not status["replica"]] == [primary]
            and seen[primary]["followers"] == len(cluster.nodes) - 1
        )

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        own, primary = ((each.name, each.address) for each in (node, cluster.nodes[0]))
        return PostgresClient(own, primary, timeout, self.password, **self._session())
