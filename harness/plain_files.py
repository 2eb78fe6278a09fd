"""Files that others may have put there: read where they are files at all, and written whole, through no link."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path


def read_plain(path: Path) -> bytes:
    """What is in a file. Raises ``OSError`` where it is none, but a pipe that nobody writes into, or a device."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        return file.read()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, through no link. Raises ``OSError``."""
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        with open(handle, "wb") as file:
            file.write(data)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
