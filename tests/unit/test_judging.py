from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.checkers.completeness import Completeness
from harness.experiment import Experiment
from harness.history import History, from_events
from harness.judging import checkers_of, judge
from harness.operation import FINISHED, MONITOR, STOPPED, Event
from harness.recording import Recorder
from harness.report import write_report
from harness.run_directory import RunDirectory, junit
from harness.verdict import Anomaly, Budget, Checker, Verdict, Witness
from harness.workloads.register import Register

SECOND = 10**9


class Says(Checker):
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def check(self, history: History, budget: Budget) -> Verdict:
        if isinstance(self._answer, BaseException):
            raise self._answer
        verdict: Verdict = self._answer
        return verdict


def history(*more: Event, operations: int = 1) -> History:
    events = []
    for number in range(operations):
        events.append(Event(0, number, number, "invoke", "read", "k"))
        events.append(Event(0, number, number, "ok", "read", "k", 1))
    return from_events([*events, *more])


def monitor(seconds: float, f: str, value: Any = None, error: str | None = None) -> Event:
    return Event(0, int(seconds * SECOND), MONITOR, "info", f, None, value, None, error)


def test_one_checker_that_raises_does_not_hide_what_another_found() -> None:
    found = Verdict("invalid", "found", [Anomaly("kind", "text")])
    checkers: dict[str, Checker] = {"broken": Says(ValueError("oops")), "fine": Says(found)}
    verdict = judge(history(), checkers, Budget())
    assert verdict.validity == "invalid"
    assert verdict.parts["fine"] == found
    assert verdict.parts["broken"].validity == "unknown"
    assert verdict.parts["broken"].reason.startswith("checker broken raised ValueError: oops")
    checkers["fine"] = Says(Verdict("valid"))
    assert judge(history(), checkers, Budget()).validity == "unknown"
    assert judge(history(), {"ends": Says(SystemExit(0))}, Budget()).validity == "unknown"


@pytest.mark.parametrize("name", ["evidence", "completeness", "integrity", "linearizable"])
def test_a_checker_of_ones_own_stands_beside_one_of_the_same_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "own.py").write_text(
        "from harness.verdict import Checker\n"
        f"class {name}(Checker):\n    def check(self, history, budget):\n        raise ValueError"
    )
    experiment = Experiment("reference", checkers=(f"{tmp_path}/own.py:{name}",))
    found = checkers_of(experiment, Register(Register.Options()), RunDirectory.create(tmp_path, experiment))
    own = {
        "evidence",
        "completeness",
        "availability",
        "replication",
        "crashes",
        "integrity",
        "linearizable",
        "split-brain",
    }
    assert set(found) == own | {f"{name} (asked for)"}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        7,
        {"validity": "valid"},
        Verdict("valid", evidence={"odd": object()}),
        Verdict("valid", "hm", [Anomaly("kind", "text")]),
        Verdict("valid", parts={"inner": Verdict("invalid")}),
    ],
)
def test_what_is_no_verdict_or_contradicts_itself_is_unknown(answer: Any) -> None:
    assert judge(history(), {"odd": Says(answer)}, Budget()).validity == "unknown"


def test_a_history_without_operations_is_no_pass() -> None:
    checkers = {"fine": Says(Verdict("valid"))}
    assert judge(history(), checkers, Budget()).validity == "valid"
    assert judge(history(operations=0), checkers, Budget()).validity == "unknown"
    found = {"fine": Says(Verdict("invalid", "found"))}
    assert judge(history(operations=0), found, Budget()).validity == "invalid"


@pytest.mark.parametrize(
    ("events", "validity", "said"),
    [
        ([monitor(26, FINISHED)], "valid", ""),
        ([monitor(9.4, STOPPED, {"seconds": 9.4}), monitor(12, FINISHED)], "unknown", "stopped after 9 of 25 s"),
        (
            [monitor(3, STOPPED, {"seconds": 3.0}, "the history could not be written: x"), monitor(5, FINISHED)],
            "unknown",
            "stopped after 3 of 25 s: the history could not be written: x",
        ),
        (
            [monitor(27, STOPPED, {"seconds": 25, "during": "the final reads"}), monitor(28, FINISHED)],
            "unknown",
            "stopped during the final reads",
        ),
        ([monitor(9, "roles")], "unknown", "the history ends after 9 of 25 s: the harness was killed"),
        ([monitor(26, "recovered")], "unknown", "before the final reads were over: the harness was killed"),
        ([], "unknown", "the history ends after 0 of 25 s"),
    ],
)
def test_only_a_whole_run_is_complete(events: Sequence[Event], validity: str, said: str) -> None:
    verdict = Completeness(25).check(history(*events), Budget())
    assert verdict.validity == validity
    assert said in verdict.reason


def test_junit_is_xml_whatever_a_store_says() -> None:
    hostile = "".join(map(chr, [*range(0x20), 0x7F, 0x9B, 0xD800, 0xFFFE, 0x202E])) + "<&]]>"
    parts = {
        f"a{hostile}": Verdict("invalid", hostile, [Anomaly(hostile, hostile)]),
        "b": Verdict("unknown", hostile),
    }
    text = junit(Verdict("invalid", parts=parts), Experiment("reference", options={"x": hostile}), 1.0)
    suite = ElementTree.fromstring(text.encode())
    assert (suite.get("failures"), suite.get("errors")) == ("1", "1")


def test_junit_has_an_error_where_no_part_has_one() -> None:
    verdict = Verdict("unknown", "there is no operation", parts={"fine": Verdict("valid")})
    assert ElementTree.fromstring(junit(verdict, Experiment("reference"), 1.0)).get("errors") == "1"


def test_a_report_needs_no_operations_and_has_one_word_for_nothing(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, Experiment("reference"))
    Recorder(directory.history).close()
    seen = [
        Witness(1, "read", "k", None, 0, 10, "ok", "n1"),
        Witness(2, "read", "k", None, 5, None, "info"),
        Witness(3, "delete", "k", None, 6, 7, "ok"),
    ]
    anomalies = [Anomaly("bare", "no operations"), Anomaly("seen", "some", seen)]
    write_report(directory, Experiment("reference"), Verdict("invalid", "found", anomalies))
    assert directory.unsaved == ""
    said = directory.report.read_text().partition('id="anomalies"')[2].partition("</section>")[0]
    assert said.count("read nothing") == 3  # the label, what points at it, and the table
    assert "None" not in said
    assert "delete nothing" not in said


def test_a_report_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, Experiment("reference"))
    write_report(directory, Experiment("reference"), Verdict("valid"))
    assert "report.html could not be made: FileNotFoundError" in directory.unsaved


def test_files_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = RunDirectory.create(tmp_path, Experiment("reference"))
    directory.save(directory.verdict, b"before")

    def no_room(part: Path, path: Path) -> None:
        assert part.exists()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_room)
    directory.write_verdict(Verdict("valid"), Experiment("reference"), 1.0)
    assert directory.verdict.read_bytes() == b"before"
    assert directory.unsaved == (
        f"verdict.json, junit.xml in {directory.path} could not be written: No space left on device"
    )
    assert {path.name for path in directory.path.iterdir()} == {"experiment.json", "verdict.json"}


def test_checkers_are_part_of_the_experiment_and_of_the_command() -> None:
    assert (
        "--checker linearizable --checker ./a.py:B"
        in Experiment("reference", checkers=("linearizable", "./a.py:B")).command()
    )
