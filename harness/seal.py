"""The seal of a run: its last event says what was recorded before it, and of which experiment.

It shows what was lost, damaged or changed afterwards. It is no signature: whoever forges a whole history can seal it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from harness.history import MONITOR_PROCESS, TYPES, History, Operations
from harness.operation import FINISHED, EventType
from harness.run_directory import RunDirectory
from harness.verdict import Budget, Checker, Verdict
from harness.words import count

_PIECE: Final = 1 << 20


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The value of the event ``finished``: how many events of clients there are of each type, and two digests.

    ``history`` is the SHA-256 of all lines before that event, ``experiment`` that of experiment.json.
    """

    events: dict[EventType, int]
    history: str
    experiment: str


class Integrity(Checker):
    """Valid when the history of a run, and its experiment, are what the run wrote; else unknown, never invalid.

    A history without its last event has no seal; that the run did not end is for ``completeness`` to say.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    def check(self, history: History, budget: Budget) -> Verdict:
        if why := _gap(history) or _broken(history, self._directory):
            return Verdict("unknown", f"these are not the files that the run wrote: {why}")
        return Verdict("valid")


def _gap(history: History) -> str | None:
    """Events that are missing from the file's own numbering, or stand elsewhere in it."""
    if history.index is None:
        return None
    row = int(np.flatnonzero(history.index != np.arange(len(history)))[0])
    return f"line {history.line_of(row)} of the history has the index {history.index_of(row):,}, not {row:,}"


def _broken(history: History, directory: RunDirectory) -> str | None:
    """What does not fit the seal; None if everything does, or there is none since the run did not end."""
    ends = [
        row
        for row in np.flatnonzero(history.process == MONITOR_PROCESS).tolist()
        if _function(history, row) == FINISHED
    ]
    if not ends:
        return None
    line = history.line_of(ends[0])
    try:
        seal = msgspec.convert(history.value[ends[0]], Seal)
    except msgspec.ValidationError:
        return f"line {line} of the history, where the run ended, does not say what was recorded before"
    if ends[0] != len(history) - 1:
        return f"the history goes on after line {line}, where the run ended"
    return (
        _miscounted(history, seal)
        or _unpaired(history.operations())
        or _other(directory.history, seal.history, _before_the_last_line(directory.history))
        or _other(directory.experiment, seal.experiment, os.path.getsize(directory.experiment))
    )


def _function(history: History, row: int) -> str:
    name: str = history.functions[history.f[row]]
    return name


def _miscounted(history: History, seal: Seal) -> str | None:
    clients = history.process >= 0
    for code, kind in enumerate(TYPES):
        held, wrote = int((clients & (history.type == code)).sum()), seal.events.get(kind, 0)
        if held != wrote:
            return f"the history has {count(held, 'event')} of the type {kind} of clients, and the run wrote {wrote:,}"
    return None


def _unpaired(operations: Operations) -> str | None:
    """An operation that was never completed, or a crash of nothing: the runner leaves neither."""
    history = operations.history
    still_open = np.flatnonzero(operations.completed < 0)
    if len(still_open):
        return f"nothing completes the operation of line {history.line_of(int(operations.invoked[still_open[0]]))}"
    paired = np.zeros(len(history), dtype=bool)
    paired[operations.invoked] = paired[operations.completed] = True
    alone = np.flatnonzero((history.process >= 0) & ~paired)
    return f"nothing invokes what line {history.line_of(int(alone[0]))} completes" if len(alone) else None


def _other(path: Path, digest: str, size: int) -> str | None:
    return None if _digest(path, size) == digest else f"{path.name} was changed afterwards"


def _digest(path: Path, size: int) -> str:
    """The SHA-256 of the first bytes of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (piece := file.read(min(size, _PIECE))):
            digest.update(piece)
            size -= len(piece)
    return digest.hexdigest()


def _before_the_last_line(path: Path) -> int:
    """The size of a file without its last line."""
    size = os.path.getsize(path)
    with path.open("rb") as file:
        file.seek(max(size - _PIECE, 0))
        tail = file.read()
    return size - len(tail) + tail.rstrip(b"\n").rfind(b"\n") + 1
