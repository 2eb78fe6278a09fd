"""Keep what a server prints: all of it, or where it is much, what came first and what came last.

It is no fault, but runs where they do: at the other end of the pipe that a server prints into, until that ends. The
file of the log takes the first ``HEAD`` bytes; what comes then goes to a file beside it, and one more takes its place
when that has ``TAIL`` bytes, so that at least the last ``TAIL`` are there at any moment. A server never waits for a
disk: what comes faster than it can be written is left out, and said to be. A server that was started again goes on
with the same files.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import threading

HEAD = TAIL = 8 << 20
NEW, OLD = ".new", ".old"
"""What the names of the files end with that hold the last of a long log."""
LEFT_OUT = b"\n[splitbrain: much was printed, and what came in between was left out; these are the last 8 MiB]\n"
LOST = b"\n[splitbrain: what was printed here came faster than it could be written, and was left out]\n"
_CHUNK = 1 << 16
_WAITING = 64
"""How many chunks may wait to be written."""


def append(path: str, data: bytes) -> int:
    """Write at the end of a file, which is made if need be; how long it is then."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        while data:
            data = data[os.write(file, data) :]
        return os.fstat(file).st_size
    finally:
        os.close(file)


def keep(path: str, data: bytes) -> None:
    """Add to the log at ``path``."""
    room = max(HEAD - append(path, b""), 0)
    if room:
        append(path, data[:room])
    if data[room:] and append(path + NEW, data[room:]) >= TAIL:
        os.replace(path + NEW, path + OLD)


def last(path: str, size: int) -> bytes:
    """The last bytes of a log, at most so many."""
    tail = b""
    for name in (path + NEW, path + OLD, path):
        with contextlib.suppress(FileNotFoundError), open(name, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - (size - len(tail))))
            tail = file.read(size - len(tail)) + tail
    return tail


def joined(first: bytes, rest: bytes) -> bytes:
    """A log as one, from its file and those beside it; what was left out is said where it would stand."""
    return first + (rest if len(rest) <= TAIL else LEFT_OUT + rest[-TAIL:])


def join(path: str) -> None:
    """Make one file of a log that nobody writes any more."""
    parts = dict.fromkeys(("", OLD, NEW), b"")
    for name in parts:
        with contextlib.suppress(FileNotFoundError), open(path + name, "rb") as file:
            parts[name] = file.read()
    first, *rest = parts.values()
    if any(rest):
        append(path, joined(first, b"".join(rest))[len(first) :])
        for name in (OLD, NEW):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + name)


def is_shortened(path: str) -> bool:
    """Whether something was left out of a log that is one file."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(HEAD)
        return file.read(len(LEFT_OUT)) == LEFT_OUT
    return False


class Waiting:
    """What waits to be written: no more than the disk can be behind, and if that is not enough, the latest of it."""

    def __init__(self) -> None:
        self._chunks: collections.deque[bytes] = collections.deque()
        self._changed = threading.Condition()
        self._lost = False

    def put(self, chunk: bytes) -> None:
        """Add what was printed, without waiting for anything; nothing follows what is empty."""
        with self._changed:
            self._chunks.append(chunk)
            if len(self._chunks) > _WAITING:
                self._chunks.popleft()
                self._lost = True
            self._changed.notify()

    def get(self) -> bytes:
        """What comes next, and before it that something was left out; empty in the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._chunks)
            lost, self._lost = self._lost, False
            return (LOST if lost else b"") + self._chunks.popleft()


def _write(path: str, waiting: Waiting) -> None:
    failed = False
    while data := waiting.get():
        try:
            keep(path, LOST + data if failed else data)
            failed = False
        except OSError:  # the disk is full, say: the server is not to know
            failed = True


def follow(path: str) -> None:
    """Read the standard input to its end into the log at ``path``."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the last of what prints has ended
    waiting = Waiting()
    writer = threading.Thread(target=_write, args=(path, waiting))
    writer.start()
    while data := os.read(0, _CHUNK):
        waiting.put(data)
    waiting.put(b"")
    writer.join()


VERBS = (follow,)
