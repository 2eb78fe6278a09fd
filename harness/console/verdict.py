"""A verdict as a person reads it in the terminal."""

from __future__ import annotations

import io
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console

from harness.availability import availability_lines
from harness.drawing import as_lines
from harness.replication import replication_lines
from harness.run_directory import RunDirectory
from harness.summary import anomaly_count, evidence_lines, unknown_lines
from harness.verdict import Anomaly, Verdict, combine
from harness.words import HIDDEN, printable

if TYPE_CHECKING:
    from harness.conduct import Outcome

_STYLES = {"valid": "bold green", "invalid": "bold red", "unknown": "bold yellow"}
_SHOWN = 3
_WIDTH = 110
_ASKED = " (asked for)"
"""What follows the name of a checker that was asked for, where the workload has one of that name."""
SPLIT_BRAIN = "split brain"
"""The kind of the anomaly whose text is told in place of all others: what happened, a line each."""


def print_verdict(verdict: Verdict, console: Console | None = None) -> None:
    """The verdict, its reason and its first anomalies."""
    console = console or Console(highlight=False)
    verdict = _said_once(verdict)
    console.print(verdict.validity, style=_STYLES[verdict.validity], end="")
    if (story := next((one for one in verdict.anomalies if one.kind == SPLIT_BRAIN), None)) is not None:
        _print_story(verdict, story.text, console)
        return
    _print(console, f": {verdict.reason}" if verdict.reason else "")
    for line in unknown_lines(verdict):
        _print(console, line)
    if verdict.total:
        _print(console, anomaly_count(verdict))
    for number, anomaly in enumerate(verdict.anomalies[:_SHOWN], 1):
        _print(console, f"\n{number}. {anomaly.kind}", "bold")
        width = min(console.width, 110) - 3
        _print(console, textwrap.indent(textwrap.fill(printable(anomaly.text), width), "   "))
        for line in as_lines(anomaly.edges, width):
            _print(console, f"   {line}")
        if anomaly.faults:
            _print(console, f"   faults meanwhile: {', '.join(anomaly.faults)}")
    if (more := verdict.total - len(verdict.anomalies[:_SHOWN])) and verdict.anomalies:
        _print(console, f"\n... and {more:,} more")


def _said_once(verdict: Verdict) -> Verdict:
    """A verdict without what a checker that was asked for says just as the workload's own one of that name does."""
    parts = verdict.parts
    twins = [
        name
        for name, part in parts.items()
        if (own := name.removesuffix(_ASKED)) != name and _same(part, parts.get(own))
    ]
    if not twins:
        return verdict
    once = combine({name: part for name, part in parts.items() if name not in twins})
    return once if once.validity == verdict.validity else verdict


def _same(one: Verdict, other: Verdict | None) -> bool:
    return other is not None and (one.validity, one.reason, one.found) == (other.validity, other.reason, other.found)


def _print_story(verdict: Verdict, text: str, console: Console) -> None:
    """A split brain, so short that it can be passed on as it is; who found how many anomalies stands below."""
    first, *rest = text.splitlines()
    _print(console, f": {SPLIT_BRAIN}: {first}")
    for line in rest:
        _print(console, f"  {line}")
    for name, part in verdict.parts.items():
        if part.validity == "invalid" and (cycles := [one for one in part.anomalies if one.edges]):
            _print_cycle(name, part, min(cycles, key=lambda one: len(one.edges)), console)
    for line in unknown_lines(verdict):
        _print(console, line)
    by = ", ".join(f"{part.total:,} of {name}" for name, part in verdict.parts.items() if part.total)
    _print(console, f"{anomaly_count(verdict)}{f': {by}' if by else ''}")


def _print_cycle(name: str, part: Verdict, anomaly: Anomaly, console: Console) -> None:
    """What else was found: which levels transactions did not get, and the shortest of the cycles that show it."""
    _print(console, f"  {name}: {part.reason}")
    width = min(console.width, _WIDTH) - 4
    _print(console, f"  the shortest cycle, {anomaly.kind}:")
    _print(console, textwrap.indent(textwrap.fill(printable(anomaly.text), width), "    "))
    for line in as_lines(anomaly.edges, width):
        _print(console, f"    {line}")


def for_scripts(outcome: Outcome) -> dict[str, Any]:
    """What a script wants to know of a run, to be written as JSON."""
    report = RunDirectory(outcome.directory).report
    return {
        "directory": str(outcome.directory),
        "report": str(report),
        "unsaved": outcome.unsaved,
        "verdict": outcome.verdict,
    }


def print_run(outcome: Outcome, worded: Callable[[Verdict], Verdict], *, as_json: bool) -> None:
    """The outcome of a run, and where everything is; ``worded`` puts a verdict into the words of the command line."""
    if as_json:
        print(json_line(for_scripts(outcome)))
    else:
        _print_outcome(outcome, worded(outcome.verdict), Console(highlight=False))
    if outcome.unsaved:
        print(printable(f"splitbrain: {outcome.unsaved}"), file=sys.stderr)


def as_text(outcome: Outcome) -> str:
    """The outcome of a run as ``print_run`` prints it, without colours; it names fields, not options."""
    console = Console(file=io.StringIO(), width=_WIDTH, highlight=False, color_system=None)
    _print_outcome(outcome, outcome.verdict, console)
    if outcome.unsaved:
        _print(console, f"  not saved: {outcome.unsaved}")
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.rstrip("\n")


def _print_outcome(outcome: Outcome, verdict: Verdict, console: Console) -> None:
    print_judged(verdict, console)
    _print(console, f"  again:  {outcome.again}")
    if (report := RunDirectory(outcome.directory).report).exists():
        _print(console, f"  report: {report}")


def print_judged(verdict: Verdict, console: Console | None = None) -> None:
    """The verdict on a run, and what it rests on."""
    console = console or Console(highlight=False)
    print_verdict(verdict, console)
    _print(console, "")
    measured = [evidence_lines, availability_lines, replication_lines]
    for line in [line for lines in measured for line in lines(verdict.evidence)]:
        _print(console, f"  {line}")


def json_line(value: Any) -> str:
    """A value as one line of JSON that cannot steer a terminal either."""
    return HIDDEN.sub(lambda match: f"\\u{ord(match.group()):04x}", msgspec.json.encode(value).decode())


def _print(console: Console, text: str, style: str = "") -> None:
    """Print text as it is: other people's words are neither markup nor orders to the terminal."""
    console.print(printable(text), style=style, markup=False, soft_wrap=True)
