"""Runs in a process of their own: what needs namespaces of its own must not be done to the process of a caller."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from harness.errors import SplitbrainError, UsageError
from harness.experiment import Experiment
from harness.verdict import EXIT_CODES, Verdict

COMMAND: Final = (sys.executable, "-P", "-m", "harness.cli")
"""The command once more: without the current directory among the places that modules are taken from."""
_LEASHED: Final = (sys.executable, "-P", "-m", "harness.leashed")
_ABORTED_SECONDS: Final = 60.0
"""How long the nodes of a run that is aborted may take to go."""


def run_in_a_process(experiment: Experiment, runs: Path) -> tuple[Verdict, Path]:
    """Run any experiment as a command of its own. Raises ``SplitbrainError`` with what it said where it broke."""
    command = [*COMMAND, *_words(experiment, runs, runs)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return _told(done.returncode, done.stdout, done.stderr)


def run_apart(experiment: Experiment, runs: Path, say: Callable[[str], None]) -> tuple[Verdict, Path]:
    """The same for a caller whom it leaves alone: no signal of its terminal gets there, it ends with the caller.

    Whatever interrupts the wait aborts the run, and is raised on when its nodes are gone.
    """
    say("running in a process of its own")
    with (
        tempfile.TemporaryDirectory(prefix="splitbrain-run-") as folder,
        subprocess.Popen(
            [*_LEASHED, str(os.getpid()), *COMMAND, *_words(experiment, runs, Path(folder))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process,
    ):
        try:
            out, err = process.communicate()
        except BaseException as error:
            for number in (signal.SIGINT, signal.SIGTERM):  # after the first one it would still read, and judge
                process.send_signal(number)
            try:
                error.add_note(_last(process.communicate(timeout=_ABORTED_SECONDS)[1]))
            except subprocess.TimeoutExpired:
                error.add_note("the run did not end when it was asked to, and was killed")
            finally:
                process.kill()
            raise
    return _told(process.returncode, out, err)


def _words(experiment: Experiment, runs: Path, folder: Path) -> list[str]:
    """The words of the command; an explicit timetable is written into a folder."""
    timetable = folder / "timetable.json"
    if experiment.timetable is not None:
        timetable.write_bytes(msgspec.json.encode(experiment.timetable))
    return [*shlex.split(experiment.command(str(timetable)))[1:], "--format", "json", "--runs", str(runs)]


def _told(code: int, out: str, err: str) -> tuple[Verdict, Path]:
    if code not in EXIT_CODES.values():
        said = _last(err)
        raise UsageError(said) if code == UsageError.exit_code else SplitbrainError(said)
    outcome = json.loads(out)
    return msgspec.convert(outcome["verdict"], Verdict), Path(outcome["directory"])


def _last(err: str) -> str:
    return (err.strip().splitlines() or ["it ended without a word"])[-1].removeprefix("splitbrain: ")
