"""The whole history inside the page: columns of bytes, compressed, which the page's script opens when they are needed.

Whole numbers are written less the one before, or less that of the invocation, and all their first bytes, all their
second ones, ... together: a million operations take a few bytes each. Every other value is the line of JSON that the
history has it as, so that what is downloaded from the page is what the run wrote. ``history_data.js`` reads it.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
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
_LENGTHS: Final = (None, 2000, 200)
"""How much of a text is kept: all of it, and what is tried where that is too much."""
_EXACT: Final = 1 << 53
"""A browser's numbers are exact up to here."""
_PIECE: Final = 1 << 16

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
    for length in _LENGTHS:
        columns = columns_of(story.history, story.operations, length)
        data = columns.packed()
        if data is not None and len(data) * 4 // 3 <= most:
            note = f"Texts of more than {length:,} characters are cut here." if length else ""
            # Base64 has nothing that could end an element.
            return HistoryTable(events, operations, Markup(base64.b64encode(data).decode()), note)  # noqa: S704
        if columns.longest <= _LENGTHS[-1]:
            break
    return HistoryTable(events, operations, Markup(""), "It is too large for this page.")


def columns_of(history: History, operations: Operations, length: int | None = None) -> Columns:
    """The columns of a history; texts are cut to so many bytes."""
    columns = Columns(length)
    columns.told = {"rows": len(history), "timeless": history.timeless}
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
    # What was said of one key stands together, since one answer resembles the next one.
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
    """Collects columns and texts. A text longer than ``length`` is cut; ``longest`` is how long one was.

    ``told`` is what else the page should know.
    """

    def __init__(self, length: int | None) -> None:
        self.longest = 0
        self.told: dict[str, Any] = {}
        self._length = length
        self._columns: dict[str, dict[str, Any]] = {}
        self._texts: dict[str, list[bytes]] = {}
        self._parts: list[bytes] = []
        self._size = 0
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
        self._columns[name] = {
            "count": len(column), "width": width, "least": str(least), "steps": steps,
        }  # fmt: skip
        self._put(np.ascontiguousarray(planes.T).tobytes())

    def texts(self, name: str, values: Sequence[Any]) -> None:
        """Values as lines of JSON, to those that there are by this name."""
        lines = msgspec.json.Encoder().encode_lines(values)
        separate = lines.split(b"\n")[:-1]
        self.longest = max(self.longest, max(map(len, separate), default=0))
        if self._length is not None:
            lines = b"".join(self._cut(line) + b"\n" for line in separate)
        self._texts.setdefault(name, []).append(lines)
        self._size += len(lines)

    def _cut(self, line: bytes) -> bytes:
        """``~``, how long it was, and how it began: no JSON begins like that."""
        assert self._length is not None
        if len(line) <= self._length:
            return line
        return f"~{len(line)}~{line[: self._length].decode(errors='ignore')}".encode()

    def _put(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)

    def packed(self) -> bytes | None:
        """All of it, compressed, after a line that says what is where; None if no browser could hold it."""
        if self._inexact or self._size > _RAW:
            return None
        texts = {name: b"".join(lines) for name, lines in self._texts.items()}
        head = {
            "columns": self._columns,
            "texts": {name: len(text) for name, text in texts.items()},
            **self.told,
        }
        return gzip.compress(
            b"".join((json.dumps(head).encode(), b"\n", *self._parts, *texts.values())), compresslevel=6, mtime=0
        )
