"""Bad disks: full, or with a file of the store that was spoiled before a node starts again and meets it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from harness.cluster import Cluster
from harness.environments.base import Node, run_tool
from harness.errors import NothingToDo
from harness.nemesis import Decks, Layer, Plan, Zones
from harness.options import Number, Share
from harness.target import Target
from nemeses.victims import Aim, Aimed, aims, resolve, revive, servers, shuffled

_AIMS = ("primary", "one", "minority")
"""Never a majority: what all copies of the data have lost, no store can have kept."""


class Disk:
    """Fill the disks of some nodes, or flip a bit in their largest file and start them again; the heal restores.

    ``disk=truncate`` cuts off the end of that file instead, for good: no store keeps what was taken away from it, so
    it is never drawn.
    """

    class Options(msgspec.Struct, frozen=True):
        """What happens, and to whom."""

        disk: Annotated[Literal["any", "full", "flip", "truncate"], "what happens"] = "any"
        spoil: Aim = "any"

    class Fields(Aimed, frozen=True, kw_only=True):
        """What a plan holds."""

        kind: Literal["full", "flip", "truncate"]
        place: Annotated[float | None, Share(0, 1)] = None
        bit: Annotated[int | None, Number(0, 7)] = None
        bytes: Annotated[int | None, Number(1, 1_000_000_000)] = None

        def __post_init__(self) -> None:
            wanted = {"flip": {"place", "bit"}, "truncate": {"bytes"}}.get(self.kind, set())
            if wanted != {name for name in ("place", "bit", "bytes") if getattr(self, name) is not None}:
                raise ValueError("place and bit are for the kind flip, bytes are for truncate, and needed there")

    name: ClassVar[str] = "disk"
    needs: ClassVar[frozenset[str]] = frozenset({"disk"})
    layer: ClassVar[Layer] = Layer.RESOURCE

    def __init__(self, options: Options) -> None:
        self._options = options
        self._aim = options.spoil
        self._spoiled: dict[str, dict[str, Any]] = {}
        """By node, what the heal has to know."""

    def decks(self, zones: Zones) -> Decks:
        kinds = ("full", "flip") if self._options.disk == "any" else (self._options.disk,)
        return {"aim": aims(zones, self._aim, _AIMS), "kind": dict.fromkeys(kinds, 1.0)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        kind = dealt["kind"]
        more: dict[str, Plan] = {
            "flip": {"place": round(rng.random(), 6), "bit": rng.randrange(8)},
            "truncate": {"bytes": 64},
        }
        return {"aim": dealt["aim"], "order": shuffled(rng, zones), "kind": kind, **more.get(kind, {})}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = sorted(await resolve(cluster, target, plan))
        asked = {"do": "fill" if plan["kind"] == "full" else plan["kind"]}
        asked |= {name: plan[name] for name in ("place", "bit", "bytes") if name in plan}

        async def spoil(node: Node) -> Any:
            known = self._spoiled.setdefault(node.name, {"flipped": []})
            seen = await run_tool(node, "disk", {**asked, "path": node.directory})
            if plan["kind"] == "flip" and seen is not None:
                known["flipped"].append(seen)
            elif plan["kind"] == "full":
                known["size"] = seen["size"]
            return seen

        if plan["kind"] == "full":
            seen = await cluster.on_each(victims, spoil)
        else:
            # What runs could still write over what is spoiled, from its memory.
            await servers(cluster, victims, "kill")
            seen = await cluster.on_each(victims, spoil)
            await revive(cluster, target, victims)
            if not any(seen.values()):
                raise NothingToDo(f"there is nothing on the disks of {', '.join(victims)}")
        return {"said": f"{plan['kind']}: {' '.join(victims)}", "seen": seen}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        spoiled = sorted(self._spoiled)

        async def mend(node: Node) -> Any:
            return await run_tool(node, "disk", {"do": "heal", "path": node.directory, **self._spoiled[node.name]})

        await cluster.on_each(spoiled, mend)
        self._spoiled.clear()
        return {"started": await revive(cluster, target, spoiled)}
