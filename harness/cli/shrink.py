"""``splitbrain shrink``: the few faults and operations that it takes, and the one command that shows it."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from harness import session
from harness.cli.stopping import undisturbed
from harness.cli.wording import worded
from harness.console.verdict import print_run
from harness.words import printable


def shrink(path: Path, runs: Path, seconds: float, *, trust: bool, as_json: bool) -> int:
    """Shrink a run, print what is left of it, and return the exit code of its verdict."""

    def say(text: str) -> None:
        if not as_json:
            print(printable(f"splitbrain: {text}"), file=sys.stderr)

    with ExitStack() as stack:
        outcome = session.shrink(
            path, seconds, runs=runs, trust=trust, say=say, on_found=lambda: stack.enter_context(undisturbed())
        )
        print_run(outcome, worded, as_json=as_json)
    return outcome.verdict.exit_code
