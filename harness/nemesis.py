"""What can go wrong in a run, and when. ``nemeses/`` holds the bundled faults; copy one to begin."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from harness.cluster import Cluster
from harness.operation import Operation
from harness.periods import START, STOP
from harness.target import Target

Plan = dict[str, Any]
"""What a fault is to do, as JSON: drawn from the seed alone, so the same on every environment."""


class Nemesis(Protocol):
    """One family of faults. ``needs`` names the capabilities that the environment must have.

    A nemesis may also say ``least``, the number of nodes without which it can do nothing, and ``needs_of_target``, the
    abilities that the target must have. It may have ``prepare(cluster)``, called before the store is started, and
    ``observe(cluster)``: what it returns is recorded every few seconds.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]

    def plan(self, rng: random.Random, nodes: Sequence[str]) -> Plan:
        """Draw one fault. May not look at anything but the seed and the names of the nodes."""
        ...

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        """Do it, and return what was really done and seen: ``said`` describes it in a few words.

        Raises ``FaultError`` if no effect can be seen, and ``NothingToDo`` where there is nobody to do it to.
        """
        ...

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        """Undo everything of this family, and return what was seen. Safe to call when nothing is injected."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A nemesis that has to do something to the nodes before the store is started on them."""

    async def prepare(self, cluster: Cluster) -> None: ...


@runtime_checkable
class Observes(Protocol):
    """A nemesis that measures what it is about during the run."""

    async def observe(self, cluster: Cluster) -> Any: ...


def schedule(
    nemeses: Mapping[str, Nemesis], nodes: Sequence[str], seed: int, interval: float, *, overlapping: bool = False
) -> Iterator[tuple[float, Operation]]:
    """When each fault starts and stops, in seconds since the beginning; endless, and drawn from the seed alone.

    One fault at a time: it is quiet for about ``interval`` seconds, then a random nemesis is active for about as long,
    and so on. ``overlapping``: every nemesis does so by itself, with quiet periods so long that on average two are
    active at once.
    """
    if overlapping:
        each = [_timetable([name], nemeses, nodes, f"{seed}/{name}", interval, len(nemeses) / 2) for name in nemeses]
        return heapq.merge(*each, key=lambda one: one[0])
    return _timetable(sorted(nemeses), nemeses, nodes, f"{seed}/nemesis", interval, 0.75)


def _timetable(
    names: Sequence[str],
    nemeses: Mapping[str, Nemesis],
    nodes: Sequence[str],
    seed: str,
    interval: float,
    quiet: float,
) -> Iterator[tuple[float, Operation]]:
    rng = random.Random(seed)
    now, quiet_period = 0.0, interval * quiet
    while True:
        name = rng.choice(names)
        plan = nemeses[name].plan(rng, nodes)
        # A long quiet period, of a nemesis that overlaps with others, has begun at some time before the run.
        long = now == 0.0 and quiet > 1
        now += quiet_period * (rng.random() if long else rng.uniform(0.67, 1.33))
        yield now, Operation(START + name, value=plan)
        now += interval * rng.uniform(0.7, 1.3)
        yield now, Operation(STOP + name)
