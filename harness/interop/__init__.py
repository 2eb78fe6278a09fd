"""Histories of other tools, in and out. Everything is read as data; nothing in a file is ever evaluated."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import HistoryError
from harness.history import History, read_jsonl

_JSON = re.compile(rb'\s*\{\s*"[^"]*"\s*:')
_LOG = re.compile(rb"(INFO\s+\S+\s+-\s+)?(\d+|:nemesis)\s+:(invoke|ok|fail|info)\b")


def read_history(path: Path, *, independent: bool = False) -> History:
    """Read a history, whichever tool wrote it: splitbrain, Jepsen, Knossos or Porcupine.

    ``independent`` takes every value as a ``[key value]`` tuple of jepsen.independent. Raises ``HistoryError`` with the
    number of the first line that is not understood.
    """
    try:
        with path.open("rb") as file:
            start = file.read(1 << 16)
    except OSError as error:
        raise HistoryError(f"{path} cannot be read: {error.strerror}") from None
    if not start.strip():
        raise HistoryError(f"{path} is empty, not a history")
    if _JSON.match(start):
        return read_jsonl(path)
    from harness.interop import jepsen

    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise HistoryError("this is not text", line=line, path=str(path)) from None
    try:
        if any(_LOG.match(line.strip()) for line in start.splitlines()[:50]):
            return jepsen.from_log(text, independent=independent)
        return jepsen.from_edn(text, independent=independent)
    except HistoryError as error:
        raise HistoryError(error.message, line=error.line, path=str(path)) from None
