"""``splitbrain hunt``: one experiment under many seeds; failures are kept, and told apart by their anomalies."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.cli.stopping import go_on
from harness.cli.wording import as_options
from harness.experiment import Experiment
from harness.hunting import Hunt
from harness.trust import code_of
from harness.words import count, printable

_TELL_SECONDS = 10.0
"""How often to say how far a hunt is where no terminal shows it."""


def hunt(
    experiment: Experiment,
    seeds: int,
    directory: Path | None,
    executor: str | None,
    *,
    stop: bool,
    as_json: bool,
) -> int:
    """Run seeds 0 to ``seeds`` - 1, print what was found, and return the exit code."""
    this = Hunt(experiment, seeds, directory, executor)
    if not as_json:
        _say_what_is_kept(this)
    this.interrupted = not _go_through(this, stop=stop, quiet=as_json)
    unwritten = this.write_report()
    _print(this, as_json=as_json)
    if unwritten:
        print(printable(f"splitbrain: {unwritten}"), file=sys.stderr)
    return this.exit_code


def _say_what_is_kept(this: Hunt) -> None:
    if done := len(this.outcomes):
        print(
            f"splitbrain: {done} of {count(len(this.seeds), 'seed')} are in {this.directory} already", file=sys.stderr
        )
    if this.outdated:
        notice = f"{count(this.outdated, 'seed')} in {this.directory} run by other code: again"
        print(f"splitbrain: {notice}", file=sys.stderr)


def _go_through(this: Hunt, *, stop: bool, quiet: bool) -> bool:
    """Let the hunt go on, to its end or to its first failure; False if it was interrupted before."""
    go_on()
    outcomes, seeds = this.go(), len(this.seeds)
    tally = Counter(outcome.validity for outcome in this.outcomes)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as progress,
    ):
        bar, told = progress.add_task("hunting", total=seeds), time.monotonic()
        try:
            with closing(outcomes):
                while not (stop and tally["invalid"]):
                    description = f"hunting, {tally['invalid']} failed, {tally['unknown']} unknown"
                    progress.update(bar, completed=tally.total(), description=description)
                    if progress.disable and not quiet and time.monotonic() > told + _TELL_SECONDS:
                        print(f"splitbrain: {description}: {tally.total()} of {count(seeds, 'seed')}", file=sys.stderr)
                        told = time.monotonic()
                    outcome = next(outcomes, None)
                    if outcome is None:
                        break
                    tally[outcome.validity] += 1
        except KeyboardInterrupt:
            return False
    return True


def _print(this: Hunt, *, as_json: bool) -> None:
    groups, outcomes = this.groups, this.outcomes
    if as_json:
        described = [
            {
                "signatures": group[0].signatures or [group[0].validity],
                "seeds": [result.seed for result in group],
                "directory": group[0].directory,
            }
            for group in groups
        ]
        summary = {"directory": str(this.directory), "interrupted": this.interrupted, "found": described}
        print(json.dumps({**summary, "outcomes": msgspec.to_builtins(outcomes)}))
        return
    if this.interrupted:
        done = f"stopped after {len(outcomes)} of {count(len(this.seeds), 'seed')}"
        print(f"splitbrain: {done}; the same command goes on from there", file=sys.stderr)
    tally = Counter(outcome.validity for outcome in outcomes)
    came = f"{tally['invalid']} failed, {tally['unknown']} unknown, {tally['valid']} passed"
    print(f"{count(len(outcomes), 'seed')}: {came}")
    for group in groups:
        first = group[0]
        seeds = ", ".join(str(result.seed) for result in group[:8]) + (", ..." if len(group) > 8 else "")
        print(f"\n{printable('; '.join(first.signatures) or first.validity)}")
        print(f"  {len(group)} of {count(len(outcomes), 'seed')}: {seeds}")
        print(printable(f"  {as_options(first.reason)}\n  {first.directory}"))
        if first.validity == "invalid" and this.experiment.environment == "simulation":
            trust = "--trust " if code_of(this.experiment) else ""
            print(printable(f"  smaller: splitbrain shrink {trust}{first.directory}"))
    if this.report.is_file():
        print(f"\nreport: {printable(str(this.report))}")
