"""Wrong clocks: a node's wall clock jumps, and its clocks may run fast or slow. The host's own clock is not touched."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from harness.cluster import Cluster
from harness.environments.base import run_tool
from harness.errors import FaultError
from harness.nemesis import Plan
from harness.target import Target
from nemeses.victims import Aim, draw, resolve

_OFFSETS = (0.05, 0.5, 5.0, 60.0)
_LEAST_SEEN = 0.5
"""The share of the offset that must be measured afterwards."""


class Clock:
    """Let the wall clocks of some nodes jump, forward or back, and run up to 20% fast or slow."""

    class Options(msgspec.Struct, frozen=True):
        """``clock`` fixes whom to aim at, ``skew`` the seconds of the jump (0: drawn from the seed)."""

        clock: Aim = "any"
        skew: float = 0.0

    name: ClassVar[str] = "clock"
    needs: ClassVar[frozenset[str]] = frozenset({"clock"})

    def __init__(self, options: Options) -> None:
        self._options = options

    def plan(self, rng: random.Random, nodes: Sequence[str]) -> Plan:
        plan = draw(rng, nodes, self._options.clock)
        offset = rng.choice(_OFFSETS) * rng.choice((-1, 1))
        rate = rng.choice((0.8, 0.95, 1.0, 1.05, 1.2))
        return {**plan, "offset": self._options.skew or offset, "rate": rate}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = sorted(await resolve(cluster, target, plan))
        asked = {"do": "set", "offset": plan["offset"], "rate": plan["rate"]}
        ahead = await cluster.on_each(victims, lambda node: run_tool(node, "clock", asked))
        for name, seconds in ahead.items():
            if abs(seconds) < _LEAST_SEEN * abs(plan["offset"]):
                raise FaultError(
                    f"the clock of {name} is {seconds:+.3f} s off, but {plan['offset']:+g} s were asked for"
                )
        said = f"{plan['offset']:+g} s, rate {plan['rate']:g}: {' '.join(victims)}"
        return {"said": said, "ahead": {name: round(seconds, 6) for name, seconds in ahead.items()}}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        names = [node.name for node in cluster.nodes]
        ahead = await cluster.on_each(names, lambda node: run_tool(node, "clock", {"do": "heal"}))
        if wrong := [name for name, seconds in ahead.items() if abs(seconds) > 0.1]:
            raise FaultError(f"the clocks of {', '.join(wrong)} are still wrong")
        return {"ahead": {name: round(seconds, 6) for name, seconds in ahead.items()}}
