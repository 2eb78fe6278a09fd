"""Fill the disk of the node that this runs in, or spoil files of the store, and undo it.

``path`` is the directory of the node's servers, which must be a file system of its own: nobody else's disk is filled.
Only where a file holds data is anything spoiled.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fnmatch
import math
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from typing import TypedDict

from harness.faults import process
from harness.faults.files import BLOCK, COPY, NOT_DATA, OURS, data, files, open_folder, open_plain

FILLER = ".splitbrain-filler"
_MS_REMOUNT = 32
_MS_KEPT = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
EVERY = ""
"""In place of a pattern: every file of the store."""


class Place(TypedDict):
    """A byte of a file."""

    file: str
    at: int


Flipped = TypedDict("Flipped", {"file": str, "at": int, "was": str, "is": str})
"""A byte with a bit that was flipped: what it was and is, in hexadecimal digits."""


def fill(path: str) -> int:
    """Have no more room on the disk; how large it was before, in bytes: first ``shrink``, then ``use_up``."""
    size = shrink(path)
    use_up(path)
    return size


def shrink(path: str) -> int:
    """Let a tmpfs be no larger than what is in it: so it is full at once, and takes no memory for that.

    Its size before, in bytes. Raises ``SystemExit`` if the disk is not the node's own.
    """
    if os.stat(path).st_dev == os.stat(os.path.dirname(path.rstrip("/"))).st_dev:
        raise SystemExit(f"{path} is not a file system of its own: to fill it would fill the disk of others")
    state = os.statvfs(path)
    if _type(path) == "tmpfs":
        _remount(path, None)
    return state.f_blocks * state.f_frsize


def use_up(path: str) -> None:
    """Write until there is no more room."""
    with open_folder(path) as folder:
        use_up_below(folder)


def use_up_below(folder: int) -> None:
    """The same in an open folder."""
    piece = 1 << 30
    with open_plain(FILLER, "ab", folder=folder) as filler:
        while piece >= 1:
            try:
                os.posix_fallocate(filler.fileno(), filler.seek(0, os.SEEK_END), piece)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise SystemExit(f"the disk cannot be filled: {error}") from None
                piece //= 4


def heal(path: str, size: int) -> None:
    """Have room again, on a disk as large as before: first ``empty``, then ``grow``."""
    empty(path)
    grow(path, size)


def empty(path: str) -> None:
    """Take away what fills it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}/{FILLER}")


def grow(path: str, size: int) -> None:
    """Let a tmpfs be as large as before."""
    if size and _type(path) == "tmpfs":
        _remount(path, size)


def matching(path: str, pattern: str) -> list[str]:
    """Those of the store's files whose name, or path below ``path``, matches, the largest first."""
    matches = [
        (os.lstat(name).st_size, name)
        for name in files(path)
        if pattern == EVERY
        or fnmatch.fnmatch(os.path.basename(name), pattern)
        or fnmatch.fnmatch(os.path.relpath(name, path), pattern)
    ]
    return [name for _, name in sorted(matches, reverse=True)]


def find(path: str, file: str, place: float) -> Place | None:
    """A byte of the store's data, at a share of all that there is in the largest such file that holds any."""
    for name in matching(path, file):
        with open_plain(name) as opened:
            starts = array.array("Q", (start for start, _ in data(opened.fileno())))
            if starts:
                number = min(place * len(starts), math.nextafter(len(starts), 0))
                block = os.pread(opened.fileno(), BLOCK, starts[int(number)])
                full = [offset for offset, byte in enumerate(block) if byte]
                return {"file": name, "at": starts[int(number)] + full[int(number % 1 * len(full))]}
    return None


def flip(file: str, at: int, bit: int) -> Flipped:
    """Flip a bit of a file."""
    with open_plain(file, "r+b") as opened:
        was = os.pread(opened.fileno(), 1, at)
        os.pwrite(opened.fileno(), bytes([was[0] ^ 1 << bit]), at)
    return {"file": file, "at": at, "was": was.hex(), "is": bytes([was[0] ^ 1 << bit]).hex()}


