"""What a store under test has to provide. ``targets/`` holds the bundled ones; copy one to begin."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, NamedTuple, Protocol, runtime_checkable

from harness.capability import OF_STORES, Capability
from harness.cluster import Cluster, Role
from harness.environments.base import Node
from harness.operation import Operation
from harness.options import Part

Leadership = Literal["primary", "forwarded", "none"]

LOG_PATTERNS: Final[Mapping[str, str]] = {
    "panic": r"^panic: |^fatal error: |panicked at |\"level\":\"(?:dpanic|panic|fatal)\"|^Fatal Python error",
    "failed assertion": r"[Aa]ssertion\b.* failed|ASSERTION FAILED|^AssertionError\b",
    "data race": r"WARNING: DATA RACE|ThreadSanitizer: data race",
    "memory error": r"(?:Address|Memory|Leak)Sanitizer: |Segmentation fault|double free or corr",
    "out of memory": r"(?<!when )(?<!if )(?<!on )(?<!no )\b[Oo]ut [Oo]f [Mm]emory\b|std::bad_alloc|^MemoryError\b"
    r"|OutOfMemoryError",
    "corrupt file": r"(?<!\bno )(?<!\b0 )(?<!\bnot )(?<!without )(?<!\bif )(?<![\w-])[Cc]orrupt(?:ed|ion)?(?![\w-])"
    r"|(?:[Cc]hecksum|crc|CRC) mismatch|Bad file format",
}
"""What stands in the log of a server that has gone wrong: by kind, a regular expression that lines are searched for."""


@runtime_checkable
class Client(Protocol):
    """A connection of one worker to one node.

    ``invoke`` returns what the operation's completion is to carry, or ``Served(value, by=node, term=5)`` where it knows
    who executed the operation: a verdict on split brain lives by that. It raises ``Failed`` only when the store cannot
    have applied the operation, ``Declined`` where that was its answer; ``Indeterminate``, a time-out or any other error
    says that it may have. After an error the runner closes the client and opens it again.
    """

    async def open(self) -> None: ...

    async def invoke(self, operation: Operation) -> Any: ...

    async def close(self) -> None: ...


class ChangesMembers(Protocol):
    """Lets nodes leave a store and join it again. All raise ``NothingToDo`` where it is impossible now."""

    async def leave(self, cluster: Cluster, names: Sequence[str]) -> Sequence[str]:
        """Let nodes leave; the members afterwards."""
        ...

    async def join(self, cluster: Cluster, names: Sequence[str]) -> Sequence[str]:
        """Let them join again, those in ``cluster.kept_down`` without being started; the members afterwards."""
        ...

    async def members(self, cluster: Cluster) -> Sequence[str]:
        """The members, as members say it."""
        ...


class ShardsSeen(NamedTuple):
    """What one node says of a store's shards: which of them owns what, of the line on which all keys are."""

    epoch: int
    """How often the map has changed that this node knows."""
    owners: Sequence[tuple[str, int]]
    """Where each piece of the line begins, and the shard that owns it, as the shards on this node say it themselves."""
    shards: Sequence[int]
    """All shards, also those that own nothing just now."""
    points: Sequence[str]
    """Where on the line there are keys."""
    moving: bool
    """Whether something is on its way."""


class Reshards(Protocol):
    """Moves ranges of keys between the shards of a store that serves. Raises ``NothingToDo`` where it cannot now."""

    async def shards(self, cluster: Cluster) -> Mapping[str, ShardsSeen]:
        """What each node that answers says."""
        ...

    async def reshard(self, cluster: Cluster, low: str, high: str, shard: int) -> int:
        """Begin to move all from ``low`` to ``high``, which is not in it, to a shard; returns before it is done.

        The answer is the epoch that begins with the move; another one begins when it is over.
        """
        ...


class Bug(Protocol):
    """A planted bug, which a target has on purpose, to be found."""

    @property
    def name(self) -> str: ...

    @property
    def what(self) -> str:
        """What it breaks, in one paragraph."""
        ...

    @property
    def command(self) -> str:
        """The command that finds it."""
        ...

    @property
    def checker(self) -> str:
        """The checker that refutes it."""
        ...


_ABLE: Final = {Capability.MEMBERSHIP: "membership", Capability.RESHARD: "sharding"}
"""By what of a target it can do each thing of its own."""


