"""Wrong clocks: a node's wall clock jumps, runs fast or slow, or jumps to and fro; the host's own is not touched."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from harness.cluster import Cluster
from harness.environments.base import run_tool
from harness.errors import FaultError, NothingToDo, UsageError
from harness.nemesis import Decks, Layer, Plan, Zones
from harness.options import Number, Seconds, plain
from harness.target import Target
from nemeses.victims import Aim, Aimed, aims, resolve, shuffled

_OFFSETS = (0.05, 0.5, 5.0, 60.0)
_RATES = (0.8, 0.95, 1.0, 1.05, 1.2)
_PERIODS = (0.0, 0.0, 0.0, 0.2, 1.0)
_LEAST_SEEN = 0.5
"""The share of the offset that must be measured afterwards."""
_LEAST_SKEW, _MOST_SKEW = 0.001, 1e8
"""Seconds, about three years: a store may refuse to live in another age, but counts nanoseconds there in 64 bits."""
_RIGHT = 0.1
"""Seconds that a clock which nobody changed may seem to be wrong."""


class Clock:
    """Let the wall clocks of some nodes jump, forward or back, run up to 20% fast or slow, or jump to and fro.

    Servers that are started meanwhile see the same time. ``monotonic=true`` does the same to the monotonic clock: then
    a server that asks the kernel to wake it at a moment of that clock sleeps the longer.
    """

    class Options(msgspec.Struct, frozen=True):
        """Whom, and how their clocks go wrong."""

        clock: Aim = "any"
        skew: Annotated[float | None, Seconds(-_MOST_SKEW, _MOST_SKEW), "how far the clock jumps"] = None
        rate: Annotated[float | None, Number(0.1, 10), "how fast it runs; 1 is right"] = None
        strobe: Annotated[float | None, Seconds(0.001, 3600, zero="once"), "how often it jumps to and fro"] = None
        monotonic: Annotated[bool, "the monotonic clock as well"] = False

    class Fields(Aimed, frozen=True, kw_only=True):
        """What a plan holds."""

        offset: Annotated[float, Seconds(-_MOST_SKEW, _MOST_SKEW)]
        rate: Annotated[float, Number(0.1, 10)]
        period: Annotated[float, Seconds(0.001, 3600, zero="once")]
        monotonic: bool = False

    name: ClassVar[str] = "clock"
    needs: ClassVar[frozenset[str]] = frozenset({"clock"})
    layer: ClassVar[Layer] = Layer.CLOCK

    def __init__(self, options: Options) -> None:
        self._options = options
        self._aim = options.clock
        if options.skew is not None and abs(options.skew) < _LEAST_SKEW and options.rate in (1.0, None):
            raise UsageError(
                f"-o skew is {plain(options.skew)}, which nobody would notice: it must be at least "
                f"{plain(_LEAST_SKEW)} s, forward or back, or -o rate must be set to other than 1"
            )

    def decks(self, zones: Zones) -> Decks:
        return {"aim": aims(zones, self._aim)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        plan: Plan = {"aim": dealt["aim"], "order": shuffled(rng, zones)}
        offset = rng.choice(_OFFSETS) * rng.choice((-1, 1))
        drawn = {"offset": offset, "rate": rng.choice(_RATES), "period": rng.choice(_PERIODS)}
        fixed = {"offset": self._options.skew, "rate": self._options.rate, "period": self._options.strobe}
        plan |= {name: drawn[name] if value is None else value for name, value in fixed.items()}
        return plan | ({"monotonic": True} if self._options.monotonic else {})

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = sorted(await resolve(cluster, target, plan))
        asked: Plan = {"do": "set"}
        asked |= {name: plan[name] for name in ("offset", "rate", "period", "monotonic") if name in plan}
        seen = await cluster.on_each(victims, lambda node: run_tool(node, "clock", asked))
        if not any(clock["processes"] for clock in seen.values()):
            await cluster.on_each(victims, lambda node: run_tool(node, "clock", {"do": "heal"}))
            raise NothingToDo(f"there is no server process on {', '.join(victims)}")
        ahead = {name: clock["ahead"] for name, clock in seen.items() if clock["processes"]}
        for name, seconds in ahead.items():
            if not plan["period"] and abs(seconds) < _LEAST_SEEN * abs(plan["offset"]):
                raise FaultError(
                    f"the clock of {name} is {seconds:+.3f} s off, but {plan['offset']:+g} s were asked for"
                )
        others = [node.name for node in cluster.nodes if node.name not in victims]
        spared = _ahead(await cluster.on_each(others, lambda node: run_tool(node, "clock", {"do": "read"})))
        if wrong := [name for name, seconds in spared.items() if abs(seconds) > _RIGHT]:
            raise FaultError(f"the clocks of {', '.join(wrong)} are wrong as well, though nobody meant them")
        to_and_fro = f", to and fro every {plan['period']:g} s" if plan["period"] else ""
        said = f"{plan['offset']:+g} s{to_and_fro}, rate {plan['rate']:g}: {' '.join(victims)}"
        return {"said": said, "ahead": {name: round(seconds, 6) for name, seconds in ahead.items()}}

    async def observe(self, cluster: Cluster) -> Plan:
        """How far the clocks of the servers on each node are ahead now."""
        return await self._read(cluster, "read")

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        ahead = await self._read(cluster, "heal")
        if wrong := [name for name, seconds in ahead.items() if abs(seconds) > _RIGHT]:
            raise FaultError(f"the clocks of {', '.join(wrong)} are still wrong")
        return {"ahead": ahead}

    async def _read(self, cluster: Cluster, action: str) -> dict[str, float]:
        names = [node.name for node in cluster.nodes]
        return _ahead(await cluster.on_each(names, lambda node: run_tool(node, "clock", {"do": action})))


def _ahead(clocks: dict[str, Any]) -> dict[str, float]:
    return {name: round(clock["ahead"], 6) for name, clock in clocks.items() if clock["processes"]}
