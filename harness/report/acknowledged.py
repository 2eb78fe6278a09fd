"""The acknowledged writes of a run, each with who acknowledged it and what became of it, as far as that is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from harness.columns import NOTHING, Ints
from harness.history import Operations
from harness.report.story import Story
from harness.words import key_named, operation, printable, shortened
from harness.writes import acknowledged_writes

T = TypeVar("T")

Account = Mapping[str, Any]
"""An episode or a conflict of terms, as ``evidence`` of a verdict has them."""

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
    """Those that are drawn, a sample where there are too many. The numbers are those of all, drawn or not."""

    drawn: list[Write]
    counts: dict[str, int]
    """By fate."""
    lost: dict[str, int]
    """By node how many are lost."""
    at_least: bool
    """Whether more may be lost than the verdict lists."""

    def of(self, nodes: Collection[str]) -> Writes:
        """The same, drawn on the rows of these nodes only."""
        return self._replace(drawn=[write for write in self.drawn if write.node in nodes])


def accounts_of(evidence: Mapping[str, Any]) -> list[Account]:
    """Those that are in the evidence of a verdict."""
    return [*evidence.get("episodes", ()), *evidence.get("term_conflicts", ())]


def lost_of(side: Mapping[str, Any]) -> int:
    """How many writes of one primary of an account are lost: of its time, and of that reign before and after it."""
    return int(side["fates"].get(LOST, 0) + side["lost_before"] + side["lost_after"])


def left_out(evidence: Mapping[str, Any]) -> tuple[int, int]:
    """How many episodes, and how many conflicts of terms, a verdict has found and does not list."""
    listed = len(evidence.get("term_conflicts", ()))
    return evidence.get("episodes_left_out", 0), evidence.get("term_conflicts_found", listed) - listed


def writes_of(story: Story) -> Writes:
    """The writes that the accounts of a split brain tell the fates of, and all others that were acknowledged."""
    accounts = accounts_of(story.evidence)
    told = {write["index"]: write for account in accounts for write in account["writes"]}
    plain = _others(story.operations, told)
    lost = [write for write in told.values() if write["fate"] == LOST]
    others = [write for write in told.values() if write["fate"] != LOST]
    counts = Counter(write["fate"] for write in told.values()) + Counter({PLAIN: len(plain)})
    share = _MOST_OTHERS / max(len(others) + len(plain), 1)
    drawn = [_row(story.operations, row) for row in _sampled(plain.tolist(), int(len(plain) * share) + 1)]
    drawn += [_told(write) for write in _sampled(others, int(len(others) * share) + 1)]
    drawn += [_told(write) for write in _sampled(lost, _MOST_LOST)]
    drawn.sort(key=lambda write: (FATES.index(write.fate), write.at))
    at_least = any(left_out(story.evidence)) or any(map(_leaves_out_lost_ones, accounts))
    return Writes(drawn, dict(counts), Counter(write["node"] for write in lost), at_least)


def _leaves_out_lost_ones(account: Account) -> bool:
    """Whether an account may have more lost writes than it lists: the lost ones come first."""
    return bool(account["writes_left_out"]) and all(write["fate"] == LOST for write in account["writes"])


def _sampled(population: Sequence[T], most: int) -> list[T]:
    """All, or so many of them in equal steps."""
    if len(population) <= most:
        return list(population)
    return [population[at] for at in np.linspace(0, len(population) - 1, most).astype(int).tolist()]


def _others(operations: Operations, told: Collection[int]) -> Ints:
    """The rows of the acknowledged writes that are not told of."""
    rows, index = acknowledged_writes(operations), operations.history.index
    invoked = operations.invoked[rows]
    numbers = invoked if index is None else index[invoked]
    return rows[~np.isin(numbers, np.fromiter(told, dtype=np.int64, count=len(told)))]


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
    """A write in words: "append 396 (k3) in term 0"."""
    on = "" if key is None else f" ({key_named(key)})"
    text = printable(f"{operation(function, value, answered=True)}{on}")
    return shortened(text, _LABEL) + ("" if term is None else f" in term {term}")
