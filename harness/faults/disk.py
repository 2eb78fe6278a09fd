"""Fill the disk of the node that this runs in, or spoil a file of the store, and undo it.

``path`` is the directory of the node's servers, which must be a file system of its own: nobody else's disk is filled.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from typing import Any

OURS = ".splitbrain"
"""Files whose names begin so belong to the harness."""
FILLER = ".splitbrain-filler"
_NOT_DATA = (".conf", ".log")


def fill(path: str) -> str:
    """Leave no room; returns what a write says now. Raises ``SystemExit`` if the disk is not the node's own."""
    if os.stat(path).st_dev == os.stat(os.path.dirname(path.rstrip("/"))).st_dev:
        raise SystemExit(f"{path} is not a file system of its own: to fill it would fill the disk of others")
    if _type(path) == "tmpfs":
        # No smaller than what is in it: so it is full at once, and takes no memory for that.
        _remount(path, None)
    use_up(path)
    try:
        _write(f"{path}/{OURS}-probe", b"x" * 65536)
    except OSError as error:
        return os.strerror(error.errno or 0)
    raise SystemExit(f"{path} was filled and still takes data")


def use_up(path: str) -> None:
    """Write until there is no more room."""
    piece = 1 << 30
    with open(f"{path}/{FILLER}", "ab") as filler:
        while piece >= 1:
            try:
                os.posix_fallocate(filler.fileno(), filler.tell(), piece)
                filler.seek(0, os.SEEK_END)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise SystemExit(f"{path} cannot be filled: {error}") from None
                piece //= 4


def empty(path: str, size: int) -> None:
    """Give back the room. Raises ``SystemExit`` if nothing can be written after that."""
    for name in (FILLER, f"{OURS}-probe"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}/{name}")
    if _type(path) == "tmpfs" and size:
        _remount(path, size)
    try:
        _write(f"{path}/{OURS}-probe", b"x" * 65536)
        os.unlink(f"{path}/{OURS}-probe")
    except OSError as error:
        raise SystemExit(f"{path} still takes no data: {error}") from None


def largest(path: str) -> str | None:
    """The largest file of the store."""
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(OURS)]
        found += [f"{folder}/{name}" for name in names if not name.startswith(OURS) and not name.endswith(_NOT_DATA)]
    sized = [(os.path.getsize(name), name) for name in found if os.path.isfile(name) and not os.path.islink(name)]
    return max(sized)[1] if sized and max(sized)[0] else None


def flip(path: str, place: float, bit: int) -> dict[str, Any] | None:
    """Flip a bit of the store's largest file, at a share of its length; zeros, which hold nothing, are passed over."""
    name = largest(path)
    if name is None:
        return None
    with open(name, "r+b") as file:
        data = file.read()
        at = int(place * len(data))
        at = next((n for n in (*range(at, len(data)), *range(at)) if data[n]), None)  # type: ignore[assignment]
        if at is None:
            return None
        file.seek(at)
        file.write(bytes([data[at] ^ 1 << bit]))
    return {"file": name, "at": at, "was": data[at], "is": data[at] ^ 1 << bit}


def truncate(path: str, count: int) -> dict[str, Any] | None:
    """Cut bytes off the end of the store's largest file."""
    name = largest(path)
    if name is None:
        return None
    with open(name, "r+b") as file:
        data = file.read()
        end = len(data.rstrip(b"\0"))  # files that were made long in advance end before their zeros
        kept = max(end - count, 0)
        file.truncate(kept)
    return {"file": name, "from": kept, "bytes": end - kept}


def mend(flipped: dict[str, Any]) -> bool:
    """Flip a bit back, where it still is; whether it was."""
    with contextlib.suppress(FileNotFoundError), open(flipped["file"], "r+b") as file:
        file.seek(flipped["at"])
        if file.read(1) == bytes([flipped["is"]]):
            file.seek(flipped["at"])
            file.write(bytes([flipped["was"]]))
            return True
    return False


def _write(name: str, data: bytes) -> None:
    with open(name, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _type(path: str) -> str:
    with open("/proc/self/mounts") as mounts:
        types = {words[1]: words[2] for words in map(str.split, mounts)}
    return types.get(path.rstrip("/"), "")


def _remount(path: str, size: int | None) -> None:
    """Let a tmpfs have this size, or that of what is in it, which may grow meanwhile."""
    for _ in range(50):
        state = os.statvfs(path)
        wanted = size or max((state.f_blocks - state.f_bfree) * state.f_frsize, state.f_frsize)
        command = ["mount", "-o", f"remount,size={wanted}", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")


def main(request: dict[str, Any]) -> Any:
    """Do what ``request["do"]`` says: fill, flip, truncate or heal."""
    path = request["path"]
    if request["do"] == "fill":
        state = os.statvfs(path)
        return {"said": fill(path), "size": state.f_blocks * state.f_frsize}
    if request["do"] == "flip":
        return flip(path, request["place"], request["bit"])
    if request["do"] == "truncate":
        return truncate(path, request["bytes"])
    if request["do"] == "heal":
        empty(path, request.get("size", 0))
        return [mend(flipped) for flipped in request.get("flipped", [])]
    raise SystemExit(f"unknown action {request['do']!r}")
