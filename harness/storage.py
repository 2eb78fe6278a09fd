"""A file system that can be told to misbehave, mounted over a node's data: what LazyFS is for a disk's cache, and more.

It passes everything on to the directory beneath, and remembers how to undo each write until that is synced. Told to
``lose``, it takes back whatever was not: so a crash costs what it costs on a machine that loses power. It can also
refuse writes (a disk that fails, or was mounted read-only after an error) and sync slowly.

Runs inside a node, as ``python -m harness.storage DIRECTORY``, through FUSE. See Ramos et al., "LazyFS", and Rebello et
al., "Can Applications Recover from fsync Failures?", 2020, for what stores get wrong here.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from typing import Any, Final, NamedTuple

import mfusepy

from harness.faults import resident
from harness.faults.disk import FILLER, use_up
from harness.faults.process import is_tool
from harness.faults.storage import PROBE

RESIDENT: Final = "storage"
_MOUNT_SECONDS: Final = 20.0
_ERRORS: Final = {"readonly": errno.EROFS, "errors": errno.EIO}
_STAT: Final = (
    "st_mode",
    "st_ino",
    "st_nlink",
    "st_uid",
    "st_gid",
    "st_size",
    "st_atime_ns",
    "st_mtime_ns",
    "st_ctime_ns",
)


class Undo(NamedTuple):
    """How a file was before a change: ``old`` at ``offset``, and ``size`` bytes long."""

    offset: int
    old: bytes
    size: int


class Unsynced:
    """The changes of each file that are not on the disk yet, latest last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changes: dict[int, tuple[int, list[Undo]]] = {}

    def write(self, file: int, offset: int, data: bytes) -> int:
        """Write to an open file, so that it can be undone."""
        with self._lock:
            self._remember(file, offset, len(data))
            return os.pwrite(file, data, offset)

    def truncate(self, file: int, size: int) -> None:
        """Change the size of an open file, so that it can be undone."""
        with self._lock:
            self._remember(file, size, max(os.fstat(file).st_size - size, 0))
            os.ftruncate(file, size)

    def _remember(self, file: int, offset: int, count: int) -> None:
        state = os.fstat(file)
        if state.st_ino not in self._changes:
            self._changes[state.st_ino] = (os.dup(file), [])
        self._changes[state.st_ino][1].append(Undo(offset, os.pread(file, count, offset), state.st_size))

    def synced(self, file: int) -> None:
        """Everything in this file is safe from now on."""
        with self._lock:
            kept = self._changes.pop(os.fstat(file).st_ino, None)
            if kept is not None:
                os.close(kept[0])

    def lose(self) -> int:
        """Take back all changes of all files; how many writes these were."""
        with self._lock:
            count = 0
            for file, changes in self._changes.values():
                for change in reversed(changes):
                    os.ftruncate(file, change.size)
                    os.pwrite(file, change.old, change.offset)
                    count += 1
                os.close(file)
            self._changes.clear()
            return count


