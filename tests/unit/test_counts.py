"""How many anomalies there are is one number, in every output."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from rich.console import Console

from benchmarks.linearizability import CASES
from harness.checkers.linearizability import Linearizable
from harness.checkers.total import Total
from harness.console.verdict import print_verdict
from harness.experiment import Experiment
from harness.history import from_events
from harness.judging import judge
from harness.operation import Event
from harness.recording import Recorder
from harness.report import write_report
from harness.run_directory import RunDirectory, junit
from harness.verdict import Anomaly, Budget, Verdict, combine
from tests.histories import Op, history


@pytest.mark.parametrize(("number", "said"), [(1, "1 anomaly"), (2, "2 anomalies"), (1234, "1,234 anomalies")])
def test_the_number_of_anomalies_is_the_same_everywhere(tmp_path: Path, number: int, said: str) -> None:
    some = [Anomaly("kind", f"text {n}") for n in range(min(number, 10))]
    verdict = combine({"one": Verdict("invalid", "wrong", some, found=number), "other": Verdict("valid")})
    assert msgspec.json.decode(msgspec.json.encode(verdict))["found"] == number
    console = Console(file=io.StringIO(), width=80, highlight=False)
    print_verdict(verdict, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"\n{said}\n" in text
    assert (f"... and {number - 3:,} more" in text) is (number > 3)
    suite = ElementTree.fromstring(junit(verdict, Experiment("reference"), 1.0).encode())
    assert [failure.get("message") for failure in suite.iter("failure")] == [f"{said}: wrong"]
    directory = RunDirectory.create(tmp_path, Experiment("reference"))
    Recorder(directory.history).close()
    write_report(directory, Experiment("reference"), verdict)
    assert f"<p>{said}" in directory.report.read_text()


def test_checkers_count_what_they_do_not_explain() -> None:
    keys = [f"k{n}" for n in range(75)]
    operations = [Op("write", 1, 0, 1, key) for key in keys] + [Op("read", None, 2, 3, key) for key in keys]
    verdict = judge(history(operations), {"linearizable": Linearizable()}, Budget())
    assert (verdict.total, len(verdict.anomalies)) == (75, 50)
    assert verdict.parts["linearizable"].reason == "75 violations of cas-register on 75 of 75 keys"
    events: list[Event] = []
    for number, key in enumerate(keys[:25]):
        for f, value in (("increment", 1), ("read-local", 7)):
            for kind in ("invoke", "ok"):
                events.append(Event(0, len(events), number, kind, f, key, value, "n1"))
    verdict = judge(from_events(events), {"total": Total("read-local")}, Budget())
    assert (verdict.total, len(verdict.anomalies)) == (25, 10)


def test_the_rows_of_the_readme_are_those_of_the_benchmark() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    table = text.partition("| history of one register |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [re.split(r"\s*\|\s*", row)[1] for row in table]
    assert rows
    assert set(rows) <= CASES.keys()
