"""Bad links: packets between the victims and all others are delayed, lost, doubled and overtaken."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from harness.cluster import Cluster
from harness.environments.base import Node, run_tool
from harness.nemesis import Plan
from harness.target import Target
from nemeses.victims import Aim, draw, resolve


class Netem:
    """Delay, jitter, loss, duplication and reordering of what some nodes send to the others."""

    class Options(msgspec.Struct, frozen=True):
        """``netem`` fixes whom to aim at."""

        netem: Aim = "any"

    name: ClassVar[str] = "netem"
    needs: ClassVar[frozenset[str]] = frozenset({"netem"})
    least: ClassVar[int] = 2

    def __init__(self, options: Options) -> None:
        self._options = options

    def plan(self, rng: random.Random, nodes: Sequence[str]) -> Plan:
        quality = {
            "delay": rng.choice((0.0, 0.01, 0.1)),
            "jitter": rng.choice((0.0, 0.02, 0.2)),
            "loss": rng.choice((0.0, 0.05, 0.3)),
            "duplicate": rng.choice((0.0, 0.2)),
            "reorder": rng.choice((0.0, 0.2)),
        }
        if not any(quality.values()):
            quality["loss"] = 0.1
        return {**draw(rng, nodes, self._options.netem), "quality": quality}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = sorted(await resolve(cluster, target, plan))

        async def degrade(node: Node) -> Any:
            peers = [other.address for other in cluster.nodes if other.name != node.name]
            return await run_tool(node, "network", {"do": "degrade", "peers": peers, "quality": plan["quality"]})

        await cluster.on_each(victims, degrade)
        bad = " ".join(f"{name} {value:g}" for name, value in plan["quality"].items() if value)
        return {"said": f"{bad}: {' '.join(victims)}"}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        names = [node.name for node in cluster.nodes]
        await cluster.on_each(names, lambda node: run_tool(node, "network", {"do": "mend"}))
        return {}
