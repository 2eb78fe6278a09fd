"""Histories of transactions as AWDIT reads them: text with a read or a write a line, and no times at all.

There are two forms. Plume's and PolySI's has a line for each, ``r(KEY,VALUE,SESSION,TRANSACTION)`` or ``w(...)``: the
value 0 is what every key holds at first, and the transaction -1 stands for all that were aborted. AWDIT's own, meant
for tests, has ``r KEY VALUE`` or ``w KEY VALUE``, lines of hyphens between transactions and of equals signs between
sessions; a value that nobody writes is wrong there, 0 as well.

Each transaction is a completion without an invocation, since nothing says when it ran; sessions are processes.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from harness.columns import LARGEST
from harness.errors import HistoryError
from harness.history import History, HistoryBuilder
from harness.operation import Event

_PLUME: Final = re.compile(r"([rw])\((\d+),(\d+),(\d+),(-?\d+)\)", re.ASCII)
_TEST: Final = re.compile(r"([rw])[ \t]+(\d+)[ \t]+(\d+)", re.ASCII)
_RULE: Final = re.compile(r"-+|=+")
_FIRST: Final = re.compile(
    rb"(?:(?:-+|=+)\s+)*(?:[rw]\(\s*\d+\s*,\s*\d+\s*,\s*\d+\s*,|[rw][ \t]+\d+[ \t]+\d+\s*(?:\n|\Z))"
)
_ABORTED: Final = -1
_AT_FIRST: Final = 0
_LONGEST: Final = 25
"""Digits of a number: those of one with more are too many, however it is written."""

_Part = list[Any]
"""Function, key and value."""
_Raw = tuple[int, int, list[_Part], int]
"""A transaction: its process, its number, what it did, and its first line."""


def looks_like_it(head: bytes, begins: int = 0) -> bool:
    """Whether a text begins as such a history does."""
    return _FIRST.match(head, begins) is not None


def history(text: str) -> History:
    """The history of a text of either form. Raises ``HistoryError`` with the line of what does not belong there."""
    lines = text.split("\n")
    plume = next((line.strip()[1:2] == "(" for line in lines if line.strip()[:1] in ("r", "w")), False)
    events, at = _plume(lines) if plume else _test(lines)
    if not events:
        raise HistoryError("there is no transaction in it", line=1)
    builder = HistoryBuilder()
    builder.add(events)
    read = builder.build(line=np.array(at, dtype=np.int64), restated=True)
    read.timeless = True
    read.notes.append("the file has no times: transactions are ordered by their sessions alone")
    return read


def _plume(lines: list[str]) -> tuple[list[Event], list[int]]:
    transactions: dict[int, list[_Part]] = {}
    of: list[_Raw] = []
    sessions: dict[int, int] = {}
    first: list[_Part] = []
    written_at_first: set[int] = set()
    homes: dict[int, int] = {}
    for number, raw in enumerate(lines, 1):
        line = raw.strip().replace(" ", "")
        if not line:
            continue
        match = _PLUME.fullmatch(line)
        if match is None:
            raise HistoryError(f"this is not r(KEY,VALUE,SESSION,TRANSACTION) or w(...): {line}", line=number)
        f = match[1]
        key, value, session, name = (_number(match[at], number) for at in range(2, 6))
        if name < _ABORTED:
            message = f"a transaction has the number {name}, not one from 0 on, or -1 for aborted"
            raise HistoryError(message, line=number)
        part: _Part = [f, key, value]
        if value == _AT_FIRST:
            if f == "r":
                first.append(part)
            elif name != _ABORTED:
                written_at_first.add(key)
        process = sessions.setdefault(session, len(sessions))
        if name == _ABORTED:
            of.append((process, _ABORTED, [part], number))
            continue
        parts = transactions.get(name)
        if parts is None:
            parts = transactions[name] = []
            homes[name] = process
            of.append((process, name, parts, number))
        elif homes[name] != process:
            raise HistoryError(f"transaction {name} is in two sessions", line=number)
        parts.append(part)
    for part in first:
        if part[1] not in written_at_first:
            part[2] = None
    return _events(of)


def _test(lines: list[str]) -> tuple[list[Event], list[int]]:
    of: list[_Raw] = []
    parts: list[_Part] = []
    session = began = 0
    has_any = False
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        if not line:
            continue
        if _RULE.fullmatch(line):
            if parts:
                of.append((session, 0, parts, began))
                has_any = True
            parts = []
            if line[0] == "=" and has_any:
                session, has_any = session + 1, False
            continue
        match = _TEST.fullmatch(line)
        if match is None:
            raise HistoryError(f"this is not r KEY VALUE, w KEY VALUE, ---- or ====: {line}", line=number)
        began = began if parts else number
        parts.append([match[1], _number(match[2], number), _number(match[3], number)])
    if parts:
        of.append((session, 0, parts, began))
    return _events(of)


def _number(text: str, line: int) -> int:
    if len(text) > _LONGEST or not -LARGEST < int(text) < LARGEST:
        raise HistoryError(f"the number {text[:40]} is too large", line=line)
    return int(text)


def _events(of: list[_Raw]) -> tuple[list[Event], list[int]]:
    events = [
        Event(at, at, process, "fail" if name == _ABORTED else "ok", "txn", None, parts)
        for at, (process, name, parts, _) in enumerate(of)
    ]
    return events, [line for _, _, _, line in of]
