"""Runs in a process of their own: what needs namespaces of its own must not be done to the process of a caller."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Final

import msgspec
from msgspec.structs import replace

from harness.errors import FIELDS, SplitbrainError, UsageError
from harness.experiment import Experiment
from harness.verdict import EXIT_CODES, Verdict

_HERE: Final = Path(__file__).parent
_BEGIN: Final = (
    f"import importlib, sys, typing; sys.path.insert(0, {str(_HERE.parent)!r}); import harness; del sys.path[0]; "
    "from harness.cli import main; sys.argv[0] = 'splitbrain'; main()"
)
COMMAND: Final = (sys.executable, "-P", "-c", _BEGIN)
"""The command once more: this package, wherever it was found here, and no other module from beside it, nor from the
current directory.
"""
_LEASHED: Final = (sys.executable, "-P", str(_HERE / "leashed.py"))
_LOOK_SECONDS: Final = 0.2
_ABORTED_SECONDS: Final = 60.0
"""How long the nodes of a run that is aborted may take to go."""


class Told(msgspec.Struct):
    """What a command tells of its run: see ``harness.console.verdict.for_scripts``."""

    verdict: Verdict
    directory: str
    unsaved: str = ""


def run_in_a_process(experiment: Experiment, runs: Path, stopped: Event | None = None) -> tuple[Verdict, Path]:
    """Run any experiment as a command of its own. Raises ``SplitbrainError`` with what it said where it broke.

    Of a run that passed and could not be kept, or whose nodes could not be stopped, the verdict is unknown. Once it is
    ``stopped``, by another thread, the run is aborted, and ``KeyboardInterrupt`` raised when its nodes are gone.
    """
    told = _leashed(_words(experiment, runs, runs), stopped or Event())
    if told.unsaved and told.verdict.validity == "valid":
        told.verdict = replace(told.verdict, validity="unknown", reason=told.unsaved)
    return told.verdict, Path(told.directory)


def run_apart(
    experiment: Experiment, runs: Path, say: Callable[[str], None], judges: Mapping[str, str] | None = None
) -> Told:
    """The same for a caller who waits for it himself: what interrupts the wait is raised on.

    ``judges`` are checkers that only the caller has, and why: they are written down with the run, which nobody else can
    judge as it was judged.
    """
    say("running in a process of its own")
    elsewhere = [word for name, why in (judges or {}).items() for word in ("--judge-elsewhere", f"{name}={why}")]
    if experiment.timetable is None:  # whoever is killed leaves no folder
        return _leashed([*_words(experiment, runs, runs), *elsewhere], Event())
    with tempfile.TemporaryDirectory(prefix="splitbrain-run-") as folder:
        return _leashed([*_words(experiment, runs, Path(folder)), *elsewhere], Event())


def _leashed(words: Sequence[str], stopped: Event) -> Told:
    """What the command tells; no signal of the caller's terminal gets there, and it ends with the caller.

    Whatever interrupts the wait aborts the run, and is raised on when its nodes are gone.
    """
    with subprocess.Popen(
        [*_LEASHED, str(os.getpid()), *COMMAND, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, FIELDS: "1"},
        start_new_session=True,
    ) as process:
        try:
            out, err = _wait(process, stopped)
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


def _wait(process: subprocess.Popen[str], stopped: Event) -> tuple[str, str]:
    while not stopped.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=_LOOK_SECONDS)
    raise KeyboardInterrupt


def _words(experiment: Experiment, runs: Path, folder: Path) -> list[str]:
    """The words of the command; an explicit timetable is written into a folder."""
    timetable = folder / "timetable.json"
    if experiment.timetable is not None:
        timetable.write_bytes(msgspec.json.encode(experiment.timetable))
    return [*shlex.split(experiment.command(str(timetable)))[1:], "--format", "json", "--runs", str(runs)]


def _told(code: int, out: str, err: str) -> Told:
    """The outcome is the last line that is one: code of others may have printed before, and at its exit."""
    told = next(filter(None, map(_read, reversed(out.splitlines()))), None)
    if told is None or code not in (*EXIT_CODES.values(), SplitbrainError.exit_code):
        message = _last(err)
        raise UsageError(message) if code == UsageError.exit_code else SplitbrainError(message)
    return told


def _read(line: str) -> Told | None:
    try:
        return msgspec.json.decode(line, type=Told)
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _last(err: str) -> str:
    return (err.strip().splitlines() or ["it ended without a word"])[-1].removeprefix("splitbrain: ")
