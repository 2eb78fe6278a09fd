"""The HTML report: one self-contained file for whoever must understand what happened.

``page`` puts it together of sections, one module and one template each; what they draw are ``picture.Picture``s.
"""

from __future__ import annotations

from pathlib import Path

from harness.errors import SplitbrainError
from harness.experiment import Experiment
from harness.history import History
from harness.recording import read_jsonl
from harness.report.page import page
from harness.report.story import Story
from harness.run_directory import RunDirectory
from harness.verdict import Verdict


def write_report(
    directory: RunDirectory, experiment: Experiment, verdict: Verdict, history: History | None = None
) -> None:
    """Write ``report.html`` into the run's directory, of the history in it or the one that is given."""
    try:
        history = read_jsonl(directory.history) if history is None else history
        written = page(Story(directory, experiment, verdict, history))
    except Exception as error:
        # The verdict does not depend on its picture.
        directory.lost.append(f"{directory.report} could not be made: {type(error).__name__}: {error}")
    else:
        directory.save(directory.report, written.encode())


def write_report_again(path: Path) -> None:
    """Write the report of a run as it was judged then. Raises ``UsageError`` where verdict or history are not there."""
    story = Story.of_run(path)
    write_report(story.directory, story.experiment, story.verdict, story.history)
    if story.directory.unsaved:
        raise SplitbrainError(story.directory.unsaved)
