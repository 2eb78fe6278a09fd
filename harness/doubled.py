"""Keys that stand twice in one object of JSON: decoders take the last and say nothing, and another reader the first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.errors import HistoryError
from harness.operation import Event


class DoubledError(HistoryError):
    """An object has a key twice."""


def as_map(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, for the ``object_pairs_hook`` of a decoder. Raises ``DoubledError``."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        again = next(key for at, key in enumerate(keys) if key in keys[:at])
        raise DoubledError(f"the key {json.dumps(again)} stands twice in one object")
    return made


def refuse_doubled(events: Sequence[Event], data: bytes, lines_before: int) -> None:
    """Raise ``HistoryError`` with the line of an event that has a key twice. ``data`` is the lines of the events.

    An event has as many colons as fields where no key is doubled, unless a value has some too: only such lines are read
    once more.
    """
    colons = sum(map(_fields, events))
    if data.count(b":") == colons:
        return
    for number, (line, event) in enumerate(zip(data.split(b"\n"), events, strict=True), lines_before + 1):
        if line.count(b":") != _fields(event):
            try:
                json.loads(line, object_pairs_hook=as_map)
            except DoubledError as error:
                raise HistoryError(error.message, line=number) from None
            except (ValueError, RecursionError):
                continue  # msgspec has read it: Python's decoder has other limits


def _fields(event: Event) -> int:
    """How many fields an event is written with."""
    return (
        5 + (event.key is not None) + (event.value is not None) + (event.node is not None) + (event.error is not None)
    )
