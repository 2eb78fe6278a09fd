"""What can go wrong in a run, and when. ``nemeses/`` holds the bundled faults; copy one to begin."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from harness.cluster import Cluster
from harness.generator import Chain, Generator, Sleep, Stream
from harness.operation import Operation
from harness.periods import START, STOP
from harness.target import Target

Plan = dict[str, Any]
"""What a fault is to do, as JSON: drawn from the seed alone, so the same on every environment."""


class Nemesis(Protocol):
    """One family of faults. ``needs`` names the capabilities that the environment must have.

    A nemesis may also say ``least``, the number of nodes without which it can do nothing.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]

    def plan(self, rng: random.Random, nodes: Sequence[str]) -> Plan:
        """Draw one fault. May not look at anything but the seed and the names of the nodes."""
        ...

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        """Do it, and return what was really done and seen. Raises ``FaultError`` if no effect can be seen."""
        ...

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        """Undo everything of this family, and return what was seen. Safe to call when nothing is injected."""
        ...


def schedule(nemeses: Mapping[str, Nemesis], nodes: Sequence[str], seed: int, interval: float) -> Generator:
    """One fault at a time, each drawn from the seed: a random nemesis, its plan, its length.

    It is quiet for about ``interval`` seconds, then there is a fault for about as long, and so on.
    """
    rng = random.Random(f"{seed}/nemesis")

    def faults() -> Iterator[Generator]:
        while True:
            name = rng.choice(sorted(nemeses))
            plan = nemeses[name].plan(rng, nodes)
            yield Sleep(interval * rng.uniform(0.5, 1.0))
            yield _once(Operation(START + name, value=plan))
            yield Sleep(interval * rng.uniform(0.7, 1.3))
            yield _once(Operation(STOP + name))

    return _chain(faults())


def _once(operation: Operation) -> Generator:
    remaining = iter([operation])
    return Stream(lambda: next(remaining, None))


def _chain(members: Iterator[Generator]) -> Generator:
    return Chain((next(members), _Lazily(members)))


class _Lazily:
    """The rest of an endless chain, drawn when the part before it is exhausted."""

    def __init__(self, members: Iterator[Generator]) -> None:
        self._members = members
        self._chain: Generator | None = None

    def next(self, context: Any) -> Any:
        if self._chain is None:
            self._chain = _chain(self._members)
        return self._chain.next(context)

    def update(self, event: Any) -> Generator:
        return self