def truncate(file: str, count: int) -> None:
    """Cut bytes off the end of a file's data; what was made long in advance ends before its zeros."""
    with open_plain(file, "r+b") as opened:
        end = max((at + len(block.rstrip(b"\0")) for at, block in data(opened.fileno())), default=0)
        opened.truncate(max(end - count, 0))


def mend(flipped: list[Flipped]) -> list[bool]:
    """Flip bits back, where they still are; whether each was."""
    return [_flip_back(byte) for byte in flipped]


def _flip_back(flipped: Flipped) -> bool:
    with contextlib.suppress(FileNotFoundError), open_plain(flipped["file"], "r+b") as file:
        if os.pread(file.fileno(), 1, flipped["at"]).hex() == flipped["is"]:
            os.pwrite(file.fileno(), bytes.fromhex(flipped["was"]), flipped["at"])
            return True
    return False


def back_up(path: str, copy: str) -> None:
    """Copy the store's files as they are at one moment, under a name."""
    with _standing_still():
        keep(path, copy)


def keep(path: str, copy: str) -> None:
    """Copy the store's files as they are."""
    forget(path, copy)
    _copy_all(path, f"{path}/{COPY}{copy}")


def restore(path: str, copy: str) -> None:
    """Have the store's files as they were when they were kept, and no others."""
    for entry in os.listdir(path):
        if not entry.startswith(OURS) and not entry.endswith(NOT_DATA):
            whole = f"{path}/{entry}"
            is_folder = stat.S_ISDIR(os.lstat(whole).st_mode)
            shutil.rmtree(whole) if is_folder else os.unlink(whole)
    _copy_all(f"{path}/{COPY}{copy}", path)


def forget(path: str, copy: str) -> None:
    """Keep no copy."""
    shutil.rmtree(f"{path}/{COPY}{copy}", ignore_errors=True)


@contextlib.contextmanager
def _standing_still() -> Iterator[None]:
    """Stop the node's servers meanwhile: what is copied is as it was at one moment."""
    stopped = [server["pid"] for server in process.servers() if server["state"] not in "Tt"]
    try:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _copy_all(source: str, target: str) -> None:
    """Copy the files of one folder into another one, which is made where it is not there."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(target)
    with open_folder(source) as old, open_folder(target) as new:
        _copy_below(old, new)


def _copy_below(source: int, target: int) -> None:
    for name in os.listdir(source):
        seen = os.stat(name, dir_fd=source, follow_symlinks=False)
        if name.startswith(OURS):
            continue
        if stat.S_ISDIR(seen.st_mode):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=target)
            with open_folder(name, folder=source) as old, open_folder(name, folder=target) as new:
                _copy_below(old, new)
                _as_it_was(new, seen)
        elif stat.S_ISREG(seen.st_mode) and not name.endswith(NOT_DATA):
            with open_plain(name, folder=source) as kept, open_plain(name, "wb", folder=target) as copy:
                for at, block in data(kept.fileno()):
                    os.pwrite(copy.fileno(), block, at)
                copy.truncate(os.fstat(kept.fileno()).st_size)
                _as_it_was(copy.fileno(), seen)


def _as_it_was(file: int, seen: os.stat_result) -> None:
    """Give a copy the mode and the times of what it was made from."""
    os.fchmod(file, stat.S_IMODE(seen.st_mode))
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def _type(path: str) -> str:
    with open("/proc/self/mounts") as mounts:
        types = {words[1]: words[2] for words in map(str.split, mounts)}
    return types.get(path.rstrip("/"), "")


def _remount(path: str, size: int | None) -> None:
    """Let a tmpfs have this size, or that of what is in it, which may grow meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    for _ in range(50):
        state = os.statvfs(path)
        wanted = size or max((state.f_blocks - state.f_bfree) * state.f_frsize, state.f_frsize)
        # Not with mount(8), which gives the kernel all options anew: its owner may have no number in a user namespace.
        flags = _MS_REMOUNT | (state.f_flag & _MS_KEPT)
        if libc.mount(None, path.encode(), None, flags, f"size={wanted}".encode()) == 0:
            return
    raise SystemExit(f"{path} could not be made {wanted} bytes large: {os.strerror(ctypes.get_errno())}")


VERBS = (fill, shrink, use_up, heal, empty, grow, find, flip, truncate, mend, back_up, restore, forget)
