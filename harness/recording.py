"""The history on disk: JSON lines, written while the run goes, and read back.

``Recorder`` appends one line per event with one ``write`` each, so a killed harness loses at most the line that
it was writing.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np

from harness.columns import Ints, refuse_repeated, whole_numbers
from harness.doubled import refuse_doubled
from harness.errors import HistoryError
from harness.history import History, HistoryBuilder, from_events
from harness.operation import Event

_CHUNK_BYTES: Final = 1 << 22
_NO_EVENT: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_LONGEST_LINE: Final = 1 << 26


class Recorder:
    """Appends events to a file as they happen and hands each to whoever listens.

    ``failure`` says why the file could not be written any more, from some event on; the events are kept all the same.
    """

    def __init__(self, path: Path) -> None:
        self.failure: str | None = None
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._stat = os.fstat(self._file)
        self._encode = msgspec.json.Encoder().encode
        self._hash = hashlib.sha256()
        self._listeners: list[Callable[[Event], None]] = []
        self.events: list[Event] = []

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` with each event from now on."""
        self._listeners.append(listener)

    def record(self, event: Event) -> Event:
        """Append ``event``, whose index is set to its place in the history."""
        event.index = len(self.events)
        try:
            line = self._encode(event)
        except UnicodeEncodeError:  # of a store whose words are no text: nobody could write them down, or show them
            event = msgspec.convert(_as_text(msgspec.to_builtins(event)), Event)
            line = self._encode(event)
        self.events.append(event)
        line += b"\n"
        self._hash.update(line)
        if self.failure is None:
            self._append(line)
        for listener in self._listeners:
            listener(event)
        return event

    def _append(self, line: bytes) -> None:
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except OSError as error:
            self.failure = error.strerror or str(error)

    @property
    def digest(self) -> str:
        """The SHA-256 of all lines that were recorded so far, whether they could be written or not."""
        return self._hash.hexdigest()

    def history(self) -> History:
        """What was recorded so far, as it would be read back from the file."""
        return from_events(msgspec.json.decode(msgspec.json.encode(self.events), type=list[Event]))

    def stands_in(self, path: Path) -> bool:
        """Whether everything that was recorded is in the file of this name, and that is still the one written to."""
        if self.failure is not None:
            return False
        try:
            return os.path.samestat(path.stat(), self._stat)
        except OSError:
            return False

    def close(self) -> None:
        """Close the file; recording again is an error."""
        os.close(self._file)


def _as_text(value: Any) -> Any:
    """The same with what is no character written as an escape, in all strings that it is made of."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_text(item) for item in value]
    return value


def read_jsonl(path: Path) -> History:
    """Read a history of JSON lines; a torn last line is left out and noted.

    Raises ``HistoryError`` with the number of the first line that is not an event.
    """
    with path.open("rb") as file:
        return read_events(file, path)


def read_events(file: BinaryIO, path: Path) -> History:
    """The same from a file that is open already; ``path`` is its name in messages."""
    decoder = msgspec.json.Decoder(Event)
    builder = HistoryBuilder()
    torn = False
    indices: list[Ints] = []

    def add(events: list[Event]) -> None:
        base = len(builder)
        try:
            builder.add(events)
            indices.append(whole_numbers([event.index for event in events], "index", base))
        except HistoryError as error:
            raise HistoryError(error.message, line=error.line, path=str(path)) from None

    with paused_gc():
        rest = b""
        while chunk := file.read(_CHUNK_BYTES):
            head, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                add(_decode(decoder, head, len(builder), path))
            if len(rest) > _LONGEST_LINE:
                message = f"this line is longer than {_LONGEST_LINE >> 20} MiB, no event of a history"
                raise HistoryError(message, line=len(builder) + 1, path=str(path))
        if rest.strip():
            try:
                decoder.decode(rest)
            except _NO_EVENT:
                torn = True
            else:
                add(_decode(decoder, rest, len(builder), path))
    if torn and not len(builder):
        raise HistoryError("this is not an event of a history", line=1, path=str(path))
    index = np.concatenate(indices) if indices else np.zeros(0, dtype=np.int64)
    if (index == np.arange(len(index))).all():
        return builder.build(torn=torn)
    try:
        refuse_repeated(index)
    except HistoryError as error:
        raise HistoryError(error.message, line=error.line, path=str(path)) from None
    return builder.build(index=index, torn=torn)


def _decode(decoder: msgspec.json.Decoder[Event], data: bytes, lines_before: int, path: Path) -> list[Event]:
    try:
        events = decoder.decode_lines(data)
        if len(events) == data.count(b"\n") + 1:
            refuse_doubled(events, data, lines_before)
            return events
    except HistoryError as error:
        raise HistoryError(error.message, line=error.line, path=str(path)) from None
    except _NO_EVENT:
        pass
    for number, line in enumerate(data.split(b"\n"), lines_before + 1):
        try:
            decoder.decode(line)
        except RecursionError:
            raise HistoryError("this line is nested too deep", line=number, path=str(path)) from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            message = "this line is empty" if not line.strip() else f"this is not an event of a history ({error})"
            raise HistoryError(message, line=number, path=str(path)) from None
    raise HistoryError("this is not a history of one event a line", line=lines_before + 1, path=str(path))


@contextlib.contextmanager
def paused_gc() -> Iterator[None]:
    """Millions of small objects that all stay alive: collecting them again and again doubles the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
