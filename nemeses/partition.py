"""Network partitions: packets over some links are dropped (or refused), in both directions or in one.

After a cut each node tries to open a TCP connection to every other: those that are cut off must not answer and all
others must, else the fault counts as not injected. The same is measured after a heal.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from harness.cluster import Cluster
from harness.environments.base import Node, run_tool
from harness.errors import FaultError, NothingToDo, UsageError
from harness.nemesis import PRIMARY, Decks, Layer, Plan, Proof, Zones
from harness.options import Number, Order, Seconds
from harness.target import Target
from nemeses.victims import minority, primary, shuffled

PRIMARY_MINORITY = "primary-minority"
KINDS = (
    *(PRIMARY, PRIMARY_MINORITY, "one", "halves", "third", "zone", "majority"),
    *("ring", "bridge", "one-way", "links", "clients"),
)
Kind = Literal[
    "primary", "primary-minority", "one", "halves", "third", "zone", "majority", "ring", "bridge", "one-way", "links",
    "clients",
]  # fmt: skip
_PATIENCE = {"cut": 0.3, "open": 3.0}
"""Seconds that a node waits for an answer across a cut, and where there is none."""

Cuts = dict[str, dict[str, str]]
"""For each node the others that it is cut from, and in which direction: ``in``, ``out`` or ``both``."""


class Partition:
    """Cut the network: two groups, a ring of majorities, a bridge, one way, single links, or clients from nodes."""

    class Options(msgspec.Struct, frozen=True):
        """Which links, and how they are cut."""

        partition: Annotated[Literal["any", Kind], "which links are cut"] = "any"
        cut: Annotated[Literal["drop", "reject"], "whether packets vanish or are refused"] = "drop"
        flap: Annotated[float, Seconds(0.02, 10, zero="never"), "how often the cut comes and goes"] = 0.0

    class Fields(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
        """What a plan holds."""

        kind: Kind
        order: Annotated[list[str], Order()]
        how: Literal["drop", "reject"]
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
    needs: ClassVar[frozenset[str]] = frozenset({"partition"})
    layer: ClassVar[Layer] = Layer.NETWORK
    least: ClassVar[int] = 2

    def __init__(self, options: Options) -> None:
        if options.flap and options.partition == "clients":
            raise UsageError("-o flap is for cuts between nodes: clients are cut off at once and for good")
        self._options = options

    def misfit(self, zones: Zones) -> str | None:
        kind = self._options.partition
        if kind in ("any", "links", "clients"):
            return None
        try:
            links_of({"kind": kind}, list(zones), zones)
        except NothingToDo as error:
            return f"-o partition is {kind}, but {error}"
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
        order: list[str] = plan["order"]
        if plan["kind"] == "clients":
            return await self._cut_clients(cluster, order[: plan["senders"]], plan["how"])
        if plan["kind"] in (PRIMARY, PRIMARY_MINORITY):
            lone = await primary(cluster, target) or order[0]
            order = [lone, *(name for name in order if name != lone)]
        said, cuts = links_of(plan, order, cluster.zones)
        flap = plan.get("flap", 0.0)

        async def cut(node: Node) -> Any:
            peers = [{"address": cluster.node(o).address, "direction": d} for o, d in cuts[node.name].items()]
            return await run_tool(node, "network", {"do": "cut", "peers": peers, "how": plan["how"], "flap": flap})

        await cluster.on_each([name for name in order if cuts[name]], cut)
        comes_and_goes = f", every {flap:g} s" if flap else ""
        return {"said": f"{plan['kind']}: {said}{comes_and_goes}", "how": plan["how"], "cut": cuts, "flap": flap}

    async def _cut_clients(self, cluster: Cluster, victims: Sequence[str], how: str) -> Plan:
        """Cut nodes from the machine that drives the clients."""

        async def cut(node: Node) -> Any:
            return await run_tool(node, "network", {"do": "cut", "peers": [cluster.environment.driver], "how": how})

        await cluster.on_each(victims, cut)
        said = " ".join(sorted(victims))
        return {"said": f"clients: clients | {said}", "how": how, "cut": dict.fromkeys(sorted(victims), "clients")}

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        cut = done["cut"]
        if "clients" in cut.values():
            await verify_links(cluster, {})
            reached = [name for name in cut if await cluster.environment.reaches(cluster.node(name))]
            return Proof("connections tried by the clients' machine", sorted(cut), reached, not reached)
        if done["flap"]:
            await verify_flapping(cluster, cut, done["flap"])
        else:
            await verify_links(cluster, cut)
        return Proof("connections tried by every node", None, cut, True)

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        names = [node.name for node in cluster.nodes]
        lost = await cluster.on_each(names, lambda node: run_tool(node, "network", {"do": "heal"}))
        await verify_links(cluster, {})
        return {"packets_dropped": {name: sum(counts.values()) for name, counts in lost.items()}}


def links_of(plan: Plan, order: Sequence[str], zones: Mapping[str, str]) -> tuple[str, Cuts]:
    """The links that a plan cuts, in words and for each node. Raises ``NothingToDo`` if there are none."""
    kind, count = plan["kind"], len(order)
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
        for here, there, direction in ((source, sink, "out"), (sink, source, "in")):
            other = cuts[here].get(there, direction)
            cuts[here][there] = direction if other == direction else "both"
    return cuts


def _some(cuts: Cuts) -> Cuts:
    if not any(cuts.values()):
        raise NothingToDo("there are too few nodes for this cut: it would leave every link as it is")
    return cuts


async def verify_links(cluster: Cluster, cuts: Cuts) -> None:
    """Measure from inside each node which others it reaches. Raises ``FaultError`` unless exactly these are cut.

    A connection needs both directions, so one that is cut in one direction cannot be opened from either side.
    """
    by_name = {node.name: node for node in cluster.nodes}

    async def verify(node: Node) -> None:
        gone = list(cuts.get(node.name, {}))
        there = [name for name in by_name if name != node.name and name not in gone]
        if still := await reached(cluster, node, gone, "cut"):
            raise FaultError(f"{node.name} was cut from {', '.join(still)} but still reaches them")
        if lost := sorted(set(there) - set(await reached(cluster, node, there, "open"))):
            raise FaultError(f"{node.name} cannot reach {', '.join(lost)}, though nothing is cut between them")

    await cluster.on_each(list(by_name), verify)


async def verify_flapping(cluster: Cluster, cuts: Cuts, period: float) -> None:
    """Measure from inside a node that it loses another one and gets it back. Raises ``FaultError`` if it does not."""
    name, others = next((name, list(others)) for name, others in cuts.items() if others)
    seen = set()
    for _ in range(40):
        seen.add(bool(await reached(cluster, cluster.node(name), others[:1], "cut")))
        if seen == {True, False}:
            return
    raise FaultError(f"{name} was to lose and regain {others[0]} every {period:g} s, but did not")


async def reached(cluster: Cluster, node: Node, others: Sequence[str], kind: str) -> list[str]:
    """Those of the other nodes that answer a node."""
    if not others:
        return []
    peers = {cluster.node(other).address: other for other in others}
    request = {"do": "reach", "peers": list(peers), "patience": _PATIENCE[kind]}
    answer = await run_tool(node, "network", request)
    return [peers[address] for address, answered in answer.items() if answered]
