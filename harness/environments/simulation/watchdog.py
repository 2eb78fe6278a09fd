"""A watchdog in real time beside the virtual clock: code that never gives way would stop a simulation for ever."""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from harness.errors import StuckError
from harness.plugins import folders

TICK_SECONDS: Final = 1.0
BLOCKED_TICKS: Final = 10
"""After so many ticks one callback is taken to block its thread, as ``time.sleep`` and ``while True`` do."""
STANDING_TICKS: Final = 30
"""After so many ticks virtual time is taken to stand still: operations follow each other without ever waiting."""
_MOST_WARNINGS: Final = 3
"""How often code may swallow what is raised in it before the process is ended, or the thread left behind."""


@contextlib.contextmanager
def watched(now: Callable[[], tuple[int, Any]]) -> Iterator[None]:
    """In here ``StuckError`` is raised in whatever runs when ``now``, virtual time and the callback, does not change.

    Ticks are counted, not seconds: a machine that sleeps has none. In the main thread they are signals, which interrupt
    whatever blocks. Others get no signals: ``StuckError`` is raised in them when what blocks has come back to Python.
    """
    if threading.current_thread() is threading.main_thread():
        with _signalled(_Watchdog(now, _end_process)):
            yield
    else:
        with _looked_after(_Watchdog(now, LEAVE.get())):
            yield


@contextlib.contextmanager
def _signalled(dog: _Watchdog) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, lambda _number, frame: dog.tick(frame))
    signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _looked_after(dog: _Watchdog) -> Iterator[None]:
    """The same for a thread that gets no signals: another one looks at it."""
    watched, over = threading.get_ident(), threading.Event()

    def look() -> None:
        while not over.wait(TICK_SECONDS):
            try:
                dog.tick(sys._current_frames().get(watched))
            except StuckError as stuck:
                raise_in(watched, _saying(str(stuck)))

    watcher = threading.Thread(target=look, name="splitbrain-watchdog", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def raise_in(thread: int, error: type[BaseException]) -> None:
    """Raise an error in another thread, as soon as it runs Python again; nothing in one that is over."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def _saying(why: str) -> type[StuckError]:
    """A class of its own, since only a class can be raised in another thread."""

    class Stuck(StuckError):  # noqa: N818 - it is one
        def __init__(self) -> None:
            super().__init__(why)

    return Stuck


def _end_process(why: str) -> None:
    os.write(sys.stderr.fileno(), f"splitbrain: {why}; it cannot be interrupted\n".encode())
    os._exit(StuckError.exit_code)


def _go_on(_why: str) -> None:
    """Nobody waits for the thread."""


LEAVE: Final[contextvars.ContextVar[Callable[[str], None]]] = contextvars.ContextVar("LEAVE", default=_go_on)
"""Called, with the reason, where a simulation that does not run in the main thread can neither go on nor be ended."""

_turns: Final[list[object]] = []
"""The simulations of this process; the first one goes on, the others wait."""
os.register_at_fork(after_in_child=_turns.clear)
_LOOK_SECONDS: Final = 0.01


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """In here no other simulation of this process goes on: code that is simulated shares its modules' state.

    One whose thread is left behind has lost its turn. Whoever waits can be interrupted: nothing is held meanwhile.
    """
    mine, leave = object(), LEAVE.get()

    def lose(why: str) -> None:
        with contextlib.suppress(ValueError):  # it is said again as long as the thread is stuck
            _turns.remove(mine)
        leave(why)

    token = LEAVE.set(lose)
    try:
        _turns.append(mine)
        while _turns[0] is not mine:
            time.sleep(_LOOK_SECONDS)
        yield
    finally:
        LEAVE.reset(token)
        with contextlib.suppress(ValueError):  # it was left behind
            _turns.remove(mine)


class _Watchdog:
    def __init__(self, now: Callable[[], tuple[int, Any]], hopeless: Callable[[str], None]) -> None:
        self._now = now
        self._hopeless = hopeless
        self._seen: tuple[int, Any] = (-1, None)
        self._standing = self._blocked = self._warned = 0
        self._suspect = ""

    def tick(self, frame: FrameType | None) -> None:
        """Look whether anything has moved since the last tick."""
        time, callback = self._now()
        before, self._seen = self._seen, (time, callback)
        if time != before[0]:
            self._standing = self._blocked = self._warned = 0
            self._suspect = ""
            return
        self._standing += 1
        self._blocked = self._blocked + 1 if callback is before[1] else 0
        self._suspect = _theirs(frame) or self._suspect
        if self._blocked < BLOCKED_TICKS and self._standing < STANDING_TICKS:
            return
        who = self._suspect or "code of the store, the workload or a client"
        if self._blocked >= BLOCKED_TICKS:
            why = f"{who} has blocked everything for {BLOCKED_TICKS * TICK_SECONDS:g} s: it must await, not block"
        else:
            why = f"{who} goes on and on without awaiting anything that takes time, so that virtual time stands still"
        self._warned += 1
        if self._warned > _MOST_WARNINGS:
            self._hopeless(why)
        raise StuckError(why)


def _theirs(frame: FrameType | None) -> str:
    """The innermost function of a user's file that runs now."""
    while frame is not None:
        path = frame.f_code.co_filename
        if Path(path).parent.resolve() in folders:
            return f"{frame.f_code.co_qualname} ({path}, line {frame.f_lineno})"
        frame = frame.f_back
    return ""
