"""Write what comes in on the standard input, or in a variable, to a file in the run's directory on a host or in the
node's, following no link on the way.

The file is written anew and then takes its place: whoever reads it meanwhile sees the old one or the new one.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import secrets
import shutil
import sys
from typing import BinaryIO

from harness.faults.files import FOLDER, open_plain
from harness.faults.process import HOME_MARK

CONTENT = "SPLITBRAIN_CONTENT"
"""A variable that holds what is to be written, in base64, where the standard input cannot be had."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def write(home: str, path: str, source: BinaryIO, mode: int) -> None:
    """Write all that ``source`` has to ``path``, making the folders above it.

    Raises ``SystemExit`` for a path that leads out of ``home``.
    """
    *folders, name = os.path.relpath(os.path.normpath(path), home).split("/")
    if ".." in folders or name in (".", ".."):
        raise SystemExit(f"{path} is not in the run's directory {home}")
    place = os.open(home, FOLDER)
    for folder in folders:
        try:
            below = os.open(folder, FOLDER, dir_fd=place)
        except FileNotFoundError:
            os.mkdir(folder, 0o755, dir_fd=place)
            below = os.open(folder, FOLDER, dir_fd=place)
        os.close(place)
        place = below
    new = f".{name}-{secrets.token_hex(8)}"
    try:
        with open(os.open(new, _NEW, mode, dir_fd=place), "wb") as file:
            shutil.copyfileobj(source, file)
        os.rename(new, name, src_dir_fd=place, dst_dir_fd=place)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new, dir_fd=place)
        raise
    finally:
        os.close(place)


def deliver(path: str, append: bool = False, mode: int = 0o600, home: str = "") -> None:
    """Write to ``path``, or ``append`` at its end what ``CONTENT`` holds; ``home`` is the node's directory.

    Only its owner may read the file, unless another ``mode`` is given.
    """
    content = base64.b64decode(os.environ[CONTENT]) if CONTENT in os.environ else None
    try:
        if content is not None and append:
            with open_plain(path, "ab") as file:
                file.write(content)
            return
        source = sys.stdin.buffer if content is None else io.BytesIO(content)
        write(home or os.environ[HOME_MARK], path, source, mode)
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}") from None


VERBS = (deliver,)
