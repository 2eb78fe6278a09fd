"""Somebody else's run, or timetable, is data: no command loads the code that it names, unless it is told to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]

PLANTED = """
import pathlib
from harness.checkers.evidence import Evidence
from harness.nemeses.kill import Kill
from harness.targets.reference.target import Reference
from harness.workloads.register import Register

pathlib.Path("loaded").touch()


class Target(Reference):
    pass


class Workload(Register):
    pass


class Nemesis(Kill):
    name = "./planted.py:Nemesis"


class Checker(Evidence):
    def __init__(self):
        super().__init__([])


def merge(values):
    return max(values)
"""
FAULT = {
    "name": "./planted.py:Nemesis",
    "start": 1.0,
    "stop": 1.5,
    "plan": {"aim": "primary", "order": ["n1", "n2", "n3"]},
}
CODE: dict[str, dict[str, Any]] = {
    "target": {"target": "./planted.py:Target"},
    "workload": {"workload": "./planted.py:Workload"},
    "nemesis": {"nemeses": ["./planted.py:Nemesis"]},
    "timetable": {"timetable": {"faults": [FAULT]}},
    "checker": {"checkers": ["./planted.py:Checker"]},
    "merge": {"options": {"replication": "gossip", "conflict": "merge", "merge": "planted:merge"}},
}
HISTORY = "".join(
    json.dumps({"index": index, "time": index, "process": 0, "type": kind, "f": "write", "key": "k0", "value": 1})
    + "\n"
    for index, kind in enumerate(("invoke", "ok"))
)
JUDGING = ("workload", "checker")


@pytest.fixture
def received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Somebody else's run, with a file beside it that leaves a trace when it is loaded, and names it somewhere."""
    # So that MODULE:FUNCTION finds it.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(which: str) -> str:
        (tmp_path / "planted.py").write_text(PLANTED)
        given = {"target": "reference", "environment": "simulation", "time": 2.0}
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "experiment.json").write_text(json.dumps(given | CODE[which]))
        (tmp_path / "run" / "history.jsonl").write_text(HISTORY)
        return "run"

    return make


@pytest.mark.parametrize(
    ("command", "which"),
    [
        *(("replay", which) for which in CODE),
        *(("shrink", which) for which in CODE),
        *(("check", which) for which in JUDGING),
    ],
)
def test_code_that_a_run_names_is_loaded_only_if_it_is_trusted(
    tmp_path: Path, splitbrain: Command, received: Callable[[str], str], command: str, which: str
) -> None:
    run = received(which)
    refused = splitbrain(command, run)
    assert refused.returncode == 2
    assert "--trust" in refused.stderr
    assert "planted" in refused.stderr
    assert not (tmp_path / "loaded").exists()
    # What comes of it is another matter: a replay differs, and nothing is there to shrink.
    trusted = splitbrain(command, run, "--trust")
    assert "--trust" not in trusted.stderr
    assert (tmp_path / "loaded").exists(), trusted.stderr


@pytest.mark.parametrize("which", [which for which in CODE if which not in JUDGING])
def test_judging_loads_nothing_else(
    tmp_path: Path, splitbrain: Command, received: Callable[[str], str], which: str
) -> None:
    run = received(which)
    for command in (["check", run], ["check", run, "--report"], ["convert", run]):
        assert splitbrain(*command).returncode in (0, 3)
    assert not (tmp_path / "loaded").exists()


@pytest.mark.parametrize("command", ["run", "hunt"])
def test_code_that_a_timetable_names_is_loaded_only_if_it_is_trusted(
    tmp_path: Path, splitbrain: Command, command: str
) -> None:
    (tmp_path / "planted.py").write_text(PLANTED)
    (tmp_path / "theirs.json").write_text(json.dumps({"faults": [FAULT]}))
    asked = [command, "reference", "--on", "simulation", "--nodes", "3", "--time", "3", "--timetable", "theirs.json"]
    asked += ["--nemesis", ""] + (["--seeds", "1"] if command == "hunt" else [])
    refused = splitbrain(*asked)
    assert refused.returncode == 2
    assert "--trust" in refused.stderr
    assert not (tmp_path / "loaded").exists()
    trusted = splitbrain(*asked, "--trust")
    assert trusted.returncode in (0, 3), trusted.stderr
    assert (tmp_path / "loaded").exists()


def test_what_is_typed_is_trusted(tmp_path: Path, splitbrain: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "planted.py").write_text(PLANTED)
    options = ["-o", "replication=gossip", "-o", "conflict=merge", "-o", "merge=planted:merge"]
    for typed in (["./planted.py:Target"], ["reference", "--workload", "converge", *options]):
        done = splitbrain("run", *typed, "--on", "simulation", "--time", "2", "--nodes", "3")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "loaded").exists()
        (tmp_path / "loaded").unlink()


def test_a_merge_that_comes_along_needs_no_trust(splitbrain: Command, tmp_path: Path) -> None:
    options = ["replication=gossip", "conflict=merge", "merge=harness.targets.reference.merges:greatest"]
    given = [word for option in options for word in ("-o", option)]
    asked = ["reference", "--on", "simulation", "--workload", "converge", "--time", "2", "--nodes", "3", "--runs", "r"]
    assert splitbrain("run", *asked, *given).returncode == 0
    (run,) = tmp_path.glob("r/*")
    assert splitbrain("replay", str(run)).returncode == 0
