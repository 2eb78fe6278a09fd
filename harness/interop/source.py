"""The bytes of a history, wherever they come from: a file or a pipe, perhaps compressed, with a byte order mark."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import os
import select
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from harness.errors import HistoryError

PATIENCE: Final = 20.0
"""How many seconds a pipe that is named as a file may be silent."""
_GZIP: Final = b"\x1f\x8b"
_MOST_TEXT: Final = 2 << 30
"""How much text is read in one piece: what a small compressed file can grow to must have an end."""


class Source:
    """A history that can be read from its beginning as often as needed."""

    def __init__(self, file: BinaryIO) -> None:
        start = file.read(3)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            file = io.BytesIO((start + file.read(_MOST_TEXT)).decode("utf-16", "replace").encode())
            start = b""
        self._file = file
        self._begins = 3 if start == codecs.BOM_UTF8 else 0

    def stream(self) -> BinaryIO:
        """The bytes, from the beginning on and after the byte order mark."""
        self._file.seek(self._begins)
        return self._file

    def text(self, errors: str = "strict") -> str:
        """All of it as text. Raises ``HistoryError`` with the line of the first byte that is none."""
        data = self.stream().read(_MOST_TEXT + 1)
        if len(data) > _MOST_TEXT:
            raise HistoryError(f"it is larger than {_MOST_TEXT >> 30} GiB: only JSON lines can be read in pieces")
        try:
            return data.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise HistoryError("this is not text", line=data[: error.start].count(b"\n") + 1) from None


def _open(path: Path) -> BinaryIO:
    """Open a file, or a pipe whether somebody writes to it or not."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def _read(pipe: BinaryIO, path: Path) -> bytes:
    """All of a pipe. Raises ``HistoryError`` when nobody writes to it, or goes on to."""
    if str(path) == "-":
        return pipe.read()
    os.set_blocking(pipe.fileno(), True)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    pieces: list[bytes] = []
    while True:
        # Without anybody who has opened the other end there is no end of file either.
        if not poll.poll(PATIENCE * 1000):
            what = "nobody has written the rest of it" if pieces else "it is a pipe and nobody has written to it"
            raise HistoryError(f"{path} cannot be read: {what} within {PATIENCE:g} s")
        piece = os.read(pipe.fileno(), 1 << 20)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open a history; ``-`` is standard input. Raises ``HistoryError`` for what cannot be read or decompressed."""
    try:
        with contextlib.ExitStack() as stack:
            raw = sys.stdin.buffer if str(path) == "-" else stack.enter_context(_open(path))
            file: BinaryIO = raw if raw.seekable() else io.BytesIO(_read(raw, path))
            begins = file.read(2)
            file.seek(0)
            if begins == _GZIP:
                file = stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb"))  # type: ignore[assignment]
            yield Source(file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise HistoryError(f"{path} cannot be decompressed: {error}") from None
    except OSError as error:
        raise HistoryError(f"{path} cannot be read: {error.strerror or error}") from None
