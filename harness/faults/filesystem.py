"""A file system that can be told to misbehave: what LazyFS is for a disk's cache, and more.

It passes everything on to the directory beneath, and remembers how to undo each change until that is synced. Told to
``lose``, it takes back whatever was not: so a crash costs what it costs on a machine that loses power. It can also
refuse changes (a disk that fails, or was mounted read-only after an error), sync slowly, and read badly. Its methods
are what FUSE asks; ``mount`` has it asked.

See Ramos et al., "LazyFS", Rebello et al., "Can Applications Recover from fsync Failures?", 2020, and Pillai et al.,
"All File Systems Are Not Created Equal", 2014, for what stores get wrong here.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import random
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from harness.faults.disk import FILLER, use_up_below
from harness.faults.files import OURS
from harness.faults.pending import Pending
from harness.faults.process import is_tool
from harness.faults.syncs import CANARY, PAGE
from harness.faults.witness import WITNESS

GRAVES: Final = f"{OURS}-graves"
"""Where what was removed or replaced waits until that is durable."""
_HIDDEN: Final = ".fuse_hidden"
"""libfuse renames a file to a name that begins so when it is removed while it is open."""
_CHANGES: Final = {"readonly": errno.EROFS, "errors": errno.EIO}
_SLICE_SECONDS: Final = 0.005
_KILL_SECONDS: Final = 15.0
"""How long a kill may take to come to those whose syncs are held for it."""
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
_STATFS: Final = (
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


class Fault(NamedTuple):
    """What is wrong: ``readonly`` or ``errors`` for changes, ``unreadable`` or ``wrong`` for reads, ``slow`` for syncs.

    It hits ``share`` of what is asked about files whose name, or path, matches; and always the files of the witness.
    """

    kind: str | None = None
    delay: float = 0.0
    share: float = 1.0
    file: str = "*"
    seed: str = ""


class FileSystem:
    """The file system, over a directory that it hides; ``caller`` says which process asks now, 0 for the kernel."""

    use_ns = True

    def __init__(self, directory: str, caller: Callable[[], int]) -> None:
        self._caller = caller
        # The directory beneath stays reachable by this descriptor when the mount hides it.
        self._beneath = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._root = f"/proc/self/fd/{self._beneath}"
        self._fault = Fault()
        self._random = random.Random()
        self._held_until = 0.0
        self._graves = 0
        self._pending = Pending()
        self._of_the_witness = Pending()
        """Apart, so that what the witness syncs makes nothing of the store durable."""
        self.mounted = threading.Event()
        self.all_synced: Callable[[], None] = lambda: None
        """Called when everything was synced; ``see_syncs`` says when that would be noticed again."""
        os.makedirs(f"{self._root}/{GRAVES}", exist_ok=True)
        with open(f"{self._root}/{CANARY}", "wb") as file:
            file.write(bytes(PAGE))

    # What it is told

    def misbehave(self, fault: Fault) -> None:
        """Let this be wrong from now on, and nothing else."""
        self._random = random.Random(fault.seed)
        self._fault = fault

    def hold(self, seconds: float) -> int:
        """Let no sync end, but for those who are killed meanwhile, until the store has something that is not synced.

        At most so long; how many changes are not synced then. Syncs stand still until ``lose``, for a kill; or for a
        while, should nobody come.
        """
        self._held_until = time.monotonic() + seconds + _KILL_SECONDS
        deadline = time.monotonic() + seconds
        while not self._pending.count() and time.monotonic() < deadline:
            time.sleep(_SLICE_SECONDS)
        return self._pending.count()

    def lose(self, seed: str | None) -> int:
        """Lose what was not synced; how many of the store's changes. A disk that another fault has filled has room.

        With a seed a part of it survives.
        """
        self._held_until = 0.0
        filler = f"{self._root}/{FILLER}"
        full = os.path.exists(filler)
        if full:
            os.unlink(filler)
        self._of_the_witness.lose()
        lost = self._pending.lose(None if seed is None else random.Random(seed))
        for folder, _, names in os.walk(self._root):
            for name in names:
                # Whoever had them open is gone.
                if name.startswith(_HIDDEN):
                    os.unlink(f"{folder}/{name}")
        if full:
            use_up_below(self._beneath)
        return lost

    def see_syncs(self) -> None:
        """The next sync of everything will be noticed."""
        for pending in (self._pending, self._of_the_witness):
            pending.see_syncs()

    # What goes wrong

    def _is_hit(self, path: str, *kinds: str) -> bool:
        """Whether one of these faults hits what is asked now. Tools of other faults get through."""
        fault = self._fault
        if fault.kind not in kinds:
            return False
        if not os.path.basename(path).startswith(WITNESS):
            names = (os.path.basename(path), path.lstrip("/"))
            if not any(fnmatch.fnmatch(name, fault.file) for name in names) or self._is_for_a_tool():
                return False
            if names[1].startswith(OURS):
                return False  # a server's keys are none of its data
        return fault.share >= 1 or self._random.random() < fault.share

    def _is_for_a_tool(self) -> bool:
        """Whether the process that asks for something now belongs to the harness."""
        pid = self._caller()
        try:
            return bool(pid) and is_tool(str(pid))
        except (FileNotFoundError, ProcessLookupError):
            return False

    def _refuse(self, path: str) -> None:
        """Raise the error that a change meets now, if there is one."""
        if self._is_hit(path, *_CHANGES):
            number = _CHANGES[str(self._fault.kind)]
            raise OSError(number, os.strerror(number))

    def _of(self, path: str) -> Pending | None:
        """Where a change is remembered; None for those of a tool, which no crash undoes."""
        if os.path.basename(path).startswith(WITNESS):
            return self._of_the_witness
        return None if self._is_for_a_tool() else self._pending

    def _wait_for_sync(self, path: str) -> None:
        """Take as long as a sync takes now. Raises ``OSError`` for who is killed meanwhile: nothing was synced."""
        ends = time.monotonic() + (self._fault.delay if self._is_hit(path, "slow") else 0.0)
        while (now := time.monotonic()) < max(ends, self._held_until if self._of(path) is self._pending else 0.0):
            if _is_killed(self._caller()):
                raise OSError(errno.EIO, "killed")
            time.sleep(min(_SLICE_SECONDS, max(ends - now, 0.001)))

    def init(self, path: str) -> None:
        self.mounted.set()

    # Reading

    def _path(self, path: str) -> str:
        return self._root + path

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        state = os.fstat(fh) if fh is not None else os.lstat(self._path(path))
        return {name.removesuffix("_ns"): getattr(state, name) for name in _STAT}

    def opendir(self, path: str) -> int:
        return 0

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._path(path))]

    def readlink(self, path: str) -> str:
        return os.readlink(self._path(path))

    def statfs(self, path: str) -> dict[str, int]:
        state = os.statvfs(self._path(path))
        return {name: getattr(state, name) for name in _STATFS}

    def open(self, path: str, flags: int) -> int:
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        if writes:
            self._refuse(path)
        # What is about to be changed is read first; and the kernel has worked out where an append goes.
        return os.open(self._path(path), os.O_RDWR if writes else os.O_RDONLY)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        if self._is_hit(path, "unreadable"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        data = os.pread(fh, size, offset)
        if data and self._is_hit(path, "wrong"):
            spoiled = bytearray(data)
            spoiled[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
            return bytes(spoiled)
        return data

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    # Changing files

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        if path == f"/{CANARY}":
            for changes in (self._pending, self._of_the_witness):
                changes.all_synced()
            self.all_synced()
            return len(data)
        self._refuse(path)
        pending = self._of(path)
        return os.pwrite(fh, data, offset) if pending is None else pending.write(fh, offset, data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        self._refuse(path)
        pending = self._of(path)
        file = fh if fh is not None else os.open(self._path(path), os.O_RDWR)
        try:
            os.ftruncate(file, length) if pending is None else pending.truncate(file, length)
        finally:
            if fh is None:
                os.close(file)

    def fallocate(self, path: str, mode: int, offset: int, length: int, fh: int) -> None:
        self._refuse(path)
        if mode:
            raise OSError(errno.EOPNOTSUPP, "only plain preallocation")
        pending = self._of(path)
        os.posix_fallocate(fh, offset, length) if pending is None else pending.allocate(fh, offset, length)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        self._refuse(path)
        self._wait_for_sync(path)
        if (pending := self._of(path)) is not None:
            pending.synced(os.fstat(fh).st_ino)

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        self._refuse(path)
        self._wait_for_sync(path)
        # The only tool that syncs a directory is the witness.
        pending = self._of(path)
        (self._of_the_witness if pending is None else pending).synced(self._inode(path))

    # Changing directories

    def _inode(self, path: str) -> int:
        return os.lstat(self._path(path)).st_ino

    def _folder(self, path: str) -> int:
        return self._inode(os.path.dirname(path))

    @contextlib.contextmanager
    def _changing(self, path: str) -> Iterator[Pending | None]:
        self._refuse(path)
        pending = self._of(path)
        with contextlib.nullcontext() if pending is None else pending.changing():
            yield pending

    def _grave(self) -> str:
        self._graves += 1
        return f"{self._root}/{GRAVES}/{self._graves}"

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        whole = self._path(path)
        with self._changing(path) as pending:
            new = not os.path.lexists(whole)
            file = os.open(whole, os.O_RDWR | os.O_CREAT, mode)
            if pending is not None and new:
                pending.step(frozenset({self._folder(path), os.fstat(file).st_ino}), lambda: os.unlink(whole))
            return file

    def mknod(self, path: str, mode: int, dev: int) -> None:
        """Make a socket, a pipe or an empty file; no store has business with devices."""
        if not (stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        whole = self._path(path)
        with self._changing(path) as pending:
            os.mknod(whole, mode)
            if pending is not None:
                pending.step(frozenset({self._folder(path), self._inode(path)}), lambda: os.unlink(whole))

    def rename(self, old: str, new: str) -> None:
        source, target, grave = self._path(old), self._path(new), self._grave()
        with self._changing(old) as pending:
            about = frozenset({self._folder(old), self._folder(new), self._inode(old)})
            replaced = pending is not None and os.path.lexists(target) and self._inode(old) != self._inode(new)
            if replaced and os.path.isdir(target):
                os.rmdir(target)
                os.mkdir(grave)
            elif replaced:
                os.link(target, grave, follow_symlinks=False)
            os.rename(source, target)
            if pending is None:
                return

            def undo() -> None:
                os.rename(target, source)
                if replaced:
                    os.rename(grave, target)

            def forget() -> None:
                if replaced:
                    os.rmdir(grave) if os.path.isdir(grave) else os.unlink(grave)

            pending.step(about, undo, forget)

    def unlink(self, path: str) -> None:
        whole, grave = self._path(path), self._grave()
        with self._changing(path) as pending:
            if pending is None:
                os.unlink(whole)
                return
            about = frozenset({self._folder(path), self._inode(path)})
            os.rename(whole, grave)
            pending.step(about, lambda: os.rename(grave, whole), lambda: os.unlink(grave))

    def mkdir(self, path: str, mode: int) -> None:
        whole = self._path(path)
        with self._changing(path) as pending:
            os.mkdir(whole, mode)
            if pending is not None:
                pending.step(frozenset({self._folder(path), self._inode(path)}), lambda: os.rmdir(whole))

    def rmdir(self, path: str) -> None:
        whole = self._path(path)
        with self._changing(path) as pending:
            mode = os.lstat(whole).st_mode & 0o7777
            os.rmdir(whole)
            if pending is not None:
                pending.step(frozenset({self._folder(path)}), lambda: os.mkdir(whole, mode))

    def link(self, target: str, source: str) -> None:
        whole = self._path(target)
        with self._changing(target) as pending:
            os.link(self._path(source), whole)
            if pending is not None:
                pending.step(frozenset({self._folder(target), self._inode(target)}), lambda: os.unlink(whole))

    def symlink(self, target: str, source: str) -> None:
        whole = self._path(target)
        with self._changing(target) as pending:
            os.symlink(source, whole)
            if pending is not None:
                pending.step(frozenset({self._folder(target)}), lambda: os.unlink(whole))

    # Durable at once

    def chmod(self, path: str, mode: int) -> None:
        self._refuse(path)
        os.chmod(self._path(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        self._refuse(path)
        os.chown(self._path(path), uid, gid, follow_symlinks=False)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        self._refuse(path)
        os.utime(self._path(path), ns=times or (time.time_ns(),) * 2)


def _is_killed(pid: int) -> bool:
    """Whether a process, or thread, has been sent a SIGKILL, or is gone: it never sees the end of what it waits for."""
    try:
        with open(f"/proc/{pid}/status") as file:
            pending = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd:", "ShdPnd:"))]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return any(mask >> (signal.SIGKILL - 1) & 1 for mask in pending)
