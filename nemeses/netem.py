"""Bad links: packets between some nodes are delayed, lost, doubled, spoiled, overtaken, or sent through a thin line."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from harness.cluster import Cluster
from harness.environments.base import Node, run_tool
from harness.errors import NothingToDo, UsageError
from harness.nemesis import Decks, Layer, Plan, Zones
from harness.options import Kilobytes, Number, Seconds, Share
from harness.target import Target
from nemeses.victims import Aim, Aimed, aims, resolve, shuffled

_SHARES = ("loss", "duplicate", "reorder", "corrupt")
_PACKETS = Share(0.001, 1, zero="none")


class Quality(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How bad a link is, in a plan: what is not said is 0, and the rate is in bytes a second."""

    delay: Annotated[float, Seconds(0.0001, 60, zero="none")] = 0.0
    jitter: Annotated[float, Seconds(0.0001, 60, zero="none")] = 0.0
    loss: Annotated[float, _PACKETS] = 0.0
    duplicate: Annotated[float, _PACKETS] = 0.0
    reorder: Annotated[float, _PACKETS] = 0.0
    corrupt: Annotated[float, _PACKETS] = 0.0
    rate: Annotated[float, Number(1000, 10_000_000_000, zero="no limit")] = 0.0

    def __post_init__(self) -> None:
        if not any(getattr(self, name) for name in self.__struct_fields__):
            raise ValueError("its quality is perfect: that would do nothing")


class Netem:
    """Delay, jitter, loss, duplication, reordering, corruption and bandwidth of some nodes' links with the others."""

    class Options(msgspec.Struct, frozen=True):
        """Whom, in which direction, and how bad: what is not given is drawn, but none once one of them is given."""

        netem: Aim = "any"
        direction: Annotated[Literal["out", "in", "both"], "what is hit, as the victims see it"] = "out"
        delay: Annotated[float | None, Seconds(0.0001, 60, zero="none"), "how long packets are held"] = None
        jitter: Annotated[float | None, Seconds(0.0001, 60, zero="none"), "by how much the delay varies"] = None
        loss: Annotated[float | None, _PACKETS, "packets that are lost"] = None
        duplicate: Annotated[float | None, _PACKETS, "packets that arrive twice"] = None
        reorder: Annotated[float | None, _PACKETS, "packets that are overtaken"] = None
        corrupt: Annotated[float | None, _PACKETS, "packets with a flipped bit"] = None
        bandwidth: Annotated[float | None, Kilobytes(1, 10_000_000, zero="no limit"), "what a link carries"] = None

    class Fields(Aimed, frozen=True, kw_only=True):
        """What a plan holds."""

        quality: Quality
        direction: Literal["out", "in", "both"]
        seed: str

    name: ClassVar[str] = "netem"
    needs: ClassVar[frozenset[str]] = frozenset({"netem"})
    layer: ClassVar[Layer] = Layer.NETWORK
    least: ClassVar[int] = 2

    def __init__(self, options: Options) -> None:
        self._options = options
        self._aim = options.netem
        asked = {name: getattr(options, name) for name in ("delay", "jitter", *_SHARES, "bandwidth")}
        given = [name for name, value in asked.items() if value is not None]
        if given and not any(asked.values()):
            names = " and ".join(f"-o {name}" for name in given)
            raise UsageError(f"{names} of nemesis netem: 0 alone spoils no link; leave it out, or set another one")

    def decks(self, zones: Zones) -> Decks:
        return {"aim": aims(zones, self._aim)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        quality = {
            "delay": rng.choice((0.0, 0.01, 0.1)),
            "jitter": rng.choice((0.0, 0.02, 0.2)),
            "loss": rng.choice((0.0, 0.05, 0.3)),
            "duplicate": rng.choice((0.0, 0.2)),
            "reorder": rng.choice((0.0, 0.2)),
            "corrupt": rng.choice((0.0, 0.0, 0.05)),
            "rate": rng.choice((0.0, 0.0, 50_000.0)),
        }
        if not any(quality.values()):
            quality["loss"] = 0.1
        fixed = {name: getattr(self._options, name) for name in ("delay", "jitter", *_SHARES)}
        fixed["rate"] = None if self._options.bandwidth is None else self._options.bandwidth * 1000
        if any(value is not None for value in fixed.values()):  # then only what was asked for
            quality = {name: value or 0.0 for name, value in fixed.items()}
        seed = f"{rng.getrandbits(32):08x}"
        aimed = {"aim": dealt["aim"], "order": shuffled(rng, zones)}
        return {**aimed, "quality": quality, "direction": self._options.direction, "seed": seed}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = sorted(await resolve(cluster, target, plan))
        links: dict[str, set[str]] = {node.name: set() for node in cluster.nodes}
        for victim in victims:
            for other in links.keys() - {victim}:
                if plan["direction"] in ("out", "both"):
                    links[victim].add(other)
                if plan["direction"] in ("in", "both"):
                    links[other].add(victim)
        senders = [name for name, sinks in links.items() if sinks]

        async def degrade(node: Node) -> Any:
            peers = [cluster.node(other).address for other in sorted(links[node.name])]
            seed = f"{plan['seed']}/{node.name}"
            asked = {"do": "degrade", "peers": peers, "quality": plan["quality"], "seed": seed}
            return await run_tool(node, "netem", asked, timeout=60.0)

        seen = await cluster.on_each(senders, degrade)
        if not any(seen.values()):
            raise NothingToDo(f"every link of {', '.join(senders)} is cut")
        bad = " ".join(f"{name} {value:g}" for name, value in plan["quality"].items() if value)
        return {"said": f"{bad}, {plan['direction']}: {' '.join(victims)}", "seen": seen}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        names = [node.name for node in cluster.nodes]
        return {"packets": await cluster.on_each(names, lambda node: run_tool(node, "netem", {"do": "mend"}))}
