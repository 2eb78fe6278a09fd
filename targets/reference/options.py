"""The options of the reference store, the same on the command line and on a node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


def _option(default: Any, what: str, of: tuple[str, ...] = (), **limits: int) -> Any:
    """An option, what it is for, the replications that know it (all, if none is named), and the ``least`` and ``most``
    that it may be: words for the target, since a node has only the standard library to read them with.
    """
    return field(default=default, metadata={"what": what, "of": of, **limits})


_LEADERLESS = ("quorum", "multi-primary", "gossip")


@dataclass(frozen=True)
class Options:
    """How the store replicates, what it promises, and what is wrong with it."""

    replication: Literal["raft", "primary-backup", "quorum", "multi-primary", "gossip"] = _option(
        "raft", "how nodes come to hold the same; raft, unless a planted bug says which"
    )
    bug: str = _option("", "planted bugs")

    reads: Literal["read-index", "lease", "local"] = _option(
        "read-index", "how a read makes sure that it is not stale; local does not", of=("raft",)
    )
    snapshot: int = _option(
        500, "take a snapshot when the log has this many entries", of=("raft",), least=1, most=1_000_000
    )

    shards: int = _option(
        0, "split the keys over this many Raft groups, between which ranges can be moved; 0: one for all", of=("raft",),
        least=0, most=16,
    )  # fmt: skip
    placement: Literal["hash", "range", "consistent-hash", "rendezvous", "hierarchical"] = _option(
        "hash", "with shards: which of them holds a key at first", of=("raft",)
    )

    isolation: Literal["serializable", "snapshot", "read-committed"] = _option(
        "serializable",
        "how transactions are done: whole and in one step; from a snapshot, declined if another wrote the same key "
        "first; or each read by itself and then all writes",
        of=("raft", "primary-backup"),
    )

    acknowledge: Literal["sync", "semi-sync", "async"] = _option(
        "sync", "acknowledge once a majority, one backup, or nobody else holds a command", of=("primary-backup",)
    )
    majority: bool = _option(
        True,
        "a guard: a primary needs votes of a majority, not only of those that it can reach",
        of=("primary-backup",),
    )
    fencing: bool = _option(True, "a guard: messages of a primary of an older term are refused", of=("primary-backup",))
    witness: str = _option(
        "", "a guard: the node that votes but holds no data and is never primary", of=("primary-backup",)
    )

    n: int = _option(3, "the nodes that hold each key", of=("quorum",), least=1, most=99)
    r: int = _option(2, "how many of them a read asks", of=("quorum",), least=1, most=99)
    w: int = _option(2, "how many of them a write waits for", of=("quorum",), least=1, most=99)
    write_back: bool = _option(
        True,
        "a read writes what it found to W nodes before it answers, which makes registers linearizable",
        of=("quorum",),
    )
    sloppy: bool = _option(
        False,
        "others may stand in for nodes that do not answer, and hand over later what they hold for them",
        of=("quorum",),
    )
    anti_entropy: bool = _option(
        True, "compare what nodes hold in the background, by Merkle trees or digests", of=_LEADERLESS
    )

    conflict: Literal["lww-hlc", "lww-wall", "siblings", "merge"] = _option(
        "lww-hlc",
        "of writes that do not know of one another the last wins, by a hybrid logical "
        "clock or the wall clock; or all are kept as siblings; or an application's function merges them",
        of=_LEADERLESS,
    )
    merge: str = _option(
        "harness.targets.reference.merges:longest",
        "with conflict=merge: from a list of values to one value",
        of=_LEADERLESS,
    )
