"""The options of the reference store, the same on the command line and on a node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


def _option(default: Any, what: str, **limits: int) -> Any:
    """An option, what it is for, and the ``least`` and ``most`` that it may be: for the target, since nodes have only
    the standard library.
    """
    return field(default=default, metadata={"what": what, **limits})


@dataclass(frozen=True)
class Options:
    """How the store replicates, what it promises, and what is wrong with it."""

    replication: Literal["raft", "primary-backup", "quorum", "multi-primary", "gossip"] = _option(
        "raft", "how nodes come to hold the same; a planted bug alone says which"
    )
    bug: str = _option("", "names of planted bugs with commas")

    reads: Literal["read-index", "lease", "local"] = _option(
        "read-index", "raft: how a read makes sure that it is not stale; local does not"
    )
    snapshot: int = _option(500, "raft: take a snapshot when the log has this many entries", least=1, most=1_000_000)

    acknowledge: Literal["sync", "semi-sync", "async"] = _option(
        "sync", "primary-backup: acknowledge once a majority, one backup, or nobody else holds a command"
    )
    majority: bool = _option(
        True, "primary-backup, a guard: a primary needs votes of a majority, not only of those that it can reach"
    )
    fencing: bool = _option(True, "primary-backup, a guard: messages of a primary of an older term are refused")
    witness: str = _option("", "primary-backup, a guard: the node that votes but holds no data and is never primary")

    n: int = _option(3, "quorum: the nodes that hold each key", least=1, most=99)
    r: int = _option(2, "quorum: how many of them a read asks", least=1, most=99)
    w: int = _option(2, "quorum: how many of them a write waits for", least=1, most=99)
    write_back: bool = _option(
        True, "quorum: a read writes what it found to W nodes before it answers, which makes registers linearizable"
    )
    sloppy: bool = _option(
        False, "quorum: others may stand in for nodes that do not answer, and hand over later what they hold for them"
    )
    anti_entropy: bool = _option(
        True, "quorum, multi-primary, gossip: compare what nodes hold in the background, by Merkle trees or digests"
    )

    conflict: Literal["lww-hlc", "lww-wall", "siblings", "merge"] = _option(
        "lww-hlc",
        "quorum, multi-primary, gossip: of writes that do not know of one another the last wins, by a hybrid logical "
        "clock or the wall clock; or all are kept as siblings; or an application's function merges them",
    )
    merge: str = _option(
        "targets.reference.merges:longest", "with conflict=merge: MODULE:FUNCTION, from a list of values to one value"
    )
