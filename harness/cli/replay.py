"""``splitbrain replay``: run a simulated run again, and compare the two histories byte for byte."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from harness.cli.run import simulate
from harness.console.verdict import print_run
from harness.errors import SplitbrainError, UsageError
from harness.report import write_report
from harness.store import RunDirectory


def replay(path: Path, runs: Path, *, as_json: bool) -> int:
    """Run it again and return the exit code of its verdict.

    Raises ``UsageError`` for a run that was not simulated, and ``SplitbrainError`` if the history is another one.
    """
    before = RunDirectory(path)
    experiment = before.load_experiment()
    if experiment.environment != "simulation":
        raise UsageError(f"only a simulated run can be replayed exactly; run it again with: {experiment.command()}")
    directory, verdict = simulate(experiment, runs)
    old, new = (run.history.read_bytes().splitlines() for run in (before, directory))
    for number, (was, now) in enumerate(zip_longest(old, new), 1):
        if was != now:
            raise SplitbrainError(
                f"the replay differs from line {number} of the history on: other code has run; see {directory.history}"
            )
    if not as_json:
        print(f"the same history, {len(new):,} events, byte for byte")
    write_report(directory, experiment, verdict)
    print_run(directory, experiment, verdict, as_json=as_json)
    return verdict.exit_code
