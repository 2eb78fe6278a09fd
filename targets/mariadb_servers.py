"""How a server of MariaDB begins: it makes its data or joins others, and who begins a cluster that all have left.

MariaDB does not want to run as root, and rsync, by which a node gets its first data, drops what root may do. Where
becoming their own user is allowed, as in containers, they do that; where servers have no such right, as on local nodes,
they live in a user namespace in which root is nobody.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple

from harness.cluster import Cluster
from harness.environments.base import Node
from harness.errors import NodeError

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
_POSITIONS: Final = re.compile(r"([\w-]+):(-?\d+)")
_NO_CLUSTER: Final = "00000000-0000-0000-0000-000000000000"

COPY_METHOD: Final = "marked"
"""What Galera is told to copy data by: the program below."""
COPY_PROGRAM: Final = f"wsrep_sst_{COPY_METHOD}"
COPY: Final = """#!/bin/sh
# As rsync does it; beside data of which a part may be another node's there is $PARTIAL. What the program itself leaves
# there meanwhile is gone whenever it ends, whatever became of the copy.
case " $* " in *" --role joiner "*) ;; *) exec wsrep_sst_rsync "$@" ;; esac
: >"$PARTIAL" || exit
wsrep_sst_rsync "$@" || exit
rm "$PARTIAL"
"""

_NO_STATE: Final = (
    "[Nn]eed to abort|Receiving IST failed, node restart required|State transfer request failed unrecoverably"
    "|Application state transfer failed"
)
"""Why Galera ends a server that has not been sent its state, in its own words."""

SCRIPT: Final = """
set -eu
umask 077
home=$1 keys=$2 how=$3
data=$home/data
export PARTIAL="$home/partial" PATH="$PATH:$keys"
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
  { [ ! -e "$PARTIAL" ] && [ -s "$data/ibdata1" ]; } || return 0
  written=$(sed -n 's/^uuid: *//p; s/^seqno: *//p' "$data/grastate.dat" 2>/dev/null | tr '\\n' ' ')
  case $written in
    ''|*' -1 '*)
      server --wsrep-recover --skip-networking >/dev/null 2>"$home/recovered.log" || {
        cat "$home/recovered.log" >&2
        return 1
      }
      sed -n 's/.*WSREP: Recovered position: *\\([^ ,]*\\).*/\\1/p' "$home/recovered.log" | tail -n 1 | grep . ;;
    *) set -- $written; echo "$1:$2" ;;
  esac
}

if [ "$how" = position ]; then position; exit; fi
if [ ! -e "$data" ]; then
  mkdir -p "$home"
  chmod 600 "$keys"/*
  chmod 755 "$keys"/wsrep_sst_*
  # The folder stays root's: what root starts again must not be the database's to change.
  case $own in setpriv*)
    chown -R mysql:mysql "$home" "$keys/my.cnf"
    chmod 711 "$keys" ;;
  esac
  rm -rf "$home/new"
  $own mkdir "$home/new"
  if [ "$how" = alone ] || [ "$how" = first ]; then
    $own mariadb-install-db --defaults-file="$keys/my.cnf" --datadir="$home/new" --wsrep-on=OFF \\
      --auth-root-authentication-method=socket --skip-test-db >"$home/why.log" 2>&1 || { cat "$home/why.log"; exit 1; }
    server --datadir="$home/new" --wsrep-on=OFF --bootstrap <"$keys/users.sql"
  fi
  mv "$home/new" "$data"
fi
[ "$how" != alone ] || exec $own mariadbd --defaults-file="$keys/my.cnf"
[ "$how" != follow ] || $own rm -f "$data/gvwstate.dat"
trap : TERM  # the server is asked as well, and ends first
while :; do
  if [ -e "$PARTIAL" ]; then
    # Which nodes there were is known all the same.
    $own find "$data" -mindepth 1 ! -name gvwstate.dat -delete
    $own rm "$PARTIAL"
  fi
  known=$(position) || known=
  set --
  [ -z "$known" ] || set -- --wsrep-start-position="$known"
  if [ "$how" = first ]; then
    [ ! -e "$data/grastate.dat" ] || $own sed -i 's/^safe_to_bootstrap:.*/safe_to_bootstrap: 1/' "$data/grastate.dat"
    set -- "$@" --wsrep-new-cluster
  fi
  $own rm -f "$home/printing"
  $own mkfifo "$home/printing"
  (trap '' TERM; exec $own tee "$home/printed.log" <"$home/printing") &
  printer=$! ended=0
  server "$@" >"$home/printing" 2>&1 || ended=$?
  # What was printed is to be in the log. Processes that the server has left behind may hold it up for longer.
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 "$printer" 2>/dev/null || break
    sleep 0.1
  done
  # A node aborts when it is not sent what it has missed, as the other one is gone, and counts on systemd to start it
  # again. Nothing else that ends a server so is to be passed over.
  { [ "$ended" = 134 ] && grep -Eq "WSREP: .*(@REASONS@)" "$home/printed.log"; } || exit "$ended"
  how=join
  sleep 1
done
""".replace("@REASONS@", _NO_STATE)
"""Makes the data of a node that has none, unless another node will send them, and becomes the server."""


def command(node: Node) -> list[str]:
    """The command that starts a node's server, or is asked something, but for what it is to do."""
    keys = f"{node.directory}/{KEYS}"
    return ["sh", f"{keys}/start.sh", f"{node.directory}/mariadb", keys]


class _Held(NamedTuple):
    """What the data of a node hold: the history of a cluster, and the number of its last transaction there."""

    history: str
    number: int


async def furthest(cluster: Cluster, lost: Collection[Node]) -> Node | None:
    """Of nodes of which none runs, the one whose data have most; None where Galera will see to it by itself.

    What the ``lost`` still know of others does not count.

    It does so where all were killed: then each knows who was there, and waits for them. Who has left a cluster knows
    nobody any more, and a cluster that all have left is begun anew by hand: this one. Who begins it decides what is
    kept, so this raises ``NodeError`` unless it is certain what each of them has.
    """
    names = [node.name for node in cluster.nodes]
    known = await cluster.on_each(
        names, lambda node: node.exec(["test", "-s", f"{node.directory}/mariadb/data/gvwstate.dat"])
    )
    if not any(node in lost for node in cluster.nodes) and all(result.code == 0 for result in known.values()):
        return None
    said = await cluster.on_each(names, _held)
    held = {name: each for name, each in said.items() if each is not None}
    if len({each.history for each in held.values()}) > 1:
        whose = ", ".join(f"{each.history} on {name}" for name, each in held.items())
        raise NodeError(f"the data of mariadb are of several clusters: {whose}")
    return cluster.node(max(held, key=lambda name: held[name].number, default=names[0]))


async def _held(node: Node) -> _Held | None:
    """What a node's data hold; None where it has none of a cluster. Raises ``NodeError`` where it cannot be read."""
    unknown = f"how much the data of mariadb on {node.name} hold could not be read"
    try:
        result = await node.exec([*command(node), _POSITION], timeout=_RECOVER_SECONDS)
    except TimeoutError:
        raise NodeError(f"{unknown} within {_RECOVER_SECONDS:g} s") from None
    position = result.out.decode(errors="replace").strip()
    if result.code == 0 and not position:
        return None
    told = _POSITIONS.fullmatch(position)
    if result.code != 0 or told is None:
        raise NodeError(f"{unknown}: {next(reversed(result.text.splitlines()), 'it said nothing')}")
    return None if told[1] == _NO_CLUSTER else _Held(told[1], int(told[2]))
