"""``splitbrain hunt``: one experiment under many seeds; failures are kept, and told apart by their anomalies."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.campaign import Campaign, Outcome
from harness.cli.assemble import assemble, check_environment_name
from harness.cli.run import run_directly, run_in_a_process
from harness.executors import connect
from harness.experiment import Experiment


def hunt(
    experiment: Experiment,
    seeds: int,
    directory: Path | None,
    executor: str | None,
    *,
    stop: bool,
    as_json: bool,
) -> int:
    """Run seeds 0 to ``seeds`` - 1, print what was found, and return 1 if any failed, 3 if any was unknown."""
    parts = assemble(experiment)
    check_environment_name(experiment.environment)
    if experiment.environment != "auto":
        parts.suit(experiment, parts.environment(experiment))
    simulated = experiment.environment == "simulation"
    workers = os.cpu_count() or 1
    where = executor or (f"processes:{workers}" if simulated else "threads:1")
    campaign = Campaign(experiment, directory or Path("hunts") / Campaign.name(experiment))
    done = sum(seed in campaign.outcomes for seed in range(seeds))
    if done and not as_json:
        print(f"splitbrain: {done} of {seeds} seeds are in {campaign.directory} already", file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        connect(where) as pool,
        Progress(*columns, console=Console(stderr=True), disable=as_json or not sys.stderr.isatty()) as progress,
    ):
        bar = progress.add_task("hunting", total=seeds, completed=done)
        failed = 0
        run = run_directly if simulated else run_in_a_process
        try:
            for outcome in campaign.run(range(seeds), run, pool, workers, elsewhere=where.startswith("dask")):
                failed += outcome.validity == "invalid"
                progress.update(bar, advance=1, description=f"hunting, {failed} failed")
                if stop and failed:
                    break
        except KeyboardInterrupt:
            done = len(campaign.outcomes)
            print(f"splitbrain: stopped after {done} seeds; the same command goes on from there", file=sys.stderr)
            raise
    campaign.tidy()
    outcomes = [outcome for seed, outcome in sorted(campaign.outcomes.items()) if seed < seeds]
    _print(campaign, outcomes, as_json=as_json)
    kinds = {outcome.validity for outcome in outcomes}
    return 1 if "invalid" in kinds else 3 if "unknown" in kinds else 0


def _print(campaign: Campaign, outcomes: list[Outcome], *, as_json: bool) -> None:
    groups = campaign.groups()
    if as_json:
        found = [
            {"signatures": key, "seeds": [one.seed for one in group], "directory": group[0].directory}
            for key, group in groups.items()
        ]
        everything = msgspec.to_builtins(outcomes)
        print(json.dumps({"directory": str(campaign.directory), "found": found, "outcomes": everything}))
        return
    invalid = sum(outcome.validity == "invalid" for outcome in outcomes)
    unknown = sum(outcome.validity == "unknown" for outcome in outcomes)
    print(f"{len(outcomes)} seeds: {invalid} failed, {unknown} unknown, {len(outcomes) - invalid - unknown} passed")
    for key, group in groups.items():
        seeds = ", ".join(str(one.seed) for one in group[:8]) + (", ..." if len(group) > 8 else "")
        print(f"\n{'; '.join(key)}\n  {len(group)} of {len(outcomes)} seeds: {seeds}")
        print(f"  {group[0].reason}\n  {group[0].directory}")
        if group[0].validity == "invalid" and campaign.experiment.environment == "simulation":
            print(f"  smaller: splitbrain shrink {group[0].directory}")
