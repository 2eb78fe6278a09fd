"""Pauses: every server process of the victims stands still (SIGSTOP), as in a long garbage collection."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from harness.cluster import Cluster
from harness.nemesis import Decks, Layer, Plan, Zones
from harness.target import Target
from nemeses.victims import Aim, Aimed, aims, revive, servers, shuffled, strike


class Pause:
    """SIGSTOP every server process of some nodes; the heal resumes them, or starts those that were killed meanwhile."""

    class Options(msgspec.Struct, frozen=True):
        """Whom."""

        pause: Aim = "any"

    Fields = Aimed

    name: ClassVar[str] = "pause"
    needs: ClassVar[frozenset[str]] = frozenset({"pause"})
    layer: ClassVar[Layer] = Layer.PAUSE

    def __init__(self, options: Options) -> None:
        self._aim = options.pause
        self._paused: set[str] = set()

    def decks(self, zones: Zones) -> Decks:
        return {"aim": aims(zones, self._aim)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        return {"aim": dealt["aim"], "order": shuffled(rng, zones)}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        cluster.down[self.name] = self._paused
        commands = await strike(cluster, target, plan, "pause", self._paused)
        return {"said": f"{plan['aim']}: {' '.join(commands)}", "paused": commands}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        cluster.down.pop(self.name, None)
        resumed = await servers(cluster, sorted(self._paused), "resume")
        started = await revive(cluster, target, [name for name, commands in resumed.items() if not commands])
        self._paused.clear()
        return {"resumed": resumed, "started": started}
