"""A small run with a split brain, for tests of what the report draws of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from harness.checkers.branches import Branches
from harness.checkers.split_brain import SplitBrain
from harness.experiment import Experiment
from harness.history import History, from_events
from harness.operation import Event, ServedBy
from harness.report.story import Story
from harness.run_directory import RunDirectory
from harness.verdict import Budget, Verdict

CUT = {"n1": {"n2": "both", "n3": "both"}, "n2": {"n1": "both"}, "n3": {"n1": "both"}}
N1, N2 = ServedBy("n1", 1), ServedBy("n2", 2)


def seconds(time: float) -> int:
    return round(time * 1e9)


def role(node: str, role: str | None, start: float, end: float, term: int | None = None) -> list[Event]:
    """What the monitor records of a node that answered the same from ``start`` to ``end`` (s)."""
    begin, last = seconds(start), seconds(end)
    told: dict[str, Any] = {"role": role} | ({} if term is None else {"term": term})
    return [
        Event(0, at, "monitor", "info", "role", value=told | more, node=node)
        for at, more in (
            (begin, {"asked": begin, "answered": begin}),
            (last, {"asked": last, "answered": last, "since": begin}),
        )
    ]


def operation(
    process: int, at: float, f: str, argument: Any, answer: Any = None, by: ServedBy | None = None, key: Any = "k"
) -> list[Event]:
    """An operation that was acknowledged within a millisecond."""
    done = argument if answer is None else answer
    return [
        Event(0, seconds(at), process, "invoke", f, key, argument, node="n1"),
        Event(0, seconds(at + 0.001), process, "ok", f, key, done, node="n1", served_by=by),
    ]


def fault(name: str, start: float, end: float, what: Any, *, proved: bool = True) -> list[Event]:
    """A fault of the nemesis."""
    return [
        Event(0, seconds(start), "nemesis", "invoke", f"start-{name}"),
        Event(0, seconds(start + 0.001), "nemesis", "info", f"start-{name}", value=what),
        *([Event(0, seconds(start + 0.1), "nemesis", "ok", f"prove-{name}")] if proved else []),
        Event(0, seconds(end - 0.001), "nemesis", "invoke", f"stop-{name}"),
        Event(0, seconds(end), "nemesis", "ok", f"stop-{name}"),
    ]


def in_order(events: Iterable[Event]) -> History:
    """Events by their times, numbered."""
    ordered = sorted(events, key=lambda event: event.time)
    return from_events(msgspec.structs.replace(event, index=index) for index, event in enumerate(ordered))


def split_brain() -> list[Event]:
    """From 3 s to 6 s n1 and n2 are primary, cut from each other; what n1 acknowledges meanwhile is lost in the end."""
    return [
        Event(0, 0, "monitor", "info", "leadership", value="primary"),
        *role("n1", "primary", 0, 6, 1),
        *role("n1", "replica", 6.2, 10, 2),
        *role("n2", "replica", 0, 2.8, 1),
        *role("n2", "primary", 3, 10, 2),
        *role("n3", None, 1, 5),
        *fault("partition", 2, 6, {"said": "primary: n1 | n2 n3", "cut": CUT, "flap": 0.0}),
        *operation(0, 1, "append", 1, by=N1),
        *operation(0, 1.5, "append", 2, by=N1),
        *operation(0, 4, "append", 3, by=N1),
        *operation(0, 4.5, "append", 4, by=N1),
        *operation(1, 4.2, "append", 5, by=N2),
        *operation(1, 4.7, "append", 6, by=N2),
        *operation(0, 5, "read-list", None, [1, 2, 3, 4], N1),
        *operation(1, 5, "read-list", None, [1, 2, 5, 6], N2),
        Event(0, seconds(7), "nemesis", "invoke", "heal"),
        Event(0, seconds(7.1), "nemesis", "ok", "heal"),
        *operation(1, 8, "read-list", None, [1, 2, 5, 6], N2),
    ]


def judged(events: Iterable[Event], nodes: int = 3, directory: Path | None = None) -> Story:
    """The story of these events, as the checkers of split brains and of branches judge them."""
    history = in_order(events)
    parts = {
        name: checker.check(history, Budget())
        for name, checker in (("branches", Branches()), ("split-brain", SplitBrain()))
    }
    evidence = {name: value for part in parts.values() for name, value in part.evidence.items()}
    anomalies = [anomaly for part in parts.values() for anomaly in part.anomalies]
    reason = "; ".join(f"{name}: {part.reason}" for name, part in parts.items() if part.reason)
    verdict = Verdict("invalid" if anomalies else "valid", reason, anomalies, evidence, parts, found=len(anomalies))
    where = directory or Path(tempfile.gettempdir()) / "of-nothing"
    return Story(RunDirectory(where), Experiment("planted", "append", nodes=nodes), verdict, history)
