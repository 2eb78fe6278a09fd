"""``splitbrain replay``: run a simulated run again, and compare the two histories byte for byte."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from harness.cli.wording import worded
from harness.conduct import report, simulate
from harness.console.verdict import for_scripts, json_line, print_run
from harness.errors import SplitbrainError, UsageError
from harness.run_directory import RunDirectory, find_history
from harness.trust import code_of, refuse_code


def replay(path: Path, runs: Path, *, trust: bool, as_json: bool) -> int:
    """Run it again, say whether the history is the same, and return the exit code of its verdict.

    Raises ``UsageError`` for a run that was not simulated, or that names code without ``trust``, and, when all is
    written and printed, ``SplitbrainError`` if the history is another one.
    """
    before = RunDirectory(path)
    experiment = before.load_experiment()
    if experiment.environment != "simulation":
        raise UsageError(f"only a simulated run can be replayed exactly; run it again with: {experiment.command()}")
    refuse_code(str(path), code_of(experiment), trust=trust)
    find_history(path)  # the folder of a hunt has an experiment too; its runs are in seed-N
    outcome = report(simulate(experiment, runs))
    history = RunDirectory(outcome.directory).history
    old, new = (path.read_bytes().splitlines() for path in (before.history, history))
    differs = next((number for number, (was, now) in enumerate(zip_longest(old, new), 1) if was != now), None)
    if as_json:
        same = {"same": differs is None, "events": len(new), "differs_from_line": differs}
        print(json_line({**for_scripts(outcome), "replay": same}))
    elif differs is None:
        print(f"the same history, {len(new):,} events, byte for byte")
        print_run(outcome, worded, as_json=False)
    if differs is not None:
        raise SplitbrainError(
            f"the replay differs from line {differs} of the history on: other code has run; see {history}"
        )
    return outcome.verdict.exit_code
