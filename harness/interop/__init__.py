"""Histories of other tools, in and out. Everything is read as data; nothing in a file is ever evaluated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from harness.errors import HistoryError, field
from harness.history import INVOKE, OK, History
from harness.interop.source import Source, opened
from harness.recording import paused_gc, read_events

_START: Final = re.compile(rb"(?:[\s,]|;[^\n]*(?:\n|\Z))*")
_JSON_VALUE: Final = rb'(?:["\[{\d-]|(?:true|false|null|NaN|Infinity)\b)'
_JSON: Final = re.compile(
    rb'\[?\s*(?:\{\s*"[^"]*"\s*:\s*' + _JSON_VALUE + rb'|\[?\s*(?:\d+|"[^"]*")\s*,\s*"(?:invoke|ok|fail|info)")'
)
_EDN: Final = re.compile(rb"[({#^]|\[(?!\d\d\d\d-)")


def read_history(path: Path, *, independent: bool = False) -> History:
    """Read a history, whichever tool wrote it: splitbrain, Jepsen, Knossos, Porcupine, AWDIT; ``-`` is standard input.

    JSON lines that all have an index and a time, and numbers for clients, are read as splitbrain's own, whoever wrote
    them: what completes a write is the client's answer there, such as a count of rows, and what it wrote its argument.
    In all other histories, and with ``independent``, the value of a completion stands for the operation, as in Knossos.

    ``independent`` takes every value as a ``[key value]`` tuple of jepsen.independent. What a reader should know beside
    the verdict is in ``notes``. Raises ``HistoryError`` with the number of the first line that is not understood.
    """
    try:
        with opened(path) as source, paused_gc():
            history = _read(source, path, independent=independent)
    except HistoryError as error:
        where = None if error.message.startswith(str(path)) else str(path)
        raise HistoryError(error.message, line=error.line, path=where) from None
    history.notes += history.steps_back()
    if looks_keyed(history):
        history.notes.append(KEYED)
    return history


def _read(source: Source, path: Path, *, independent: bool) -> History:
    from harness.interop import awdit, fields, jepsen, json_text, logs

    head = source.stream().read(1 << 16)
    start = _START.match(head)
    assert start is not None
    begins = start.end()
    if begins == len(head) and begins < 1 << 16:
        raise HistoryError("there is nothing in it: it is empty, not a history", line=1)
    if _JSON.match(head, begins):
        if not independent:
            try:
                return read_events(source.stream(), path)
            except HistoryError:
                pass  # it is not as splitbrain writes it: then as others do
        text = json_text.JsonText(source.text())
        try:
            history = fields.history(text.operations(), independent=independent)
        except HistoryError as error:
            raise HistoryError(f"this is not an event of a history ({error.message})", line=error.line) from None
        history.torn = text.torn
        return history
    if _EDN.match(head, begins):
        return fields.history(jepsen.operations(source.text()), independent=independent)
    if awdit.looks_like_it(head, begins):
        return awdit.history(source.text())
    return fields.history(logs.operations(source.text("surrogateescape")), independent=independent)


KEYED: Final = f"the values look like [key value] pairs of several objects: {field('independent', True)} reads them so"


def looks_keyed(history: History) -> bool:
    """Whether each value is a pair, and some operation asks for the second half of its own: those pairs have keys."""
    asks = False
    if any(key is not None for key in history.keys):
        return False
    for row, (process, kind) in enumerate(zip(history.process, history.type, strict=True)):
        if process >= 0 and kind in (INVOKE, OK):
            value = history.value[row]
            if not isinstance(value, list) or len(value) != 2:
                return False
            asks |= kind == INVOKE and value[1] is None and history.functions[history.f[row]] != "cas"
    return asks
