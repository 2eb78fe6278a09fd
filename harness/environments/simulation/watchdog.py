"""A watchdog in real time beside the virtual clock: code that never gives way would stop a simulation for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
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
"""How often code may swallow what is raised in it before the process is ended."""


@contextlib.contextmanager
def watched(now: Callable[[], tuple[int, Any]]) -> Iterator[None]:
    """In here ``StuckError`` is raised in whatever runs when ``now``, virtual time and the callback, does not change.

    Ticks are counted, not seconds: a machine that sleeps has none. Only the main thread can be watched.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    dog = _Watchdog(now)
    before = signal.signal(signal.SIGALRM, dog.tick)
    signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Watchdog:
    def __init__(self, now: Callable[[], tuple[int, Any]]) -> None:
        self._now = now
        self._seen: tuple[int, Any] = (-1, None)
        self._standing = self._blocked = self._warned = 0
        self._suspect = ""

    def tick(self, _number: int, frame: FrameType | None) -> None:
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
            os.write(sys.stderr.fileno(), f"splitbrain: {why}; it cannot be interrupted\n".encode())
            os._exit(StuckError.exit_code)
        raise StuckError(why)


def _theirs(frame: FrameType | None) -> str:
    """The innermost function of a user's file that runs now."""
    while frame is not None:
        path = frame.f_code.co_filename
        if Path(path).parent.resolve() in folders:
            return f"{frame.f_code.co_qualname} ({path}, line {frame.f_lineno})"
        frame = frame.f_back
    return ""
