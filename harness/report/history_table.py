"""The whole history inside the page: columns of bytes, compressed, which the page's script opens when they are needed.

Whole numbers are written less the one before, or less that of the invocation, and all their first bytes, all their
second ones, ... together: a million operations take a few bytes each. Every other value is the line of JSON that the
history has it as, so that what is downloaded from the page is what the run wrote. ``history_data.js`` reads it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from harness.columns import NOTHING, SINGLE, Ints
from harness.history import History, Operations
from harness.report.story import Story

MOST: Final = 16_000_000
"""The most bytes that the history may take in the page."""
_RAW: Final = 400 << 20
"""The most that a browser is asked to unpack."""
_SHORTEST: Final = 200
_LENGTHS: Final = (None, 2000, _SHORTEST)
"""How many bytes of a text are kept: all of them, and what is tried where that is too much."""
_EXACT: Final = 1 << 53
"""A browser's numbers are exact up to here."""
_PIECE: Final = 1 << 16
"""How many values are written at once."""
_GZIP: Final = 31
"""What tells zlib to write gzip, which browsers read."""

NOTHING_THERE, NUMBER, PAIR, ONLY_SECOND, ONLY_FIRST, NEITHER, TEXT, SAME = range(8)
"""What a value is: none, a number, a pair of numbers (or of one, or of none), anything else, that of the invocation."""


@dataclass(frozen=True)
class HistoryTable:
    """The history as the page holds it. ``data`` is empty if it is too much for a page, and ``note`` says so."""

    events: int
    operations: int
    data: Markup
    note: str = ""


def history_table(story: Story, most: int = MOST) -> HistoryTable | None:
    """The history in at most so many bytes; None where nothing happened."""
    events, operations = len(story.history), len(story.operations)
    if not events:
        return None
    columns = columns_of(story.history, story.operations)
    for length in _LENGTHS:
        data = columns.packed(length)
        if data is not None and len(data) * 4 // 3 <= most:
            note = f"Texts of more than {length:,} characters are cut here." if length else ""
            # Base64 has nothing that could end an element.
            return HistoryTable(events, operations, Markup(base64.b64encode(data).decode()), note)  # noqa: S704
        if columns.longest <= _SHORTEST:
            break
    return HistoryTable(events, operations, Markup(""), "It is too large for this page.")


def columns_of(history: History, operations: Operations) -> Columns:
    """The columns of a history."""
    columns = Columns({"rows": len(history), "timeless": history.timeless})
    answered = (operations.completed >= 0) & (operations.completed != operations.invoked)
    asked, answers = operations.invoked[answered], operations.completed[answered]

    def like_the_invocation(column: NDArray[Any]) -> Ints:
        less = column.astype(np.int64)
        less[answers] -= column[asked]
        return less

    kind = _kinds(history, asked, answers)
    if history.index is not None:
        columns.add("index", history.index, steps=True)
    columns.add("time", history.time, steps=True)
    columns.add("process", history.process)
    columns.add("type", history.type)
    columns.add("f", like_the_invocation(history.f))
    columns.add("key", like_the_invocation(history.key))
    columns.add("node", _like_the_first(history.node, history.process))
    columns.add("server", history.server)
    terms = history.term[history.server > 0]
    columns.add("termed", terms != NOTHING)
    columns.add("term", terms[terms != NOTHING], steps=True)
    columns.add("kind", kind)
    columns.add("number", history.number[np.isin(kind, (NUMBER, PAIR, ONLY_FIRST))], steps=True)
    columns.add("second", history.second[np.isin(kind, (PAIR, ONLY_SECOND))], steps=True)
    errors = list(dict.fromkeys(history.error.values()))
    number = {error: at for at, error in enumerate(errors)}
    rows = sorted(history.error)
    columns.add("failed", np.array(rows, np.int64), steps=True)
    columns.add("error", np.array([number[history.error[row]] for row in rows], np.int64))
    columns.texts("functions", history.functions)
    columns.texts("keys", history.keys)
    columns.texts("nodes", history.nodes)
    columns.texts("errors", errors)
    # The values of one key stand together, since one answer resembles the next one.
    others = np.flatnonzero(kind == TEXT)
    others = others[np.argsort(history.key[others], kind="stable")]
    value = history.value
    for start in range(0, len(others), _PIECE):
        columns.texts("values", [value[row] for row in others[start : start + _PIECE].tolist()])
    return columns