class Storage(mfusepy.Operations):  # type: ignore[misc]
    """The file system. ``fault`` is what is wrong with it now, ``delay`` the seconds that a sync takes."""

    use_ns = True

    def __init__(self, directory: str) -> None:
        # The directory beneath stays reachable by this descriptor when the mount hides it.
        self._root = f"/proc/self/fd/{os.open(directory, os.O_RDONLY | os.O_DIRECTORY)}"
        self._unsynced = Unsynced()
        self.mounted = threading.Event()
        self.fault: str | None = None
        self.delay = 0.0

    def lose(self) -> int:
        """Lose everything that was not synced. A disk that another fault has filled has room for what comes back."""
        filler = f"{self._root}/{FILLER}"
        full = os.path.exists(filler)
        if full:
            os.unlink(filler)
        lost = self._unsynced.lose()
        if full:
            use_up(self._root)
        return lost

    def _path(self, path: str) -> str:
        return self._root + path

    def _refuse(self, path: str) -> None:
        """Raise the error that a change meets now, if there is one. Tools of other faults get through."""
        if self.fault in _ERRORS and (path == f"/{PROBE}" or not _is_for_a_tool()):
            raise OSError(_ERRORS[self.fault], os.strerror(_ERRORS[self.fault]))

    def init(self, path: str) -> None:
        self.mounted.set()

    # Reading

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        state = os.fstat(fh) if fh is not None else os.lstat(self._path(path))
        return {name.removesuffix("_ns"): getattr(state, name) for name in _STAT}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._path(path))]

    def readlink(self, path: str) -> str:
        return os.readlink(self._path(path))

    def statfs(self, path: str) -> dict[str, int]:
        state = os.statvfs(self._path(path))
        names = (
            "f_bavail",
            "f_bfree",
            "f_blocks",
            "f_bsize",
            "f_favail",
            "f_ffree",
            "f_files",
            "f_frsize",
            "f_namemax",
        )
        return {name: getattr(state, name) for name in names}

    def open(self, path: str, flags: int) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self._refuse(path)
        # What is about to be changed is read first; and the kernel has worked out where an append goes.
        return os.open(self._path(path), os.O_RDONLY if flags & os.O_ACCMODE == os.O_RDONLY else os.O_RDWR)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    # Changing

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._refuse(path)
        return os.open(self._path(path), os.O_RDWR | os.O_CREAT, mode)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._refuse(path)
        if _is_for_a_tool():
            return os.pwrite(fh, data, offset)  # a fault of the disk, and not a store's write that a crash may undo
        return self._unsynced.write(fh, offset, data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        self._refuse(path)
        file = fh if fh is not None else os.open(self._path(path), os.O_RDWR)
        try:
            self._unsynced.truncate(file, length)
        finally:
            if fh is None:
                os.close(file)

    def fallocate(self, path: str, mode: int, offset: int, length: int, fh: int) -> None:
        self._refuse(path)
        if mode:
            raise OSError(errno.EOPNOTSUPP, "only plain preallocation")
        os.posix_fallocate(fh, offset, length)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        self._refuse(path)
        time.sleep(self.delay)
        self._unsynced.synced(fh)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        self._refuse(old)
        os.rename(self._path(old), self._path(new))

    def unlink(self, path: str) -> None:
        self._refuse(path)
        os.unlink(self._path(path))

    def mkdir(self, path: str, mode: int) -> None:
        self._refuse(path)
        os.mkdir(self._path(path), mode)

    def rmdir(self, path: str) -> None:
        self._refuse(path)
        os.rmdir(self._path(path))

    def link(self, target: str, source: str) -> None:
        self._refuse(target)
        os.link(self._path(source), self._path(target))

    def symlink(self, target: str, source: str) -> None:
        self._refuse(target)
        os.symlink(source, self._path(target))

    def chmod(self, path: str, mode: int) -> None:
        self._refuse(path)
        os.chmod(self._path(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        self._refuse(path)
        os.chown(self._path(path), uid, gid, follow_symlinks=False)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        self._refuse(path)
        os.utime(self._path(path), ns=times or (time.time_ns(),) * 2)


def _is_for_a_tool() -> bool:
    """Whether the process that asks for something now belongs to the harness."""
    _, _, pid = mfusepy.fuse_get_context()
    try:
        return bool(pid) and is_tool(str(pid))
    except (FileNotFoundError, ProcessLookupError):
        return False


class Mounted(resident.Work):
    """The file system while it is mounted, and what it is told to do."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._storage = Storage(directory)
        self._error = ""
        threading.Thread(target=self._serve, daemon=True).start()
        if not self._storage.mounted.wait(_MOUNT_SECONDS):
            raise SystemExit(f"the file system could not be mounted over {directory}: {self._error or 'no answer'}")

    def _serve(self) -> None:
        # Nothing is cached: what is lost must be gone for whoever looks.
        options = {"foreground": True, "nothreads": True, "attr_timeout": 0, "entry_timeout": 0, "fsname": "splitbrain"}
        try:
            mfusepy.FUSE(self._storage, self._directory, **options)
        except (RuntimeError, OSError) as error:
            self._error = str(error)

    def ask(self, request: dict[str, Any]) -> Any:
        """Misbehave in another way from now on, or lose what was not synced."""
        if request["do"] == "lose":
            return {"lost": self._storage.lose()}
        self._storage.fault, self._storage.delay = request["fault"], request["delay"]
        return None

    def end(self) -> None:
        subprocess.run(["umount", "-l", self._directory], check=False, capture_output=True)


if __name__ == "__main__":
    resident.start(RESIDENT, lambda: Mounted(sys.argv[1]))
