"""A verdict as a person reads it in the terminal."""

from __future__ import annotations

import textwrap
from typing import Any

import msgspec
from rich.console import Console

from harness.experiment import Experiment
from harness.store import RunDirectory
from harness.verdict import Verdict

_STYLES = {"valid": "bold green", "invalid": "bold red", "unknown": "bold yellow"}
_SHOWN = 3


def print_verdict(verdict: Verdict, console: Console | None = None) -> None:
    """The verdict, its reason and its first anomalies."""
    console = console or Console(highlight=False)
    console.print(f"[{_STYLES[verdict.validity]}]{verdict.validity}[/]", end="")
    console.print(f": {verdict.reason}" if verdict.reason else "", markup=False, soft_wrap=True)
    for number, anomaly in enumerate(verdict.anomalies[:_SHOWN], 1):
        console.print(f"\n{number}. {anomaly.kind}", style="bold", markup=False)
        width = min(console.width, 110) - 3
        console.print(textwrap.indent(textwrap.fill(anomaly.text, width), "   "), markup=False)
        if anomaly.faults:
            console.print(f"   faults meanwhile: {', '.join(anomaly.faults)}", markup=False, soft_wrap=True)
    if len(verdict.anomalies) > _SHOWN:
        console.print(f"\n... and {len(verdict.anomalies) - _SHOWN} more")


def evidence_lines(evidence: dict[str, Any]) -> list[str]:
    """What the verdict rests on, a sentence a line."""
    lines = []
    if "operations" in evidence:
        lines.append(
            f"{evidence['operations']:,} operations: {evidence['ok']:,} ok, {evidence['fail']:,} failed, "
            f"{evidence['info']:,} unknown; at most {evidence['most_concurrent_on_one_key']} at once on one key; "
            f"{evidence['role_changes']} changes of primary"
        )
    lines += [fault_line(name, entry) for name, entry in evidence.get("faults", {}).items()]
    return lines


def fault_line(name: str, entry: dict[str, Any]) -> str:
    """What became of the faults of one nemesis."""
    why = "; ".join(f"{reason} ({count} times)" if count > 1 else reason for reason, count in entry["refusals"].items())
    refused = f", {entry['refused']} refused" if entry["refused"] else ""
    because = f" ({why})" if why else ""
    weak = ": weak evidence" if entry["weak"] else ""
    return (
        f"{name}: {entry['planned']} planned, {entry['injected']} injected{refused}{because}, "
        f"{entry['proved']} proved; {entry['ok_operations_during']:,} operations succeeded meanwhile{weak}"
    )


def outcome(directory: RunDirectory, verdict: Verdict) -> dict[str, Any]:
    """What a script wants to know of a run, to be written as JSON."""
    return {"directory": str(directory.path), "report": str(directory.report), "verdict": verdict}


def print_run(directory: RunDirectory, experiment: Experiment, verdict: Verdict, *, as_json: bool) -> None:
    """The outcome of a run, and where everything is."""
    if as_json:
        print(msgspec.json.encode(outcome(directory, verdict)).decode())
        return
    console = Console(highlight=False)
    print_verdict(verdict, console)
    console.print()
    for line in evidence_lines(verdict.evidence):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    console.print(f"  again:  {experiment.command(str(directory.timetable))}", markup=False, soft_wrap=True)
    console.print(f"  report: {directory.report}", markup=False, soft_wrap=True)
