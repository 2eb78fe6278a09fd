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
from typing import Any

from harness.faults import process
from harness.faults.files import BLOCK, COPY, NOT_DATA, OURS, data, files, open_folder, open_plain

FILLER = ".splitbrain-filler"
_MS_REMOUNT = 32
_MS_KEPT = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
EVERY = ""
"""In place of a pattern: every file of the store."""


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


def use_up(folder: int) -> None:
    """Write into an open folder until there is no more room."""
    piece = 1 << 30
    with open_plain(FILLER, "ab", folder=folder) as filler:
        while piece >= 1:
            try:
                os.posix_fallocate(filler.fileno(), filler.seek(0, os.SEEK_END), piece)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise SystemExit(f"the disk cannot be filled: {error}") from None
                piece //= 4


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
    found = [
        (os.lstat(name).st_size, name)
        for name in files(path)
        if pattern == EVERY
        or fnmatch.fnmatch(os.path.basename(name), pattern)
        or fnmatch.fnmatch(os.path.relpath(name, path), pattern)
    ]
    return [name for _, name in sorted(found, reverse=True)]


def find(path: str, pattern: str, place: float) -> dict[str, Any] | None:
    """A byte of the store's data, at a share of all that there is in the largest file that holds any."""
    for name in matching(path, pattern):
        with open_plain(name) as file:
            starts = array.array("Q", (start for start, _ in data(file.fileno())))
            if starts:
                number = min(place * len(starts), math.nextafter(len(starts), 0))
                block = os.pread(file.fileno(), BLOCK, starts[int(number)])
                full = [offset for offset, byte in enumerate(block) if byte]
                return {"file": name, "at": starts[int(number)] + full[int(number % 1 * len(full))]}
    return None


def flip(name: str, at: int, bit: int) -> dict[str, Any]:
    """Flip a bit of a file."""
    with open_plain(name, "r+b") as file:
        was = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([was[0] ^ 1 << bit]), at)
    return {"file": name, "at": at, "was": was.hex(), "is": bytes([was[0] ^ 1 << bit]).hex()}


def truncate(name: str, count: int) -> None:
    """Cut bytes off the end of a file's data; what was made long in advance ends before its zeros."""
    with open_plain(name, "r+b") as file:
        end = max((at + len(block.rstrip(b"\0")) for at, block in data(file.fileno())), default=0)
        file.truncate(max(end - count, 0))


def mend(flipped: dict[str, Any]) -> bool:
    """Flip a bit back, where it still is; whether it was."""
    with contextlib.suppress(FileNotFoundError), open_plain(flipped["file"], "r+b") as file:
        if os.pread(file.fileno(), 1, flipped["at"]).hex() == flipped["is"]:
            os.pwrite(file.fileno(), bytes.fromhex(flipped["was"]), flipped["at"])
            return True
    return False


def keep(path: str, name: str) -> None:
    """Copy the store's files as they are."""
    forget(path, name)
    _copy_all(path, f"{path}/{COPY}{name}")


def restore(path: str, name: str) -> None:
    """Have the store's files as they were when they were kept, and no others."""
    for one in os.listdir(path):
        if not one.startswith(OURS) and not one.endswith(NOT_DATA):
            whole = f"{path}/{one}"
            is_folder = stat.S_ISDIR(os.lstat(whole).st_mode)
            shutil.rmtree(whole) if is_folder else os.unlink(whole)
    _copy_all(f"{path}/{COPY}{name}", path)


def forget(path: str, name: str) -> None:
    """Keep no copy."""
    shutil.rmtree(f"{path}/{COPY}{name}", ignore_errors=True)


@contextlib.contextmanager
def _standing_still() -> Iterator[None]:
    """Stop the node's servers meanwhile: what is copied is as it was at one moment."""
    stopped = [one["pid"] for one in process.servers() if str(one["state"]) not in "Tt"]
    try:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(str(pid)), signal.SIGSTOP)
        yield
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(str(pid)), signal.SIGCONT)


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


def main(request: dict[str, Any]) -> Any:
    """Do what ``request["do"]`` says: fill or heal; find, flip, mend or truncate; keep, restore or forget.

    The steps of ``fill`` are ``shrink`` and ``use up``, those of ``heal`` are ``empty`` and ``grow``.
    """
    path, do = request["path"], request["do"]
    if do in ("fill", "shrink", "use up"):
        size = shrink(path) if do != "use up" else None
        if do != "shrink":
            with open_folder(path) as folder:
                use_up(folder)
        return {"size": size}
    if do in ("heal", "empty", "grow"):
        if do != "grow":
            empty(path)
        return grow(path, request["size"]) if do != "empty" else None
    if do == "find":
        return find(path, request["file"], request["place"])
    if do == "flip":
        return flip(request["file"], request["at"], request["bit"])
    if do == "truncate":
        return truncate(request["file"], request["bytes"])
    if do == "mend":
        return [mend(flipped) for flipped in request["flipped"]]
    if do == "keep":
        with _standing_still():
            return keep(path, request["copy"])
    if do == "restore":
        return restore(path, request["copy"])
    if do == "forget":
        return forget(path, request["copy"])
    raise SystemExit(f"unknown action {do!r}")
