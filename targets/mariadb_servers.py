"""How a server of MariaDB begins: it makes its data or joins others, and who begins a cluster that all have left.

MariaDB does not want to run as root, and rsync, by which a node gets its first data, drops what root may do. Where
becoming their own user is allowed, as in containers, they do that; where servers have no such right, as on local nodes,
they live in a user namespace in which root is nobody.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from harness.cluster import Cluster
from harness.environments.base import Node

KEYS: Final = ".splitbrain-keys"
"""The folder in a node's directory that has the password and the configuration. By its name it is no data, which faults
might spoil."""

ALONE: Final = "alone"
"""What the script is told of a server's part: this one has no others."""
FIRST: Final = "first"
"""It begins a cluster."""
JOIN: Final = "join"
"""It joins one; where all that it knows of were killed as well, they go on with theirs."""
FOLLOW: Final = "follow"
"""It joins one, and has forgotten whom it knew."""
_POSITION: Final = "position"
"""No server is to be started: how much do the data hold?"""

_RECOVER_SECONDS: Final = 30.0

SCRIPT: Final = """
set -eu
umask 077
home=$1 keys=$2 how=$3
data=$home/data
# Its own user: as in an image's entry point where that is allowed, else as nobody in a namespace of its own.
if [ "$(id -u)" != 0 ]; then
  own=
elif [ "$(stat -c %U "$data" 2>/dev/null)" != root ] && \\
    setpriv --reuid=mysql --regid=mysql --clear-groups true 2>/dev/null; then
  own="setpriv --reuid=mysql --regid=mysql --clear-groups"
else
  own="unshare --user"
fi
server() { $own mariadbd --defaults-file="$keys/my.cnf" "$@"; }

# What the data hold, as UUID:NUMBER of the last transaction; a server that was killed has not written it down.
position() {
  [ -s "$data/ibdata1" ] || return 0
  written=$(sed -n 's/^uuid: *//p; s/^seqno: *//p' "$data/grastate.dat" 2>/dev/null | tr '\\n' ' ')
  case $written in
    ''|*' -1 '*)
      server --wsrep-recover --skip-networking >/dev/null 2>"$home/recovered" || {
        cat "$home/recovered" >&2
        return 1
      }
      sed -n 's/.*WSREP: Recovered position: *\\([^ ,]*\\).*/\\1/p' "$home/recovered" | tail -n 1 ;;
    *) set -- $written; echo "$1:$2" ;;
  esac
}

if [ "$how" = position ]; then position; exit; fi
if [ ! -e "$data" ]; then
  mkdir -p "$home"
  chmod 600 "$keys"/*
  # The folder stays root's: what root starts again must not be the database's to change.
  case $own in setpriv*)
    chown -R mysql:mysql "$home" "$keys/my.cnf"
    chmod 711 "$keys" ;;
  esac
  rm -rf "$home/new"
  $own mkdir "$home/new"
  if [ "$how" = alone ] || [ "$how" = first ]; then
    $own mariadb-install-db --defaults-file="$keys/my.cnf" --datadir="$home/new" --wsrep-on=OFF \\
      --auth-root-authentication-method=socket --skip-test-db >"$home/why" 2>&1 || { cat "$home/why"; exit 1; }
    server --datadir="$home/new" --wsrep-on=OFF --bootstrap <"$keys/users.sql"
  fi
  mv "$home/new" "$data"
fi
[ "$how" != alone ] || exec $own mariadbd --defaults-file="$keys/my.cnf"
[ "$how" != follow ] || $own rm -f "$data/gvwstate.dat"
trap : TERM  # the server is asked as well, and ends first
while :; do
  if [ -e "$data/sst_in_progress" ]; then
    # It was being sent another node's data: what there is may be a part of them. Which nodes there were is known.
    $own find "$data" -mindepth 1 ! -name gvwstate.dat -delete
  fi
  known=$(position)
  set --
  [ -z "$known" ] || set -- --wsrep-start-position="$known"
  if [ "$how" = first ]; then
    [ ! -e "$data/grastate.dat" ] || $own sed -i 's/^safe_to_bootstrap:.*/safe_to_bootstrap: 1/' "$data/grastate.dat"
    set -- "$@" --wsrep-new-cluster
  fi
  ended=0
  server "$@" || ended=$?
  # A node aborts when who was sending it what it had missed is gone, and counts on being started again by systemd.
  [ "$ended" = 134 ] || exit "$ended"
  how=join
  sleep 1
done
"""
"""Makes the data of a node that has none, unless another node will send them, and becomes the server."""


def command(node: Node) -> list[str]:
    """The command that starts a node's server, or is asked something, but for what it is to do."""
    keys = f"{node.directory}/{KEYS}"
    return ["sh", f"{keys}/start.sh", f"{node.directory}/mariadb", keys]


async def furthest(cluster: Cluster, lost: Collection[Node]) -> Node | None:
    """Of nodes of which none runs, the one whose data have most; None where Galera will see to it by itself.

    What the ``lost`` still know of others does not count.

    It does so where all were killed: then each knows who was there, and waits for them. Who has left a cluster knows
    nobody any more, and a cluster that all have left is begun anew by hand: this one.
    """
    names = [node.name for node in cluster.nodes]
    known = await cluster.on_each(
        names, lambda node: node.exec(["test", "-s", f"{node.directory}/mariadb/data/gvwstate.dat"])
    )
    if not any(node in lost for node in cluster.nodes) and all(result.code == 0 for result in known.values()):
        return None
    said = await cluster.on_each(names, lambda node: node.exec([*command(node), _POSITION], timeout=_RECOVER_SECONDS))
    numbers = {name: _number(result.text) for name, result in said.items()}
    return cluster.node(max(names, key=lambda name: numbers[name]))


def _number(position: str) -> int:
    """The number in UUID:NUMBER; -1 where there is none."""
    number = position.rpartition(":")[2]
    return int(number) if number.isdigit() else -1
