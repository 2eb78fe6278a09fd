"""``splitbrain run``: assemble the parts, run them, judge, report."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from harness.cli.assemble import Parts, assemble, check_environment_name, choose_environment
from harness.environments import namespaces
from harness.errors import MissingError, SplitbrainError, UsageError
from harness.experiment import Experiment
from harness.plugins import load
from harness.store import RunDirectory
from harness.verdict import EXIT_CODES, Budget, Verdict


def run(experiment: Experiment, runs: Path, *, as_json: bool) -> int:
    """Run an experiment, print its outcome, and return the exit code of its verdict."""
    parts = assemble(experiment)
    check_environment_name(experiment.environment)
    name, why = choose_environment(experiment.environment, experiment.image)
    if name == "local" and not namespaces.inside():
        parts.suit(experiment, parts.environment(msgspec.structs.replace(experiment, environment=name)))
        refuse_missing_programs(parts.target)
        if not as_json and experiment.environment == "auto":
            print(f"splitbrain: --on auto takes {name}: {why}", file=sys.stderr)
        return namespaces.reexecute(
            [sys.executable, "-c", "from harness.cli import main; main()", *sys.argv[1:], "--on", name],
            os.environ,
        )
    if not as_json and experiment.environment == "auto":
        print(f"splitbrain: --on auto takes {name}: {why}", file=sys.stderr)
    experiment = msgspec.structs.replace(experiment, environment=name)
    environment = parts.environment(experiment)
    try:
        directory, verdict = perform(experiment, parts, environment, runs, quiet=as_json)
    except AbortedError as aborted:
        print(f"splitbrain: aborted; what was recorded is in {aborted}", file=sys.stderr)
        return 4
    from harness.console.verdict import print_run
    from harness.report import write_report

    write_report(directory, experiment, verdict)
    print_run(directory, experiment, verdict, as_json=as_json)
    return verdict.exit_code


class AbortedError(Exception):
    """The person ended the run at once; the message is where its history is."""


def refuse_missing_programs(target: Any) -> None:
    """Raise ``MissingError`` for a server that local nodes would need and that is not on this machine."""
    import shutil

    for program, package in target.programs.items():
        if shutil.which(program) is None:
            raise MissingError(f"{program} is not on this machine: apt-get install {package}")


def perform(
    experiment: Experiment, parts: Parts, environment: Any, runs: Path, *, quiet: bool
) -> tuple[RunDirectory, Verdict]:
    """Run an experiment on its environment, judge it, and write all but the report. Raises ``AbortedError``."""
    from harness.console.progress import Progress
    from harness.runner import Run

    parts.suit(experiment, environment)
    directory = RunDirectory.create(runs, experiment)
    checkers = parts.workload.checkers()
    for checker in checkers.values():
        # While a real store boots there is time for it; a simulation is over before it is done.
        if environment.real_time and hasattr(checker, "warm"):
            checker.warm()
    began = time.monotonic()
    with Progress(checkers, quiet=quiet) as progress:
        this = Run(
            experiment,
            environment=environment,
            target=parts.target,
            workload=parts.workload,
            nemeses=parts.nemeses,
            directory=directory,
            say=progress.say,
        )
        this.recorder.listen(progress.saw)
        try:
            environment.run(_until_stopped(this, progress) if environment.real_time else this.execute())
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise AbortedError(str(directory.history)) from None
        except SplitbrainError as error:
            raise type(error)(f"{error}; the run's directory is {directory.path}") from error
        progress.say("checking")
        verdict = judge_run(directory, experiment, parts.workload)
    seconds = time.monotonic() - began
    directory.write_verdict(verdict, experiment, seconds)
    return directory, verdict


def simulate(experiment: Experiment, runs: Path) -> tuple[RunDirectory, Verdict]:
    """Run a simulated experiment in this process, without a word and without a report."""
    parts = assemble(experiment)
    return perform(experiment, parts, parts.environment(experiment), runs, quiet=True)


def run_directly(experiment: Experiment, runs: Path) -> tuple[Verdict, Path]:
    """Run a simulated experiment in this process; a report is written where it did not pass."""
    directory, verdict = simulate(experiment, runs)
    if verdict.validity != "valid":
        from harness.report import write_report

        write_report(directory, experiment, verdict)
    return verdict, directory.path


def run_in_a_process(experiment: Experiment, runs: Path) -> tuple[Verdict, Path]:
    """Run any experiment as a command of its own. Raises ``SplitbrainError`` with what it said where it broke."""
    command = [sys.executable, "-c", "from harness.cli import main; main()"]
    timetable = runs / "timetable.json"
    if experiment.timetable is not None:
        timetable.write_bytes(msgspec.json.encode(experiment.timetable))
    command += [*shlex.split(experiment.command(str(timetable)))[1:], "--format", "json", "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in EXIT_CODES.values():
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1].removeprefix("splitbrain: ")
        raise UsageError(last) if done.returncode == UsageError.exit_code else SplitbrainError(last)
    said = json.loads(done.stdout)
    return msgspec.convert(said["verdict"], Verdict), Path(said["directory"])


def judge_run(directory: RunDirectory, experiment: Experiment, workload: Any) -> Verdict:
    """The verdict of a workload's checkers and of the evidence on a run's history, read back from disk."""
    from harness.history import read_jsonl
    from harness.runner import judge

    evidence = load("checkers", "evidence")()
    return judge(read_jsonl(directory.history), {**workload.checkers(), "evidence": evidence}, Budget())


async def _until_stopped(this: Any, progress: Any) -> None:
    """Run; the first Ctrl-C ends the operations and still judges, the second one aborts."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    asked = False

    def interrupt() -> None:
        nonlocal asked
        if asked:
            task.cancel()
            return
        asked = True
        progress.say("stopping: healing and reading once more; press Ctrl-C again to abort")
        this.stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    watcher = asyncio.create_task(progress.watch(this.recorder))
    try:
        await this.execute()
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
