"""The other end of the pipe that a server on this machine prints into: a process that keeps what is worth keeping."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from harness.environments.tools import ask, command
from harness.faults import output

_PIPE_BYTES: Final = 1 << 20
_PATIENCE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.002


class Reader:
    """Reads what a server prints into the log at ``path``, until whoever can print into it has ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pipe, self._printed = os.pipe()
        with contextlib.suppress(OSError):  # an ordinary user may have used up what there is
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        argv = command(sys.executable, ask(output.follow, path=str(path)))
        self._process = subprocess.Popen(argv, stdin=self._pipe, stdout=subprocess.DEVNULL)

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        """What to give a server to print into, within this block."""
        try:
            yield self._printed
        finally:
            os.close(self._printed)

    async def catch_up(self) -> None:
        """Wait until all that was printed so far is written; not for ever, where a server prints all the time."""
        await self._until(lambda: self.is_over() or (self._is_empty() and self._waits()))

    def _is_empty(self) -> bool:
        """Whether nothing is in the pipe."""
        (waiting,) = struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)))
        return bool(waiting == 0)

    def _waits(self) -> bool:
        """Whether the process has nothing to do: with an empty pipe, all of its threads sleep."""
        tasks = Path(f"/proc/{self._process.pid}/task")
        with contextlib.suppress(OSError):
            states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks.iterdir()]
            return len(states) > 1 and set(states) == {"S"}
        return False

    def is_over(self) -> bool:
        """Whether it has come to the end; it is gone then."""
        if self._process.poll() is None:
            return False
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        return True

    async def end(self) -> None:
        """Wait until it has come to the end: nobody prints any more."""
        await self._until(self.is_over)
        if not self.is_over():  # somebody has taken the pipe along
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self.is_over()

    async def last(self, size: int) -> bytes:
        """The last bytes that were printed so far, at most so many."""
        await self.catch_up()
        return output.last(str(self._path), size)

    @staticmethod
    async def _until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not condition() and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)
