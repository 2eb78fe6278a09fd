"""The files of a store on the node that this runs in, and where in them there is data.

Files may be long and mostly empty, as logs that were made long in advance are. None is ever held in memory.
"""

from __future__ import annotations

import errno
import os
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


def files(path: str) -> Iterator[str]:
    """The store's files, of all folders below a directory."""
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(OURS))
        for name in sorted(names):
            whole = f"{folder}/{name}"
            if not name.startswith(OURS) and not name.endswith(NOT_DATA) and not os.path.islink(whole):
                yield whole


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
