"""An asyncio event loop on virtual time: when nothing is ready, the clock jumps to the next timer.

Callbacks belong to the simulated process in whose context they were scheduled. A killed process never runs again, not
even its ``finally`` blocks; a paused one keeps what is due until it is resumed. Threads, signals and real input or
output do not exist here, so everything happens in an order that only the program and its seeds decide.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import inspect
import math
import warnings
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from harness.environments.simulation.watchdog import alone, watched
from harness.errors import SplitbrainError, StuckError

T = TypeVar("T")


_LAST_SECONDS: Final = 60
"""How much virtual time may go by until everything is cleaned up when something was raised."""

NOBODY: Final = contextvars.Context()
"""The context of what belongs to no process."""


class Process:
    """A simulated process: its tasks, and whether they may run now: ``running``, ``paused`` or ``dead``."""

    def __init__(self, node: str, name: str) -> None:
        self.node = node
        self.name = name
        self.state = "running"
        self.context = contextvars.Context()
        """Everything that runs in this context belongs to the process."""
        self.context.run(CURRENT.set, self)
        self.tasks: set[asyncio.Task[Any]] = set()
        """Kept alive here to the end: to collect a dead process's coroutine would run its ``finally`` blocks."""
        self.number = 0
        """What tells it from every other process that its node had."""
        self.since = 0
        """The virtual time at which it began, in nanoseconds."""
        self.ran = 0
        """How many callbacks have run in it: the CPU time of a simulated process."""
        self.due: list[Handle] = []
        """What was to run while the process was paused or dead."""
        self.exited: Callable[[str], None] = lambda said: None
        """Called when the process ends itself by ``SystemExit``, with what it says."""


CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("CURRENT", default=None)
"""The simulated process that runs now; None for the harness itself."""


class Handle:
    """A callback that waits for its turn, as ``asyncio.Handle`` and ``asyncio.TimerHandle``."""

    __slots__ = ("_cancelled", "_when", "arguments", "callback", "context", "process")

    def __init__(
        self, callback: Callable[..., object], arguments: tuple[Any, ...], context: contextvars.Context, when: float
    ) -> None:
        self.callback = callback
        self.arguments = arguments
        self.context = context
        self.process = context.get(CURRENT)
        self._when = when
        self._cancelled = False

    def cancel(self) -> None:
        """Never call back."""
        self._cancelled = True

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled

    def when(self) -> float:
        """The time that it waits for."""
        return self._when


class SimulatedLoop(asyncio.AbstractEventLoop):
    """The loop; ``network`` answers for connections."""

    def __init__(self) -> None:
        self._now = 0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[int, int, Handle]] = []
        self._scheduled = 0
        self._closed = False
        self._running: Handle | None = None
        self.network: Any = None

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now / 1e9

    def nanoseconds(self) -> int:
        """The same in whole nanoseconds."""
        return self._now

    def run_to_end(self, main: Coroutine[Any, Any, T]) -> T:
        """Run ``main``, then drop everything else that still waits: killed processes never end by themselves.

        When anything raises, ``main`` is cancelled and may still clean up before the error goes on. Simulations in
        several threads wait for each other.
        """
        with alone(), warnings.catch_warnings():
            # What a process was about to begin when it was killed never begins, as on a real machine.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            return self._run_to_end(main)

    def _run_to_end(self, main: Coroutine[Any, Any, T]) -> T:
        asyncio._set_running_loop(self)
        task = self.create_task(main)
        try:
            try:
                with watched(lambda: (self._now, self._running)):
                    self._run_until(task)
            except BaseException:
                task.cancel()
                # Whoever does not want to end is left behind.
                with watched(lambda: (self._now, self._running)), contextlib.suppress(StuckError):
                    self._run_until(task, until=self._now + _LAST_SECONDS * 10**9)
                raise
            result: T = task.result()
            return result
        finally:
            asyncio._set_running_loop(None)
            for left in asyncio.all_tasks(self):
                left._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutine = left.get_coro()
                if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                    coroutine.close()
            self._closed = True

    def _run_until(self, task: asyncio.Task[Any], until: float = math.inf) -> None:
        ready, timers, pop = self._ready, self._timers, heapq.heappop
        while not task.done() and self._now <= until:
            if ready:
                handle = ready.popleft()
            elif timers:
                due, _, handle = pop(timers)
                self._now = max(self._now, due)
            else:
                raise SplitbrainError("the simulation is stuck: nothing is ready and no timer is set")
            if handle._cancelled:
                continue
            self._running = handle
            if handle.process is None:
                handle.context.run(handle.callback, *handle.arguments)
            else:
                self._run(handle.process, handle)

    def _run(self, process: Process, handle: Handle) -> None:
        if process.state != "running":
            process.due.append(handle)
            return
        process.ran += 1
        try:
            handle.context.run(handle.callback, *handle.arguments)
        except SystemExit as end:
            process.exited(str(end))

    def run_as(self, process: Process | None, callback: Callable[..., object], *args: Any) -> None:
        """Call back at once as a process; when it is paused, after its resume; when it is dead, never."""
        if process is None:
            NOBODY.copy().run(callback, *args)
        else:
            self._run(process, Handle(callback, args, process.context, 0.0))

    def resume(self, process: Process) -> None:
        """Let a paused process run again, beginning with what became due meanwhile."""
        process.state = "running"
        self._ready.extend(process.due)
        process.due.clear()

    # What asyncio asks of a loop

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, contextvars.copy_context() if context is None else context, 0.0)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        return self.call_at(self._now / 1e9 + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, contextvars.copy_context() if context is None else context, when)
        self._scheduled += 1
        # Rounded up, so that ``time()`` has reached ``when`` in the callback.
        heapq.heappush(self._timers, (int(when * 1e9) + 1, self._scheduled, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **options)
        context = options.get("context")
        process = CURRENT.get() if context is None else context.get(CURRENT)
        if process is not None:
            process.tasks.add(task)
            task.add_done_callback(lambda task: _finish(process, task), context=NOBODY.copy())
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tasks that were dropped with their process have nothing to report."""

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return await self.network.connect(protocol_factory, host, port)

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return self.network.listen(protocol_factory, host, port)


def _finish(process: Process, task: asyncio.Task[Any]) -> None:
    """A server's task is over. An error in it is a defect of the server, and ends the simulation."""
    process.tasks.discard(task)
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, SystemExit):
        raise error
