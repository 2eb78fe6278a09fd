"""Set the clocks of the servers on the node that this runs in, those that start later included, and read them back.

Every answer is read from the memory of the servers; what the servers show then, ``dial`` sees. A monotonic clock never
steps back: it jumps forward only, and keeps what it is ahead until its server ends.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TypedDict

from harness.faults import resident
from harness.faults.process import pids, program
from harness.faults.vdso import NONE, Skew, Unpatchable, Vdso

RESIDENT = "clock"
_LAST = 1 << 63
"""The nanoseconds since 1970 that a clock can show."""
_LOOK_SECONDS = 0.003
"""How often it looks for servers that were started: their first moments show the true time."""


class Clocks(TypedDict):
    """By how many seconds the wall clocks of the servers are ahead, the least of them, and which servers these are."""

    ahead: float
    processes: list[int]


class Keeper(resident.Work):
    """Gives the skew to servers that are started while it lasts. Whoever ends it sets the clocks to something else."""

    def __init__(self, vdso: Vdso, wall: Skew, monotonic: Skew) -> None:
        self._vdso = vdso
        self._skew = (wall, monotonic)
        self._known: set[tuple[str, int | None]] = set()

    def step(self) -> float:
        there = _programs()
        if not there <= self._known:
            # A process that is just becoming another program may keep the true clock: look again.
            missed = {str(pid) for pid in pids() if not self._set(pid)}
            self._known = {process for process in there if process[0] not in missed}
        return _LOOK_SECONDS

    def _set(self, pid: int) -> bool:
        try:
            return _try(self._vdso, pid, self._skew)
        except (Unpatchable, OSError):
            return False


def _programs() -> set[tuple[str, int | None]]:
    """The processes here, each with the program that it runs now."""
    programs = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            programs.add((pid, program(pid)))
    return programs


def _try(vdso: Vdso, pid: int, skew: tuple[Skew, Skew]) -> bool:
    """Set a server's clocks; False if it has ended meanwhile."""
    try:
        if vdso.read(pid)[0] != skew[0]:  # both clocks are set at once
            vdso.write(pid, *skew)
    except (ProcessLookupError, FileNotFoundError):
        return False
    return True


def set_clocks(vdso: Vdso, wall: Skew, monotonic: Skew) -> None:
    """Set the clocks of all servers, and keep it so for those that are started."""
    resident.stop(RESIDENT)
    for pid in pids():
        _try(vdso, pid, (wall, monotonic))
    if (wall, monotonic) != (NONE, NONE):
        resident.start(RESIDENT, lambda: Keeper(vdso, wall, monotonic))
        _wait_for_keeper(vdso, wall)


def _wait_for_keeper(vdso: Vdso, wall: Skew) -> None:
    """Let the keeper see the servers that were started while the clocks of the others were set."""
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            if all(vdso.read(pid)[0] == wall for pid in pids()):
                return
        time.sleep(_LOOK_SECONDS)


def read_clocks(vdso: Vdso) -> Clocks:
    """How far the wall clocks of the servers are ahead."""
    ahead = {}
    for pid in pids():
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            wall, _ = vdso.read(pid)
            ahead[pid] = wall.at(time.time_ns()) / 1e9
    return {"ahead": min(ahead.values(), key=abs, default=0.0), "processes": list(ahead)}


def try_out(vdso: Vdso, wall: Skew, monotonic: Skew) -> None:
    """Change the clocks of a process of our own and ask it for the time. Raises ``SystemExit`` if it is right."""
    asking, asked = os.pipe()
    answered, answering = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(asked)
        os.read(asking, 1)
        os.write(answering, f"{time.time_ns()} {time.monotonic_ns()}".encode())
        os._exit(0)
    try:
        vdso.write(pid, wall, monotonic)
        wall, monotonic = vdso.read(pid)
        before = time.time_ns(), time.monotonic_ns()
        os.write(asked, b"?")
        answer = tuple(map(int, os.read(answered, 100).split()))
        after = time.time_ns(), time.monotonic_ns()
    finally:
        os.close(asked)
        os.waitpid(pid, 0)
        for end in (asking, answered, answering):
            os.close(end)
    for clock, skew, early, shown, late in zip("wm", (wall, monotonic), before, answer, after, strict=True):
        soonest, latest = early + skew.at(early), late + skew.at(late)
        if not min(soonest, latest) - 1_000 <= shown <= max(soonest, latest) + 1_000 and not skew.period:
            raise SystemExit(f"a process with another clock ({clock}) shows {shown}, not {soonest} to {latest}")


def attempt() -> None:
    """Try it on something that nobody else uses. Raises ``SystemExit`` with why it cannot be done here."""
    with _vdso() as vdso:
        try_out(vdso, Skew(offset=3600 * 10**9), NONE)


@contextlib.contextmanager
def _vdso() -> Iterator[Vdso]:
    try:
        yield Vdso()
    except Unpatchable as why:
        raise SystemExit(str(why)) from None


def skew(offset: float = 0.0, rate: float = 1.0, period: float = 0.0, monotonic: bool = False) -> Clocks:
    """Set the clocks: ``offset`` seconds ahead, perhaps to and fro every ``period``, and that fast.

    The wall clock is meant, and with ``monotonic`` that one as well.
    """
    drift = round((rate - 1) * 2**32)
    ahead, every = round(offset * 1e9), round(period * 1e9)
    if not 0 <= time.time_ns() + ahead < _LAST:
        raise SystemExit(f"a clock that is {offset:+g} s off would leave the years 1970 to 2262")
    with _vdso() as vdso:
        wall = Skew(time.time_ns(), ahead, drift, every)
        set_clocks(vdso, wall, Skew(time.monotonic_ns(), ahead, drift, every) if monotonic else NONE)
        return read_clocks(vdso)


def heal() -> Clocks:
    """Set them right."""
    with _vdso() as vdso:
        set_clocks(vdso, NONE, NONE)
        return read_clocks(vdso)


def read() -> Clocks:
    """Leave them as they are."""
    with _vdso() as vdso:
        return read_clocks(vdso)


def let_go() -> None:
    """Set no clock any more, where all servers have ended."""
    resident.stop(RESIDENT)


VERBS = (skew, heal, read)
