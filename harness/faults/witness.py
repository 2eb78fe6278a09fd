"""Write, sync and read on the node's disk, as any process may, and say what became of it: what proves a fault there.

It knows nothing of how faults are made. Its own files lie beside the store's, and every fault of the storage hits them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypedDict

from harness.faults.files import COPY, OURS, data, files, open_folder, open_plain

WITNESS = f"{OURS}-witness"
"""The names of its files begin so."""
ROOM = f"{OURS}-room"
"""The name of a file that is to show only whether there is room: no fault of the storage hits it."""
PATIENCE = 1.5
"""Seconds that it waits for a sync, and about as many in which it tries again and again."""
_PATTERN = bytes(range(1, 256)) * 64
_AROUND = 16
"""So many bytes before a place are read with it."""


class Tried(TypedDict):
    """How often something was tried, and by error how often that failed."""

    tries: int
    errors: dict[str, int]


class Written(Tried):
    """The same of writes, and how many seconds at most a write and a sync took."""

    write: float
    sync: float


class Read(Tried):
    """The same of reads, and how often what was read was not what had been written."""

    wrong: int


class Used(TypedDict):
    """What came of writing and reading."""

    write: Written
    read: Read


Around = TypedDict("Around", {"size": int, "from": int, "bytes": str})
"""How long a file is, and some of its bytes in hexadecimal digits, from a place on."""


def room(path: str) -> Written:
    """Write once into a directory, and say whether there was room."""
    return write(path, 1, ROOM)


def write(path: str, tries: int, new: str = f"{WITNESS}-new") -> Written:
    """Write a new file and sync it, so often; by error how often, and how many seconds a write and a sync took."""
    errors: Counter[str] = Counter()
    longest = {"write": 0.0, "sync": 0.0}
    name = f"{path}/{new}"
    done, began = 0, time.monotonic()
    while done < tries and (done == 0 or time.monotonic() - began < PATIENCE):
        done += 1
        try:
            with open_plain(name, "wb") as file:
                no_room = _timed(longest, "write", lambda: _write_all(file))
                _timed(longest, "sync", lambda: _sync(file.fileno()))
                if no_room is not None:
                    raise no_room
        except OSError as error:
            errors[os.strerror(error.errno or 0)] += 1
        with contextlib.suppress(OSError):
            os.unlink(name)
    write, sync = (round(longest[what], 4) for what in ("write", "sync"))
    return {"tries": done, "errors": dict(errors), "write": write, "sync": sync}


def _sync(file: int) -> None:
    """Sync a file, but wait no longer than ``PATIENCE``. Raises ``OSError``."""
    pid = os.fork()
    if pid == 0:
        try:
            os.fsync(file)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    deadline = time.monotonic() + PATIENCE
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended and os.WEXITSTATUS(status):
            raise OSError(os.WEXITSTATUS(status), "")
        if ended:
            return
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.0005)


def _write_all(file: Any) -> OSError | None:
    """Write it all; the error, if there is one: what is there can be synced nevertheless."""
    try:
        left = _PATTERN
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        return error
    return None


def _timed(longest: dict[str, float], what: str, do: Callable[[], Any]) -> Any:
    began = time.monotonic()
    try:
        return do()
    finally:
        longest[what] = max(longest[what], time.monotonic() - began)


def read(path: str, tries: int) -> Read:
    """Read, so often, a file that was kept: by error how often, and how often it was not what had been written."""
    errors: Counter[str] = Counter()
    wrong = 0
    for _ in range(tries):
        try:
            with open_plain(f"{path}/{WITNESS}-kept") as file:
                wrong += file.read(len(_PATTERN)) != _PATTERN
        except OSError as error:
            errors[os.strerror(error.errno or 0)] += 1
    return {"tries": tries, "errors": dict(errors), "wrong": wrong}


def use(path: str, tries: int = 1) -> Used:
    """Write, sync and read; what is read was written when this was called for the first time."""
    if not os.path.lexists(f"{path}/{WITNESS}-kept"):
        _keep(path)
    return {"write": write(path, tries), "read": read(path, tries)}


def _keep(path: str) -> None:
    with contextlib.suppress(OSError), open_plain(f"{path}/{WITNESS}-kept", "wb") as file:
        if (no_room := _write_all(file)) is not None:
            raise no_room
        os.fsync(file.fileno())


def leave(path: str) -> None:
    """Have a file that is synced, with its folder, and then one that is not; where there is room for them."""
    for name in ("synced", "unsynced"):
        with contextlib.suppress(OSError), open_plain(f"{path}/{WITNESS}-{name}", "wb") as file:
            file.write(_PATTERN)
            if name == "synced":
                os.fsync(file.fileno())
                with open_folder(path) as folder:
                    os.fsync(folder)


def left(path: str) -> dict[str, bool]:
    """Which of these files are there, whole."""
    whole = {}
    for name in ("synced", "unsynced"):
        whole[name] = False
        with contextlib.suppress(FileNotFoundError), open_plain(f"{path}/{WITNESS}-{name}") as file:
            whole[name] = file.read() == _PATTERN
    return whole


def around(path: str, at: int) -> Around:
    """How long a file is, and the bytes at a place with a few before and after it."""
    start = max(at - _AROUND, 0)
    with open_plain(path) as file:
        piece = os.pread(file.fileno(), 2 * _AROUND, start)
        return {"size": os.fstat(file.fileno()).st_size, "from": start, "bytes": piece.hex()}


def digest(path: str, copy: str = "") -> str:
    """A hash of all files of the store, or of a copy of them, with their names."""
    hasher = hashlib.sha256()
    path = f"{path}/{COPY}{copy}" if copy else path
    for name in files(path):
        hasher.update(os.path.relpath(name, path).encode() + b"\0")
        with contextlib.suppress(FileNotFoundError), open_plain(name) as file:
            hasher.update(b"%d\0" % os.fstat(file.fileno()).st_size)
            for at, block in data(file.fileno()):
                hasher.update(b"%d\0" % at + block)
    return hasher.hexdigest()


def finish(path: str) -> Written:
    """Write a last time, and leave nothing."""
    written = write(path, 1)
    for name in os.listdir(path):
        if name.startswith(WITNESS):
            with contextlib.suppress(OSError):
                os.unlink(f"{path}/{name}")
    return written


VERBS = (room, use, around, digest, leave, left, finish)
