"""Network partitions: packets over some links are dropped (or refused), in both directions or in one.

Before and during a cut machines send datagrams to one another: over a link that is cut nothing may arrive that did
before, and something must over every other that nothing else makes worse. The same is measured after a heal. Of many
machines some are measured.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import msgspec

from harness.capability import Capability
from harness.cluster import Cluster
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.errors import FaultError, NothingToDo, option
from harness.faults import network
from harness.faults.network import Direction, How
from harness.nemeses.links import CLIENTS, Addresses, Link, Watched, time_for, watch, watch_until
from harness.nemeses.victims import minority, primary, shuffled
from harness.nemesis import PRIMARY, Decks, EndsServers, Layer, Nemesis, Plan, Proof, Zones
from harness.options import Number, Order, Seconds
from harness.target import Target

PRIMARY_MINORITY = "primary-minority"
KINDS = (
    *(PRIMARY, PRIMARY_MINORITY, "one", "halves", "third", "zone", "majority"),
    *("ring", "bridge", "one-way", "links", CLIENTS),
)
Kind = Literal[
    "primary", "primary-minority", "one", "halves", "third", "zone", "majority", "ring", "bridge", "one-way", "links",
    "clients",
]  # fmt: skip

_MOST_MACHINES = 12
"""Machines that measure: each has to begin within a moment of the others, and to send often over every link."""

Cuts = dict[str, dict[str, Direction]]
"""For each node the others that it is cut from, and in which direction: ``in``, ``out`` or ``both``; of the clients'
machine, which no rule may touch, both directions are the node's to cut."""


