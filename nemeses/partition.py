"""Network partitions: packets between two groups of nodes are dropped (or refused), in both directions or in one.

Clients still reach every node. After a cut each node tries to open a TCP connection to every other: those across the
cut must not answer and all others must, else the fault counts as not injected. The same is measured after a heal.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec

from harness.cluster import Cluster
from harness.environments.base import Node, run_tool
from harness.errors import FaultError
from harness.nemesis import Plan
from harness.target import Target
from nemeses.victims import primary

_KINDS = ("halves", "one", "primary", "majority", "one-way")
_PATIENCE = {"cut": 0.3, "open": 3.0}
"""Seconds that a node waits for an answer across a cut, and where there is none."""


class Partition:
    """Cut the network into two groups: halves, one node, the primary alone, a random minority, or one way only."""

    class Options(msgspec.Struct, frozen=True):
        """``partition`` fixes the kind; ``cut`` says whether packets are dropped or refused."""

        partition: Literal["any", "halves", "one", "primary", "majority", "one-way"] = "any"
        cut: Literal["drop", "reject"] = "drop"

    name: ClassVar[str] = "partition"
    needs: ClassVar[frozenset[str]] = frozenset({"partition"})
    least: ClassVar[int] = 2

    def __init__(self, options: Options) -> None:
        self._options = options

    def plan(self, rng: random.Random, nodes: Sequence[str]) -> Plan:
        order = list(nodes)
        rng.shuffle(order)
        kind = rng.choice(_KINDS)
        size = rng.randint(1, max(1, (len(nodes) - 1) // 2))
        senders = rng.randint(1, max(1, len(nodes) - 1))
        if self._options.partition != "any":
            kind = self._options.partition
        return {"kind": kind, "order": order, "minority": size, "senders": senders, "how": self._options.cut}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        order: list[str] = plan["order"]
        if plan["kind"] == "primary":
            lone = await primary(cluster, target) or order[0]
            order = [lone, *(name for name in order if name != lone)]
        size = 1
        if plan["kind"] == "halves":
            size = len(order) // 2
        elif plan["kind"] in ("majority", "one-way"):
            size = plan["minority" if plan["kind"] == "majority" else "senders"]
        groups = [sorted(order[:size]), sorted(order[size:])]
        across = {name: [o for group in groups if name not in group for o in group] for name in order}

        async def cut(node: Node) -> Any:
            direction = "both"
            if plan["kind"] == "one-way":  # what the first group sends is lost, what it is sent arrives
                direction = "out" if node.name in groups[0] else "in"
            peers = [{"address": cluster.node(other).address, "direction": direction} for other in across[node.name]]
            return await run_tool(node, "network", {"do": "cut", "peers": peers, "how": plan["how"]})

        await cluster.on_each(order, cut)
        await verify_links(cluster, across)
        said = (" -x " if plan["kind"] == "one-way" else " | ").join(" ".join(group) for group in groups)
        return {"said": f"{plan['kind']}: {said}", "groups": groups, "how": plan["how"]}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        names = [node.name for node in cluster.nodes]
        lost = await cluster.on_each(names, lambda node: run_tool(node, "network", {"do": "heal"}))
        await verify_links(cluster, {})
        return {"packets_dropped": {name: sum(counts.values()) for name, counts in lost.items()}}


async def verify_links(cluster: Cluster, cut: dict[str, list[str]]) -> None:
    """Measure from inside each node which others it reaches. Raises ``FaultError`` unless exactly ``cut`` is cut."""
    by_name = {node.name: node for node in cluster.nodes}

    async def reached(node: Node, others: list[str], kind: str) -> list[str]:
        if not others:
            return []
        peers = {by_name[other].address: other for other in others}
        request = {"do": "reach", "peers": list(peers), "patience": _PATIENCE[kind]}
        answer = await run_tool(node, "network", request)
        return [peers[address] for address, answered in answer.items() if answered]

    async def verify(node: Node) -> None:
        gone = cut.get(node.name, [])
        there = [name for name in by_name if name != node.name and name not in gone]
        if still := await reached(node, gone, "cut"):
            raise FaultError(f"{node.name} was cut from {', '.join(still)} but still reaches them")
        if lost := sorted(set(there) - set(await reached(node, there, "open"))):
            raise FaultError(f"{node.name} cannot reach {', '.join(lost)}, though nothing is cut between them")

    await cluster.on_each(list(by_name), verify)
