"""Want: the servers of some nodes get little CPU time, or hardly any more memory than they have, or both.

How little is drawn as a share of what they use at that moment. A server that needs more memory is ended by the kernel,
and is started again when the fault ends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from harness.capability import Capability
from harness.cluster import Cluster, holds_within
from harness.environments.base import run_tool
from harness.environments.tools import ask
from harness.errors import FaultError, NothingToDo
from harness.faults import limits, squeeze
from harness.faults.limits import Counts
from harness.nemeses.victims import Aim, Aimed, aims, resolve, revive, shuffled
from harness.nemesis import Decks, EndsServers, Layer, Nemesis, Plan, Proof, Zones
from harness.options import Mebibytes, Share
from harness.target import Target

_MIB = 1 << 20


_CPU_SHARES = (0.1, 0.25, 0.5)
"""What is left to servers, as a share of the CPU time that they use."""
_MEMORY_SHARES = (0.001, 0.003, 0.01)
"""What servers may take in addition, as a share of what they hold."""
_LEAST_CPU = 0.01
"""The share of one processor below which the kernel gives nothing at all."""
_LEAST_BYTES = 64 << 10
_USE_SECONDS = 0.3
"""How long to watch what servers use."""
_LOOK_SECONDS = 0.2
_CPU, _MEMORY, _BOTH = "cpu", "memory", "both"


class Squeeze(Nemesis):
    """Leave the servers of some nodes less CPU time than they use, or next to no memory beyond what they hold."""

    class Options(msgspec.Struct, frozen=True):
        """Whom, and what they keep. Where only one of ``cpu`` and ``memory`` is given, only that becomes scarce."""

        squeeze: Aim = "any"
        scarce: Annotated[Literal["any", "cpu", "memory", "both"], "what there is little of"] = "any"
        cpu: Annotated[float | None, Share(0.01, 0.99), "the share of one processor that the servers keep"] = None
        memory: Annotated[int | None, Mebibytes(1, 65536), "what they may take in addition to what they hold"] = None

    class Fields(Aimed, frozen=True, kw_only=True):
        """How much the servers are left, of the processor and of memory."""

        cpu: Annotated[float | None, Share(0.01, 0.99)] = None
        memory: Annotated[int | None, Mebibytes(1, 65536)] = None
        cpu_of_used: Annotated[float | None, Share(0.001, 0.99)] = None
        memory_of_held: Annotated[float | None, Share(0.0001, 1)] = None

        def __post_init__(self) -> None:
            pairs = ((self.cpu, self.cpu_of_used), (self.memory, self.memory_of_held))
            given = [sum(limit is not None for limit in pair) for pair in pairs]
            if max(given) > 1 or sum(given) == 0:
                raise ValueError("it needs cpu or cpu_of_used, or memory or memory_of_held, or one of each")

    name: ClassVar[str] = "squeeze"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.SQUEEZE})
    layer: ClassVar[Layer] = Layer.RESOURCE
    ends_servers: ClassVar[EndsServers] = "meanwhile"

    def __init__(self, options: Options) -> None:
        self._options = options
        self._aim = options.squeeze
        self._squeezed: set[str] = set()

    def decks(self, zones: Zones) -> Decks:
        fixed = [name for name in (_CPU, _MEMORY) if getattr(self._options, name) is not None]
        scarce: Sequence[str] = (_CPU, _MEMORY, _BOTH)
        if self._options.scarce != "any":
            scarce = [self._options.scarce]
        elif fixed:
            scarce = fixed if len(fixed) == 1 else [_BOTH]
        return {"aim": aims(zones, self._aim), "scarce": dict.fromkeys(scarce, 1.0)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        plan: Plan = {"aim": dealt["aim"], "order": shuffled(rng, zones)}
        shares = {"cpu_of_used": rng.choice(_CPU_SHARES), "memory_of_held": rng.choice(_MEMORY_SHARES)}
        for what, share, fixed in (
            (_CPU, "cpu_of_used", self._options.cpu),
            (_MEMORY, "memory_of_held", self._options.memory),
        ):
            if dealt["scarce"] in (what, _BOTH):
                plan |= {share: shares[share]} if fixed is None else {what: fixed}
        return plan

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = sorted(await resolve(cluster, target, plan))
        before, after, seconds = await _use(cluster, victims)
        if not any(after.values()):
            raise NothingToDo(f"there is no server process on {', '.join(victims)}")
        left = {name: _left(plan, before[name], after[name], seconds) for name in victims if after[name]}
        self._squeezed.update(left)
        await cluster.on_each(list(left), lambda node: run_tool(node, ask(squeeze.squeeze, **left[node.name])))
        words = "; ".join(f"{name} {_words(limits)}" for name, limits in left.items())
        return {"said": words, "left": left, "before": {name: after[name] for name in left}}

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        """Until the counters of every group say so, or the time is over."""
        before, left = done["before"], done["left"]
        seen: dict[str, dict[str, Any]] = {}

        async def all_scarce() -> bool:
            for name, counts in (await _limits(cluster, list(left))).items():
                # A server that was ended meanwhile keeps what was seen last.
                seen[name] = seen.get(name, {}) | counts
            return all(_is_scarce(left[name], before[name], seen[name]) for name in left)

        holds = await holds_within(all_scarce, seconds - _LOOK_SECONDS, _LOOK_SECONDS)
        if not seen:
            raise FaultError("the counters of the servers' control groups could not be read in time")
        return Proof("the counters of the servers' control groups", _counted(before), _counted(seen), holds)

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        names = sorted(self._squeezed)
        seen = await cluster.on_each(names, lambda node: run_tool(node, ask(squeeze.heal)))
        self._squeezed.clear()
        return {"seen": seen, "started": await revive(cluster, target, names)}


async def _limits(cluster: Cluster, names: Sequence[str]) -> dict[str, dict[str, Counts]]:
    return await cluster.on_each(names, lambda node: run_tool(node, ask(limits.look)))


async def _use(
    cluster: Cluster, names: Sequence[str]
) -> tuple[dict[str, dict[str, Counts]], dict[str, dict[str, Counts]], float]:
    """What the servers of some nodes had used, and have used so many seconds later."""
    began = asyncio.get_running_loop().time()
    before = await _limits(cluster, names)
    await asyncio.sleep(_USE_SECONDS)
    return before, await _limits(cluster, names), asyncio.get_running_loop().time() - began


def _left(plan: Plan, before: Mapping[str, Any], after: Mapping[str, Any], seconds: float) -> Plan:
    """What a node's servers are to keep: the share of a processor, and the bytes in addition to what they hold."""
    left: Plan = {}
    if (share := plan.get("cpu_of_used")) is not None:
        used = sum(counts["used"] - before[server]["used"] for server, counts in after.items() if server in before)
        left[_CPU] = max(_LEAST_CPU, round(share * used / seconds, 4))
    elif plan.get(_CPU) is not None:
        left[_CPU] = plan[_CPU]
    if (share := plan.get("memory_of_held")) is not None:
        left[_MEMORY] = max(_LEAST_BYTES, round(share * sum(counts["held"] for counts in after.values())))
    elif plan.get(_MEMORY) is not None:
        left[_MEMORY] = plan[_MEMORY] * _MIB
    return left


