"""Clients that stand beside their nodes: what cuts a node off, or is far from it, is so for its clients as well.

Otherwise the clients of a run are on a machine of their own, which a cut between nodes does not reach: redirected to a
primary on the other side they would be served, and the minority's side would look available when it is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from harness.environments.simulation.loop import CURRENT, Process

if TYPE_CHECKING:
    from harness.cluster import Cluster
    from harness.environments.base import Node
    from harness.operation import Operation
    from harness.target import Client, Target


BESIDE: Final = "Beside"
"""The name that such a target has in ``experiment.json``."""


def beside_their_nodes(target: type[Target]) -> type[Target]:
    """The target, for the simulation, with clients whose connections begin at their own node."""

    class Beside(target):  # type: ignore[valid-type, misc]
        def client(self, cluster: Cluster, node: Node, timeout: float) -> Client:
            return _Beside(super().client(cluster, node, timeout), node.name)

    return Beside


class _Beside:
    """A client that the simulated network takes for a process of its node, which no fault of processes hits."""

    def __init__(self, inner: Client, node: str) -> None:
        self._inner = inner
        self._process = Process(node, "client")

    @contextmanager
    def _there(self) -> Iterator[None]:
        token = CURRENT.set(self._process)
        try:
            yield
        finally:
            CURRENT.reset(token)

    async def open(self) -> None:
        with self._there():
            await self._inner.open()

    async def invoke(self, operation: Operation) -> Any:
        with self._there():
            return await self._inner.invoke(operation)

    async def close(self) -> None:
        with self._there():
            await self._inner.close()
