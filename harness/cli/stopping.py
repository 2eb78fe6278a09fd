"""Signals that end the command: at every moment they come to one sentence and an exit code from 0 to 4.

It is the first that the command imports, and imports little: until it is there a signal ends Python without a word.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN: Final = {signal.SIGVTALRM: signal.ITIMER_VIRTUAL, signal.SIGALRM: signal.ITIMER_REAL}
"""By these a signal comes again: after some time of the processor, and of the clock, for a process that waits."""
_AGAIN_SECONDS: Final = 0.001
_IMPORT_SECONDS: Final = 10.0
"""How long a signal waits for an import. What is still loaded then may never be."""


class Ended(KeyboardInterrupt):
    """A signal, whose name is the message, asked the command to end."""


def end_on_signals() -> None:
    """From now on raise ``Ended`` when a signal arrives, or has arrived while it was blocked; nohup is respected."""
    for number in _AGAIN:
        signal.signal(number, _end_again)
    sys.unraisablehook = _not_ignored
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGTERM:
            signal.signal(number, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def hold_signals() -> None:
    """Until ``end_on_signals`` a signal waits."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def ignore_signals() -> None:
    """The command is ending: there is nothing left that a further signal could end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    for number in (*ENDING, *_AGAIN):
        signal.signal(number, signal.SIG_IGN)
    for timer in _AGAIN.values():
        signal.setitimer(timer, 0)


def _end(number: int, frame: FrameType | None) -> None:
    _raise(signal.Signals(number).name, time.monotonic(), frame)


_waiting: list[tuple[str, float]] = []
"""The signals that come again in a moment, and since when they wait."""
_set: set[int] = set()
"""Which of the two timers were set here, and not by others."""


def _not_ignored(unraisable: sys.UnraisableHookArgs) -> None:
    """Python ignores what is raised in callbacks of its own, as while it imports: that comes again in a moment."""
    if isinstance(unraisable.exc_value, Ended):
        _again(str(unraisable.exc_value), time.monotonic())
    else:
        sys.__unraisablehook__(unraisable)


def _again(name: str, since: float) -> None:
    _waiting.append((name, since))
    for number, timer in _AGAIN.items():
        if signal.getsignal(number) is _end_again:  # else a simulation has it, which never waits
            _set.add(number)
            signal.setitimer(timer, _AGAIN_SECONDS)


def _raise(name: str, since: float, frame: FrameType | None) -> None:
    """End the command; where Python would ignore that, or keep half a module, in a moment."""
    if _is_ignored_in(frame) or (_imports(frame) and time.monotonic() - since < _IMPORT_SECONDS):
        _again(name, since)
        return
    _raised.append(name)
    raise Ended(name)


_raised: list[str] = []
"""The signals for which ``Ended`` was raised."""


def go_on() -> None:
    """Something long is about to begin: raise ``Ended`` once more where it was raised, and somebody has swallowed it.

    C code that takes any error for "there is no such thing" does that, and tries something else.
    """
    if _raised:
        raise Ended(_raised[0])


def _is_ignored_in(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code in (_not_ignored.__code__, _again.__code__)


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported: what imports it may swallow the exception, or meet half of it afterwards."""
    while frame is not None:
        if frame.f_code.co_name == "_find_and_load" and frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _end_again(number: int, frame: FrameType | None) -> None:
    if number not in _set:
        _end(number, frame)
        return
    _set.discard(number)
    if _waiting:
        _raise(*_waiting.pop(0), frame)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Nothing interrupts what is done in here: it takes seconds, and writes what would else be lost."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (*ENDING, *_AGAIN)}
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, before)
        for number, handler in before.items():
            signal.signal(number, handler)
        if _waiting:
            _again(*_waiting.pop(0))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, before)


def tell(callback: Callable[[], None]) -> None:
    """From now on call back on the running event loop when a signal arrives, also on one of virtual time.

    Raises ``Ended`` as ``go_on`` does.
    """
    import asyncio
    import contextvars

    go_on()
    loop = asyncio.get_running_loop()

    def told(_number: int, _frame: FrameType | None) -> None:
        # The simulation runs the callbacks of its servers in contexts of theirs, and this one is no server's.
        loop.call_soon(callback, context=contextvars.Context())

    for number in ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            try:
                loop.add_signal_handler(number, callback)
            except NotImplementedError:
                signal.signal(number, told)
