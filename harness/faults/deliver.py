"""Write what comes in on the standard input to a file in the run's directory on a host, following no link on the way.

The file is written anew and then takes its place: whoever reads it meanwhile sees the old one or the new one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
from typing import Any

from harness.faults.process import HOME_MARK

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def write(home: str, path: str) -> None:
    """Write to ``path``, making the folders above it. Raises ``SystemExit`` for a path that leads out of ``home``."""
    *folders, name = os.path.relpath(os.path.normpath(path), home).split("/")
    if ".." in folders or name in (".", ".."):
        raise SystemExit(f"{path} is not in the run's directory {home}")
    place = os.open(home, _FOLDER)
    for folder in folders:
        try:
            below = os.open(folder, _FOLDER, dir_fd=place)
        except FileNotFoundError:
            os.mkdir(folder, 0o755, dir_fd=place)
            below = os.open(folder, _FOLDER, dir_fd=place)
        os.close(place)
        place = below
    new = f".{name}-{secrets.token_hex(8)}"
    try:
        with open(os.open(new, _NEW, 0o600, dir_fd=place), "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        os.rename(new, name, src_dir_fd=place, dst_dir_fd=place)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new, dir_fd=place)
        raise
    finally:
        os.close(place)


def main(request: dict[str, Any]) -> None:
    """Write to ``path``."""
    try:
        write(os.environ[HOME_MARK], request["path"])
    except OSError as error:
        raise SystemExit(f"{request['path']}: {error.strerror}") from None
