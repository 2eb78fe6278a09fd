"""Rolling restarts: one node after the other is asked to end by SIGTERM and is started again, as in an upgrade.

Who has not ended after a while is killed, as an orchestrator does.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from harness.cluster import Cluster
from harness.errors import NothingToDo
from harness.nemesis import Decks, Layer, Plan, Zones
from harness.target import Target
from nemeses.victims import Aim, Aimed, aims, resolve, revive, servers, shuffled


class Restart:
    """SIGTERM and start again the servers of some nodes, one after the other."""

    class Options(msgspec.Struct, frozen=True):
        """Whom."""

        restart: Aim = "all"

    Fields = Aimed

    name: ClassVar[str] = "restart"
    needs: ClassVar[frozenset[str]] = frozenset({"kill"})
    layer: ClassVar[Layer] = Layer.PROCESS

    def __init__(self, options: Options) -> None:
        self._aim = options.restart
        self._down: set[str] = set()

    def decks(self, zones: Zones) -> Decks:
        return {"aim": aims(zones, self._aim)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        return {"aim": dealt["aim"], "order": shuffled(rng, zones)}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        terminated: dict[str, list[str]] = {}
        ended: list[str] = []
        for name in await resolve(cluster, target, plan):
            self._down.add(name)
            commands = (await servers(cluster, [name], "terminate"))[name]
            if not commands:
                continue  # another fault keeps it down
            terminated[name] = commands
            # Another fault may keep it from starting again.
            if not (await revive(cluster, target, [name]))[name]:
                ended.append(name)
        if not terminated:
            raise NothingToDo("there is no server process that could be restarted")
        restarted = [name for name in terminated if name not in ended]
        down = f", and {' '.join(ended)} did not start again" if ended else ""
        return {"said": f"{plan['aim']}: {' '.join(restarted)}{down}", "terminated": terminated, "ended": ended}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        started = await revive(cluster, target, sorted(self._down))
        self._down.clear()
        return {"started": started}