def _like_the_first(column: NDArray[Any], process: Ints) -> Ints:
    """A column less what it is where each process is first met: nothing, where that never changes."""
    _, first, which = np.unique(process, return_index=True, return_inverse=True)
    less: Ints = column.astype(np.int64)
    less -= column[first[which]]
    less[first] = column[first]
    return less


def _kinds(history: History, asked: Ints, answers: Ints) -> NDArray[np.int8]:
    number, second = history.number, history.second
    kind = np.full(len(history), NUMBER, np.int8)
    kind[number == NOTHING] = NOTHING_THERE
    pair = second != SINGLE
    kind[pair] = PAIR
    kind[pair & (number == NOTHING)] = ONLY_SECOND
    kind[pair & (second == NOTHING)] = ONLY_FIRST
    kind[pair & (number == NOTHING) & (second == NOTHING)] = NEITHER
    for column, empty in ((number, (NOTHING,)), (second, (NOTHING, SINGLE))):
        kind[~np.isin(column, empty) & ((column <= -_EXACT // 2) | (column >= _EXACT // 2))] = TEXT
    same = (number[asked] == number[answers]) & (second[asked] == second[answers]) & (kind[answers] != TEXT)
    kind[answers[same]] = SAME
    return kind


class Columns:
    """Collects columns of numbers, and texts; ``about`` is what else the page should know.

    ``longest`` is how long the longest text is (bytes).
    """

    def __init__(self, about: dict[str, Any]) -> None:
        self.longest = 0
        self._about = about
        self._columns: dict[str, dict[str, Any]] = {}
        self._planes: list[bytes] = []
        self._texts: dict[str, list[bytes]] = {}
        self._inexact = False

    def add(self, name: str, column: NDArray[Any], *, steps: bool = False) -> None:
        """A column of whole numbers; ``steps`` if neighbours differ by little."""
        least = int(column.min()) if len(column) else 0
        if len(column) and int(column.max()) - least >= _EXACT:
            self._inexact = True
            return
        whole = column.astype(np.int64) - least
        if steps:
            whole = np.diff(whole, prepend=0)
            whole = (whole << 1) ^ (whole >> 63)  # small numbers of either sign become small ones
        width = max((int(whole.max(initial=0)).bit_length() + 7) // 8, 1)
        planes = whole.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width]
        self._columns[name] = {"count": len(column), "width": width, "least": str(least), "steps": steps}
        self._planes.append(np.ascontiguousarray(planes.T).tobytes())

    def texts(self, name: str, values: Sequence[Any]) -> None:
        """Values as lines of JSON, to those that there are by this name."""
        lines = msgspec.json.Encoder().encode_lines(values)
        self.longest = max(self.longest, max(map(len, lines.split(b"\n")), default=0))
        self._texts.setdefault(name, []).append(lines)

    def packed(self, length: int | None = None) -> bytes | None:
        """All of it, compressed, with texts of at most so many bytes; None if no browser could hold it.

        A line that says what the columns are, the columns, a line that says how long the texts are, and the texts.
        """
        texts = {name: b"".join(_cut(lines, length) if length else lines) for name, lines in self._texts.items()}
        if self._inexact or sum(map(len, (*self._planes, *texts.values()))) > _RAW:
            return None
        compressor = self._compressed[0].copy()
        sizes = json.dumps({name: len(text) for name, text in texts.items()}).encode()
        rest = b"".join((sizes, b"\n", *texts.values()))
        return b"".join((self._compressed[1], compressor.compress(rest), compressor.flush()))

    @cached_property
    def _compressed(self) -> tuple[zlib._Compress, bytes]:
        """What goes on after the columns, and these: they are the same however much of the texts is kept."""
        compressor = zlib.compressobj(6, wbits=_GZIP)
        head = json.dumps({"columns": self._columns, **self._about}).encode()
        return compressor, compressor.compress(b"".join((head, b"\n", *self._planes)))


def _cut(texts: Sequence[bytes], length: int) -> Iterator[bytes]:
    """The same texts, each in at most so many bytes: ``~``, how long it was, and how it began. No JSON begins so."""
    for lines in texts:
        for line in lines.split(b"\n")[:-1]:
            begins = f"~{len(line)}~{line[:length].decode(errors='ignore')}".encode() if len(line) > length else line
            yield begins + b"\n"
