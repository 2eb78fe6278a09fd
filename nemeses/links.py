"""The links between machines as these see them: measured by datagrams that nothing but the network touches.

The clients' machine is one of them. Used to prove what the nemeses of the network do, and that it is over.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Collection, Mapping, Sequence

import msgspec

from harness.cluster import Cluster
from harness.environments.base import run_tool
from harness.environments.tools import ask
from harness.errors import FaultError
from harness.faults import addresses, probe
from harness.faults.network import Direction, Machine, Peer

CLIENTS = "clients"
"""The machine that drives the clients, among the names of nodes."""
Link = tuple[str, str]
"""From whom to whom."""
LEAST_SIZE = 48
_MOST_SIZE = 60_000
_MOST_EACH_SECOND = 1000
"""Datagrams that are sent in a second over all links: the machine has other things to do."""
_CLOSEST = 0.005
_LINGER = 0.1
_CLEAR_SECONDS = 2.0
_LEAST_TOGETHER = 0.1
"""Seconds for which all machines must have watched at the same time."""
_PORTS = range(20_000, 28_000)
"""Where a watch may listen: below what systems give to whoever asks for any port."""
_first_port = random.SystemRandom().randrange(len(_PORTS))
"""Drawn, since other runs may measure on the same machines."""
_sessions = itertools.count()


class Addresses:
    """By what addresses each machine can be reached: asked once in a run."""

    def __init__(self) -> None:
        self._further: dict[str, list[str]] = {}

    async def learn(self, cluster: Cluster) -> None:
        """Ask every machine for the addresses besides the one that is known."""
        if not self._further:
            names, further = [node.name for node in cluster.nodes], ask(addresses.further)
            self._further = await cluster.on_each(names, lambda node: run_tool(node, further))
            self._further[CLIENTS] = await cluster.environment.measure(further)

    def peer(self, cluster: Cluster, name: str, direction: Direction) -> Peer:
        """A machine as the tools know it, and which of the links with it is meant."""
        return {**self._of(cluster, name), "direction": direction}

    def _of(self, cluster: Cluster, name: str) -> Machine:
        driver = cluster.environment.driver
        if name != CLIENTS:
            return {"addresses": [cluster.node(name).address, *self._further[name]]}
        machine: Machine = {"addresses": [driver["address"], *self._further[name]]}
        return {**machine, "spare": driver["spare"]} if "spare" in driver else machine


class Seen(msgspec.Struct, frozen=True):
    """What was seen of one link: datagrams that were ``sent`` and ``heard``; of those in between that were ``missed``,
    came ``doubled``, or were ``overtaken`` by later ones; the longest ``silence`` in seconds; bytes heard in a second
    (``rate``); ``round_trips`` in seconds: the shortest, and those that a tenth and nine tenths are shorter than.
    """

    sent: int
    heard: int
    missed: int
    doubled: int
    overtaken: int
    silence: float
    rate: float | None
    round_trips: Sequence[float] | None


class Watched(msgspec.Struct, frozen=True):
    """All links together, and at each machine how many datagrams came with a wrong checksum."""

    links: Mapping[Link, Seen]
    damaged: Mapping[str, int | None]

    @property
    def open(self) -> set[Link]:
        """The links over which something came."""
        return {link for link, seen in self.links.items() if seen.heard}


async def watch(
    cluster: Cluster,
    links: Collection[Link],
    seconds: float,
    *,
    linger: float = _LINGER,
    rate: float = 0.0,
    enough: int = 0,
) -> Watched:
    """Send over some links for so many seconds, and see what comes, and comes back; listen ``linger`` longer.

    ``rate``: send so many bytes a second over each. ``enough``: end once so many datagrams came over each, and as many
    came back. Raises ``FaultError`` if the machines could not be made to watch at the same time.
    """
    if not links:
        return Watched({}, {})
    every = max(_CLOSEST, len(links) / _MOST_EACH_SECOND)
    burst = max(1, -int(-rate * every // _MOST_SIZE))
    places = {node.name: node.address for node in cluster.nodes} | {CLIENTS: cluster.environment.driver["address"]}
    number = next(_sessions)
    session, port = f"{os.getpid()}.{number}", _PORTS[(_first_port + number) % len(_PORTS)]
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def at(me: str) -> tuple[probe.Watched, float]:
        peers = {to: places[to] for start, to in sorted(links) if start == me}
        senders = [start for start, to in sorted(links) if to == me]
        size = max(LEAST_SIZE, int(rate * every / burst))
        asked: probe.Asked = {
            "me": me, "peers": peers, "session": session, "port": port, "every": every, "seconds": seconds,
            "linger": linger, "size": size, "burst": burst, "enough": enough, "senders": senders,
        }  # fmt: skip
        if me == CLIENTS:
            here = ask(probe.watch, {**asked, "address": places[CLIENTS]})
            answer = await cluster.environment.measure(here)
        else:
            answer = await run_tool(cluster.node(me), ask(probe.watch, asked))
        return answer, loop.time() - began - answer["lasted"]

    names = sorted({name for link in links for name in link})
    answers = dict(zip(names, await asyncio.gather(*map(at, names)), strict=True))
    late = max(late for _, late in answers.values())
    # Who is stopped meanwhile hears nothing either, though nothing is cut.
    stalled = max(answer["stalled"] for answer, _ in answers.values())
    if seconds - late - stalled < _LEAST_TOGETHER:
        raise FaultError(f"the network could not be measured: a machine was {late + stalled:.1f} s late")
    seen = {}
    for start, to in sorted(links):
        sent, heard = answers[start][0]["peers"].get(to), answers[to][0]["peers"].get(start)
        seen[start, to] = _seen(sent, heard, every / burst, late)
    return Watched(seen, {name: answer["damaged"] for name, (answer, _) in answers.items()})


async def watch_until(cluster: Cluster, links: Collection[Link], enough: int, *, rate: float = 0.0) -> Watched:
    """Send until so many datagrams came over each link, and as many came back; or until it is clear that they do not.

    Raises ``FaultError`` if the machines cannot be made to watch at the same time.
    """
    try:
        return await watch(cluster, links, _CLEAR_SECONDS, enough=enough, rate=rate)
    except FaultError:  # this machine, or another one, is very busy
        return await watch(cluster, links, 5 * _CLEAR_SECONDS, enough=enough, rate=rate)


def time_for(seconds: float, linger: float = _LINGER) -> float:
    """For how long to send, of so many seconds in which everything must be over.

    Half of them: so a machine may begin as late as possible that still watches together with the others, and in time.
    """
    return (seconds - linger) / 2


def _seen(sent: probe.Summary | None, heard: probe.Summary | None, every: float, late: float) -> Seen:
    """One link, of what its two ends have counted."""
    count = sent["sent"] if sent else 0
    round_trips = sent["round_trips"] if sent else None
    if heard is None or not heard["heard"]:
        return Seen(count, 0, 0, 0, 0, count * every, None, round_trips)
    # Those before the first may have been sent before the other end listened.
    silence = max(heard["hole"] * every, (heard["first"] or 0) * every - late)
    return Seen(
        sent=count,
        heard=heard["heard"],
        missed=heard["missed"],
        doubled=heard["doubled"],
        overtaken=heard["overtaken"],
        silence=round(silence, 4),
        rate=heard["rate"],
        round_trips=round_trips,
    )
