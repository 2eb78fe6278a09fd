"""``splitbrain hunt``: one experiment under many seeds; failures are kept, and told apart by their anomalies."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.campaign import Campaign, Outcome
from harness.cli.assemble import assemble, check_environment_name, choose_environment
from harness.cli.run import refuse_missing_programs, run_directly, run_in_a_process
from harness.executors import connect
from harness.experiment import Experiment
from harness.fingerprint import fingerprint
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
    """Run seeds 0 to ``seeds`` - 1, print what was found, and return the exit code.

    That is 1 if any seed failed, else 3 if any was unknown, or was not run since the hunt was interrupted, else 0.
    """
    parts = assemble(experiment)
    check_environment_name(experiment.environment)
    if experiment.environment != "auto":
        parts.suit(experiment, parts.environment(experiment))
    simulated = experiment.environment == "simulation"
    if choose_environment(experiment.environment, experiment.image)[0] == "local":
        refuse_missing_programs(parts.target)
    workers = os.cpu_count() or 1
    where = executor or (f"processes:{workers}" if simulated else "threads:1")
    folder = directory or Path("hunts") / Campaign.name(experiment)
    campaign = Campaign(experiment, folder, fingerprint(experiment))
    wanted = range(seeds)
    if not as_json:
        _say_what_is_kept(campaign, wanted)
    outcomes = campaign.run(
        wanted,
        run_directly if simulated else run_in_a_process,
        lambda: connect(where),
        workers,
        elsewhere=where.startswith("dask"),
    )
    interrupted = not _go_through(outcomes, _known(campaign, wanted), seeds, stop=stop, quiet=as_json)
    campaign.tidy()
    _print(campaign, wanted, interrupted=interrupted, as_json=as_json)
    kinds = {outcome.validity for outcome in _known(campaign, wanted)} | ({"unknown"} if interrupted else set())
    return 1 if "invalid" in kinds else 3 if "unknown" in kinds else 0


def _known(campaign: Campaign, seeds: Iterable[int]) -> list[Outcome]:
    """What has come of these seeds, as far as they were run."""
    return [campaign.outcomes[seed] for seed in seeds if seed in campaign.outcomes]


def _say_what_is_kept(campaign: Campaign, wanted: range) -> None:
    if done := len(_known(campaign, wanted)):
        print(
            f"splitbrain: {done} of {count(len(wanted), 'seed')} are in {campaign.directory} already", file=sys.stderr
        )
    if old := sum(seed in wanted for seed in campaign.outdated):
        print(f"splitbrain: {count(old, 'seed')} in {campaign.directory} run by other code: again", file=sys.stderr)


def _go_through(
    outcomes: Generator[Outcome, None, None], known: Sequence[Outcome], seeds: int, *, stop: bool, quiet: bool
) -> bool:
    """Let the hunt go on, to its end or to its first failure; False if it was interrupted before."""
    tally = Counter(outcome.validity for outcome in known)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as progress,
    ):
        bar, told = progress.add_task("hunting", total=seeds), time.monotonic()
        try:
            with closing(outcomes):
                while not (stop and tally["invalid"]):
                    said = f"hunting, {tally['invalid']} failed, {tally['unknown']} unknown"
                    progress.update(bar, completed=tally.total(), description=said)
                    if progress.disable and not quiet and time.monotonic() > told + _TELL_SECONDS:
                        print(f"splitbrain: {said}: {tally.total()} of {count(seeds, 'seed')}", file=sys.stderr)
                        told = time.monotonic()
                    outcome = next(outcomes, None)
                    if outcome is None:
                        break
                    tally[outcome.validity] += 1
        except KeyboardInterrupt:
            return False
    return True


def _print(campaign: Campaign, wanted: range, *, interrupted: bool, as_json: bool) -> None:
    groups, outcomes = campaign.groups(wanted), _known(campaign, wanted)
    if as_json:
        found = [
            {
                "signatures": group[0].signatures or [group[0].validity],
                "seeds": [one.seed for one in group],
                "directory": group[0].directory,
            }
            for group in groups
        ]
        said = {"directory": str(campaign.directory), "interrupted": interrupted, "found": found}
        print(json.dumps({**said, "outcomes": msgspec.to_builtins(outcomes)}))
        return
    if interrupted:
        done = f"stopped after {len(outcomes)} of {count(len(wanted), 'seed')}"
        print(f"splitbrain: {done}; the same command goes on from there", file=sys.stderr)
    tally = Counter(outcome.validity for outcome in outcomes)
    came = f"{tally['invalid']} failed, {tally['unknown']} unknown, {tally['valid']} passed"
    print(f"{count(len(outcomes), 'seed')}: {came}")
    for group in groups:
        first = group[0]
        seeds = ", ".join(str(one.seed) for one in group[:8]) + (", ..." if len(group) > 8 else "")
        print(f"\n{printable('; '.join(first.signatures) or first.validity)}")
        print(f"  {len(group)} of {count(len(outcomes), 'seed')}: {seeds}")
        print(printable(f"  {first.reason}\n  {first.directory}"))
        if first.validity == "invalid" and campaign.experiment.environment == "simulation":
            trust = "--trust " if code_of(campaign.experiment) else ""
            print(printable(f"  smaller: splitbrain shrink {trust}{first.directory}"))
