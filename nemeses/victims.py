"""Choosing which nodes a fault hits: drawn from the seed, except for a role that only the moment knows."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from harness.cluster import Cluster, leader, wait_until
from harness.environments.base import run_tool
from harness.errors import NodeError, NothingToDo
from harness.nemesis import PRIMARY, Plan, Zones
from harness.options import Nodes, Order
from harness.target import Target

ANY = "any"
AIMS = {PRIMARY: 4, "one": 4, "minority": 4, "zone": 3, "replicas": 1, "majority": 1, "all": 1}
"""What ``any`` deals, and how early: so many nodes, whoever is primary now or is not, all nodes of one zone.

Few faults hit a majority: while most operations are refused, little is tested.
"""
SUCCESSOR = "successor"
"""The primary, and whoever is elected in its place at the moment that it is."""
_ELECTION_SECONDS = 10.0
_WATCH_SECONDS = 0.02


Aim = Annotated[str, Nodes((ANY, *AIMS, SUCCESSOR)), "whom to aim at"]
"""An option that says whom a fault hits."""


class Aimed(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a plan holds that says whom to hit: what to aim at, and the nodes to take the victims from."""

    aim: Annotated[str, Nodes((*AIMS, SUCCESSOR))]
    order: Annotated[list[str], Order()]


def aims(zones: Zones, aim: str, choices: Sequence[str] = tuple(AIMS)) -> dict[str, float]:
    """The deck of aims: the one that an option fixes; for ``any`` those of ``choices`` that differ on these nodes."""
    if aim != ANY:
        return {aim: 1}
    return _distinct(zones, {name: AIMS[name] for name in choices})


def _distinct(zones: Zones, weights: Mapping[str, float]) -> dict[str, float]:
    """Without the aims that hit no other numbers of nodes than those before them."""
    count = len(zones)
    hits = {
        "one": {1},
        "minority": {minority(count)},
        "zone": set(Counter(zones.values()).values()),
        "majority": {count // 2 + 1},
        "all": {count},
    }
    seen: set[int] = {1} if count == 1 else set()
    kept: dict[str, float] = {}
    for name, weight in weights.items():
        if name not in hits and (count > 1 or not kept):  # those that only the moment knows
            kept[name] = weight
        elif not hits.get(name, seen) <= seen:
            seen |= hits[name]
            kept[name] = weight
    return kept


def minority(count: int) -> int:
    """The most nodes without which the others are still a majority; at least one."""
    return max(1, (count - 1) // 2)


def shuffled(rng: random.Random, zones: Zones) -> list[str]:
    """An order of the nodes to take victims from."""
    order = list(zones)
    rng.shuffle(order)
    return order


async def resolve(cluster: Cluster, target: Target, plan: Plan) -> list[str]:
    """The nodes that a plan hits now. Where no node believes to be primary, the first of the order stands in.

    Raises ``NothingToDo`` if these are no nodes at all.
    """
    order: list[str] = plan["order"]
    aim: str = plan["aim"]
    count = {
        "one": 1,
        "minority": minority(len(order)),
        "majority": len(order) // 2 + 1,
        "all": len(order),
    }
    if aim in count:
        victims = order[: count[aim]]
    elif aim in (PRIMARY, "replicas", SUCCESSOR):
        first = await primary(cluster, target) or order[0]
        victims = [name for name in order if name != first] if aim == "replicas" else [first]
    elif aim == "zone":
        victims = [name for name in order if cluster.zones.get(name) == cluster.zones.get(order[0])]
    else:
        victims = [name for name in order if name in aim.split("+")]
    if not victims:
        raise NothingToDo(f"no node is {aim}")
    return victims


async def primary(cluster: Cluster, target: Target) -> str | None:
    """The node that believes to be primary now."""
    return leader(await target.roles(cluster))


async def succession(cluster: Cluster, target: Target, fallen: Sequence[str]) -> list[str]:
    """Wait until a node other than the fallen ones believes to be primary: that one, or none without an election."""
    found: list[str] = []

    async def elected() -> bool:
        claimants = [role.node for role in await target.roles(cluster) if role.role == "primary"]
        found.extend([name for name in claimants if name not in fallen][:1])
        return bool(found)

    with contextlib.suppress(NodeError):
        await wait_until(elected, seconds=_ELECTION_SECONDS, what="an election", every=_WATCH_SECONDS)
    return found


async def strike(cluster: Cluster, target: Target, plan: Plan, action: str, hit: set[str]) -> dict[str, list[str]]:
    """Kill, terminate or pause the servers of a plan's victims; the commands of those that were hit on each.

    Nodes whose servers are down already are left out. The others stand in ``hit`` from the moment on at which they are
    struck, even if this breaks off. Raises ``NothingToDo`` when there are none.
    """
    victims = await resolve(cluster, target, plan)
    hit.update(victims)
    found = await servers(cluster, victims, action)
    if plan["aim"] == SUCCESSOR:
        successor = await succession(cluster, target, victims)
        victims += successor
        hit.update(successor)
        found |= await servers(cluster, successor, action)
    commands = {name: struck for name, struck in found.items() if struck}
    hit.intersection_update(commands)
    if not commands:
        raise NothingToDo(f"there is no server process on {', '.join(sorted(victims))}")
    return commands


async def revive(cluster: Cluster, target: Target, names: Sequence[str]) -> dict[str, list[str]]:
    """Start the servers of some nodes, where they do not run and no fault keeps them so; list their processes."""
    kept = set[str]().union(*cluster.down.values())
    await cluster.on_each([name for name in names if name not in kept], lambda node: target.start(cluster, node))
    return await servers(cluster, names, "list")


async def servers(cluster: Cluster, names: Sequence[str], action: str) -> dict[str, list[str]]:
    """Kill, terminate, pause, resume or list the server processes of some nodes; the commands found on each."""
    found = await cluster.on_each(names, lambda node: run_tool(node, "process", {"do": action}))
    return {name: sorted(map(_said, found[name])) for name in sorted(found)}


def _said(process: dict[str, Any]) -> str:
    return f"{process['command']} by SIGKILL" if process.get("forced") else str(process["command"])
