"""Whether the store that answers is the one that the run has started, and no other.

A server that could not have its port ends, while the one that had the port before answers in its place: the run would
test a stranger's store, and write over what it holds. So nobody may listen on the target's ports before the start, and
afterwards nobody but the run's own servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.cluster import Cluster, over_within
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.errors import NodeError, SplitbrainError
from harness.faults import listeners
from harness.faults.listeners import Listener
from harness.target import KnowsItself, Target

_ANSWER_SECONDS = 0.5
_LOOK_SECONDS = 6.0
_AGAIN_SECONDS = 0.1
_LATE_SECONDS = 30.0
"""Seconds in which a server that a fault's end has started may still be opening its port."""


class StrangerError(NodeError):
    """Somebody else's store stands, or may have stood, in the place of the run's own."""


class UnservedError(StrangerError):
    """Nobody has a port that a server of the run should have."""


class Ownership:
    """Holds what listens on the nodes of a real environment against what the run has started there."""

    def __init__(self, cluster: Cluster, target: Target, note: Callable[[str, Any, str | None], None]) -> None:
        self._cluster = cluster
        self._target = target
        self._note = note
        """Records what an observer is to be called, what was seen, and what went wrong."""
        self._real = cluster.environment.real_time
        self._ports: Sequence[int] = target.ports if self._real else ()
        self._identity: str | None = None
        """What the store has said that it is."""

    async def refuse_occupied(self) -> None:
        """Raise ``StrangerError`` where something has one of the target's ports; before anything is started."""
        if self._ports:
            by_node = await asyncio.gather(*map(self._occupied, self._cluster.nodes))
            if taken := [port for of_node in by_node for port in of_node]:
                raise StrangerError(
                    f"{'; '.join(taken)}: a store that the run did not start might be tested and written over. Nothing "
                    f"was started; end what is there, or use other machines"
                )

    async def _occupied(self, node: Node) -> list[str]:
        seen = {listener["port"]: listener["by"] for listener in await self._listeners(node)}
        for port in self._ports:
            # What is passed on to somewhere else answers, although nothing listens here.
            if port not in seen and await _answers(node.address, port):
                seen[port] = "something that does not run there"
        return [f"port {port} of {node.name} ({node.address}) is used by {by}" for port, by in seen.items()]

    async def check_whole(self, seconds: float, given_up: Callable[[], bool] = lambda: False) -> None:
        """Check a store that serves as a whole; again for so many seconds while a server still opens its ports.

        Returns as well when it is ``given_up`` to wait for that.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            late = asyncio.get_running_loop().time() > deadline
            try:
                return await self.check(whole=True)
            except UnservedError:
                if given_up():
                    return None
                if late:
                    raise
            await asyncio.sleep(_AGAIN_SECONDS)

    async def check(self, *, whole: bool) -> None:
        """Raise ``StrangerError`` where another process than one of the run's servers has one of the target's ports.

        Where the store is ``whole``, every port must have its server, and all nodes must say that they are the store
        that they have been since they were whole first.
        """
        if self._ports:
            await self._check_ports(whole=whole)
        if self._real and isinstance(self._target, KnowsItself):
            self._compare(await self._target.identities(self._cluster), whole=whole)

    async def _check_ports(self, *, whole: bool) -> None:
        strangers, free = [], []
        by_node = await asyncio.gather(*map(self._listeners, self._cluster.nodes))
        for node, listeners_there in zip(self._cluster.nodes, by_node, strict=True):
            for listener in listeners_there:
                if not listener["ours"]:
                    strangers.append(f"port {listener['port']} of {node.name} is used by {listener['by']}")
            for port in sorted({*self._ports} - {listener["port"] for listener in listeners_there}):
                free.append(f"port {port} of {node.name} has no server of the run")
        if strangers:
            raise StrangerError(f"{'; '.join(strangers)}: what answers there is not the store that the run has started")
        if whole and free:
            if ended := await self._ended():
                raise NodeError(f"{_in_words(ended)} ended by itself")
            raise UnservedError(f"{'; '.join(free)}: what serves clients may not be what the run has started")

    def _compare(self, identities: Mapping[str, str], *, whole: bool) -> None:
        if whole and self._identity is None and identities:
            self._identity = next(iter(identities.values()))
        for name, identity in identities.items():
            if self._identity is not None and identity != self._identity:
                raise StrangerError(
                    f"{name} says that it is of the {self._target.name} {identity}, and not of {self._identity}, which "
                    "the run has started"
                )

    async def watch(self, over: asyncio.Event, stop: Callable[[str], None]) -> None:
        """Look until the run is over.

        Raises ``StrangerError`` when another store answers, after it has called ``stop``.
        """
        while self._real and not await over_within(over, _LOOK_SECONDS):
            try:
                await self.check(whole=False)
            except StrangerError as error:
                stop(str(error))
                raise
            except (SplitbrainError, TimeoutError) as error:
                self._note("listeners", None, str(error))

    async def conclude(self, *, whole: bool) -> None:
        """See that what was read in the end was read from the run's own store, and record what is not as it was.

        Raises ``StrangerError`` when another store answers.
        """
        try:
            ended = await self._ended() if whole else {}
            # A server that has ended by itself has left its port: that is no stranger's doing.
            if whole and not ended:
                await self.check_whole(_LATE_SECONDS)
            else:
                await self.check(whole=False)
        except StrangerError:
            raise
        except (SplitbrainError, TimeoutError) as error:
            self._note("recovered", None, str(error))
            return
        if ended:
            self._note("recovered", None, f"ended by itself: {_in_words(ended)}")

    async def _ended(self) -> dict[str, list[str]]:
        """The servers that have ended, by node; those of nodes that a fault keeps from running do not count."""
        if not self._real:
            return {}
        asked = [node.name for node in self._cluster.nodes if node.name not in self._cluster.kept_down]
        running = await self._cluster.on_each(asked, lambda node: node.running())
        ended = {name: [server for server, lives in servers.items() if not lives] for name, servers in running.items()}
        return {name: servers for name, servers in ended.items() if servers}

    async def _listeners(self, node: Node) -> list[Listener]:
        return await run_tool(node, ask(listeners.watch, ports=list(self._ports)))


def _in_words(servers: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{' and '.join(of_node)} of {name}" for name, of_node in servers.items())


async def _answers(address: str, port: int) -> bool:
    """Whether a TCP connection can be had."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(address, port)
            writer.close()
    except OSError:
        return False
    return True
