"""Want: the servers of some nodes get little CPU time, and hardly any more memory than they have.

A server that needs more memory is ended by the kernel, and is started again when the fault ends.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from harness.cluster import Cluster
from harness.environments.base import run_tool
from harness.errors import NothingToDo
from harness.nemesis import Decks, Layer, Plan, Zones
from harness.options import Mebibytes, Share
from harness.target import Target
from nemeses.victims import Aim, Aimed, aims, resolve, revive, shuffled

_MIB = 1 << 20


class Squeeze:
    """Leave the servers of some nodes a small share of a processor, and a few MiB beyond what they hold."""

    class Options(msgspec.Struct, frozen=True):
        """Whom, and what they keep."""

        squeeze: Aim = "any"
        cpu: Annotated[float | None, Share(0.01, 0.99), "the share of one processor that the servers keep"] = None
        memory: Annotated[int | None, Mebibytes(1, 65536), "what they may take in addition to what they hold"] = None

    class Fields(Aimed, frozen=True, kw_only=True):
        """What a plan holds."""

        cpu: Annotated[float, Share(0.01, 0.99)]
        memory: Annotated[int, Mebibytes(1, 65536)]

    name: ClassVar[str] = "squeeze"
    needs: ClassVar[frozenset[str]] = frozenset({"squeeze"})
    layer: ClassVar[Layer] = Layer.RESOURCE

    def __init__(self, options: Options) -> None:
        self._options = options
        self._aim = options.squeeze
        self._squeezed: set[str] = set()

    def decks(self, zones: Zones) -> Decks:
        return {"aim": aims(zones, self._aim)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        drawn = {"cpu": rng.choice((0.1, 0.25, 0.5)), "memory": rng.choice((16, 64, 256))}
        fixed = {"cpu": self._options.cpu, "memory": self._options.memory}
        limits = {name: drawn[name] if value is None else value for name, value in fixed.items()}
        return {"aim": dealt["aim"], "order": shuffled(rng, zones), **limits}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = sorted(await resolve(cluster, target, plan))
        self._squeezed.update(victims)
        asked: dict[str, Any] = {"do": "squeeze", "cpu": plan["cpu"], "memory": plan["memory"] * _MIB}
        seen = await cluster.on_each(victims, lambda node: run_tool(node, "squeeze", asked))
        if not any(answer["servers"] for answer in seen.values()):
            await cluster.on_each(victims, lambda node: run_tool(node, "squeeze", {"do": "heal"}))
            self._squeezed.difference_update(victims)
            raise NothingToDo(f"there is no server process on {', '.join(victims)}")
        return {"said": f"{plan['cpu']:g} CPUs, {plan['memory']} MiB more: {' '.join(victims)}", "seen": seen}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        names = sorted(self._squeezed)
        seen = await cluster.on_each(names, lambda node: run_tool(node, "squeeze", {"do": "heal"}))
        self._squeezed.clear()
        return {"seen": seen, "started": await revive(cluster, target, names)}
