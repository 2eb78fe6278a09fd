"""Conducting a run: from its parts to a history, a verdict and a directory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from harness.assembly import Parts, assemble
from harness.environments.base import Environment, SeesMessages
from harness.errors import SplitbrainError, StuckError
from harness.errors import field as named
from harness.experiment import Experiment
from harness.history import History
from harness.judging import checkers_of, judge_run
from harness.messages import exchanges
from harness.operation import Event
from harness.options import plain
from harness.plugins import has_ended
from harness.recording import read_jsonl
from harness.run_directory import RunDirectory
from harness.runner import Run
from harness.verdict import Checker, Verdict


@dataclass(frozen=True)
class Outcome:
    """What came of a run. As text it is what the command line prints of it, but for its options: these are fields."""

    experiment: Experiment
    verdict: Verdict
    history: History = field(repr=False)
    directory: Path
    """Holds ``experiment.json``, ``history.jsonl``, ``verdict.json``, ``junit.xml``, the nodes' logs, a report."""
    unsaved: str = ""
    """What of that could not be written or is lost, in a sentence."""

    @property
    def exit_code(self) -> int:
        """What the command line ends with. A pass that nobody can read afterwards is none."""
        if self.unsaved and self.verdict.validity == "valid":
            return SplitbrainError.exit_code
        return self.verdict.exit_code

    @property
    def again(self) -> str:
        """The command that runs it again, or a sentence that says why there is none."""
        return self.experiment.again(str(RunDirectory(self.directory).timetable))

    def __str__(self) -> str:
        from harness.console.verdict import as_text

        return as_text(self)


class AbortedError(KeyboardInterrupt):
    """The person ended the run at once; the message says where its history is."""


def aborted(directory: RunDirectory) -> str:
    """Where the history of a run is that was ended at once."""
    return f"aborted; what was recorded is in {directory.history}: `splitbrain check {directory.path}` judges it"


class Attendant:
    """Who attends a run, and is told of it. This one keeps silent, and lets nothing end the run early."""

    def say(self, what: str) -> None:
        """What the harness does now."""

    def saw(self, event: Event) -> None:
        """An event of the history was recorded."""

    async def execute(self, run: Run) -> None:
        """Execute the run, on the event loop of its environment."""
        await run.execute()

    def recorded(self) -> None:
        """The event loop is gone; the checkers come next."""


def conduct(
    experiment: Experiment, parts: Parts, environment: Environment, runs: Path, attendant: Attendant | None = None
) -> Outcome:
    """Run an experiment on its environment, judge it, and write all but the report.

    Raises ``AbortedError`` where the attendant has it cancelled. What is raised says where the run's directory is.
    """
    attendant = attendant or Attendant()
    parts.suit(experiment, environment)
    # While a real store boots there is time to get ready; a simulation is over before it is done.
    checkers = checkers_of(experiment, parts.workload, asked=parts.checkers)
    directory = RunDirectory.create(runs, experiment)
    if environment.real_time:
        warm(checkers)
    began = time.monotonic()
    run = Run(
        experiment,
        environment=environment,
        target=parts.target,
        workload=parts.workload,
        nemeses=parts.nemeses,
        mixed=parts.optional,
        directory=directory,
        say=attendant.say,
    )
    run.recorder.listen(attendant.saw)
    if left := run.no_time_for:
        attendant.say(f"{named('time', plain(experiment.time))} is too short for {', '.join(left)}")
    try:
        history = _record(run, environment, attendant)
        verdict = judge_run(directory, experiment, parts.workload, history=history, asked=parts.checkers)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise AbortedError(aborted(directory)) from None
    except SystemExit as end:
        error = has_ended(end)
        error.add_note(f"the run's directory is {directory.path}")
        raise error from None
    except Exception as error:
        error.add_note(f"the run's directory is {directory.path}")
        if directory.unsaved:
            error.add_note(directory.unsaved)
        raise
    finally:
        run.recorder.close()
    if verdict.anomalies and isinstance(environment, SeesMessages):
        kept = exchanges(environment.messages(run.began), verdict.anomalies)
        directory.save(directory.messages, msgspec.json.encode(kept))
    directory.write_verdict(verdict, experiment, time.monotonic() - began)
    return Outcome(experiment, verdict, history, directory.path, directory.unsaved)


def warm(checkers: Mapping[str, Checker]) -> None:
    """Let checkers that take a while to get ready begin with it."""
    for checker in checkers.values():
        checker.warm()


def _record(run: Run, environment: Environment, attendant: Attendant) -> History:
    """Execute a run, and read its history as it was written."""
    try:
        environment.run(attendant.execute(run))
    except StuckError as stuck:
        run.give_up(str(stuck))
        attendant.say(f"stopping: {stuck}")
    attendant.recorded()
    attendant.say("checking")
    if run.recorder.stands_in(run.directory.history):
        return read_jsonl(run.directory.history)
    history = run.recorder.history()
    run.directory.write_again(run.experiment, run.recorder.events)
    return history


def report(outcome: Outcome) -> Outcome:
    """Write the report of a run into its directory; the outcome with what could not be written."""
    from harness.report import write_report

    directory = RunDirectory(outcome.directory)
    write_report(directory, outcome.experiment, outcome.verdict, outcome.history)
    unsaved = "; ".join(filter(None, (outcome.unsaved, directory.unsaved)))
    return Outcome(outcome.experiment, outcome.verdict, outcome.history, outcome.directory, unsaved)


def simulate(experiment: Experiment, runs: Path, attendant: Attendant | None = None) -> Outcome:
    """Run a simulated experiment in this thread, without a report."""
    parts = assemble(experiment)
    return conduct(experiment, parts, parts.environment(experiment), runs, attendant)
