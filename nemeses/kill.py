"""Crashes: every server process of the victims dies by SIGKILL, and is started again when the fault ends."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from harness.cluster import Cluster
from harness.nemesis import Plan
from harness.target import Target
from nemeses.victims import Aim, draw, resolve, revive, strike


class Kill:
    """SIGKILL every server process of some nodes; the heal starts them again."""

    class Options(msgspec.Struct, frozen=True):
        """``kill`` fixes whom to aim at."""

        kill: Aim = "any"

    name: ClassVar[str] = "kill"
    needs: ClassVar[frozenset[str]] = frozenset({"kill"})

    def __init__(self, options: Options) -> None:
        self._options = options
        self._killed: set[str] = set()

    def plan(self, rng: random.Random, nodes: Sequence[str]) -> Plan:
        return draw(rng, nodes, self._options.kill)

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = await resolve(cluster, target, plan)
        commands = await strike(cluster, victims, "kill")
        self._killed.update(commands)
        return {"said": f"{plan['aim']}: {' '.join(commands)}", "killed": commands}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        started = await revive(cluster, target, sorted(self._killed))
        self._killed.clear()
        return {"started": started}
