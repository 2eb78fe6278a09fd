"""The options of the reference store, the same on the command line and on a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Options:
    """How the store replicates, what it promises, and what is wrong with it."""

    replication: Literal["raft", "primary-backup", "quorum", "multi-primary", "gossip"] = "raft"
    bug: str = ""
    """Names of planted bugs with commas."""

    reads: Literal["read-index", "lease", "local"] = "read-index"
    """raft: how a read makes sure that it is not stale; ``local`` does not."""
    snapshot: int = 500
    """raft: take a snapshot when the log has this many entries."""

    acknowledge: Literal["sync", "semi-sync", "async"] = "sync"
    """primary-backup: acknowledge once a majority, one backup, or nobody else holds a command."""
    majority: bool = True
    """primary-backup, a guard: a primary needs the votes of a majority, not only of those that it can reach."""
    fencing: bool = True
    """primary-backup, a guard: messages of a primary of an older term are refused."""
    witness: str = ""
    """primary-backup, a guard: the node that votes but holds no data and is never primary."""

    n: int = 3
    """quorum: the nodes that hold each key."""
    r: int = 2
    """quorum: how many of them a read asks."""
    w: int = 2
    """quorum: how many of them a write waits for."""
    write_back: bool = True
    """quorum: a read writes what it found to W nodes before it answers, which makes registers linearizable."""
    sloppy: bool = False
    """quorum: other nodes may stand in for those that do not answer, and hand over later what they hold for them."""
    anti_entropy: bool = True
    """quorum, multi-primary, gossip: compare what nodes hold in the background, by Merkle trees or digests."""

    conflict: Literal["lww-hlc", "lww-wall", "siblings", "merge"] = "lww-hlc"
    """quorum, multi-primary, gossip: of writes that do not know of one another the last wins, by a hybrid logical
    clock or the wall clock; or all are kept as siblings; or an application's function merges them."""
    merge: str = "targets.reference.merges:longest"
    """With conflict=merge: MODULE:FUNCTION, from a list of values to one value."""
