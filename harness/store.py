"""The run directory: what a run leaves behind, and reading it again."""

from __future__ import annotations

import time
from pathlib import Path
from xml.etree import ElementTree

import msgspec

from harness.errors import SplitbrainError, UsageError
from harness.experiment import Experiment
from harness.verdict import Verdict


class RunDirectory:
    """``runs/<target>-<workload>-<time>/`` and the files in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.experiment = path / "experiment.json"
        self.history = path / "history.jsonl"
        self.timetable = path / "timetable.json"
        self.verdict = path / "verdict.json"
        self.junit = path / "junit.xml"
        self.report = path / "report.html"
        self.logs = path / "nodes"

    @classmethod
    def create(cls, runs: Path, experiment: Experiment) -> RunDirectory:
        """A new directory below ``runs``, with the experiment written down in it."""
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
            run.experiment.write_bytes(msgspec.json.format(msgspec.json.encode(experiment)) + b"\n")
            if experiment.timetable is not None:
                run.timetable.write_bytes(msgspec.json.format(msgspec.json.encode(experiment.timetable)) + b"\n")
            return run
        raise SplitbrainError(f"no free name for a run directory like {runs / stem}")

    def load_experiment(self) -> Experiment:
        """The experiment that was run. Raises ``UsageError`` when it is not there or not one."""
        try:
            return msgspec.json.decode(self.experiment.read_bytes(), type=Experiment)
        except OSError:
            raise UsageError(f"{self.path} is no run's directory: it has no experiment.json") from None
        except msgspec.MsgspecError as error:
            raise UsageError(f"{self.experiment} is not an experiment: {error}") from None

    def write_verdict(self, verdict: Verdict, experiment: Experiment, seconds: float) -> None:
        """Write ``verdict.json`` and ``junit.xml``."""
        self.verdict.write_bytes(msgspec.json.format(msgspec.json.encode(verdict)) + b"\n")
        self.junit.write_text(junit(verdict, experiment, seconds))


def junit(verdict: Verdict, experiment: Experiment, seconds: float) -> str:
    """The verdict as a JUnit test suite with one case a checker; ``unknown`` is an error, never a pass."""
    name = f"splitbrain.{experiment.target}.{experiment.workload}"
    parts = verdict.parts or {"run": verdict}
    suite = ElementTree.Element(
        "testsuite",
        name=name,
        tests=str(len(parts)),
        failures=str(sum(part.validity == "invalid" for part in parts.values())),
        errors=str(sum(part.validity == "unknown" for part in parts.values())),
        time=f"{seconds:.3f}",
    )
    for checker, part in parts.items():
        case = ElementTree.SubElement(suite, "testcase", classname=name, name=checker, time=f"{seconds:.3f}")
        if part.validity == "invalid":
            failure = ElementTree.SubElement(case, "failure", message=part.reason or "anomalies were found")
            failure.text = "\n\n".join(f"{anomaly.kind}: {anomaly.text}" for anomaly in part.anomalies)
        elif part.validity == "unknown":
            ElementTree.SubElement(case, "error", message=part.reason or "no verdict could be reached")
    ElementTree.SubElement(suite, "system-out").text = experiment.command()
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def find_history(path: Path) -> Path:
    """The history that is meant by a file, a pipe (``-``: standard input) or a run directory."""
    if path.is_dir():
        path = path / "history.jsonl"
    if str(path) != "-" and (path.is_dir() or not path.exists()):
        raise UsageError(f"there is no history at {path}")
    return path
