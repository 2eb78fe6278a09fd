"""Crashes: every server process of the victims dies by SIGKILL, and is started again when the fault ends.

With ``signal=terminate`` it is asked to end by SIGTERM instead, as an administrator or an orchestrator does, and is
killed only when it has not ended after a while.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import msgspec

from harness.capability import Capability
from harness.cluster import Cluster
from harness.environments.tools import ask
from harness.faults import process
from harness.nemeses.victims import Aim, Aimed, aims, processes, revive, shuffled, strike, table_in_words, terminating
from harness.nemesis import Decks, EndsServers, Layer, Nemesis, Plan, Proof, Zones
from harness.target import Target


class Kill(Nemesis):
    """SIGKILL, or SIGTERM, every server process of some nodes; the heal starts them again."""

    class Options(msgspec.Struct, frozen=True):
        """Whom, and how."""

        kill: Aim = "any"
        signal: Annotated[Literal["kill", "terminate"], "SIGKILL, or SIGTERM and SIGKILL only after a while"] = "kill"

    Fields = Aimed

    name: ClassVar[str] = "kill"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.KILL})
    layer: ClassVar[Layer] = Layer.PROCESS
    ends_servers: ClassVar[EndsServers] = "itself"

    def __init__(self, options: Options) -> None:
        self._aim = options.kill
        self._action = options.signal
        self._killed: set[str] = set()

    def decks(self, zones: Zones) -> Decks:
        return {"aim": aims(zones, self._aim)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        return {"aim": dealt["aim"], "order": shuffled(rng, zones)}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        cluster.down[self.name] = self._killed
        signal = ask(process.kill) if self._action == "kill" else terminating(plan)
        commands, before = await strike(cluster, target, plan, signal, self._killed)
        return {"said": f"{plan['aim']}: {' '.join(commands)}", "killed": commands, "before": table_in_words(before)}

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        before = done["before"]
        left = table_in_words(await processes(cluster, list(before)))
        holds = all(before.values()) and not any(left.values())
        return Proof("the servers in the process table of each node", before, left, holds)

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        cluster.down.pop(self.name, None)
        started = await revive(cluster, target, sorted(self._killed))
        self._killed.clear()
        return {"started": started}
