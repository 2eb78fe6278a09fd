"""Choosing which nodes a fault hits: drawn from the seed, except for a role that only the moment knows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from harness.cluster import Cluster
from harness.environments.base import run_tool
from harness.errors import NothingToDo
from harness.nemesis import Plan
from harness.target import Target

Aim = Literal["any", "one", "primary", "minority", "majority", "all"]
AIMS: tuple[str, ...] = ("one", "primary", "minority", "majority", "all")


def draw(rng: random.Random, nodes: Sequence[str], aim: str, choices: Sequence[str] = AIMS) -> Plan:
    """A plan: what to aim at, and an order of the nodes to take the victims from."""
    order = list(nodes)
    rng.shuffle(order)
    chosen = rng.choice(choices)
    return {"aim": chosen if aim == "any" else aim, "order": order}


async def resolve(cluster: Cluster, target: Target, plan: Plan) -> list[str]:
    """The nodes that a plan hits now. Where no node believes to be primary, the first of the order stands in."""
    order: list[str] = plan["order"]
    if plan["aim"] == "primary":
        return [await primary(cluster, target) or order[0]]
    count = {
        "one": 1,
        "minority": max(1, (len(order) - 1) // 2),
        "majority": len(order) // 2 + 1,
        "all": len(order),
    }[plan["aim"]]
    return order[:count]


async def primary(cluster: Cluster, target: Target) -> str | None:
    """The node that believes to be primary, in the highest term if several do."""
    claimants = [role for role in await target.roles(cluster) if role.role == "primary"]
    return max(claimants, key=lambda role: (role.term or 0, role.node)).node if claimants else None


async def strike(cluster: Cluster, victims: Sequence[str], action: str) -> dict[str, list[str]]:
    """Kill or pause the server processes of some nodes; the commands of those that were hit on each.

    Nodes whose servers are down already are left out. Raises ``NothingToDo`` when all are.
    """
    found = await servers(cluster, victims, action)
    commands = {name: hit for name, hit in found.items() if hit}
    if victims and not commands:
        raise NothingToDo(f"there is no server process on {', '.join(sorted(victims))}")
    return commands


async def revive(cluster: Cluster, target: Target, names: Sequence[str]) -> dict[str, list[str]]:
    """Start the servers of some nodes, where they do not run, and list their processes."""
    await cluster.on_each(names, lambda node: target.start(cluster, node))
    return await servers(cluster, names, "list")


async def servers(cluster: Cluster, names: Sequence[str], action: str) -> dict[str, list[str]]:
    """Kill, pause, resume or list the server processes of some nodes; the commands found on each."""
    found = await cluster.on_each(names, lambda node: run_tool(node, "process", {"do": action}))
    return {name: sorted(process["command"] for process in found[name]) for name in sorted(found)}
