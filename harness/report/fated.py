"""The acknowledged writes of a run, each with who acknowledged it and what became of it, as far as that is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from harness.columns import NOTHING, Ints
from harness.history import OK, Operations
from harness.packed import TRANSACTION, only_read
from harness.report.story import Story
from harness.words import asks, key_named, operation, printable

T = TypeVar("T")

LOST: Final = "lost"
PLAIN: Final = "acknowledged"
"""What is said of a write that no checker tells the fate of."""
FATES: Final = (PLAIN, "kept", "overwritten", "unknown", LOST)
"""In the order in which they are drawn: what matters most lies on top."""
_MOST_LOST: Final = 5000
_MOST_OTHERS: Final = 2000
"""How many writes are drawn; of more every so manieth."""
_LABEL: Final = 60
"""The most characters of a write in words."""


class Write(NamedTuple):
    """A write that ``node`` acknowledged at ``at`` (ns); ``op`` is the number of its invocation's event."""

    node: str
    fate: str
    at: int
    op: int
    words: str


class Writes(NamedTuple):
    """Those that are drawn, and of how many each fate has."""

    drawn: list[Write]
    counts: dict[str, int]


def fated_writes(story: Story, accounts: Sequence[Mapping[str, Any]]) -> Writes:
    """The writes that the accounts of a split brain tell the fates of, and all others that were acknowledged."""
    told: dict[int, Mapping[str, Any]] = {write["index"]: write for account in accounts for write in account["writes"]}
    plain = _others(story.operations, told)
    lost = [write for write in told.values() if write["fate"] == LOST]
    others = [write for write in told.values() if write["fate"] != LOST]
    counts = {fate: sum(write["fate"] == fate for write in told.values()) for fate in FATES} | {PLAIN: len(plain)}
    share = _MOST_OTHERS / max(len(others) + len(plain), 1)
    drawn = [_row(story.operations, row) for row in _sampled(plain.tolist(), int(len(plain) * share) + 1)]
    drawn += [_told(write) for write in _sampled(others, int(len(others) * share) + 1)]
    drawn += [_told(write) for write in _sampled(lost, _MOST_LOST)]
    drawn.sort(key=lambda write: (FATES.index(write.fate), write.at))
    return Writes(drawn, {fate: number for fate, number in counts.items() if number})


def _sampled(all_of_them: Sequence[T], most: int) -> list[T]:
    """All, or so many of them in equal steps."""
    if len(all_of_them) <= most:
        return list(all_of_them)
    return [all_of_them[at] for at in np.linspace(0, len(all_of_them) - 1, most).astype(int).tolist()]


def _others(operations: Operations, told: Mapping[int, Any]) -> Ints:
    """The rows of the acknowledged writes that are not told of, and of which it is known by whom."""
    history = operations.history
    writing = np.array([not asks(name) for name in history.functions], dtype=bool)
    rows = np.flatnonzero((operations.type == OK) & (operations.server > 0) & writing[operations.f])
    invoked = operations.invoked[rows]
    index = invoked if history.index is None else history.index[invoked]
    rows = rows[~np.isin(index, np.fromiter(told, dtype=np.int64, count=len(told)))]
    if TRANSACTION in history.functions:
        reading = np.zeros(len(rows), dtype=bool)
        places = np.flatnonzero(operations.f[rows] == history.functions.index(TRANSACTION))
        reading[places] = only_read(history.value, operations.completed[rows[places]])
        rows = rows[~reading]
    return rows


def _row(operations: Operations, row: int) -> Write:
    term = int(operations.term[row])
    return Write(
        operations.server_name(row) or "",
        PLAIN,
        int(operations.ret[row]),
        operations.history.index_of(int(operations.invoked[row])),
        _words(operations.name(row), operations.key_name(row), operations.done(row), None if term == NOTHING else term),
    )


def _told(write: Mapping[str, Any]) -> Write:
    words = _words(write["f"], write.get("key"), write.get("value"), write.get("term"))
    return Write(write["node"], write["fate"], write["ret"], write["index"], words)


def _words(function: str, key: Any, value: Any, term: int | None) -> str:
    """A write in words: "append 396 to k3, term 0"."""
    on = "" if key is None else f" ({key_named(key)})"
    text = printable(f"{operation(function, value, answered=True)}{on}")
    return (text if len(text) <= _LABEL else f"{text[:_LABEL]}…") + ("" if term is None else f" in term {term}")
