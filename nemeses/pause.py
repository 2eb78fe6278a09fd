"""Pauses: every server process of the victims stands still (SIGSTOP), as in a long garbage collection."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from harness.cluster import Cluster
from harness.nemesis import Plan
from harness.target import Target
from nemeses.victims import Aim, draw, resolve, servers, strike


class Pause:
    """SIGSTOP every server process of some nodes; the heal resumes them."""

    class Options(msgspec.Struct, frozen=True):
        """``pause`` fixes whom to aim at."""

        pause: Aim = "any"

    name: ClassVar[str] = "pause"
    needs: ClassVar[frozenset[str]] = frozenset({"pause"})

    def __init__(self, options: Options) -> None:
        self._options = options
        self._paused: set[str] = set()

    def plan(self, rng: random.Random, nodes: Sequence[str]) -> Plan:
        return draw(rng, nodes, self._options.pause)

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = await resolve(cluster, target, plan)
        commands = await strike(cluster, victims, "pause")
        self._paused.update(commands)
        return {"said": f"{plan['aim']}: {' '.join(commands)}", "paused": commands}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        resumed = await servers(cluster, sorted(self._paused), "resume")
        self._paused.clear()
        return {"resumed": resumed}
