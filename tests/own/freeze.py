"""A nemesis of one's own: the servers of one node stand still."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import ClassVar

from harness.capability import Capability
from harness.cluster import Cluster
from harness.environments.base import run_tool
from harness.environments.tools import ask
from harness.errors import NothingToDo
from harness.faults import process
from harness.nemesis import Decks, EndsServers, Layer, Nemesis, Plan, Proof, Zones
from harness.options import NoOptions
from harness.target import Target


class Freeze(Nemesis):
    """SIGSTOP on a node; the heal sends SIGCONT."""

    name: ClassVar[str] = "freeze"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.PAUSE})
    layer: ClassVar[Layer] = Layer.PAUSE
    ends_servers: ClassVar[EndsServers] = "never"

    def __init__(self, options: NoOptions) -> None:
        self._frozen: set[str] = set()

    def decks(self, zones: Zones) -> Decks:
        return {"whom": dict.fromkeys(zones, 1.0)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        return {"whom": dealt["whom"]}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        whom = plan["whom"]
        self._frozen.add(whom)
        if not await run_tool(cluster.node(whom), ask(process.pause)):
            raise NothingToDo(f"there is no server process on {whom}")
        return {"said": whom, "whom": whom}

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        states = await self._states(cluster, done["whom"])
        return Proof("the process table", "S", states, bool(states) and set(states) == {"T"})

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        await cluster.on_each(sorted(self._frozen), lambda node: run_tool(node, ask(process.resume)))
        resumed = {name: await self._states(cluster, name) for name in sorted(self._frozen)}
        self._frozen.clear()
        return {"states": resumed}

    async def _states(self, cluster: Cluster, name: str) -> list[str]:
        servers = await run_tool(cluster.node(name), ask(process.look))
        return [server["state"] for server in servers]
