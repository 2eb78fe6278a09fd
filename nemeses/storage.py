"""Bad storage: a file system under the store that turns read-only, fails, is slow, or loses what was never synced.

It is mounted on every node before the store is started, so that the store's files are on it from the beginning.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from harness.cluster import Cluster
from harness.environments.base import Node, run_tool
from harness.errors import FaultError, UsageError
from harness.nemesis import Decks, Layer, Plan, Zones
from harness.options import Seconds
from harness.target import Target
from harness.words import count
from nemeses.victims import Aim, Aimed, aims, resolve, revive, servers, shuffled

_KINDS = ("readonly", "errors", "slow", "lost")


class Storage:
    """Make the file system of some nodes read-only, failing or slow; or kill them and lose what was not synced."""

    class Options(msgspec.Struct, frozen=True):
        """What happens, and to whom."""

        storage: Annotated[Literal["any", "readonly", "errors", "slow", "lost"], "what happens"] = "any"
        under: Aim = "any"
        slowness: Annotated[float | None, Seconds(0.001, 60), "how long a sync takes, where they are slow"] = None

    class Fields(Aimed, frozen=True, kw_only=True):
        """What a plan holds."""

        kind: Literal["readonly", "errors", "slow", "lost"]
        delay: Annotated[float | None, Seconds(0.001, 60)] = None

        def __post_init__(self) -> None:
            if (self.kind == "slow") != (self.delay is not None):
                raise ValueError("a delay is for the kind slow, and needed there")

    name: ClassVar[str] = "storage"
    needs: ClassVar[frozenset[str]] = frozenset({"storage"})
    layer: ClassVar[Layer] = Layer.RESOURCE

    def __init__(self, options: Options) -> None:
        if options.slowness is not None and options.storage not in ("any", "slow"):
            raise UsageError(f"-o slowness is for storage=any or slow, not for storage={options.storage}")
        self._options = options
        self._aim = options.under
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
        drawn = rng.choice((0.05, 0.2, 1.0))
        slowness = drawn if self._options.slowness is None else self._options.slowness
        plan: Plan = {"aim": dealt["aim"], "order": shuffled(rng, zones), "kind": dealt["kind"]}
        return plan | ({"delay": slowness} if plan["kind"] == "slow" else {})

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = sorted(await resolve(cluster, target, plan))
        kind = plan["kind"]
        self._hit.update(victims)
        if kind == "lost":
            cluster.down[self.name] = set(victims)
            await servers(cluster, victims, "kill")
            lost = await cluster.on_each(victims, lambda node: run_tool(node, "storage", {"do": "lose"}))
            writes = {name: answer["lost"] for name, answer in lost.items()}
            return {"said": f"lost {count(sum(writes.values()), 'write')}: {' '.join(victims)}", "lost": writes}
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
