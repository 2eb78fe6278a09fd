"""The cluster as targets and nemeses see it: the nodes, and who plays which role on them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from harness.environments.base import Environment, Node
from harness.errors import NodeError

T = TypeVar("T")


class Role(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node believes of itself: ``primary``, ``replica`` or ``candidate``, in which term or epoch.

    ``position`` is how many of the store's changes it has applied, in a unit of the store's own: entries, or bytes.
    """

    node: str
    role: str
    term: int | None = None
    position: int | None = None


def leader(roles: Sequence[Role]) -> str | None:
    """The node that believes to be primary, in the highest term if several do."""
    claimants = [role for role in roles if role.role == "primary"]
    return max(claimants, key=lambda role: (role.term or 0, role.node)).node if claimants else None


@dataclass
class Cluster:
    """The nodes of a run, in the order of their names, and what all of them share."""

    environment: Environment
    nodes: Sequence[Node]
    seed: int
    zones: Mapping[str, str] = field(default_factory=dict)
    """The zone of each node by name: a rack, or a data centre, whose nodes fail together."""
    down: dict[str, set[str]] = field(default_factory=dict)
    """By nemesis, the nodes whose servers it keeps from running: no other fault's end starts them."""
    bad_links: set[tuple[str, str]] = field(default_factory=set)
    """From whom to whom the network is made worse now: that nothing arrives there need not be a cut's doing."""
    cut_links: set[tuple[str, str]] = field(default_factory=set)
    """From whom to whom the network is cut now: that nothing arrives there need not be a bad link's doing."""

    def node(self, name: str) -> Node:
        """The node of this name."""
        return next(node for node in self.nodes if node.name == name)

    @property
    def kept_down(self) -> set[str]:
        """The nodes whose servers some fault keeps from running."""
        return set[str]().union(*self.down.values())

    @property
    def majority(self) -> int:
        """How many nodes are more than half of all."""
        return len(self.nodes) // 2 + 1

    async def on_each(self, names: Sequence[str], do: Callable[[Node], Awaitable[T]]) -> dict[str, T]:
        """Do something on several nodes at once; the answers by node name, in the order given.

        Raises what one of them has raised, once all are done: nothing goes on behind the back of who asked for it.
        """
        results = await asyncio.gather(*(do(self.node(name)) for name in names), return_exceptions=True)
        answers: dict[str, T] = {}
        for name, result in zip(names, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            answers[name] = result
        return answers


async def holds_within(condition: Callable[[], Awaitable[bool]], seconds: float, every: float = 0.1) -> bool:
    """Ask again and again until it holds; whether it does so in time. An answer that comes too late is given up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while loop.time() < deadline:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                if await condition():
                    return True
        await asyncio.sleep(min(every, max(deadline - loop.time(), 0.0)))
    return False


async def over_within(over: asyncio.Event, seconds: float) -> bool:
    """Wait until a run is over, at most so long; whether it is."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), seconds)
        return True
    return False


async def wait_until(
    condition: Callable[[], Awaitable[bool]], *, seconds: float, what: str, every: float = 0.1
) -> None:
    """Ask again and again until it holds. Raises ``NodeError`` naming ``what`` when it does not in time."""
    if not await holds_within(condition, seconds, every):
        raise NodeError(f"{what} did not happen within {seconds:g} s")
