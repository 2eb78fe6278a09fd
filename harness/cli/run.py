"""``splitbrain run``: a run as a person at a terminal sees it, and may stop it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from harness.assembly import ALL, each_workload
from harness.cli.stopping import end_on_signals, go_on, tell
from harness.cli.wording import as_options, worded
from harness.conduct import Attendant, Outcome
from harness.console.progress import Progress
from harness.console.series import Series, print_series
from harness.console.verdict import print_run
from harness.environments import namespaces
from harness.errors import SplitbrainError, notes_of
from harness.experiment import Experiment
from harness.isolated import COMMAND
from harness.operation import Event
from harness.runner import Run
from harness.session import Prepared


def run(experiment: Experiment, runs: Path, elsewhere: Mapping[str, str], *, as_json: bool) -> int:
    """Run an experiment, print its outcome, and return the exit code."""
    if experiment.workload == ALL:
        return _run_each(experiment, runs, as_json=as_json, elsewhere=elsewhere)
    with _apart_from_the_outcome(as_json=as_json):
        prepared = Prepared(experiment, elsewhere=elsewhere)
        if (code := _elsewhere(prepared, experiment, quiet=as_json)) is not None:
            return code
        outcome, _ = _conduct(prepared, runs, quiet=as_json)
    print_run(outcome, worded, as_json=as_json)
    return outcome.exit_code


def _apart_from_the_outcome(*, as_json: bool) -> contextlib.AbstractContextManager[object]:
    """What code of others prints must not stand where a script reads the outcome."""
    return contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()


def _elsewhere(prepared: Prepared, asked: Experiment, *, quiet: bool) -> int | None:
    """The exit code of the command once more, where nodes need namespaces of their own; None where they do not."""
    place = prepared.experiment.environment
    if not quiet and asked.environment == "auto":
        print(as_options(f"splitbrain: --on auto takes {place}: {prepared.why}"), file=sys.stderr)
    if not prepared.apart:
        return None
    go_on()
    return namespaces.reexecute([*COMMAND, *sys.argv[1:], "--on", place], os.environ)


def _conduct(prepared: Prepared, runs: Path, *, quiet: bool) -> tuple[Outcome, bool]:
    """The outcome of a run, and whether the person has stopped it."""
    with Progress(prepared.parts.workload.checkers(), prepared.experiment.time, quiet=quiet) as progress:
        terminal = _Terminal(progress)
        return prepared.conduct(runs, terminal), terminal.stopped


def _run_each(experiment: Experiment, runs: Path, *, as_json: bool, elsewhere: Mapping[str, str]) -> int:
    """Run it with every workload of its target, each on a cluster of its own; whoever stops one stops them all."""
    with _apart_from_the_outcome(as_json=as_json):
        # All that can be refused is refused before the first of them starts.
        each, left_out = each_workload(experiment)
        prepared = {single.workload: Prepared(single, elsewhere=elsewhere) for single in each}
        if (code := _elsewhere(next(iter(prepared.values())), experiment, quiet=as_json)) is not None:
            return code
    for sentence in left_out if not as_json else ():
        print(as_options(f"splitbrain: {sentence}"), file=sys.stderr)
    series = Series(tuple(prepared))
    try:
        with _apart_from_the_outcome(as_json=as_json):
            _go_through(series, prepared, runs, quiet=as_json)
    finally:
        print_series(series, worded, as_json=as_json)
    return series.exit_code


def _go_through(series: Series, prepared: Mapping[str, Prepared], runs: Path, *, quiet: bool) -> None:
    """Run one after the other, until all were run or the person stops one."""
    for name, preparation in prepared.items():
        if not quiet:
            print(f"splitbrain: workload {name}, {len(series.done) + 1} of {len(prepared)}", file=sys.stderr)
        try:
            series.outcomes[name], stopped = _conduct(preparation, runs, quiet=quiet)
        except SplitbrainError as error:
            series.broken[name] = as_options(f"{error}{notes_of(error)}")
            continue
        if stopped:
            break


class _Terminal(Attendant):
    """The first signal ends the operations, and the run is judged all the same; the second one aborts."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.stopped = False

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
            self.stopped = True
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
