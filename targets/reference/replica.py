"""What every way of replicating is to the server: something that executes commands and exchanges messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from harness.targets.reference.host import Host, Send
from harness.targets.reference.options import Options
from harness.targets.reference.peers import Message
from harness.targets.reference.state import Answer

READS = frozenset({"GET", "SMEMBERS", "HGETALL", "LRANGE", "BEGIN"})
"""The commands that change nothing."""
BASIC = frozenset({"GET", "SET", "CAS", "DEL", "INCRBY", "SADD", "SREM", "SMEMBERS"})
"""The commands that every way of replicating has."""


class NotPrimary(Exception):  # noqa: N818 - what the client reads
    """This node cannot answer, and has done nothing; ``primary`` is who it believes can."""

    def __init__(self, primary: str | None) -> None:
        super().__init__(f"NOTPRIMARY {primary or '?'}")
        self.primary = primary


class Unavailable(Exception):  # noqa: N818 - what the client reads
    """This node cannot answer now, and has done nothing."""


class Unknown(Exception):  # noqa: N818 - what the client reads
    """Nobody can say any more whether the command was or will be executed."""


@dataclass(frozen=True)
class Site:
    """Where a replica finds itself: its name, all nodes' names, its machine, its network, its options."""

    name: str
    nodes: tuple[str, ...]
    host: Host
    send: Send
    data: str
    options: Options


class Replica(Protocol):
    """One node's part in a way of replicating.

    A planted bug is a class that overrides a method or two of one of these (see ``harness.targets.reference.bugs``), so
    the steps that such a bug gets wrong are methods of their own.
    """

    commands: ClassVar[frozenset[str]]
    """What it can execute; the server refuses everything else, and numbers that are none, before it gets here."""

    def __init__(self, site: Site) -> None: ...

    @property
    def role(self) -> str:
        """``primary``, ``backup`` or ``candidate``; every node of a store without a primary is a ``peer``."""
        ...

    def start(self) -> None:
        """Begin: set timers, send first messages."""
        ...

    async def execute(self, command: list[str]) -> Answer:
        """Execute a client's command. Raises ``NotPrimary``, ``Unavailable`` or ``Unknown``."""
        ...

    def peek(self, command: list[str]) -> Answer:
        """Answer a read from what this node itself holds, however stale."""
        ...

    def receive(self, message: Message) -> None:
        """Handle a peer's message."""
        ...

    def status(self) -> dict[str, Any]:
        """What INFO and the metrics show: at least ``role``, ``term`` and ``primary``."""
        ...