class Target(Part, Protocol):
    """A store: how to start it on nodes, how to talk to it, what it promises.

    One object may serve several runs, one after the other: what it remembers of a node it keeps by the ``Node``, since
    other runs have others of the same name.
    """

    workloads: ClassVar[frozenset[str]]
    """The names of those that it supports."""
    programs: ClassVar[Mapping[str, str]] = {}
    """The programs that must be on a node, and the Debian package of each, which the node image gets."""
    ships: ClassVar[Sequence[str]] = ()
    """The Python packages that its servers are made of, by name: a node has what they hold in ``node.shipped``, to be
    named in ``PYTHONPATH``, and may have nothing beyond them but the standard library."""
    claims: ClassVar[str] = ""
    """What it promises, in words."""
    ports: ClassVar[Sequence[int]] = ()
    """The TCP ports that its servers listen on, all of them on every node. A run starts only where nobody else has one
    of them, and looks again and again whether they are its own servers' (see ``ownership``): name them, or a store that
    runs there already may be tested in place of this one."""
    sizes: ClassVar[frozenset[int] | None] = None
    """The numbers of nodes that it can have; None: any."""
    bugs: ClassVar[Mapping[str, Bug]] = {}
    """Planted bugs by name, which its option ``bug`` turns on."""
    log_patterns: ClassVar[Mapping[str, str]] = LOG_PATTERNS
    """Which lines of its servers' logs are anomalies, unless a fault explains them: regular expressions by kind."""
    failover: float = 5.0
    """The seconds within which another primary serves when the primary is lost."""

    leadership: Leadership = "none"
    """Whether the store claims to have one primary at a time: ``"primary"``, which alone acknowledges writes, and whose
    term, if it has one, is its own; ``"forwarded"``, behind nodes that acknowledge what they have passed on to it; or
    ``"none"``. Two primaries are wrong only where one is claimed."""

    prolongs_leases: ClassVar[bool] = False
    """Whether a lease that nobody revokes may outlive its time, by any time, where another primary takes over, or where
    a fault keeps the primary from ending it."""

    able_with: ClassVar[Mapping[Capability, str]] = {}
    """With which of its options the store can do what it otherwise ``lacks``, in words that follow "with"."""

    def unfit_for(self, workload: str) -> str | None:
        """Why a workload that it supports is impossible as its options set it up; None if it is not."""
        return None

    @property
    def membership(self) -> ChangesMembers | None:
        """What changes the members of the store, perhaps the target itself; None where that cannot be done."""
        return None

    @property
    def sharding(self) -> Reshards | None:
        """What moves ranges between the shards of the store, perhaps the target itself; None where there are none."""
        return None

    def lacks(self, capability: Capability) -> bool:
        """Whether the store, with these options, cannot do something of its own."""
        return capability in OF_STORES and getattr(self, _ABLE[capability]) is None

    def never_has(self, capability: Capability) -> bool:
        """Whether it cannot do that with any options, since it has nothing that could."""
        return capability in OF_STORES and getattr(type(self), _ABLE[capability]) is getattr(Target, _ABLE[capability])

    @abstractmethod
    async def start(self, cluster: Cluster, node: Node) -> None:
        """Start the store's servers on one node, for the first time or after they were killed."""
        ...

    @abstractmethod
    async def form(self, cluster: Cluster) -> None:
        """Once every node was started for the first time: whatever turns them into one cluster."""
        ...

    @abstractmethod
    async def ready(self, cluster: Cluster) -> bool:
        """Whether the whole store is in service: every node up, and one primary that can be written to."""
        ...

    @abstractmethod
    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        """Who believes to be what, asked of each of ``cluster.nodes`` that answers; quick, and never raising.

        A run asks for one node at a time, in a cluster that has only that. A term is the node's own: no other node can
        have been primary in it. Where that is not certain it is left out.
        """
        ...

    @abstractmethod
    def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
        """A client bound to ``node`` whose operations give up after ``timeout`` seconds."""
        ...


@runtime_checkable
class ReadsOwnState(Protocol):
    """A target that can read what one node itself holds, in a store whose nodes are all to hold the same."""

    async def own_state(self, cluster: Cluster, node: Node) -> Mapping[str, str] | None:
        """Each key and what this very node holds of it, as a text; None where it is to hold nothing, or something else.

        May raise anything: then the nodes are not compared.
        """
        ...


@runtime_checkable
class KnowsItself(Protocol):
    """A target whose store has a name for itself that is drawn anew for each cluster, and outlives its servers."""

    async def identities(self, cluster: Cluster) -> Mapping[str, str]:
        """By node, which store it says that it is of, asked of each node that answers; quick, and never raising."""
        ...
