"""Runs a generator: asks it what is next, hands the operation to the worker, records invocation and completion."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.columns import LARGEST
from harness.errors import NothingToDo, SplitbrainError
from harness.generator import Context, Generator, Pending, Process
from harness.operation import NEMESIS, Event, EventType, Failed, Indeterminate, Operation, Served, ServedBy
from harness.plugins import whose
from harness.recording import Recorder
from harness.target import Client
from harness.words import show
from harness.workload import Answers

_REST_AFTER_REFUSAL: Final = 0.1
"""Seconds that a worker waits after it could not connect, so that a dead node is not hammered."""

_GRACE: Final = 5.0
"""Seconds beyond its time-outs that a client may take to let itself be cancelled."""


@dataclass
class Worker:
    """One logical thread of clients, bound to a node. ``process`` changes when an outcome stays unknown."""

    process: int
    node: str
    client: Client
    connected: bool = False
    doing: str = "open"
    """Which of its client's functions is called now, or was last."""
    given_up: bool = False
    """Its client did not come back from an operation, whose outcome was recorded in its place."""


class Interpreter:
    """Drives workers and the nemesis with generators, one after the other, recording every event."""

    def __init__(
        self,
        recorder: Recorder,
        clock: Callable[[], int],
        workers: Sequence[Worker],
        *,
        reads: frozenset[str],
        timeout: float,
        nemesis: Callable[[Operation], Awaitable[Any]],
        stuck: Callable[[str], None] = lambda _: None,
        answers: Answers | None = None,
    ) -> None:
        self._recorder = recorder
        self._clock = clock
        self._workers: dict[Process, Worker] = {worker.process: worker for worker in workers}
        self._concurrency = len(workers)
        self._reads = reads
        self._timeout = timeout
        self._nemesis = nemesis
        self._stuck = stuck
        """Told of a client that does not come back, although it was cancelled."""
        self._answers = answers or {}
        self._patience = 2 * timeout + _GRACE
        """Seconds after which every operation is over, its disconnection included."""
        self._completed = 0
        self._processes: list[Process] = [*self._workers, NEMESIS]
        self._free: list[Process] = list(self._processes)
        self._wake = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], tuple[Worker, Operation]] = {}
        self._faults: set[asyncio.Task[None]] = set()
        self._generator: Generator | None = None
        self._stopped = False
        self._undisturbed = False
        self._broken: BaseException | None = None

    def stop(self) -> None:
        """Ask for no further operation of the generator that runs; those that are open still complete."""
        self._stopped = True
        self._wake.set()

    async def run(self, generator: Generator) -> None:
        """Run ``generator`` until it is exhausted or ``stop`` is called, and no client's operation is open any more.

        Faults do not wait for each other, and nothing waits for them but ``close``.
        """
        self._generator = generator
        self._stopped = False
        try:
            while not self._stopped and self._broken is None:
                self._wake.clear()
                now = self._clock()
                context = Context(now, self._processes, self._free)
                answer = self._generator.next(context)
                if answer is None:
                    if not self._tasks:
                        break
                    await self._wait()
                    continue
                step, following = answer
                if isinstance(step, Pending):
                    self._generator = following
                    await self._sleep(now, step.until)
                elif step.time > now:
                    # Then a completion makes no difference, unless it changes the generator or frees a process for
                    # something that has to wait for one.
                    self._undisturbed = not context.hungry
                    await self._sleep(now, step.time)
                    self._undisturbed = False
                else:
                    self._generator = following
                    self._start(step.process, step.operation)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self._patience)
                self._give_up()
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self._patience)
        if self._broken is not None:
            raise self._broken

    async def _sleep(self, now: int, until: int | None) -> None:
        if until is None:
            await self._wait()
            return
        timer = asyncio.get_running_loop().call_later(max(until - now, 0) / 1e9, self._wake.set)
        await self._wake.wait()
        timer.cancel()

    async def _wait(self) -> None:
        """Wait until something happens. Clients that do nothing for longer than operations take are given up."""
        completed = self._completed
        timer = asyncio.get_running_loop().call_later(self._patience, self._wake.set)
        began = timer.when()
        await self._wake.wait()
        timer.cancel()
        if asyncio.get_running_loop().time() >= began and completed == self._completed:
            self._give_up()

    def _give_up(self) -> None:
        """Complete the operations that are open in place of their clients."""
        for task, (worker, operation) in list(self._tasks.items()):
            who = whose(worker.client, worker.doing)
            worker.given_up = True
            self._record(worker.process, "info", operation, operation.value, worker.node, f"{who} did not come back")
            self._processes.remove(worker.process)
            del self._workers[worker.process], self._tasks[task]
            task.cancel()
            self._stuck(f"{who} has not come back from {operation.f} and does not let itself be cancelled")

    def _start(self, process: Process, operation: Operation) -> None:
        if process == NEMESIS:
            task = asyncio.get_running_loop().create_task(self._fault(operation))
            self._faults.add(task)
        else:
            self._free.remove(process)
            task = asyncio.get_running_loop().create_task(self._operate(self._workers[process], operation))
            self._tasks[task] = self._workers[process], operation
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._completed += 1
        self._faults.discard(task)
        if not self._undisturbed:
            self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
            self._wake.set()

    def _record(
        self,
        process: Process,
        kind: EventType,
        operation: Operation,
        value: Any,
        node: str | None,
        error: str | None,
        served_by: ServedBy | None = None,
    ) -> None:
        event = Event(0, self._clock(), process, kind, operation.f, operation.key, value, node, error, served_by)
        self._recorder.record(event)
        if self._generator is not None:
            before, self._generator = self._generator, self._generator.update(event)
            if self._generator is not before:
                self._undisturbed = False

    async def _operate(self, worker: Worker, operation: Operation) -> None:
        process = worker.process
        self._record(process, "invoke", operation, operation.value, worker.node, None)
        kind: EventType
        value, error, served_by = operation.value, None, None
        refused = broken = False
        try:
            async with asyncio.timeout(self._timeout):
                if not worker.connected:
                    refused, worker.doing = True, "open"
                    await worker.client.open()
                    refused, worker.connected = False, True
                if worker.given_up:
                    raise TimeoutError  # the operation is over, and nothing of it was sent
                worker.doing = "invoke"
                value, kind = await worker.client.invoke(operation), "ok"
        except Failed as failure:
            kind, error = "fail", str(failure)
        except (Exception, asyncio.CancelledError) as failure:
            if _is_the_end(failure) and not worker.given_up:
                self._record(process, "info", operation, value, worker.node, "the run was ended")
                raise
            kind = "fail" if refused or operation.f in self._reads else "info"
            error, broken = _describe(failure), True
        if refused or broken or worker.given_up:
            await self._disconnect(worker)
        if worker.given_up:
            return
        if isinstance(value, Served):
            value, served_by = _unpacked(worker, operation, value)
        try:
            self._record(process, kind, operation, value, worker.node, error, served_by)
        except Exception as failure:
            # A workload learns from what it is answered.
            raise _misfit(worker, operation, value, _describe(failure)) from failure
        if kind == "ok" and not isinstance(value, self._answers.get(operation.f, object)):
            raise _misfit(worker, operation, value, "it takes another type")
        if refused:
            await asyncio.sleep(_REST_AFTER_REFUSAL)
        if kind == "info":
            self._retire(worker)
        self._free.append(worker.process)

    def _retire(self, worker: Worker) -> None:
        old, worker.process = worker.process, worker.process + self._concurrency
        self._workers[worker.process] = self._workers.pop(old)
        self._processes[self._processes.index(old)] = worker.process

    async def _disconnect(self, worker: Worker) -> None:
        worker.connected, worker.doing = False, "close"
        try:
            async with asyncio.timeout(self._timeout):
                await worker.client.close()
        except (Exception, asyncio.CancelledError) as failure:
            # A broken connection may refuse to be closed, and nothing depends on it.
            if _is_the_end(failure):
                raise

    async def _fault(self, operation: Operation) -> None:
        self._record(NEMESIS, "invoke", operation, operation.value, None, None)
        try:
            value = await self._nemesis(operation)
        except NothingToDo as reason:
            self._record(NEMESIS, "fail", operation, None, None, str(reason))
        except (Exception, asyncio.CancelledError) as failure:
            if _is_the_end(failure):
                self._record(NEMESIS, "info", operation, None, None, "the run was ended")
                raise
            self._record(NEMESIS, "info", operation, None, None, _describe(failure))
        else:
            self._record(NEMESIS, "ok", operation, value, None, None)

    async def close(self) -> None:
        """Close every client's connection. Faults are over by now, but for what never ends, which is left behind."""
        for fault in self._faults:
            fault.cancel()
        if self._faults:
            await asyncio.wait(self._faults, timeout=_REST_AFTER_REFUSAL)
        closing = {asyncio.ensure_future(self._disconnect(worker)): worker for worker in self._workers.values()}
        if closing:
            _, late = await asyncio.wait(closing, timeout=self._patience)
            for task in late:
                self._stuck(f"{whose(closing[task].client, 'close')} does not come back")


