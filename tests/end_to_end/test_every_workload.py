"""``--workload all``: every workload that a target supports, in turn, on clusters of their own."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from harness import Experiment, Verdict, run_all
from harness.assembly import assemble, each_workload
from harness.console.series import Series
from harness.errors import UsageError
from harness.plugins import load
from tests.conftest import SPLITBRAIN

Command = Callable[..., "subprocess.CompletedProcess[str]"]
REFERENCE: Final = sorted(load("targets", "reference").workloads)
WORDS: Final = ("run", "reference", "--on", "simulation", "--workload", "all", "--time", "2", "--rate", "50")


def test_every_workload_runs_and_a_table_says_what_came_of_it(splitbrain: Command, tmp_path: Path) -> None:
    done = splitbrain(*WORDS, "--runs", "r")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == REFERENCE
    table = {line.split()[0]: line.split()[1:] for line in lines[1 : lines.index("")]}
    assert table["linearizable"] == ["valid" if name == "register" else "-" for name in REFERENCE]
    assert table["verdict"] == table["evidence"] == ["valid"] * len(REFERENCE)
    directories = [line.split(": ")[1] for line in lines[lines.index("") + 1 :]]
    ran = [json.loads((tmp_path / path / "experiment.json").read_text())["workload"] for path in directories]
    assert ran == REFERENCE
    assert all((tmp_path / path / name).exists() for path in directories for name in ("verdict.json", "report.html"))


@pytest.fixture
def few(tmp_path: Path) -> tuple[str, list[str]]:
    """The reference store with some of its workloads, and which."""
    names = ["append", "register", "unique-ids"]
    (tmp_path / "few.py").write_text(
        "from harness.targets.reference.target import Reference\n"
        f"class Few(Reference):\n    workloads = frozenset({names})\n"
    )
    return f"{tmp_path}/few.py:Few", names


def test_the_exit_code_is_that_of_the_worst_and_json_has_each(splitbrain: Command, few: tuple[str, list[str]]) -> None:
    target, names = few
    bug = ["--bug", "read-from-any-node", "--nemesis", "partition", "--time", "8", "--interval", "2", "--nodes", "5"]
    done = splitbrain("run", target, *WORDS[2:], *bug, "--runs", "r", "--format", "json")
    said = json.loads(done.stdout)
    found = {one["workload"]: one["verdict"]["validity"] for one in said["runs"]}
    assert sorted(found) == names
    assert (said["broken"], said["not_run"]) == ({}, [])
    assert "invalid" in found.values()
    codes = {"invalid": 1, "unknown": 3, "valid": 0}
    assert done.returncode == codes[next(one for one in codes if one in found.values())]


@pytest.mark.needs("local")
def test_real_clusters_follow_one_another(splitbrain: Command, few: tuple[str, list[str]]) -> None:
    target, names = few
    done = splitbrain("run", target, "--on", "local", *WORDS[4:], "--runs", "r", "--time", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0].split() == names


def test_ctrl_c_ends_them_all(tmp_path: Path) -> None:
    words = [*WORDS, "--time", "600", "--rate", "500", "--runs", "r"]
    with subprocess.Popen([SPLITBRAIN, *words], cwd=tmp_path, stdout=-1, stderr=-1, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        for line in process.stderr:
            if "running for" in line:
                break
        process.send_signal(signal.SIGINT)
        out, code = process.stdout.read(), process.wait()
    assert code == 3
    assert "unknown: stopped after" in out or "completeness: stopped after" in out
    assert out.splitlines()[-1] == f"stopped: {len(REFERENCE) - 1} workloads of {len(REFERENCE)} not run"
    assert len(list(tmp_path.glob("r/*"))) == 1


def test_what_cannot_be_is_refused_before_anything_is_started(splitbrain: Command, tmp_path: Path) -> None:
    done = splitbrain(*WORDS, "-o", "no-such=1", "--runs", "r")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("target", ["reference", "redis", "etcd"])
def test_all_workloads_of_a_bundled_target_can_be_had(target: str) -> None:
    each, left_out = each_workload(Experiment(target, "all"))
    assert not left_out
    assert {one.workload for one in each} == load("targets", target).workloads
    for one in each:
        assemble(one)


def test_what_a_target_cannot_do_as_it_is_set_up_is_left_out_of_all_and_refused_alone(splitbrain: Command) -> None:
    options = {"replication": "quorum"}
    each, left_out = each_workload(Experiment("reference", "all", options=options))
    assert [one.workload for one in each] == ["converge", "counter", "register", "set"]
    assert len(left_out) == len(REFERENCE) - 4
    assert all("needs replication=raft or primary-backup, not quorum" in sentence for sentence in left_out)
    done = splitbrain(*WORDS, "-o", "replication=quorum", "--workload", "queue")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the workload queue needs replication=raft or primary-backup, not quorum" in done.stderr


def test_an_option_goes_to_the_workloads_that_have_it_and_one_that_nobody_has_to_all() -> None:
    options = {"fencing": "true", "wait": "1", "nonsense": "1"}
    each = {one.workload: one.options for one in each_workload(Experiment("redis", "all", options=options))[0]}
    assert each["lock"] == options
    assert each["register"] == {"wait": "1", "nonsense": "1"}
    with pytest.raises(UsageError, match="nonsense"):
        assemble(each_workload(Experiment("redis", "all", options=options))[0][0])


def test_a_program_has_the_outcomes_by_workload(tmp_path: Path, few: tuple[str, list[str]]) -> None:
    target, names = few
    said: list[str] = []
    experiment = Experiment(target, environment="simulation", time=2, rate=50)
    outcomes = run_all(experiment, runs=tmp_path, say=said.append)
    assert list(outcomes) == names
    assert {one.experiment.workload for one in outcomes.values()} == set(names)
    assert [line for line in said if line.startswith("workload ")] == [f"workload {name}" for name in names]
    assert len({one.directory for one in outcomes.values()}) == len(names)
    whole = Series(tuple(names), outcomes)
    worse = {**outcomes, "register": replace(outcomes["register"], verdict=Verdict("invalid"))}
    assert whole.exit_code == 0 < Series(tuple(names), worse).exit_code == 1
    assert Series((*names, "more"), worse, {"more": "no engine"}).exit_code == 1
    assert Series((*names, "more"), outcomes).exit_code == 3
    assert Series((*names, "more"), outcomes, {"more": "no engine"}).exit_code == 4
