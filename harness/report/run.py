"""The run over time: faults, latency, throughput, roles; what failed and why, and how long the store took to return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.availability import percent
from harness.report.charts import Measured, measured
from harness.report.fault_charts import Fault, faults, lanes
from harness.report.latency import quantiles, scatter
from harness.report.minimap import Minimap, minimap
from harness.report.node_charts import clocks, lag, roles
from harness.report.picture import Picture
from harness.report.story import Story
from harness.report.traffic import availability, throughput
from harness.words import duration, printable


@dataclass(frozen=True)
class Reason:
    """Why operations were not served, in the client's or the store's words, and how many."""

    outcome: str
    words: str
    operations: int


@dataclass(frozen=True)
class Recovery:
    """How the store served in one fault, and how long after it began and after it ended it was back; in words."""

    start: float
    what: str
    before: str
    during: str
    again: str
    full: str
    healed: str


@dataclass(frozen=True)
class Run:
    """Everything that is shown of the run as a whole; ``end`` in seconds."""

    end: float
    minimap: Minimap | None
    pictures: Sequence[Picture]
    faults: Sequence[Fault]
    faults_in_all: int
    recoveries: Sequence[Recovery]
    reasons: Sequence[Reason]


def run(story: Story) -> Run | None:
    """The run of a story; None where there is nothing to show of it."""
    operations, listed = measured(story), faults(story)
    drawn = [lanes(story, listed), *(_of_operations(story, operations) if operations else ())]
    drawn += [roles(story), lag(story), clocks(story)]
    pictures = [picture for picture in drawn if picture is not None]
    evidence: dict[str, Any] = story.evidence.get("availability") or {}
    reasons = [_reason(reason) for reason in evidence.get("reasons", ())]
    if not pictures and not reasons:
        return None
    return Run(
        story.end / 1e9,
        minimap(story, operations) if operations else None,
        pictures,
        listed,
        len(story.periods),
        [_recovery(fault) for fault in evidence.get("faults", ())],
        reasons,
    )


def _of_operations(story: Story, operations: Measured) -> list[Picture | None]:
    slow = [scatter(story, operations), quantiles(story, operations)] if operations.lasting else []
    return [*slow, throughput(story, operations), availability(story, operations)]


def _reason(reason: dict[str, Any]) -> Reason:
    return Reason(reason["type"], printable(reason["error"]), reason["operations"])


def _recovery(fault: dict[str, Any]) -> Recovery:
    began, healed = fault["from_fault"], fault["from_heal"]
    again = _after(began["first_served"])
    if "first_write" in began and (write := _after(began["first_write"])) != again:
        again += f"; a write {write}"
    return Recovery(
        fault["start"] / 1e9,
        printable(fault["what"]),
        _served(fault["before"]),
        _served(fault["during"]),
        again,
        _full(began),
        _full(healed),
    )


_NOT_KNOWN: Final = "not known"


def _after(ns: int | None) -> str:
    return "never" if ns is None else f"after {duration(ns)}"


def _full(returned: dict[str, Any]) -> str:
    """How long full service took to return."""
    if not returned["known"]:
        return _NOT_KNOWN
    return "was never less" if returned["full_service"] == 0 else _after(returned["full_service"])


def _served(service: dict[str, Any]) -> str:
    return percent(service) if service["operations"] else "-"
