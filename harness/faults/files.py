"""The files of a store on the node that this runs in, and where in them there is data.

Files may be long and mostly empty, as logs that were made long in advance are. None is ever held in memory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

OURS = ".splitbrain"
"""Files whose names begin so belong to the harness."""
COPY = f"{OURS}-copy-"
"""Where a copy of the store's files is kept, under a name that follows."""
NOT_DATA = (".conf", ".log")
"""The ends of the names of what servers are told, or say."""
BLOCK = 4096


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
    end = os.fstat(file).st_size
    at = 0
    while at < end:
        try:
            at = os.lseek(file, at, os.SEEK_DATA)
            stop = os.lseek(file, at, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        while at < stop:
            block = os.pread(file, min(BLOCK - at % BLOCK, stop - at), at)
            if block.strip(b"\0"):
                yield at, block
            at += max(len(block), 1)
