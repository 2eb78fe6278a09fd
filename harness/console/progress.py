"""The live line of a run: elapsed time, operations, rate, active fault, anomalies found so far."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.history import from_events
from harness.judging import check
from harness.operation import MONITOR, NEMESIS, Event
from harness.periods import HEAL, PROVE, START, deed_of, fault_action
from harness.runner import Run
from harness.verdict import Budget, Checker
from harness.words import count, printable

_CHECK_SECONDS = 3.0
_PLAIN_SECONDS = 10.0
_LEAST_OF_A_FAULT = 10
"""How many columns an active fault has at least; its name, then."""


class Progress:
    """One line that changes on a terminal; elsewhere a line every ten seconds; nothing when ``quiet``."""

    def __init__(self, checkers: Mapping[str, Checker], seconds: float, *, quiet: bool) -> None:
        self._checkers = checkers
        self._seconds = seconds
        self._run: Run | None = None
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._live: Live | None = None
        self._doing = "starting"
        self._done = {"ok": 0, "fail": 0, "info": 0}
        self._fault = ""
        self._anomalies = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=8)

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.quiet:
            self._live = Live(get_renderable=self._line, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, what: str) -> None:
        """What the harness does now."""
        self._doing = what
        if self._live is None:
            self._print(f"splitbrain: {what}")

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(printable(text), style=style, markup=False, soft_wrap=True)

    def saw(self, event: Event) -> None:
        """Count an event of the history."""
        if event.process == NEMESIS:
            action, name = fault_action(event.f)
            if event.type == "info":
                what = f"{name} is not proved" if action == PROVE else event.f
                self._print(f"splitbrain: {what}: {event.error}", "yellow")
            elif action == START:
                self._fault = f"{name} {deed_of(event.value) or '...'}"
            elif event.type == "ok" or action == HEAL:
                self._fault = ""
        elif event.process != MONITOR and event.type != "invoke":
            self._done[event.type] += 1

    @property
    def _total(self) -> int:
        return sum(self._done.values())

    def _line(self) -> Text:
        now = time.monotonic()
        rate = 0.0
        if self._recent:
            since, before = self._recent[0]
            rate = (self._total - before) / max(now - since, 0.1)
        elapsed = ""
        if self._run is not None:
            elapsed = f"{min(self._run.clock() / 1e9, self._seconds):.0f} of {self._seconds:g} s  "
        # In a few words: the line before it says all of it.
        doing = f"{re.split('[,:]| for ', self._doing)[0]}  "
        anomalies = f"{count(self._anomalies, 'anomaly', 'anomalies')}  "
        counts = f"{self._total:,} ops {rate:,.0f}/s  " if rate else f"{self._total:,} ops  "
        outcomes = f"{self._done['fail']:,} failed {self._done['info']:,} unknown"
        room = self._console.width - sum(map(len, (elapsed, doing, anomalies, counts, outcomes))) - 2
        fault = Text(printable(self._fault) or "no fault", "yellow" if self._fault else "dim")
        fault.truncate(max(room, _LEAST_OF_A_FAULT), overflow="ellipsis")
        # What matters most comes first: a narrow terminal cuts off the end.
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(elapsed, "bold")
        line.append(doing)
        line.append(anomalies, "bold red" if self._anomalies else "green")
        line.append(fault).append("  ")
        line.append(counts)
        line.append(outcomes, "dim")
        return line

    async def watch(self, run: Run) -> None:
        """Until cancelled: check what was recorded so far every few seconds, and print where no line can change."""
        self._run = run
        last_print = last_check = time.monotonic()
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            self._recent.append((now, self._total))
            if self._live is None and now - last_print >= _PLAIN_SECONDS:
                last_print = now
                self._print(f"splitbrain: {self._line().plain.strip()}")
            if not self._console.quiet and now - last_check >= _CHECK_SECONDS and self._total:
                anomalies = await asyncio.to_thread(self._check, list(run.recorder.events))
                self._anomalies = anomalies
                last_check = time.monotonic() + 10 * (time.monotonic() - now)

    def _check(self, events: list[Event]) -> int:
        """How many anomalies there are in what was recorded so far: operations that are open count as crashed."""
        history = from_events(events)
        budget = Budget(seconds=_CHECK_SECONDS)
        return sum(check(name, checker, history, budget).total for name, checker in self._checkers.items())
