"""Wrong clocks: a node's wall clock jumps, runs fast or slow, or jumps to and fro; the host's own is not touched."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

import msgspec

from harness.capability import Capability
from harness.cluster import Cluster
from harness.environments.base import run_tool
from harness.environments.tools import ask
from harness.errors import FaultError, NothingToDo, UsageError, option
from harness.faults import clock, dial
from harness.nemeses.victims import Aim, Aimed, aims, resolve, shuffled
from harness.nemesis import Decks, EndsServers, Layer, Nemesis, Plan, Proof, Zones
from harness.options import Number, Seconds, plain
from harness.target import Target

_OFFSETS = (0.05, 0.5, 5.0, 60.0)
_RATES = (0.8, 0.95, 1.0, 1.05, 1.2)
_PERIODS = (0.0, 0.0, 0.0, 0.2, 1.0)
_SAMPLES = 12
_DRIFT_SECONDS = 0.5
"""For how long to look at a clock that runs fast or slow."""
_EXACT = 0.002
"""Seconds within which two looks at clocks agree."""
_LEAST_SKEW, _MOST_SKEW = 0.001, 1e8
"""Seconds, about three years: a store may refuse to live in another age, but counts nanoseconds there in 64 bits."""
_RIGHT = 0.1
"""Seconds that a clock which nobody changed may seem to be wrong."""


class Clock(Nemesis):
    """Let the wall clocks of some nodes jump, forward or back, run up to 20% fast or slow, or jump to and fro.

    Servers that are started meanwhile see the same time. ``monotonic=true`` does the same to the monotonic clock, but
    never lets it step back: it jumps forward only, and what it is ahead stays until the server ends. A server that
    asks the kernel to wake it at a moment of that clock sleeps the longer.
    """

    class Options(msgspec.Struct, frozen=True):
        """Whom, and how their clocks go wrong."""

        clock: Aim = "any"
        skew: Annotated[float | None, Seconds(-_MOST_SKEW, _MOST_SKEW), "how far the clock jumps"] = None
        rate: Annotated[float | None, Number(0.1, 10), "how fast it runs; 1 is right"] = None
        strobe: Annotated[float | None, Seconds(0.001, 3600, zero="once"), "how often it jumps to and fro"] = None
        monotonic: Annotated[bool, "the monotonic clock as well"] = False

    class Fields(Aimed, frozen=True, kw_only=True):
        """How wrong the clock is."""

        offset: Annotated[float, Seconds(-_MOST_SKEW, _MOST_SKEW)]
        rate: Annotated[float, Number(0.1, 10)]
        period: Annotated[float, Seconds(0.001, 3600, zero="once")]
        monotonic: bool = False

    name: ClassVar[str] = "clock"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.CLOCK})
    layer: ClassVar[Layer] = Layer.CLOCK
    ends_servers: ClassVar[EndsServers] = "never"

    def __init__(self, options: Options) -> None:
        self._options = options
        self.also_needs = frozenset({Capability.MONOTONIC} if options.monotonic else ())
        self._aim = options.clock
        self._set = 0.0
        """When the clocks were set last, as the event loop counts."""
        if options.skew is not None and abs(options.skew) < _LEAST_SKEW and options.rate in (1.0, None):
            raise UsageError(
                f"{option('skew')} is {plain(options.skew)}, which nobody would notice: it must be at least "
                f"{plain(_LEAST_SKEW)} s, forward or back, or {option('rate')} must be set to other than 1"
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
        before = await self._shown(cluster)
        asked: Plan = {name: plan[name] for name in ("offset", "rate", "period", "monotonic") if name in plan}
        self._set = asyncio.get_running_loop().time()
        seen = await cluster.on_each(victims, lambda node: run_tool(node, ask(clock.skew, **asked)))
        if not any(shown["processes"] for shown in seen.values()):
            await cluster.on_each(victims, lambda node: run_tool(node, ask(clock.heal)))
            raise NothingToDo(f"there is no server process on {', '.join(victims)}")
        to_and_fro = f", to and fro every {plan['period']:g} s" if plan["period"] else ""
        return {
            "said": f"{plan['offset']:+g} s{to_and_fro}, rate {plan['rate']:g}: {' '.join(victims)}",
            "asked": asked,
            "ahead": {name: round(shown["ahead"], 6) for name, shown in seen.items() if shown["processes"]},
            "before": {name: taken[0] for name, taken in before.items()},
        }

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        asked, before, victims = done["asked"], done["before"], done["ahead"]
        # Both ways of a clock that goes to and fro, if there is the time for it.
        span = min(2.5 * asked["period"] or _DRIFT_SECONDS, seconds / 2)
        samples = await self._shown(cluster, _SAMPLES, span / _SAMPLES)
        elapsed = asyncio.get_running_loop().time() - self._set
        wall = Asked(asked["offset"], asked["rate"] - 1, asked["period"])
        forward = Asked(max(asked["offset"], 0.0), asked["rate"] - 1) if asked.get("monotonic") else Asked()
        holds, during, hit = [], {}, False
        for name, taken in samples.items():
            # Who was started or ended meanwhile was not looked at for long enough.
            for server in set(taken[0]).intersection(*taken):
                first = before.get(name, {}).get(server, {})
                for which in taken[0][server].keys() - {"at"}:
                    expected = Asked() if name not in victims else wall if which == "wall" else forward
                    shown = [(sample[server]["at"], sample[server][which] - first.get(which, 0.0)) for sample in taken]
                    holds.append(expected.fits(shown, elapsed))
                    if expected is wall:
                        hit = hit or any(abs(ahead) >= _LEAST_SKEW for _, ahead in shown)
                    during[f"{name} {server} {which}"] = [round(ahead, 6) for _, ahead in shown]
        during = dict(sorted(during.items()))
        return Proof("what the code for the clock in each server's memory answers", before, during, hit and all(holds))

    async def observe(self, cluster: Cluster) -> Plan:
        """How far the wall clocks of the servers on each node are ahead now."""
        return _ahead(await self._shown(cluster))

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        names = [node.name for node in cluster.nodes]
        await cluster.on_each(names, lambda node: run_tool(node, ask(clock.heal)))
        ahead = _ahead(await self._shown(cluster))
        if wrong := [name for name, seconds in ahead.items() if abs(seconds) > _RIGHT]:
            raise FaultError(f"the clocks of {', '.join(wrong)} are still wrong")
        return {"ahead": ahead}

    async def _shown(
        self, cluster: Cluster, samples: int = 1, every: float = 0.0
    ) -> dict[str, list[dict[str, dict[str, float]]]]:
        """What the servers' clocks show on each node, so many times."""
        watch = ask(dial.watch, samples=samples, every=every)
        return await cluster.on_each([node.name for node in cluster.nodes], lambda node: run_tool(node, watch))