class Partition(Nemesis):
    """Cut the network: two groups, a ring of majorities, a bridge, one way, single links, or clients from nodes."""

    class Options(msgspec.Struct, frozen=True):
        """Which links, and how they are cut."""

        partition: Annotated[Literal["any", Kind], "which links are cut"] = "any"
        cut: Annotated[How, "whether packets vanish, are refused, or vanish but for resets of TCP connections"] = "drop"
        flap: Annotated[float, Seconds(0.02, 10, zero="never"), "how often the cut comes and goes"] = 0.0

    class Fields(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
        """Which links are cut, in which direction, and how."""

        kind: Kind
        order: Annotated[list[str] | None, Order()] = None
        """As the nodes stand, unless it is said."""
        how: How = "drop"
        minority: Annotated[int, Number(1, 1000)] = 1
        senders: Annotated[int | None, Number(1, 1000)] = None
        links: Annotated[list[tuple[str, str]] | None, Order(pairs=True)] = None
        flap: Annotated[float, Seconds(0.02, 10, zero="never")] = 0.0

        def __post_init__(self) -> None:
            if (self.kind == "links") != (self.links is not None):
                raise ValueError("links are for the kind links, and needed there")
            if self.kind in ("clients", "one-way") and self.senders is None:
                raise ValueError(f"the kind {self.kind} needs senders, the number of nodes that it cuts off")

    name: ClassVar[str] = "partition"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.PARTITION})
    layer: ClassVar[Layer] = Layer.NETWORK
    ends_servers: ClassVar[EndsServers] = "never"
    least: ClassVar[int] = 2

    def __init__(self, options: Options) -> None:
        self._options = options
        self._addresses = Addresses()
        self._before = Watched({}, {})

    def misfit(self, zones: Zones) -> str | None:
        kind = self._options.partition
        if kind in ("any", "links", "clients"):
            return None
        try:
            links_of({"kind": kind}, list(zones), zones)
        except NothingToDo as error:
            return f"{option('partition')} is {kind}, but {error}"
        return None

    def decks(self, zones: Zones) -> Decks:
        return {"kind": kinds_on(zones) if self._options.partition == "any" else {self._options.partition: 1.0}}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        kind, nodes, order = dealt["kind"], list(zones), shuffled(rng, zones)
        size = rng.randint(1, minority(len(nodes)))
        senders = rng.randint(1, max(1, len(nodes) - 1))
        links = [[a, b] for a in sorted(nodes) for b in sorted(nodes) if a != b]
        chosen = sorted(rng.sample(links, rng.randint(1, max(1, len(links) // 2))))
        plan = {"kind": kind, "order": order, "minority": size, "senders": senders, "how": self._options.cut}
        if kind == "links":
            plan["links"] = chosen
        return plan | ({"flap": self._options.flap} if self._options.flap else {})

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        order: list[str] = plan.get("order") or [node.name for node in cluster.nodes]
        if plan["kind"] in (PRIMARY, PRIMARY_MINORITY):
            lone = await primary(cluster, target) or order[0]
            order = [lone, *(name for name in order if name != lone)]
        words, cuts = links_of(plan, order, cluster.zones)
        how, flap = plan.get("how", "drop"), plan.get("flap", 0.0)
        await self._addresses.learn(cluster)
        self._before = await watch_until(cluster, some_links(cluster, cuts, random.Random(" ".join(order))), 1)
        cluster.cut_links |= links_cut(cuts)

        async def cut(node: Node) -> None:
            # Where packets arrive, but for the clients' machine, which is left alone.
            ways = {peer: d if peer == CLIENTS else "in" for peer, d in cuts[node.name].items() if d != "out"}
            peers = [self._addresses.peer(cluster, peer, way) for peer, way in ways.items()]
            if peers:
                await run_tool(node, ask(network.cut, peers=peers, how=how, flap=flap))

        await cluster.on_each([name for name in order if cuts[name]], cut)
        comes_and_goes = f", every {flap:g} s" if flap else ""
        return {"said": f"{plan['kind']}: {words}{comes_and_goes}", "how": how, "cut": cuts, "flap": flap}

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        watched, flap, was_open = self._before.links, done["flap"], self._before.open
        cut = links_cut(done["cut"]) & set(watched)
        span = time_for(seconds)
        seen = await watch(cluster, watched, span)
        if flap:
            # Some of a period of silence falls into the time; on a line that is not cut there is none.
            least = min(flap, span) / 5
            quiet = all(watched[link].silence < least <= seen.links[link].silence for link in cut)
            holds = bool(cut & was_open) and quiet
        else:
            holds = cuts_only(cut, was_open, seen.open, cluster.bad_links)
        means = f"datagrams sent over {len(watched)} links"
        return Proof(means, {"open": in_words(was_open)}, {"open": in_words(seen.open)}, holds)

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        names = [node.name for node in cluster.nodes]
        lost = await cluster.on_each(names, lambda node: run_tool(node, ask(network.heal)))
        cluster.cut_links.clear()
        if was_open := self._before.open:
            seen = await watch_until(cluster, was_open, 1)
            if still := was_open - seen.open - cluster.bad_links:
                raise FaultError(f"nothing arrives over {in_words(still)}, though nothing is cut any more")
        self._before = Watched({}, {})
        return {"packets_dropped": {name: sum(counts.values()) for name, counts in lost.items()}}


def all_links(cluster: Cluster, cuts: Cuts) -> list[Link]:
    """Every link between two nodes, and those with the clients' machine if some of these are cut."""
    names = [node.name for node in cluster.nodes]
    clients = any(CLIENTS in others for others in cuts.values())
    ends = [(a, b) for a in names for b in names if a != b]
    return ends + [link for name in names for link in ((name, CLIENTS), (CLIENTS, name)) if clients]


def some_links(cluster: Cluster, cuts: Cuts, rng: random.Random) -> list[Link]:
    """The links to measure: all between some machines, of which those between whom a link is cut come first."""
    ends = all_links(cluster, cuts)
    cut, others = sorted(links_cut(cuts)), sorted({name for link in ends for name in link})
    rng.shuffle(cut)
    rng.shuffle(others)
    machines = list(dict.fromkeys([*(name for link in cut for name in link), *others]))[:_MOST_MACHINES]
    return [link for link in ends if set(link) <= set(machines)]


def links_cut(cuts: Cuts) -> set[Link]:
    """The links over which nothing may go."""
    links = set()
    for here, others in cuts.items():
        for peer, direction in others.items():
            links |= {(peer, here)} if direction != "out" else set()
            links |= {(here, peer)} if direction != "in" else set()
    return links


def cuts_only(cut: set[Link], before: set[Link], during: set[Link], bad: set[Link]) -> bool:
    """Whether what is cut, and nothing else that is not bad for another reason, was open before and is not now."""
    return bool(cut & before) and not cut & during and not before - cut - bad - during


def in_words(links: Iterable[Link]) -> str:
    """Links in few words."""
    return " ".join(f"{start}->{to}" for start, to in sorted(links)) or "none"


def links_of(plan: Plan, order: Sequence[str], zones: Mapping[str, str]) -> tuple[str, Cuts]:
    """The links that a plan cuts, in words and for each node. Raises ``NothingToDo`` if there are none."""
    kind, count = plan["kind"], len(order)
    if kind == CLIENTS:
        lone = sorted(order[: plan["senders"]])
        return f"{CLIENTS} | {' '.join(lone)}", {name: {CLIENTS: "both"} if name in lone else {} for name in order}
    if kind == "links":
        cuts = cut_links(order, [(a, b) for a, b in plan["links"]])
        return " ".join(f"{a}->{b}" for a, b in plan["links"]), cuts
    if kind == "ring":
        # Each node sees itself and its neighbours on both sides: a majority, and everybody another one.
        reach = max(1, (count // 2 + 1) // 2)
        far = [(i, j) for i in range(count) for j in range(count) if min((i - j) % count, (j - i) % count) > reach]
        return " ".join(order), _some(cut_links(order, [(order[i], order[j]) for i, j in far]))
    if kind == "bridge":
        middle, half = order[0], (count - 1) // 2
        left, right = sorted(order[1 : half + 1]), sorted(order[half + 1 :])
        return f"{' '.join(left)} | {middle} | {' '.join(right)}", _some(apart_from_each_other(order, left, right))
    first = {
        "halves": count // 2,
        "one": 1,
        PRIMARY: 1,
        PRIMARY_MINORITY: minority(count),
        "majority": plan.get("minority", 1),
        "third": max(1, count // 3),
        "one-way": plan.get("senders", 1),
    }
    victims = [n for n in order if zones.get(n) == zones.get(order[0])] if kind == "zone" else order[: first[kind]]
    a, b = sorted(victims), sorted(set(order) - set(victims))
    if kind == "one-way":  # what the first group sends is lost, what it is sent arrives
        return f"{' '.join(a)} -x {' '.join(b)}", cut_links(order, [(x, y) for x in a for y in b])
    return f"{' '.join(a)} | {' '.join(b)}", _some(apart_from_each_other(order, a, b))


def kinds_on(zones: Zones) -> dict[str, float]:
    """The kinds that cut something on these nodes, each cut once: kinds that split off as many nodes are the same."""
    count = len(zones)
    splits = {
        "one": {1},
        "halves": {count // 2},
        "third": {max(1, count // 3)},
        "zone": set(Counter(zones.values()).values()) - {count},
        "majority": set(range(1, minority(count) + 1)),
    }
    impossible = {
        PRIMARY_MINORITY: minority(count) < 2,
        "ring": count < 4,  # everybody is a neighbour of everybody
        "bridge": count < 3,
    }
    # Of two nodes either is cut from the other, whichever is primary.
    seen = {frozenset({1})} if count == 2 else set()
    kept: dict[str, float] = {}
    for kind in KINDS:
        if impossible.get(kind, False):
            continue
        # So many nodes on one side and the rest on the other: the same, seen from either side.
        shapes = {frozenset({size, count - size}) for size in splits.get(kind, ())}
        if kind not in splits or not shapes <= seen:
            seen |= shapes
            kept[kind] = 1.0
    return kept


def apart_from_each_other(order: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Cuts:
    """Every link between two groups, in both directions."""
    return cut_links(order, [pair for x in a for y in b for pair in ((x, y), (y, x))])


def cut_links(order: Sequence[str], links: Sequence[tuple[str, str]]) -> Cuts:
    """What each node has to cut so that nothing goes from the first to the second of each pair."""
    cuts: Cuts = {name: {} for name in order}
    for source, sink in links:
        ends: tuple[tuple[str, str, Direction], ...] = ((source, sink, "out"), (sink, source, "in"))
        for here, there, direction in ends:
            earlier = cuts[here].get(there, direction)
            cuts[here][there] = direction if earlier == direction else "both"
    return cuts


def _some(cuts: Cuts) -> Cuts:
    if not any(cuts.values()):
        raise NothingToDo("there are too few nodes for this cut: it would leave every link as it is")
    return cuts
