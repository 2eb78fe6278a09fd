"""``splitbrain replay``: run a simulated run again, and compare the two histories byte for byte."""

from __future__ import annotations

from pathlib import Path

from harness import session
from harness.cli.wording import worded
from harness.console.verdict import for_scripts, json_line, print_run
from harness.errors import SplitbrainError
from harness.run_directory import RunDirectory


def replay(path: Path, runs: Path, *, trust: bool, as_json: bool) -> int:
    """Run it again, say whether the history is the same, and return the exit code of its verdict.

    Raises ``UsageError`` for a run that was not simulated, or that names code without ``trust``, and, when all is
    written and printed, ``SplitbrainError`` if the history is another one.
    """
    outcome, events, differs = session.replay(path, runs=runs, trust=trust)
    if as_json:
        same = {"same": differs is None, "events": events, "differs_from_line": differs}
        print(json_line({**for_scripts(outcome), "replay": same}))
    elif differs is None:
        print(f"the same history, {events:,} events, byte for byte")
        print_run(outcome, worded, as_json=False)
    if differs is not None:
        history = RunDirectory(outcome.directory).history
        raise SplitbrainError(
            f"the replay differs from line {differs} of the history on: other code has run; see {history}"
        )
    return outcome.verdict.exit_code
