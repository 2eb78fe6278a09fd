"""The run directory: what a run leaves behind, and reading it again."""

from __future__ import annotations

import contextlib
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import msgspec

from harness.availability import availability_properties
from harness.errors import SplitbrainError, UsageError
from harness.experiment import Experiment
from harness.faults.output import is_shortened
from harness.operation import Event
from harness.periods import turns_of
from harness.plain_files import read_plain, write_whole
from harness.replication import replication_properties
from harness.summary import anomaly_count
from harness.verdict import Verdict
from harness.words import printable


class RunDirectory:
    """``runs/<target>-<workload>-<time>/`` and the files in it.

    What could not be written, or is lost otherwise, is noted in ``lost``: the rest of a run does not depend on it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.experiment = path / "experiment.json"
        self.history = path / "history.jsonl"
        self.timetable = path / "timetable.json"
        self.verdict = path / "verdict.json"
        self.junit = path / "junit.xml"
        self.report = path / "report.html"
        self.messages = path / "messages.json"
        self.logs = path / "nodes"
        self.lost: list[str] = []
        self._unwritten: dict[str, list[str]] = {}

    @classmethod
    def create(cls, runs: Path, experiment: Experiment) -> RunDirectory:
        """A new directory below ``runs``, with the experiment written down in it. Raises ``SplitbrainError``."""
        stem = f"{experiment.title}-{time.strftime('%Y%m%dT%H%M%S')}"
        for attempt in range(1000):
            path = runs / (f"{stem}-{attempt}" if attempt else stem)
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise UsageError(f"the run directory {path} cannot be made: {error.strerror}") from None
            run = cls(path)
            run.write_experiment(experiment)
            if unsaved := run.unsaved:
                with contextlib.suppress(OSError):
                    path.rmdir()
                raise SplitbrainError(f"nothing was started: {unsaved}")
            return run
        raise SplitbrainError(f"no free name for a run directory like {runs / stem}")

    @property
    def unsaved(self) -> str:
        """What could not be written or is lost, in a sentence; empty if nothing is."""
        written = [
            f"{', '.join(names)} in {self.path} could not be written: {why}" for why, names in self._unwritten.items()
        ]
        return "; ".join([*self.lost, *written])

    def write_experiment(self, experiment: Experiment) -> None:
        """Write ``experiment.json``, and ``timetable.json`` where there is one."""
        self.save(self.experiment, written(experiment))
        if experiment.timetable is not None:
            self.save(self.timetable, msgspec.json.format(msgspec.json.encode(experiment.timetable)) + b"\n")

    def load_experiment(self) -> Experiment:
        """The experiment that was run. Raises ``UsageError`` when it is not there or not one."""
        try:
            return msgspec.json.decode(read_plain(self.experiment), type=Experiment)
        except OSError:
            raise UsageError(f"{self.path} is no run's directory: it has no experiment.json") from None
        except msgspec.MsgspecError as error:
            raise UsageError(f"{self.experiment} is not an experiment: {error}") from None

    def load_verdict(self) -> Verdict:
        """The verdict that was reached on the run. Raises ``UsageError`` when it is not there or not one."""
        try:
            return msgspec.json.decode(read_plain(self.verdict), type=Verdict)
        except OSError:
            raise UsageError(
                f"{self.path} has no verdict.json: it was not judged yet, which `splitbrain check` does"
            ) from None
        except (msgspec.MsgspecError, RecursionError) as error:
            raise UsageError(f"{self.verdict} is not a verdict: {error}") from None

    def save(self, path: Path, data: bytes) -> None:
        """Write one of the files, whole or not at all; ``unsaved`` says what went wrong."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
        except OSError as error:
            self._unwritten.setdefault(str(error.strerror), []).append(path.name)

    def shortened_logs(self) -> list[str]:
        """The logs of which something was left out, since they would be too long."""
        shortened = [path for path in sorted(self.logs.rglob("*.log")) if path.is_file() and is_shortened(str(path))]
        return [str(path.relative_to(self.logs)) for path in shortened]

    def write_verdict(self, verdict: Verdict, experiment: Experiment, seconds: float) -> None:
        """Write ``verdict.json`` and ``junit.xml``."""
        self.save(self.verdict, msgspec.json.format(msgspec.json.encode(verdict)) + b"\n")
        self.save(self.junit, junit(verdict, experiment, seconds).encode())

    def write_again(self, experiment: Experiment, events: Sequence[Event]) -> None:
        """Write from memory what is not in its place any more, since the directory vanished, or the disk was full."""
        if not self.experiment.exists():
            self.lost.append(f"{self.path} vanished during the run: it is made anew, and may lack logs")
            self.write_experiment(experiment)
        encode = msgspec.json.Encoder().encode
        self.save(self.history, b"".join(encode(event) + b"\n" for event in events))


