"""What nodes sent to one another, where the environment sees it: kept around anomalies, for the report to draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from harness.plain_files import read_plain
from harness.verdict import Anomaly

_ANOMALIES: Final = 5
"""Around how many anomalies messages are kept, the first of each kind before others."""
_BEFORE: Final = 60_000_000
"""How long (ns) before the operations of an anomaly begin, and after they end, messages are kept."""
_LONGEST: Final = 1_500_000_000
"""How long (ns) a stretch is at most: the end of it tells more."""


class Message(msgspec.Struct, frozen=True, array_like=True):
    """A message from one node to another, by its kind and term where it says them; ``arrived`` is None if it was lost.

    Times are nanoseconds since the run began.
    """

    source: str
    target: str
    sent: int
    arrived: int | None
    kind: str = ""
    term: int | None = None


class Exchange(msgspec.Struct, frozen=True):
    """The messages of a stretch of time (ns) around an anomaly, given by its place among those of the verdict."""

    anomaly: int
    start: int
    end: int
    messages: list[Message]


def exchanges(messages: Iterable[Message], anomalies: Sequence[Anomaly]) -> list[Exchange]:
    """The messages around the first anomalies of each kind."""
    chosen = [number for number in _first_of_kinds(anomalies) if anomalies[number].operations][:_ANOMALIES]
    stretches = {number: _stretch(anomalies[number]) for number in chosen}
    kept: dict[int, list[Message]] = {number: [] for number in chosen}
    for message in messages:
        until = message.sent if message.arrived is None else message.arrived
        for number, (start, end) in stretches.items():
            if message.sent <= end and until >= start:
                kept[number].append(message)
    return [Exchange(number, *stretches[number], kept[number]) for number in sorted(chosen)]


def _first_of_kinds(anomalies: Sequence[Anomaly]) -> list[int]:
    seen: dict[str, int] = {}
    turns = []
    for number, anomaly in enumerate(anomalies):
        seen[anomaly.kind] = seen.get(anomaly.kind, 0) + 1
        turns.append((seen[anomaly.kind], number))
    return [number for _, number in sorted(turns)]


def _stretch(anomaly: Anomaly) -> tuple[int, int]:
    operations = anomaly.operations
    end = max(op.call if op.ret is None else op.ret for op in operations) + _BEFORE
    return max(min(op.call for op in operations) - _BEFORE, end - _LONGEST, 0), end


def read_exchanges(path: Path) -> list[Exchange]:
    """Those that a run has written; none where it has none, or they cannot be read."""
    try:
        return msgspec.json.decode(read_plain(path), type=list[Exchange])
    except (OSError, msgspec.MsgspecError, RecursionError):
        return []
