"""Choosing which nodes a fault hits: drawn from the seed, except for a role that only the moment knows."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec

from harness.cluster import Cluster, leader, wait_until
from harness.environments.base import run_tool
from harness.environments.tools import Request, ask
from harness.errors import NodeError, NothingToDo
from harness.faults import process
from harness.faults.process import Seen, Server
from harness.nemesis import LASTS, PRIMARY, Plan, Zones
from harness.options import Nodes, Order
from harness.target import Target

ANY = "any"
AIMS = {PRIMARY: 4, "one": 4, "minority": 4, "zone": 3, "replicas": 1, "majority": 1, "all": 1}
"""What ``any`` deals, and how early: so many nodes, whoever is primary now or is not, all nodes of one zone.

Few faults hit a majority: while most operations are refused, little is tested.
"""
SUCCESSOR = "successor"
"""The primary, and whoever is elected in its place at the moment that it is."""
_NEEDS = (("replicas", 2), (SUCCESSOR, 2), ("minority", 3))
"""Aims that would be nobody, or everybody, on fewer nodes."""
_ELECTION_SECONDS = 10.0
_WATCH_SECONDS = 0.02
_PROOF_SECONDS = 1.5
_LEAST_GRACE = 1.0
_LIVE_SECONDS = 0.5
"""A server that was started is given so long to show whether it lives."""

Table = Mapping[str, Sequence[Seen]]
"""The server processes of some nodes."""
Signal = Request[Sequence[Server]]
"""What the tool ``process`` may be asked."""


class Struck(NamedTuple):
    """Whom a fault of processes hit."""

    commands: dict[str, list[str]]
    """The commands of the servers that were hit on each node."""
    before: Table
    """The process tables of these nodes beforehand."""


Aim = Annotated[str, Nodes((ANY, *AIMS, SUCCESSOR), needs=_NEEDS), "whom to aim at"]
"""An option that says whom a fault hits."""


class Aimed(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a plan holds that says whom to hit: what to aim at, and the nodes to take the victims from."""

    aim: Annotated[str, Nodes((*AIMS, SUCCESSOR), needs=_NEEDS)]
    order: Annotated[list[str], Order()]


def refuse_other_fields(plan: Aimed, kind: str, wanted: Collection[str]) -> None:
    """Raise ``ValueError`` unless a plan of this kind holds what it wants beside its kind and its aim, and no more."""
    fields = set(plan.__struct_fields__) - {"aim", "order", "kind"}
    if set(wanted) != {name for name in fields if getattr(plan, name) is not None}:
        raise ValueError(f"the kind {kind} needs {', '.join(sorted(wanted)) or 'nothing more'}, and nothing else")


def aims(zones: Zones, aim: str, choices: Sequence[str] = tuple(AIMS)) -> dict[str, float]:
    """The deck of aims: the one that an option fixes; for ``any`` those of ``choices`` that differ on these nodes."""
    if aim != ANY:
        return {aim: 1}
    return _distinct(zones, {name: AIMS[name] for name in choices})


