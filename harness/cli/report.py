"""``splitbrain report`` and ``explain``: a run's report, pictures of it, and one anomaly in the terminal.

All of it comes from the run's own verdict and history; nothing is judged again.
"""

from __future__ import annotations

import contextlib
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from harness.console.anomaly import print_anomaly
from harness.errors import SplitbrainError, UsageError
from harness.plain_files import write_whole
from harness.report.anomalies import anomaly_drawing
from harness.report.page import page
from harness.report.picture import Picture
from harness.report.primaries import primaries
from harness.report.story import DAMAGED, Story
from harness.report.vega import as_png, as_svg
from harness.scene import Scenes
from harness.verdict import Anomaly, Verdict
from harness.words import count, printable


def report(path: Path, form: str, anomaly: int | None, to: Path | None, *, show: bool) -> None:
    """Make the report of a run again (html), or one picture of it (svg, png), and say where it is."""
    story = Story.of_run(path)
    if anomaly is not None:
        _anomaly(story.verdict, anomaly)
    with _undamaged(path):
        if form == "html":
            to = story.directory.report if to is None else to
            data = page(story).encode()
        else:
            picture = _split_brain(story) if anomaly is None else _drawing(story, anomaly)
            to = path / f"{picture.name}.{form}" if to is None else to
            data = as_svg(picture).encode() if form == "svg" else as_png(picture)
    _write(to, data)
    print(printable(str(to)))
    if show:
        place = f"#anomaly-{anomaly}" if form == "html" and anomaly is not None else ""
        if not webbrowser.open(to.resolve().as_uri() + place):
            raise SplitbrainError(f"no browser could be opened: open {to} yourself")


def explain(path: Path, number: int | None) -> None:
    """Print one anomaly of a run, the first one if there is no number, with a picture of characters."""
    story = Story.of_run(path)
    chosen = 1 if number is None else number
    anomaly = _anomaly(story.verdict, chosen)
    with _undamaged(path):
        scene = Scenes(story.operations, story.periods, story.sightings).scene(anomaly)
        print_anomaly(Console(highlight=False), anomaly, scene, chosen)
    if number is None and len(story.verdict.anomalies) > 1:
        print(f"\n{count(len(story.verdict.anomalies), 'anomaly', 'anomalies')} are explained: add the number of one")


@contextlib.contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Raises ``UsageError`` for a verdict or a history that is not as a run writes it."""
    try:
        yield
    except DAMAGED as error:
        raise UsageError(
            f"verdict or history in {path} are damaged, or of another version ({type(error).__name__}: {error}): "
            f"`splitbrain check {path} --report` judges the run again"
        ) from error


def _anomaly(verdict: Verdict, number: int) -> Anomaly:
    known = len(verdict.anomalies)
    if not known:
        raise UsageError("the run has no anomalies")
    if not 1 <= number <= known:
        raise UsageError(
            f"there is no anomaly {number}: {'only 1 is' if known == 1 else f'1 to {known} are'} explained"
        )
    return verdict.anomalies[number - 1]


def _drawing(story: Story, number: int) -> Picture:
    picture = anomaly_drawing(story, number)
    if picture is None:
        raise UsageError(f"anomaly {number} rests on no operations that could be drawn")
    return picture


def _split_brain(story: Story) -> Picture:
    told = primaries(story)
    if told is None:
        raise UsageError("nobody told who was primary in this run: name an anomaly with --anomaly")
    return told.picture


def _write(to: Path, data: bytes) -> None:
    try:
        if to.exists() and not to.is_file():  # a device or a pipe, which nothing can take the place of
            to.write_bytes(data)
        else:
            write_whole(to, data)
    except OSError as error:
        raise UsageError(f"{to} cannot be written: {error.strerror}") from None
