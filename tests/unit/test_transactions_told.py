"""What the terminal and the report tell of transactions."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.console.verdict import print_verdict
from harness.drawing import as_lines
from harness.experiment import Experiment
from harness.recording import Recorder
from harness.report import write_report
from harness.run_directory import RunDirectory
from harness.verdict import Anomaly, Edge, Verdict, Witness, combine
from harness.workloads.list_append import ListAppend

CYCLE = [Edge("rw", 2, 3, "T2 found nothing in key 4", 4), Edge("rw", 3, 2, "T3 found nothing in x", "x")]
READS = [["r", 16, None], ["append", 4, 7], ["r", 4, [*range(1, 20)]]]
SKEW = Anomaly(
    "G2-item", "T2 came first; so did T3.", [Witness(0, "txn", None, READS, 0, 9, "ok", "n1", 2)], edges=CYCLE
)
LOST = Anomaly("lost-update", "T2 and T3.", [Witness(0, "txn", None, READS, 0, 9, "ok", "n1", 2)])


def printed(verdict: Verdict) -> list[str]:
    console = Console(file=io.StringIO(), width=100, highlight=False)
    print_verdict(verdict, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


def test_a_split_brain_does_not_hide_the_isolation() -> None:
    split = Verdict("invalid", "two", [Anomaly("split brain", "n1 and n2\nn1: lost")])
    found = Verdict("invalid", "not serializable: 1 lost-update, 1 G2-item", [LOST, SKEW])
    lines = printed(combine({"transactions": found, "split-brain": split}))
    assert lines[0] == "invalid: split brain: n1 and n2"
    assert lines[2:5] == [
        "  transactions: not serializable: 1 lost-update, 1 G2-item",
        "  the shortest cycle, G2-item:",
        "    T2 came first; so did T3.",
    ]
    assert lines[5].strip() == "T2 ──rw key 4──▶ T3"
    assert lines[-1] == "3 anomalies: 2 of transactions, 1 of split-brain"
    assert len(lines) < 12


@pytest.mark.parametrize("again", [True, False])
def test_what_two_checkers_of_one_name_say_is_said_once(again: bool) -> None:
    found = Verdict("invalid", "not serializable", [SKEW])
    asked = found if again else Verdict("invalid", "not read-atomic", [SKEW])
    lines = printed(combine({"transactions (asked for)": asked, "transactions": found}))
    assert ("\n".join(lines).count("transactions") == 1) is again
    assert lines[1] == ("1 anomaly" if again else "2 anomalies")


def test_the_report_writes_transactions_as_the_field_does(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, Experiment("reference"))
    Recorder(directory.history).close()
    write_report(directory, Experiment("reference"), Verdict("invalid", "wrong", [LOST]))
    page = directory.report.read_text()
    said = page.partition('id="anomalies"')[2].partition("</section>")[0]
    assert '<td class="words">r 16 nil; append 4 7; r 4 [... 8 9 10 11 12 13 14 15 16 17 18 19]</td>' in said
    assert "T2: r 16 nil; append 4 7" in said
    assert "None" not in said


def test_keys_are_told_as_in_sentences() -> None:
    assert "rw key 4" in as_lines(CYCLE, 80)[0]
    assert "rw x" in as_lines(CYCLE, 80)[2]


@pytest.mark.parametrize("level", ["prefix", "causal", "consistent-view"])
def test_a_run_is_held_against_any_level(level: str) -> None:
    options = ListAppend.Options(model=level)  # type: ignore[arg-type]
    assert ListAppend(options).checkers()["transactions"]