def written(experiment: Experiment) -> bytes:
    """An experiment as ``experiment.json`` holds it."""
    return msgspec.json.format(msgspec.json.encode(experiment)) + b"\n"


def junit(verdict: Verdict, experiment: Experiment, seconds: float) -> str:
    """The verdict as a JUnit test suite: a case for each checker, and for each nemesis.

    ``unknown`` is an error, never a pass, and so is a nemesis that was asked for and never proved.
    """
    name = printable(f"splitbrain.{experiment.target}.{experiment.workload}")
    parts = verdict.parts or {"run": verdict}
    faults = turns_of(verdict.evidence)
    if verdict.validity != "valid" and all(part.validity == "valid" for part in parts.values()):
        parts = {**parts, "run": verdict}
    suite = ElementTree.Element(
        "testsuite",
        name=name,
        tests=str(len(parts) + len(faults)),
        failures=str(sum(part.validity == "invalid" for part in parts.values())),
        errors=str(
            sum(part.validity == "unknown" for part in parts.values()) + sum(turns.missing for turns in faults.values())
        ),
        time=f"{seconds:.3f}",
    )
    if measured := [*availability_properties(verdict.evidence), *replication_properties(verdict.evidence)]:
        properties = ElementTree.SubElement(suite, "properties")
        for named, value in measured:
            ElementTree.SubElement(properties, "property", name=printable(named), value=value)
    for checker, part in parts.items():
        case = ElementTree.SubElement(suite, "testcase", classname=name, name=printable(checker), time=f"{seconds:.3f}")
        if part.validity == "invalid":
            number = anomaly_count(part)
            message = printable(f"{number}: {part.reason}" if part.reason else number)
            failure = ElementTree.SubElement(case, "failure", message=message)
            failure.text = printable("\n\n".join(f"{anomaly.kind}: {anomaly.text}" for anomaly in part.anomalies))
        elif part.validity == "unknown":
            message = printable(part.reason or "no verdict could be reached")
            ElementTree.SubElement(case, "error", message=message)
    for nemesis, turns in faults.items():
        case = ElementTree.SubElement(suite, "testcase", classname=f"{name}.faults", name=printable(nemesis), time="0")
        if turns.missing:
            ElementTree.SubElement(case, "error", message=printable(f"never proved: {turns.in_words()}"))
        ElementTree.SubElement(case, "system-out").text = printable(turns.in_words())
    ElementTree.SubElement(suite, "system-out").text = printable(experiment.again())
    ElementTree.indent(suite)
    text: str = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True).decode()
    return text + "\n"


def find_history(path: Path) -> Path:
    """The history that is meant by a file, a pipe (``-``: standard input) or a run directory."""
    own = path.is_dir()
    if own:
        path = path / "history.jsonl"
    if str(path) == "-":
        return path
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError):
        raise UsageError(f"there is no history at {path}") from None
    if kind != stat.S_IFREG and (own or kind != stat.S_IFIFO):
        raise UsageError(f"{path} is {_KINDS.get(kind, 'no file')}, and no history")
    return path


_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
}
