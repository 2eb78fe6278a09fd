"""A run in a thread of its own, and its caller, who waits for it: see ``in_a_thread``."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, Final

from harness.conduct import AbortedError, Attendant, Outcome, aborted
from harness.environments.simulation.watchdog import LEAVE, raise_in
from harness.errors import SplitbrainError
from harness.runner import Run

Say = Callable[[str], None]

_LOOK_SECONDS: Final = 0.2
_PATIENCE_SECONDS: Final = 2.0
"""How long a thread that leaves nothing behind may take to end by itself."""


def in_a_thread(conducted: Callable[[Attendant], Outcome], say: Say, *, simulated: bool) -> Outcome:
    """Conduct a run in a thread: the caller's may have an event loop, and its signals belong to the caller.

    What interrupts the wait for it ends the run, and is raised on when its nodes are gone. Raises ``SplitbrainError``
    for code of others that neither comes back nor can be interrupted: its thread is left behind.
    """
    caller = _Caller(conducted, say, simulated=simulated)
    try:
        caller.thread.start()
        return caller.outcome.result()
    except AbortedError as ended:
        raise SplitbrainError(str(ended)) from None
    except BaseException as error:
        if not caller.outcome.done():
            error.add_note(caller.interrupt())
        raise


class _Caller(Attendant):
    """The caller, in another thread than the run, who may be interrupted."""

    def __init__(self, conducted: Callable[[Attendant], Outcome], say: Say, *, simulated: bool) -> None:
        self.say = say  # type: ignore[method-assign, assignment]
        self.outcome: Future[Outcome] = Future()
        self.thread = threading.Thread(target=self._conduct, args=[conducted], name="splitbrain", daemon=True)
        self._simulated = simulated
        self._interrupted = threading.Event()
        self._recorded = threading.Event()
        self._end = "nothing was started"
        """What an interrupted run leaves behind."""

    def _conduct(self, conducted: Callable[[Attendant], Outcome]) -> None:
        LEAVE.set(self._leave)
        try:
            outcome = conducted(self)
        except BaseException as error:
            self._fail(error)
        else:
            with contextlib.suppress(InvalidStateError):
                self.outcome.set_result(outcome)

    def _fail(self, error: BaseException) -> None:
        with contextlib.suppress(InvalidStateError):  # the thread had been left behind
            self.outcome.set_exception(error)

    def _leave(self, why: str) -> None:
        self._fail(SplitbrainError(f"{why}; it cannot be interrupted, and its thread is left behind; {self._end}"))

    def interrupt(self) -> str:
        """End the run, and wait until its nodes are gone; where its history is."""
        self._interrupted.set()
        while self.thread.is_alive() and not (self._simulated or self._recorded.is_set()):
            self.thread.join(_LOOK_SECONDS)
        self._wait()
        if self.thread.is_alive() and self.thread.ident is not None:
            # It judges what is recorded, or a simulation is stuck.
            raise_in(self.thread.ident, KeyboardInterrupt)
            self._wait()
        return self._end

    def _wait(self) -> None:
        if self.thread.is_alive():
            self.thread.join(_PATIENCE_SECONDS)

    async def execute(self, run: Run) -> None:
        self._refuse_if_interrupted()
        self._end = aborted(run.directory)
        executing = asyncio.current_task()
        assert executing is not None
        waiting = asyncio.create_task(self._cancel_when_interrupted(executing))
        try:
            await run.execute()
        finally:
            waiting.cancel()

    async def _cancel_when_interrupted(self, executing: asyncio.Task[Any]) -> None:
        while not self._interrupted.is_set():
            await asyncio.sleep(_LOOK_SECONDS)
        executing.cancel()

    def recorded(self) -> None:
        self._recorded.set()
        self._refuse_if_interrupted()

    def _refuse_if_interrupted(self) -> None:
        if self._interrupted.is_set():
            raise KeyboardInterrupt
