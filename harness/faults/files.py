"""The files of a store on the node that this runs in, and where in them there is data.

Files may be long and mostly empty, as logs that were made long in advance are. None is ever held in memory. A store may
put links in the place of its files at any moment, which lead to what is not its own: no link is followed.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator

from harness.faults.output import NEW, OLD

OURS = ".splitbrain"
"""Files whose names begin so belong to the harness."""
COPY = f"{OURS}-copy-"
"""Where a copy of the store's files is kept, under a name that follows."""
NOT_DATA = (".conf", ".log", f".log{NEW}", f".log{OLD}")
"""The ends of the names of what servers are told, or say."""
BLOCK = 4096
_CHUNK = 256 * BLOCK
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FLAGS = {
    "rb": os.O_RDONLY,
    "r+b": os.O_RDWR,
    "wb": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
}


@contextlib.contextmanager
def open_folder(path: str, *, folder: int | None = None) -> Iterator[int]:
    """A folder that is no link, open while this lasts; its path begins at ``/`` or in ``folder``.

    Raises ``OSError``.
    """
    opened = os.open(path, FOLDER, dir_fd=folder)
    try:
        yield opened
    finally:
        os.close(opened)


def open_plain(path: str, mode: str = "rb", *, folder: int | None = None) -> io.FileIO:
    """Open a regular file with no link on the whole way to it, which begins at ``/`` or in ``folder``.

    Raises ``OSError``, also for what is there and is no regular file.
    """
    first, *names = path.split("/")
    at = os.open("/" if folder is None else ".", FOLDER, dir_fd=folder)
    try:
        for name in [first, *names[:-1]] if names else []:
            if name == "..":
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            below = os.open(name or ".", FOLDER, dir_fd=at)
            os.close(at)
            at = below
        # Neither a pipe that nobody reads nor one that nobody writes to is waited for.
        flags = _FLAGS[mode] | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.open(names[-1] if names else first, flags, 0o666, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no regular file", path)
    return io.FileIO(file, mode)


def files(path: str) -> Iterator[str]:
    """The store's regular files, of all folders below a directory."""
    for folder, folders, names, at in os.fwalk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(OURS))
        for name in sorted(names):
            if name.startswith(OURS) or name.endswith(NOT_DATA):
                continue
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                    yield f"{folder}/{name}"


def data(file: int) -> Iterator[tuple[int, bytes]]:
    """The blocks of an open file that hold anything but zeros, with their places; holes are passed over, unread."""
    for start, chunk in _chunks(file):
        for at in range(0, len(chunk), BLOCK):
            block = chunk[at : at + BLOCK]
            if block.strip(b"\0"):
                yield start + at, block


def _chunks(file: int) -> Iterator[tuple[int, bytes]]:
    """The same in larger pieces, which begin where blocks do."""
    end = os.fstat(file).st_size
    at = 0
    while at < end:
        try:
            at = os.lseek(file, at, os.SEEK_DATA) // BLOCK * BLOCK
            stop = os.lseek(file, at, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        while at < stop:
            chunk = os.pread(file, min(_CHUNK, stop - at), at)
            if chunk.strip(b"\0"):
                yield at, chunk
            at += -(-max(len(chunk), 1) // BLOCK) * BLOCK
