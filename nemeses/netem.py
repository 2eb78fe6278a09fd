"""Bad links: packets between some nodes are delayed, lost, doubled, spoiled, overtaken, or sent through a thin line.

Of a zone only the links that leave it are: its own nodes stay as near one another as they were.
Before and while they are, datagrams are sent over these links, and what becomes of them is compared.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal

import msgspec

from harness.capability import Capability
from harness.cluster import Cluster
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.errors import UsageError, option
from harness.faults import netem
from harness.faults.network import Direction
from harness.nemeses.links import CLIENTS, Addresses, Link, Watched, time_for, watch, watch_until
from harness.nemeses.quality import KINDS, PACKETS, SHARES, Limits, Quality, draw, holds, measured, usable
from harness.nemeses.victims import Aim, Aimed, aims, resolve, shuffled
from harness.nemesis import Decks, EndsServers, Layer, Nemesis, Plan, Proof, Zones
from harness.options import Kilobytes, Seconds
from harness.target import Target

_ENOUGH = 20
"""Datagrams over each link by which it is known well enough beforehand."""
_LISTENING = 0.3
"""How much of it is at most spent waiting for what comes late; the rest is for starting."""
_AS_ASKED = "as asked"
_MOST_WATCHED = 20
"""Links by which a quality is judged."""
_OFFERED = 2.0
"""How much more is sent through a line than it is to let through."""


class Netem(Nemesis):
    """Delay, jitter, loss, duplication, reordering, corruption, bandwidth of links between nodes, or with clients."""

    class Options(msgspec.Struct, frozen=True):
        """Whom, in which direction, and how bad: what is not given is dealt, but none once one of them is given."""

        netem: Aim = "any"
        links: Annotated[Literal["nodes", "clients"], "with whom the victims' links are bad"] = "nodes"
        direction: Annotated[Literal["out", "in", "both"], "what is hit, as the victims see it"] = "out"
        delay: Annotated[float | None, Seconds(0.0001, 60, zero="none"), "how long packets are held"] = None
        jitter: Annotated[float | None, Seconds(0.0001, 60, zero="none"), "by how much the delay varies"] = None
        loss: Annotated[float | None, PACKETS, "packets that are lost"] = None
        duplicate: Annotated[float | None, PACKETS, "packets that arrive twice"] = None
        reorder: Annotated[float | None, PACKETS, "packets that are overtaken"] = None
        corrupt: Annotated[float | None, PACKETS, "packets with a flipped bit"] = None
        bandwidth: Annotated[float | None, Kilobytes(1, 10_000_000, zero="no limit"), "what a link carries"] = None

    class Fields(Aimed, frozen=True, kw_only=True):
        """Which links are made worse, and by what."""

        quality: Limits
        direction: Literal["out", "in", "both"]
        links: Literal["nodes", "clients"] = "nodes"
        seed: str

    name: ClassVar[str] = "netem"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.NETEM})
    layer: ClassVar[Layer] = Layer.NETWORK
    ends_servers: ClassVar[EndsServers] = "never"
    least: ClassVar[int] = 2

    def __init__(self, options: Options) -> None:
        self._options = options
        self._aim = options.netem
        asked = {name: getattr(options, name) for name in ("delay", "jitter", *SHARES, "bandwidth")}
        given = [name for name, value in asked.items() if value is not None]
        if given and not any(asked.values()):
            names = " and ".join(map(option, given))
            raise UsageError(f"{names} of nemesis netem: 0 alone spoils no link; leave it out, or set another one")
        self._asked: Quality = {name: value for name, value in asked.items() if value}
        if "bandwidth" in self._asked:
            self._asked["rate"] = self._asked.pop("bandwidth") * 1000
        self._addresses = Addresses()
        self._how: dict[str, str] = {}
        """By which mechanism each node makes worse what it sends."""
        self._before = Watched({}, {})
        self._sent: set[Link] = set()
        """The links that are watched."""
        self._cut: set[Link] = set()
        """Those that another fault has cut while they were."""

    def decks(self, zones: Zones) -> Decks:
        qualities = (_AS_ASKED,) if self._asked else KINDS
        return {"aim": aims(zones, self._aim), "quality": dict.fromkeys(qualities, 1.0)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        kind = dealt["quality"]
        quality = dict(self._asked) if kind == _AS_ASKED else draw(rng, kind)
        seed = f"{rng.getrandbits(32):08x}"
        aimed = {"aim": dealt["aim"], "order": shuffled(rng, zones), "links": self._options.links}
        return {**aimed, "quality": quality, "direction": self._options.direction, "seed": seed}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        victims = sorted(await resolve(cluster, target, plan))
        quality, seed = plan["quality"], plan["seed"]
        names = [node.name for node in cluster.nodes]
        # A zone that is bad to reach is not bad within; one that everything is in has no links but those.
        beyond = [name for name in names if name not in victims] if plan["aim"] == "zone" else []
        others = [CLIENTS] if plan.get("links") == CLIENTS else beyond or names
        links = links_of(victims, others, plan["direction"])
        await self._addresses.learn(cluster)
        if not self._how:
            self._how = await cluster.on_each(names, lambda node: run_tool(node, ask(netem.mechanism)))
        chosen = sorted(links)
        self._sent = set(random.Random(seed).sample(chosen, min(_MOST_WATCHED, len(chosen))))
        self._cut = set(cluster.cut_links)
        self._before = await watch_until(cluster, self._sent, _ENOUGH, rate=offered(quality))
        self._cut |= cluster.cut_links
        where = placed(links, self._how)

        async def degrade(node: Node) -> None:
            peers = [self._addresses.peer(cluster, peer, way) for peer, way in where[node.name]]
            how, own_seed = self._how[node.name], f"{seed}/{node.name}"
            await run_tool(node, ask(netem.degrade, how=how, peers=peers, quality=quality, seed=own_seed), timeout=60.0)

        await cluster.on_each(sorted(where), degrade)
        cluster.bad_links |= links
        bad = " ".join(f"{name} {value:g}" for name, value in quality.items() if value)
        with_whom = f", with {CLIENTS}" if others == [CLIENTS] else ""
        words = f"{bad}, {plan['direction']}: {' '.join(victims)}{with_whom}"
        return {
            "said": words,
            "quality": quality,
            "how": sorted(set(self._how.values())),
            "links": sorted(map(list, links)),
        }

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        quality: Quality = done["quality"]
        latest = quality.get("delay", 0.0) + quality.get("jitter", 0.0)
        linger = min(latest + 0.1, _LISTENING * seconds)
        span = time_for(seconds, linger)
        cut = self._cut | cluster.cut_links
        seen = await watch(cluster, self._sent, span, linger=linger, rate=offered(quality))
        links = usable(self._before, seen, quality, cut | cluster.cut_links)
        before, during = measured(self._before, links), measured(seen, links)
        means = f"datagrams sent over {len(links)} of the links, and echoed"
        return Proof(means, before, during, holds(quality, before, during, linger))

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        names = [node.name for node in cluster.nodes]
        packets = await cluster.on_each(names, lambda node: run_tool(node, ask(netem.mend)))
        cluster.bad_links.clear()
        return {"packets": packets}


def offered(quality: Quality) -> float:
    """How many bytes a second to send so that a line that is too thin for them shows."""
    return _OFFERED * quality.get("rate", 0.0)


def links_of(victims: Collection[str], others: Collection[str], direction: str) -> set[Link]:
    """The links that are made worse: those on which the victims send, receive, or both."""
    out = {(victim, other) for victim in victims for other in others if victim != other}
    return (out if direction != "in" else set()) | ({(b, a) for a, b in out} if direction != "out" else set())


def placed(links: Collection[Link], how: Mapping[str, str]) -> dict[str, list[tuple[str, Direction]]]:
    """At which node each link is made worse: with whom it is, and whether what goes ``in`` or ``out`` there is meant.

    A kernel that has netem does it where packets leave; else it is done where they arrive. The clients' machine is left
    alone.
    """
    by_node: dict[str, list[tuple[str, Direction]]] = {}
    for sender, receiver in sorted(links):
        leaving = receiver == CLIENTS or (sender != CLIENTS and how[sender] == "netem")
        here, peer = (sender, receiver) if leaving else (receiver, sender)
        by_node.setdefault(here, []).append((peer, "out" if leaving else "in"))
    return by_node
