"""When each fault was active, read back from a history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from harness.history import MONITOR_PROCESS, NEMESIS_PROCESS, History
from harness.words import count

START: Final = "start-"
STOP: Final = "stop-"
PROVE: Final = "prove-"
HEAL: Final = "heal"
"""The functions of the nemesis: ``start-NAME``, ``prove-NAME``, ``stop-NAME``, and ``heal``, which ends every fault."""
PLANNED: Final = "planned"
"""What the monitor records first: the faults that the run is to have, a ``Plan``."""


class PlannedFault(msgspec.Struct, frozen=True):
    """One fault that a run is to have."""

    name: str


class Plan(msgspec.Struct, frozen=True):
    """The faults that a run is to have, as far as it matters to what became of them."""

    asked: list[str]
    """The nemeses that were asked for by name."""
    faults: list[PlannedFault]
    mixed: list[str] = []
    """Those that chaos has taken."""


class Period(msgspec.Struct, frozen=True):
    """A fault was active from ``start`` to ``end`` (ns); ``proved`` if it was measured from the node's own view."""

    name: str
    start: int
    end: int
    proved: bool
    what: Any = None
    proof: Any = None
    """What was measured, as ``harness.nemesis.Proof`` has it."""
    in_place: int | None = None
    """When what made it was done (ns); None if that was not seen."""


def fault_periods(history: History) -> list[Period]:
    """The periods of all faults in the order of their start.

    A fault counts as active from the invocation of its start to the completion of its stop, since it takes and loses
    effect somewhere in between.
    """
    last = int(history.time[-1]) if len(history) else 0
    opened: dict[str, Period] = {}
    periods: list[Period] = []

    def close(name: str, end: int) -> None:
        periods.append(replace(opened.pop(name), end=end))

    for event in history.special(NEMESIS_PROCESS):
        action, name = fault_action(event.f)
        if action == START:
            if event.type == "invoke":
                if name in opened:
                    close(name, event.time)
                opened[name] = Period(name, event.time, last, False, event.value)
            elif event.type == "fail":
                opened.pop(name, None)
            elif name in opened:
                opened[name] = replace(opened[name], what=event.value or opened[name].what, in_place=event.time)
        elif action == PROVE:
            if name in opened:
                opened[name] = replace(opened[name], proved=event.type == "ok", proof=event.value)
        elif event.f == HEAL and event.type != "invoke":
            for ended in list(opened):
                close(ended, event.time)
        elif event.type == "ok" and name in opened:  # one that could not be ended now goes on
            close(name, event.time)
    for name in list(opened):
        close(name, last)
    return sorted(periods, key=lambda period: period.start)


def fault_action(f: str) -> tuple[str, str]:
    """What the nemesis did, and the fault's name: ``start-`` and ``partition``; ``heal`` has no name beside it."""
    return next(((action, f.removeprefix(action)) for action in (START, PROVE, STOP) if f.startswith(action)), (f, ""))


def healed_at(history: History) -> int:
    """When all faults were over (ns); -1 where the history tells of no heal."""
    ends = [e.time for e in history.special(NEMESIS_PROCESS) if e.f == HEAL and e.type != "invoke"]
    return max(ends, default=-1)


class Turns(msgspec.Struct):
    """What became of the faults of one nemesis."""

    planned: int = 0
    injected: int = 0
    refused: int = 0
    proved: int = 0
    ok_operations_during: int = 0
    """Operations that succeeded while one of them was active that was proved."""
    mixed: bool = False
    """Whether chaos has taken it, and nobody asked for it by name."""
    weak: bool = False
    """Whether hardly any operation succeeded while it was active, though it was proved."""
    refusals: dict[str, int] = {}
    """Why a fault could not be injected, or was not proved, and how often."""

    @property
    def missing(self) -> bool:
        """Whether it was asked for by name, and never proved."""
        return not self.mixed and not self.proved

    def in_words(self) -> str:
        """What became of them, as a clause."""
        refused = f", {self.refused} refused" if self.refused else ""
        because = f" ({why})" if (why := self.why()) else ""
        weak = ": weak evidence" if self.weak else ""
        return (
            f"{self.planned} planned, {self.injected} injected{refused}{because}, {self.proved} proved; "
            f"{count(self.ok_operations_during, 'operation')} succeeded meanwhile{weak}"
        )

    def why(self) -> str:
        """The reasons of what was refused, or not proved."""
        return "; ".join(
            f"{reason} ({times} times)" if times > 1 else reason for reason, times in self.refusals.items()
        )


def turns_of(evidence: Mapping[str, Any]) -> dict[str, Turns]:
    """The same, by nemesis, as the evidence of a verdict has it."""
    return msgspec.convert(evidence.get("faults", {}), dict[str, Turns])


def plans(history: History) -> list[Plan | None]:
    """What a history says that was planned: one, if a run of ours wrote it; None for what cannot be read."""
    return [_plan(event.value) for event in history.special(MONITOR_PROCESS) if event.f == PLANNED]


def _plan(value: Any) -> Plan | None:
    try:
        return msgspec.convert(value, Plan)
    except msgspec.ValidationError:
        return None


def turns(history: History) -> dict[str, Turns]:
    """What became of every fault that a history tells of, by nemesis; operations are not counted here."""
    by_nemesis: dict[str, Turns] = {}

    def of(name: str) -> Turns:
        return by_nemesis.setdefault(name, Turns())

    for plan in filter(None, plans(history)):
        for name in plan.asked:
            of(name)
        for name in plan.mixed:
            of(name).mixed = True
        for fault in plan.faults:
            of(fault.name).planned += 1
    for event in history.special(NEMESIS_PROCESS):
        action, name = fault_action(event.f)
        if event.type == "invoke" or action not in (START, PROVE):
            continue
        tally = of(name)
        if event.type == "ok":
            tally.injected += action == START
            tally.proved += action == PROVE
        else:
            tally.refused += action == START
            why = event.error or "nothing was measured"
            tally.refusals[why] = tally.refusals.get(why, 0) + 1
    return by_nemesis


def active(periods: Sequence[Period], start: int, end: int) -> list[str]:
    """The faults that were active at some moment between two times, described, each once."""
    return list(dict.fromkeys(describe(p) for p in periods if p.start <= end and p.end >= start))


def describe(period: Period) -> str:
    """One fault in a few words: its name and, where it says so, what it did."""
    deed = deed_of(period.what)
    return f"{period.name} ({deed})" if deed else period.name


def deed_of(what: Any) -> str | None:
    """What a fault did, in the nemesis' own words, where the value of its start says so."""
    return what.get("said") if isinstance(what, dict) else None