def _unpacked(worker: Worker, operation: Operation, served: Served) -> tuple[Any, ServedBy]:
    """The value and who served it. Raises ``SplitbrainError`` where that is no node, or the term no number."""
    whole = type(served.term) is int and 0 <= served.term < LARGEST
    if not isinstance(served.by, str) or not (served.term is None or whole):
        raise _misfit(worker, operation, served, "`by` is the name of a node, and `term` a number or None")
    return served.value, ServedBy(served.by, served.term)


def _misfit(worker: Worker, operation: Operation, value: Any, why: str) -> SplitbrainError:
    """A client has answered with something that its workload cannot use."""
    who = whose(worker.client, "invoke")
    return SplitbrainError(f"{who} answered {operation.f} with {show(value)}, which the workload cannot use: {why}")


def _is_the_end(failure: BaseException) -> bool:
    """Whether somebody wants the current task to end, and it was raised for that.

    A library may raise what looks like a cancellation although nobody has cancelled anything.
    """
    task = asyncio.current_task()
    return isinstance(failure, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _describe(failure: BaseException) -> str:
    if isinstance(failure, TimeoutError) and not str(failure):
        return "timed out"
    if isinstance(failure, Indeterminate):
        return str(failure)
    return f"{type(failure).__name__}: {failure}" if str(failure) else type(failure).__name__
