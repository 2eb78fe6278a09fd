"""Bad storage: a file system under the store that turns read-only, fails, is slow, or loses what was never synced.

It is mounted on every node before the store is started, so that the store's files are on it from the beginning.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import msgspec

from harness.cluster import Cluster
from harness.environments.base import Node, run_tool
from harness.errors import FaultError
from harness.nemesis import Decks, Layer, Plan, Zones
from harness.target import Target
from nemeses.victims import aims, check, resolve, revive, servers, shuffled

_KINDS = ("readonly", "errors", "slow", "lost")


class Storage:
    """Make the file system of some nodes read-only, failing or slow; or kill them and lose what was not synced."""

    class Options(msgspec.Struct, frozen=True):
        """``storage`` fixes what happens, ``under`` whom to aim at, ``slowness`` the seconds that a sync takes."""

        storage: Literal["any", "readonly", "errors", "slow", "lost"] = "any"
        under: str = "any"
        slowness: float | None = None

    name: ClassVar[str] = "storage"
    needs: ClassVar[frozenset[str]] = frozenset({"storage"})
    layer: ClassVar[Layer] = Layer.RESOURCE

    def __init__(self, options: Options) -> None:
        self._options = options
        self._aim = check(options.under)
        self._hit: set[str] = set()

    async def prepare(self, cluster: Cluster) -> None:
        """Mount the file system. Raises ``FaultError`` where it cannot be."""
        environment = cluster.environment

        async def mount(node: Node) -> None:
            program = [environment.python_reference, "-m", "harness.storage", node.directory]
            try:
                done = await node.exec(["env", f"PYTHONPATH={environment.source}", *program])
            except TimeoutError:
                raise FaultError(f"the file system was not mounted on {node.name} in time") from None
            if done.code != 0:
                raise FaultError(f"the file system could not be mounted on {node.name}: {done.text}")
            await _set(node, None)

        await cluster.on_each([node.name for node in cluster.nodes], mount)

    def decks(self, zones: Zones) -> Decks:
        kinds = _KINDS if self._options.storage == "any" else (self._options.storage,)
        return {"aim": aims(zones, self._aim), "kind": dict.fromkeys(kinds, 1.0)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        slowness = rng.choice((0.05, 0.2, 1.0))
        plan: Plan = {"aim": dealt["aim"], "order": shuffled(rng, zones), "kind": dealt["kind"]}
        return plan | ({"delay": self._options.slowness or slowness} if plan["kind"] == "slow" else {})

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = sorted(await resolve(cluster, target, plan))
        kind = plan["kind"]
        self._hit.update(victims)
        if kind == "lost":
            cluster.down[self.name] = set(victims)
            await servers(cluster, victims, "kill")
            lost = await cluster.on_each(victims, lambda node: run_tool(node, "storage", {"do": "lose"}))
            writes = {name: answer["lost"] for name, answer in lost.items()}
            return {"said": f"lost {sum(writes.values())} writes: {' '.join(victims)}", "lost": writes}
        seen = await cluster.on_each(victims, lambda node: _set(node, kind, plan.get("delay", 0.0)))
        slow = f" {plan['delay']:g} s" if "delay" in plan else ""
        return {"said": f"{kind}{slow}: {' '.join(victims)}", "seen": seen}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        hit = sorted(self._hit)
        seen = await cluster.on_each(hit, lambda node: _set(node, None))
        self._hit.clear()
        cluster.down.pop(self.name, None)
        return {"seen": seen, "started": await revive(cluster, target, hit)}


async def _set(node: Node, fault: str | None, delay: float = 0.0) -> Any:
    return await run_tool(node, "storage", {"do": "set", "fault": fault, "delay": delay, "path": node.directory})
