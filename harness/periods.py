"""When each fault was active, read back from a history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from harness.history import NEMESIS_PROCESS, History

START: Final = "start-"
STOP: Final = "stop-"
HEAL: Final = "heal"
"""The functions of the nemesis: ``start-NAME``, ``stop-NAME``, and ``heal``, which ends every fault."""


class Period(msgspec.Struct, frozen=True):
    """A fault was active from ``start`` to ``end`` (ns); ``proved`` if its effect was seen from inside the node."""

    name: str
    start: int
    end: int
    proved: bool
    what: Any = None


def fault_periods(history: History) -> list[Period]:
    """The periods of all faults in the order of their start.

    A fault counts as active from the invocation of its start to the completion of its stop, since it takes and loses
    effect somewhere in between.
    """
    last = int(history.time[-1]) if len(history) else 0
    opened: dict[str, tuple[int, bool, Any]] = {}
    found: list[Period] = []

    def close(name: str, end: int) -> None:
        start, proved, what = opened.pop(name)
        found.append(Period(name, start, end, proved, what))

    for event in history.special(NEMESIS_PROCESS):
        name = event.f.removeprefix(START).removeprefix(STOP)
        if event.f.startswith(START):
            if event.type == "invoke":
                opened[name] = (event.time, False, event.value)
            elif event.type == "fail":
                opened.pop(name, None)
            elif name in opened:
                opened[name] = (opened[name][0], event.type == "ok", event.value or opened[name][2])
        elif event.type != "invoke":
            for ended in list(opened) if event.f == HEAL else [name]:
                if ended in opened:
                    close(ended, event.time)
    for name in list(opened):
        close(name, last)
    return sorted(found, key=lambda period: period.start)


def active(periods: Sequence[Period], start: int, end: int) -> list[str]:
    """The faults that were active at some moment between two times, described, each once."""
    return list(dict.fromkeys(describe(p) for p in periods if p.start <= end and p.end >= start))


def all_faults(history: History) -> list[str]:
    """Every fault of a run, described, each once."""
    return list(dict.fromkeys(describe(period) for period in fault_periods(history)))


def describe(period: Period) -> str:
    """One fault in a few words: its name and, where it says so, what it did."""
    said = period.what.get("said") if isinstance(period.what, dict) else None
    return f"{period.name} ({said})" if said else period.name