def _is_scarce(left: Plan, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a node's servers had to wait for CPU time, or had all the memory that they may have, since then."""

    def grown(*counters: str) -> bool:
        return any(
            counts[counter] > (before[server][counter] if _same_groups(before.get(server), counts) else 0)
            for server, counts in now.items()
            for counter in counters
        )

    limited = any(all(counts[what] is not None for what in left) for counts in now.values())
    cpu = _CPU not in left or (grown("throttled") and grown("throttled_seconds"))
    memory = _MEMORY not in left or grown("at_limit", "ended")
    return limited and cpu and memory


def _counted(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """What the groups of the servers of each node have counted, in words."""
    return {
        name: [
            f"{server} waited {group['throttled']} times for {group['throttled_seconds']:.3f} s for CPU time (limit "
            f"{group['cpu']}), and had {group['at_limit']} times all memory (limit {group['memory']}), "
            f"{group['ended']} ended"
            for server, group in sorted(servers.items())
        ]
        for name, servers in sorted(nodes.items())
    }


def _same_groups(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    return before is not None and before["groups"] == now["groups"]


def _words(left: Plan) -> str:
    cpu = [f"{left[_CPU]:g} CPUs"] if _CPU in left else []
    memory = [f"{left[_MEMORY] / _MIB:.2f} MiB more"] if _MEMORY in left else []
    return ", ".join(cpu + memory)
