"""An asyncio event loop on virtual time: when nothing is ready, the clock jumps to the next timer.

Callbacks belong to the simulated process in whose context they were scheduled. A killed process never runs again, not
even its ``finally`` blocks; a paused one keeps what is due until it is resumed.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from harness.errors import SplitbrainError

T = TypeVar("T")


class Process:
    """A simulated process: what runs in its context, and whether it may run now."""

    def __init__(self, node: str, name: str) -> None:
        self.node = node
        self.name = name
        self.state = "running"
        self._backlog: list[Callable[[], object]] = []
        self.keep: list[Any] = []
        """Whatever must not be collected before the end: collecting a coroutine would run its ``finally`` blocks."""

    def run(self, callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Call back now, at the resume, or never."""
        if self.state == "running":
            callback(*arguments)
        elif self.state == "paused":
            self._backlog.append(lambda: callback(*arguments))
        else:
            self.keep.append((callback, arguments))

    def resume(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run again, beginning with what became due meanwhile."""
        self.state = "running"
        backlog, self._backlog = self._backlog, []
        for callback in backlog:
            loop.call_soon(callback, context=self.context())

    def context(self) -> contextvars.Context:
        """A context in which everything belongs to this process."""
        context = contextvars.Context()
        context.run(CURRENT.set, self)
        return context


CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("CURRENT", default=None)
"""The simulated process that runs now; None for the harness itself."""


class _NoWaiting(selectors.BaseSelector):
    """Never waits for anything: time that would be spent waiting passes on the virtual clock instead."""

    def __init__(self) -> None:
        self.loop: SimulatedLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert self.loop is not None
        if timeout is None:
            raise SplitbrainError("the simulation is stuck: nothing is ready and no timer is set")
        self.loop.advance(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def get_map(self) -> dict[Any, selectors.SelectorKey]:
        return {}

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        raise KeyError(fileobj)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """The loop; ``network`` answers for connections. Threads and real input or output do not exist on it."""

    def __init__(self) -> None:
        self._nanoseconds = 0
        selector = _NoWaiting()
        super().__init__(selector)
        selector.loop = self
        self.network: Any = None

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._nanoseconds / 1e9

    def nanoseconds(self) -> int:
        """The same in whole nanoseconds."""
        return self._nanoseconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if seconds > 0:
            # Rounded up, so that the timer that is waited for is due afterwards.
            self._nanoseconds += int(seconds * 1e9) + 1

    def run_to_end(self, main: Coroutine[Any, Any, T]) -> T:
        """Run ``main``, then drop everything else that still waits: killed processes never end by themselves."""
        try:
            return self.run_until_complete(main)
        finally:
            for task in asyncio.all_tasks(self):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            self.close()

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        context = contextvars.copy_context() if context is None else context
        process = context.get(CURRENT)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(process.run, callback, args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        process = context.get(CURRENT)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        return super().call_at(when, process.run, callback, args, context=context)

    async def create_connection(self, factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:  # type: ignore[override]
        return await self.network.connect(factory, host, port)

    async def create_server(self, factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:  # type: ignore[override]
        return self.network.listen(factory, host, port)