def _distinct(zones: Zones, weights: Mapping[str, float]) -> dict[str, float]:
    """Without the aims that hit no other numbers of nodes than those before them."""
    count = len(zones)
    hits = {
        "one": {1},
        "minority": {minority(count)},
        "zone": set(Counter(zones.values()).values()),
        "majority": {count // 2 + 1},
        "all": {count},
    }
    seen: set[int] = {1} if count == 1 else set()
    kept: dict[str, float] = {}
    for name, weight in weights.items():
        if name not in hits and (count > 1 or not kept):  # those that only the moment knows
            kept[name] = weight
        elif not hits.get(name, seen) <= seen:
            seen |= hits[name]
            kept[name] = weight
    return kept


def minority(count: int) -> int:
    """The most nodes without which the others are still a majority; at least one."""
    return max(1, (count - 1) // 2)


def shuffled(rng: random.Random, zones: Zones) -> list[str]:
    """An order of the nodes to take victims from."""
    order = list(zones)
    rng.shuffle(order)
    return order


async def resolve(cluster: Cluster, target: Target, plan: Plan) -> list[str]:
    """The nodes that a plan hits now. Where no node believes to be primary, the first of the order stands in.

    Raises ``NothingToDo`` if these are no nodes at all.
    """
    order: list[str] = plan["order"]
    aim: str = plan["aim"]
    count = {
        "one": 1,
        "minority": minority(len(order)),
        "majority": len(order) // 2 + 1,
        "all": len(order),
    }
    if aim in count:
        victims = order[: count[aim]]
    elif aim in (PRIMARY, "replicas", SUCCESSOR):
        first = await primary(cluster, target) or order[0]
        victims = [name for name in order if name != first] if aim == "replicas" else [first]
    elif aim == "zone":
        victims = [name for name in order if cluster.zones.get(name) == cluster.zones.get(order[0])]
    else:
        victims = [name for name in order if name in aim.split("+")]
    if not victims:
        raise NothingToDo(f"no node is {aim}")
    return victims


async def primary(cluster: Cluster, target: Target) -> str | None:
    """The node that believes to be primary now."""
    return leader(await target.roles(cluster))


async def succession(cluster: Cluster, target: Target, fallen: Sequence[str]) -> list[str]:
    """Wait until a node other than the fallen ones believes to be primary: that one, or none without an election."""
    successors: list[str] = []

    async def elected() -> bool:
        claimants = [role.node for role in await target.roles(cluster) if role.role == "primary"]
        successors.extend([name for name in claimants if name not in fallen][:1])
        return bool(successors)

    with contextlib.suppress(NodeError):
        await wait_until(elected, seconds=_ELECTION_SECONDS, what="an election", every=_WATCH_SECONDS)
    return successors


async def strike(cluster: Cluster, target: Target, plan: Plan, signal: Signal, hit: set[str]) -> Struck:
    """Kill, terminate or pause the servers of a plan's victims, as the ``signal`` says.

    Nodes whose servers are down already are left out: another fault's end may be starting them just now. The others
    stand in ``hit`` from the moment on at which they are struck, even if this breaks off. Raises ``NothingToDo`` when
    there are none.
    """
    victims = await resolve(cluster, target, plan)
    before, by_node = await _strike(cluster, victims, signal, hit)
    if plan["aim"] == SUCCESSOR:
        successor = await succession(cluster, target, victims)
        victims += successor
        more, struck = await _strike(cluster, successor, signal, hit)
        before |= more
        by_node |= struck
    commands = {name: struck for name, struck in by_node.items() if struck}
    hit.clear()
    hit.update(commands)
    if not commands:
        raise NothingToDo(f"there is no server process on {', '.join(sorted(victims))}")
    return Struck(commands, {name: before[name] for name in commands})


async def _strike(
    cluster: Cluster, names: Sequence[str], signal: Signal, hit: set[str]
) -> tuple[dict[str, list[Seen]], dict[str, list[str]]]:
    """The processes of some nodes before they were struck, and the commands of those that were.

    On nodes of one machine servers are killed within moments of one another.
    """
    before = await processes(cluster, names)
    hit.update(name for name in names if before[name])
    if signal.do is process.kill and len(names) > 1 and cluster.environment.one_machine:
        signal = ask(process.kill, at=time.monotonic() + process.TOGETHER_SECONDS)
    return before, await tell(cluster, names, signal)


async def revive(cluster: Cluster, target: Target, names: Sequence[str]) -> dict[str, list[str]]:
    """Start the servers of some nodes, where they do not run and no fault keeps them so.

    Lists for each node the servers that were started and are still there a short while later.
    """
    kept = cluster.kept_down
    free = [name for name in names if name not in kept]
    before = await processes(cluster, free)
    await cluster.on_each(free, lambda node: target.start(cluster, node))
    after = await processes(cluster, free)
    if any(_new(before[name], after[name]) for name in free):
        await asyncio.sleep(_LIVE_SECONDS)
        after = await processes(cluster, free)
    return {
        name: sorted(server["command"] for server in _new(before[name], after[name])) if name in after else []
        for name in names
    }


def _new(before: Sequence[Seen], after: Sequence[Seen]) -> list[Seen]:
    """The processes that were not there before."""
    known = set(map(identity, before))
    return [server for server in after if identity(server) not in known]


async def processes(cluster: Cluster, names: Sequence[str]) -> dict[str, list[Seen]]:
    """The process tables of some nodes, as far as servers are concerned."""
    return await cluster.on_each(names, lambda node: run_tool(node, ask(process.look)))


def identity(server: Server) -> str:
    """A process in a few words which no other one has: its command, its number, and when it began."""
    return f"{server['command']} {server['pid']} since {server['since']}"


def table_in_words(table: Table) -> dict[str, list[str]]:
    """A process table in words, by node."""
    return {name: sorted(map(identity, servers)) for name, servers in sorted(table.items())}


def terminating(plan: Plan) -> Signal:
    """What asks servers to end, and kills those that do not before the fault is over, with time for a proof."""
    if LASTS not in plan:
        return ask(process.terminate)
    return ask(process.terminate, grace=max(plan[LASTS] - _PROOF_SECONDS, _LEAST_GRACE))


async def tell(cluster: Cluster, names: Sequence[str], signal: Signal) -> dict[str, list[str]]:
    """Kill, terminate, pause, resume or list the servers of some nodes; the commands of each.

    Those are listed that it was done to.
    """
    by_node = await cluster.on_each(names, lambda node: run_tool(node, signal))
    return {name: sorted(map(_struck, by_node[name])) for name in sorted(by_node)}


def _struck(server: Server) -> str:
    return f"{server['command']} by SIGKILL" if server.get("forced") else server["command"]
