"""``splitbrain run``: assemble the parts, run them, judge, report."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.cli.assemble import Parts, assemble, check_environment_name, choose_environment
from harness.cli.stopping import end_on_signals, tell
from harness.environments import namespaces
from harness.environments.base import Environment, HasImage
from harness.errors import MissingError, SplitbrainError, StuckError, UsageError
from harness.experiment import Experiment
from harness.history import History
from harness.judging import checkers_of, judge_run
from harness.options import plain
from harness.recording import read_jsonl
from harness.store import RunDirectory
from harness.target import Target
from harness.verdict import EXIT_CODES, Verdict

if TYPE_CHECKING:
    from harness.console.progress import Progress
    from harness.runner import Run

COMMAND = (sys.executable, "-P", "-c", "from harness.cli import main; main()")
"""The command once more: without the current directory among the places that modules are taken from."""


def run(experiment: Experiment, runs: Path, *, as_json: bool) -> int:
    """Run an experiment, print its outcome, and return the exit code."""
    parts = assemble(experiment)
    check_environment_name(experiment.environment)
    name, why = choose_environment(experiment.environment, experiment.image)
    if name == "local" and not namespaces.inside():
        parts.suit(experiment, parts.environment(msgspec.structs.replace(experiment, environment=name)))
        refuse_missing_programs(parts.target)
        if not as_json and experiment.environment == "auto":
            print(f"splitbrain: --on auto takes {name}: {why}", file=sys.stderr)
        return namespaces.reexecute([*COMMAND, *sys.argv[1:], "--on", name], os.environ)
    if not as_json and experiment.environment == "auto":
        print(f"splitbrain: --on auto takes {name}: {why}", file=sys.stderr)
    experiment = msgspec.structs.replace(experiment, environment=name)
    environment = parts.environment(experiment)
    if isinstance(environment, HasImage):
        experiment = msgspec.structs.replace(experiment, image_digest=environment.digest())
    directory, verdict, history = _perform(experiment, parts, environment, runs, quiet=as_json, stoppable=True)
    from harness.console.verdict import print_run
    from harness.report import write_report

    write_report(directory, experiment, verdict, history)
    print_run(directory, experiment, verdict, as_json=as_json)
    # A pass that nobody can read afterwards is none.
    return SplitbrainError.exit_code if directory.unsaved and verdict.validity == "valid" else verdict.exit_code


def refuse_missing_programs(target: Target) -> None:
    """Raise ``MissingError`` for a server that local nodes would need and that is not on this machine."""
    import shutil

    for program, package in target.programs.items():
        if shutil.which(program) is None:
            raise MissingError(f"{program} is not on this machine: apt-get install {package}")


def _perform(
    experiment: Experiment, parts: Parts, environment: Environment, runs: Path, *, quiet: bool, stoppable: bool
) -> tuple[RunDirectory, Verdict, History]:
    """Run an experiment on its environment, judge it, and write all but the report.

    ``stoppable`` says that the first signal only ends the operations, and the run is judged all the same; any other one
    raises ``AbortedError``. What is raised says where the run's directory is.
    """
    from harness.console.progress import Progress
    from harness.runner import Run

    parts.suit(experiment, environment)
    checkers = checkers_of(experiment, parts.workload)
    directory = RunDirectory.create(runs, experiment)
    for checker in checkers.values():
        # While a real store boots there is time for it; a simulation is over before it is done.
        if environment.real_time:
            checker.warm()
    began = time.monotonic()
    with Progress(parts.workload.checkers(), experiment.time, quiet=quiet) as progress:
        this = Run(
            experiment,
            environment=environment,
            target=parts.target,
            workload=parts.workload,
            nemeses=parts.nemeses,
            mixed=parts.optional,
            directory=directory,
            say=progress.say,
        )
        this.recorder.listen(progress.saw)
        if left := this.no_time_for:
            progress.say(f"--time {plain(experiment.time)} is too short for {', '.join(left)}")
        try:
            try:
                environment.run(_until_stopped(this, progress) if stoppable else this.execute())
            except StuckError as stuck:
                this.give_up(str(stuck))
                progress.say(f"stopping: {stuck}")
            if stoppable:
                # The event loop had taken the signals, and has left them to the kernel.
                end_on_signals()
            progress.say("checking")
            if this.recorder.stands_in(directory.history):
                history = read_jsonl(directory.history)
            else:
                history = this.recorder.history()
                directory.write_again(experiment, this.recorder.events)
            verdict = judge_run(directory, experiment, parts.workload, history=history)
        except (KeyboardInterrupt, asyncio.CancelledError):
            said = (
                f"aborted; what was recorded is in {directory.history}: `splitbrain check {directory.path}` judges it"
            )
            raise AbortedError(said) from None
        except Exception as error:
            error.add_note(f"the run's directory is {directory.path}")
            if directory.unsaved:
                error.add_note(directory.unsaved)
            raise
        finally:
            this.recorder.close()
    directory.write_verdict(verdict, experiment, time.monotonic() - began)
    return directory, verdict, history


class AbortedError(KeyboardInterrupt):
    """The person ended the run at once; the message says where its history is."""


async def _until_stopped(this: Run, progress: Progress) -> None:
    """Run; the first signal ends the operations and still judges, the second one aborts."""
    task = asyncio.current_task()
    assert task is not None
    asked = 0

    def interrupt() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            progress.say("stopping: healing and reading once more; press Ctrl-C again to abort")
            this.stop()
        elif asked == 2:
            task.cancel()
        else:
            # Cancelled once more it would leave behind what it is just removing.
            progress.say("aborting: the nodes are being removed")

    tell(interrupt)
    watcher = asyncio.create_task(progress.watch(this))
    try:
        await this.execute()
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


def simulate(experiment: Experiment, runs: Path) -> tuple[RunDirectory, Verdict]:
    """Run a simulated experiment in this process, without a word and without a report."""
    parts = assemble(experiment)
    place = parts.environment(experiment)
    directory, verdict, _ = _perform(experiment, parts, place, runs, quiet=True, stoppable=False)
    return directory, verdict


def run_directly(experiment: Experiment, runs: Path) -> tuple[Verdict, Path]:
    """Run a simulated experiment in this process; a report is written where it did not pass."""
    directory, verdict = simulate(experiment, runs)
    if verdict.validity != "valid":
        from harness.report import write_report

        write_report(directory, experiment, verdict)
    return verdict, directory.path


def run_in_a_process(experiment: Experiment, runs: Path) -> tuple[Verdict, Path]:
    """Run any experiment as a command of its own. Raises ``SplitbrainError`` with what it said where it broke."""
    command = [*COMMAND]
    timetable = runs / "timetable.json"
    if experiment.timetable is not None:
        timetable.write_bytes(msgspec.json.encode(experiment.timetable))
    command += [*shlex.split(experiment.command(str(timetable)))[1:], "--format", "json", "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode not in EXIT_CODES.values():
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1].removeprefix("splitbrain: ")
        raise UsageError(last) if done.returncode == UsageError.exit_code else SplitbrainError(last)
    said = json.loads(done.stdout)
    return msgspec.convert(said["verdict"], Verdict), Path(said["directory"])
