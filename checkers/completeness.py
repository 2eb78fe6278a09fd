"""Was the run whole? A pass of a run that was cut short, or whose harness was killed, would promise too much."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Self

from harness.history import MONITOR_PROCESS, History
from harness.operation import FINISHED, STOPPED, Event
from harness.verdict import Budget, Checker, Verdict


class Completeness(Checker):
    """Valid when the operations went on for ``seconds`` and the run came to its end; else unknown, never invalid.

    The runner records both as events of the monitor: ``stopped``, with how long the operations went on, and
    ``finished``, after the last of the final reads.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds

    @classmethod
    def of_run(cls, asked: Collection[str], seconds: float) -> Self:
        return cls(seconds)

    def check(self, history: History, budget: Budget) -> Verdict:
        seconds = history.seconds if self._seconds is None else min(history.seconds, self._seconds)
        stopped, finished = None, False
        for event in history.special(MONITOR_PROCESS):
            if event.f == STOPPED and stopped is None:
                stopped, seconds = event, float(event.value["seconds"])
            finished = finished or event.f == FINISHED
        evidence: dict[str, Any] = {"seconds": round(seconds, 3)}
        if self._seconds is not None:
            evidence["seconds_asked_for"] = self._seconds
        if stopped is not None:
            return Verdict("unknown", self._stopped(stopped, seconds), evidence=evidence)
        if not finished:
            why = f"the history ends {self._how_far(seconds)}: the harness was killed, broke off, or could not write it"
            return Verdict("unknown", why, evidence=evidence)
        return Verdict("valid", evidence=evidence)

    def _stopped(self, event: Event, seconds: float) -> str:
        during = event.value.get("during")
        reason = f"stopped during {during}" if during else f"stopped {self._how_far(seconds)}"
        return f"{reason}: {event.error}" if event.error else reason

    def _how_far(self, seconds: float) -> str:
        if self._seconds is None:
            return f"after {int(seconds)} s"
        if seconds >= self._seconds:
            return "after the operations, before the final reads were over"
        return f"after {int(seconds)} of {self._seconds:g} s"