class Asked(NamedTuple):
    """How a clock is to be wrong: ahead by ``offset`` seconds, by ``drift`` more in each that passes.

    With a ``period`` the offset comes and goes every so many seconds.
    """

    offset: float = 0.0
    drift: float = 0.0
    period: float = 0.0

    def fits(self, shown: Sequence[tuple[float, float]], elapsed: float) -> bool:
        """Whether a clock goes so that was set ``elapsed`` seconds ago or less.

        ``shown`` is by how much it was ahead, each with the time of the look.
        """
        low, high = sorted((0.0, self.drift * elapsed))

        def near(ahead: float, offset: float) -> bool:
            tolerance = _EXACT + 1e-9 * abs(offset)
            return offset + low - tolerance <= ahead <= offset + high + tolerance

        (start, first), (end, last) = shown[0], shown[-1]
        if not self.period:
            drifted = self.drift * (end - start)
            exact = _EXACT + 0.1 * abs(drifted)
            return all(near(ahead, self.offset) for _, ahead in shown) and abs(last - first - drifted) <= exact
        away, back = ([near(ahead, offset) for _, ahead in shown] for offset in (self.offset, 0.0))
        both = end - start < 1.5 * self.period or any(back)
        return any(away) and both and all(a or b for a, b in zip(away, back, strict=True))


def _ahead(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """By how much the wall clock of each node that has servers is ahead: of these the one that is the most wrong."""
    ahead = {}
    for name, taken in samples.items():
        if walls := sorted((clocks["wall"] for clocks in taken[-1].values()), key=abs):
            ahead[name] = round(walls[-1], 6)
    return ahead
