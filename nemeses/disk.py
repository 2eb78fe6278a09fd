"""Bad disks: full, or with a flipped bit that a node meets when it starts again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec

from harness.cluster import Cluster
from harness.environments.base import Node, run_tool
from harness.errors import FaultError, NothingToDo
from harness.nemesis import Plan
from harness.target import Target
from nemeses.victims import draw, resolve, revive


class Disk:
    """Fill the disks of some nodes, or flip a bit in their largest file and start them again; the heal restores."""

    class Options(msgspec.Struct, frozen=True):
        """``disk`` fixes what happens."""

        disk: Literal["any", "full", "flip"] = "any"

    name: ClassVar[str] = "disk"
    needs: ClassVar[frozenset[str]] = frozenset({"disk"})

    def __init__(self, options: Options) -> None:
        self._options = options
        self._spoiled: set[str] = set()

    def plan(self, rng: random.Random, nodes: Sequence[str]) -> Plan:
        plan = draw(rng, nodes, "any", ("one", "primary", "minority"))
        kind = rng.choice(("full", "flip"))
        return {**plan, "kind": kind if self._options.disk == "any" else self._options.disk}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = sorted(await resolve(cluster, target, plan))
        self._spoiled.update(victims)
        spoil = _fill if plan["kind"] == "full" else _flip
        seen = await cluster.on_each(victims, spoil)
        if plan["kind"] == "flip":
            if not any(seen.values()):
                raise NothingToDo(f"there is nothing on the disks of {', '.join(victims)}")
            await cluster.on_each(victims, lambda node: run_tool(node, "process", {"do": "kill"}))
            await revive(cluster, target, victims)
        return {"said": f"{plan['kind']}: {' '.join(victims)}", "seen": seen}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        spoiled = sorted(self._spoiled)
        await cluster.on_each(spoiled, lambda node: run_tool(node, "disk", {"do": "heal"}))
        self._spoiled.clear()
        return {"started": await revive(cluster, target, spoiled)}


async def _fill(node: Node) -> Any:
    said = await run_tool(node, "disk", {"do": "fill"})
    if not said:
        raise FaultError(f"the disk of {node.name} was filled, and still takes data")
    return said


async def _flip(node: Node) -> Any:
    return await run_tool(node, "disk", {"do": "flip"})
