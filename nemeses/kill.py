"""Crashes: every server process of the victims dies by SIGKILL, and is started again when the fault ends.

With ``signal=terminate`` it is asked to end by SIGTERM instead, as an administrator or an orchestrator does, and is
killed only when it has not ended after a while.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar, Literal

import msgspec

from harness.cluster import Cluster
from harness.nemesis import Plan
from harness.target import Target
from nemeses.victims import check, draw, revive, strike


class Kill:
    """SIGKILL, or SIGTERM, every server process of some nodes; the heal starts them again."""

    class Options(msgspec.Struct, frozen=True):
        """``kill`` fixes whom to aim at, ``signal`` how they end."""

        kill: str = "any"
        signal: Literal["kill", "terminate"] = "kill"

    name: ClassVar[str] = "kill"
    needs: ClassVar[frozenset[str]] = frozenset({"kill"})

    def __init__(self, options: Options) -> None:
        self._aim = check(options.kill)
        self._action = options.signal
        self._killed: set[str] = set()

    def plan(self, rng: random.Random, nodes: Sequence[str]) -> Plan:
        return draw(rng, nodes, self._aim)

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        cluster.down[self.name] = self._killed
        commands = await strike(cluster, target, plan, self._action, self._killed)
        return {"said": f"{plan['aim']}: {' '.join(commands)}", "killed": commands}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        cluster.down.pop(self.name, None)
        started = await revive(cluster, target, sorted(self._killed))
        self._killed.clear()
        return {"started": started}
