"""``splitbrain run``: a run as a person at a terminal sees it, and may stop it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from harness.cli.stopping import end_on_signals, tell
from harness.cli.wording import as_options, worded
from harness.conduct import Attendant
from harness.console.progress import Progress
from harness.console.verdict import print_run
from harness.environments import namespaces
from harness.experiment import Experiment
from harness.isolated import COMMAND
from harness.operation import Event
from harness.runner import Run
from harness.session import Prepared


def run(experiment: Experiment, runs: Path, elsewhere: Mapping[str, str], *, as_json: bool) -> int:
    """Run an experiment, print its outcome, and return the exit code."""
    # What code of others prints must not stand where a script reads the outcome.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        prepared = Prepared(experiment, elsewhere=elsewhere)
        place = prepared.experiment.environment
        if not as_json and experiment.environment == "auto":
            print(as_options(f"splitbrain: --on auto takes {place}: {prepared.why}"), file=sys.stderr)
        if prepared.apart:
            return namespaces.reexecute([*COMMAND, *sys.argv[1:], "--on", place], os.environ)
        with Progress(prepared.parts.workload.checkers(), experiment.time, quiet=as_json) as progress:
            outcome = prepared.conduct(runs, _Terminal(progress))
    print_run(outcome, worded, as_json=as_json)
    return outcome.exit_code


class _Terminal(Attendant):
    """The first signal ends the operations, and the run is judged all the same; the second one aborts."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def say(self, what: str) -> None:
        self._progress.say(as_options(what))

    def saw(self, event: Event) -> None:
        self._progress.saw(event)

    def recorded(self) -> None:
        # The event loop had taken the signals, and has left them to the kernel.
        end_on_signals()

    async def execute(self, run: Run) -> None:
        task = asyncio.current_task()
        assert task is not None
        asked = 0

        def interrupt() -> None:
            nonlocal asked
            asked += 1
            if asked == 1:
                self.say("stopping: healing and reading once more; press Ctrl-C again to abort")
                run.stop()
            elif asked == 2:
                task.cancel()
            else:
                # Cancelled once more it would leave behind what it is just removing.
                self.say("aborting: the nodes are being removed")

        tell(interrupt)
        watcher = asyncio.create_task(self._progress.watch(run))
        try:
            await run.execute()
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
