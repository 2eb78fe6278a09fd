"""What a store under test has to provide. ``targets/`` holds the bundled ones; copy one to begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeGuard

import msgspec

from harness.cluster import Cluster, Role
from harness.environments.base import Node
from harness.operation import Operation


class Client(Protocol):
    """A connection of one worker to one node.

    ``invoke`` returns what the operation's completion is to carry. It raises ``Failed`` only when the store cannot
    have applied the operation; ``Indeterminate``, a time-out or any other error says that it may have. After an
    error the runner closes the client and opens it again.
    """

    async def open(self) -> None: ...

    async def invoke(self, operation: Operation) -> Any: ...

    async def close(self) -> None: ...


class Target(Protocol):
    """A store: how to start it on nodes, how to talk to it, what it promises.

    ``Options`` is a ``msgspec.Struct`` whose fields, types and defaults are the options on the command line.
    """

    name: ClassVar[str]
    Options: ClassVar[type[msgspec.Struct]]
    workloads: ClassVar[frozenset[str]]
    programs: ClassVar[Mapping[str, str]]
    """The programs that must be on a node, and the Debian package of each."""
    claims: ClassVar[str]
    """What it promises, in words.

    A target may also say ``ports``: the TCP ports that its servers listen on, all of them on every node. A run starts
    only where nobody else has one of them, and looks again and again whether they are its own servers' (see
    ``ownership``): name them, or a store that runs there already may be tested in place of this one. It may say
    ``sizes``: the numbers of nodes that it can have; ``failover``: the seconds within which
    another primary serves when the primary is lost (5 if it does not say); and ``abilities``: what it can do beyond
    this protocol. With ``membership`` it has ``leave(cluster, names)`` and ``join(cluster, names)``, which return the
    members afterwards, and ``members(cluster)``, which asks members who they are; all raise ``NothingToDo`` where it is
    impossible now. A node in ``cluster.kept_down`` joins without being started.
    """

    def __init__(self, options: Any) -> None: ...

    async def start(self, cluster: Cluster, node: Node) -> None:
        """Start the store's servers on one node, for the first time or after they were killed."""
        ...

    async def form(self, cluster: Cluster) -> None:
        """Once every node was started for the first time: whatever turns them into one cluster."""
        ...

    async def ready(self, cluster: Cluster) -> bool:
        """Whether the whole store is in service: every node up, and one primary that can be written to."""
        ...

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        """Who believes to be what, asked of each node that answers; quick, and never raising."""
        ...

    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        """A client bound to ``node`` whose operations give up after ``timeout`` seconds."""
        ...


class KnowsItself(Target, Protocol):
    """A target whose store has a name for itself that is drawn anew for each cluster, and outlives its servers."""

    async def identities(self, cluster: Cluster) -> Mapping[str, str]:
        """By node, which store it says that it is of, asked of each node that answers; quick, and never raising."""
        ...


def knows_itself(target: Target) -> TypeGuard[KnowsItself]:
    """Whether a target's store can be asked which one it is."""
    return hasattr(target, "identities")


def failover_of(target: Target) -> float:
    """The seconds within which another primary serves; 5 where the target does not say."""
    seconds: float = getattr(target, "failover", 5.0)
    return seconds
