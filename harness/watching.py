"""Asks every node, five times a second, what and how far it is: who is slow or silent keeps nobody from being asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec
from msgspec.structs import replace as changed

from harness.cluster import Cluster, Role, over_within
from harness.environments.base import Node
from harness.operation import MONITOR, PROGRESS, ROLE, Event
from harness.plugins import whose
from harness.replication import Progress
from harness.roles import Answer
from harness.target import Target

_EVERY_SECONDS: Final = 0.2
_PROGRESS_NANOSECONDS: Final = 450_000_000
"""How long a node's position is not recorded again."""
_LONGEST_PAUSE: Final = 1_000_000_000
"""Nanoseconds without an answer after which nobody knows what a node was meanwhile."""
_PATIENCE_SECONDS: Final = 10.0


async def watch_roles(
    cluster: Cluster,
    target: Target,
    over: asyncio.Event,
    clock: Callable[[], int],
    record: Callable[[Event], Any],
) -> None:
    """Record what the nodes say until the run is ``over``; ``harness.roles`` and ``harness.replication`` read it."""
    await asyncio.gather(*(_Watch(cluster, node, target, clock, record).until(over) for node in cluster.nodes))


class _Watch:
    """Asks one node, and records its answers where they change."""

    def __init__(
        self, cluster: Cluster, node: Node, target: Target, clock: Callable[[], int], record: Callable[[Event], Any]
    ) -> None:
        self._cluster = replace(cluster, nodes=[node])
        self._node = node
        self._target = target
        self._clock = clock
        self._record = record
        self._first: Answer | None = None
        self._last: Answer | None = None
        self._failure: str | None = None
        self._recorded: int | None = None
        """When the node's position was."""

    async def until(self, over: asyncio.Event) -> None:
        """Ask again and again. A target whose ``roles`` breaks is not asked again."""
        while not over.is_set():
            began = self._clock()
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS) as patience:
                    roles = await self._target.roles(self._cluster)
                mine = next((role for role in roles if role.node == self._node.name), None)
                progress = None if mine is None else _progress(mine, began, self._clock())
            except TimeoutError as error:
                late = f"{whose(self._target, 'roles')} does not come back"
                self._fail(late if patience.expired() else f"{type(error).__name__}: {error}")
            except Exception as error:
                self._fail(f"{type(error).__name__}: {error}")
                break
            else:
                self._failure = None
                if progress is not None:
                    self._locate(progress)
                self._take(
                    Answer(None, began, self._clock())
                    if mine is None
                    else Answer(mine.role, began, self._clock(), mine.term)
                )
            pause = _EVERY_SECONDS - (self._clock() - began) / 1e9
            await over_within(over, max(pause, 0.001))
        self._conclude()

    def _locate(self, progress: Progress) -> None:
        if self._recorded is None or progress.asked - self._recorded >= _PROGRESS_NANOSECONDS:
            self._recorded = progress.asked
            self._record(Event(0, self._clock(), MONITOR, "info", PROGRESS, value=progress, node=self._node.name))

    def _take(self, answer: Answer) -> None:
        last = self._last
        same = last is not None and (last.role, last.term) == (answer.role, answer.term)
        if same and last is not None and answer.answered - last.answered <= _LONGEST_PAUSE:
            self._last = answer
            return
        self._conclude()
        self._first = self._last = answer
        self._note(answer)

    def _conclude(self) -> None:
        """Record for how long the last answer was given."""
        first, last = self._first, self._last
        if first is not None and last is not None and first is not last:
            self._note(changed(last, since=first.answered))
        self._first = self._last = None

    def _fail(self, why: str) -> None:
        self._conclude()
        if why != self._failure:
            self._failure = why
            self._record(Event(0, self._clock(), MONITOR, "info", ROLE, node=self._node.name, error=why))

    def _note(self, answer: Answer) -> None:
        error = "it does not answer" if answer.role is None else None
        event = Event(0, self._clock(), MONITOR, "info", ROLE, value=answer, node=self._node.name, error=error)
        self._record(event)


def _progress(role: Role, asked: int, answered: int) -> Progress | None:
    """How far a node is, if it tells. Raises ``msgspec.ValidationError`` where that is no whole number."""
    if role.position is None:
        return None
    told = {"position": role.position, "role": role.role, "asked": asked, "answered": answered, "term": role.term}
    return msgspec.convert(told, Progress)
