"""Whole runs in the simulation: the same seed gives the same history, modes keep their promises, bugs are found."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.targets.reference.bugs import BUGS
from tests.conftest import SPLITBRAIN

Command = Callable[..., "subprocess.CompletedProcess[str]"]

ALONE = ("--executor", "processes:1")
"""Who hunts: other tests have the other cores."""
CHAOS = ["--nodes", "5", "--time", "15", "--rate", "60", "--nemesis", "chaos", "--interval", "3"]


def run(folder: Path, *arguments: str, hash_seed: str = "0") -> tuple[str, bytes]:
    """The verdict of a run, and its history as written."""
    done = subprocess.run(
        [SPLITBRAIN, "run", "reference", "--on", "simulation", *CHAOS, *arguments, "--format", "json", "--runs", "r"],
        cwd=folder, capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""
    outcome = json.loads(done.stdout)
    return outcome["verdict"]["validity"], (folder / outcome["directory"] / "history.jsonl").read_bytes()


@pytest.mark.parametrize("mode", ["raft", "quorum", "gossip"])
def test_the_same_seed_gives_the_same_history_byte_for_byte(tmp_path: Path, mode: str) -> None:
    arguments = ["-o", f"replication={mode}", *(["--workload", "converge"] if mode != "raft" else [])]
    first = run(tmp_path, "--seed", "4", *arguments, hash_seed="1")
    assert first == run(tmp_path, "--seed", "4", *arguments, hash_seed="2")
    assert first != run(tmp_path, "--seed", "5", *arguments)


def test_a_run_replays_and_other_code_is_noticed(tmp_path: Path, splitbrain: Command) -> None:
    run(tmp_path, "--seed", "4")
    (directory,) = tmp_path.glob("r/*")
    done = splitbrain("replay", str(directory), "--runs", "again")
    assert done.returncode == 0, done.stderr
    assert "byte for byte" in done.stdout
    done = splitbrain("replay", str(directory), "--runs", "again", "--format", "json")
    events = len((directory / "history.jsonl").read_text().splitlines())
    assert json.loads(done.stdout)["replay"] == {"same": True, "events": events, "differs_from_line": None}
    history = directory / "history.jsonl"
    lines = history.read_text().splitlines()
    history.write_text("\n".join([*lines[:40], lines[40].replace("node", "nodes"), *lines[41:]]) + "\n")
    done = splitbrain("replay", str(directory), "--runs", "again")
    assert done.returncode == 4
    assert "differs from line 41" in done.stderr
    done = splitbrain("replay", str(directory), "--runs", "again", "--format", "json")
    assert done.returncode == 4
    said = json.loads(done.stdout)
    assert said["replay"] == {"same": False, "events": events, "differs_from_line": 41}
    assert (tmp_path / said["report"]).is_file()
    assert "no experiment.json" in splitbrain("replay", "again").stderr


MODES = [
    "--workload register",
    "--workload register -o reads=lease -o snapshot=40",
    "--workload set",
    "--workload counter",
    "--workload queue",
    "--workload bank -o replication=primary-backup",
    "--workload watch",
    "--workload list-append -o snapshot=40",
    "--workload list-append -o isolation=snapshot -o model=strong-snapshot-isolation -o snapshot=40",
    "--workload list-append -o isolation=read-committed -o model=read-committed -o replication=primary-backup",
    "--workload lock -o fencing=true",
    "--workload lock --nemesis partition,kill,pause",
    "--workload lease --nemesis partition,kill,pause -o replication=primary-backup",
    "--workload register -o replication=primary-backup",
    "--workload register -o replication=primary-backup -o witness=n2 --nodes 3",
    "--workload converge -o replication=primary-backup -o acknowledge=semi-sync -o causal=false",
    "--workload converge -o replication=primary-backup -o acknowledge=async -o causal=false",
    "--workload register -o replication=quorum -o cas=0",
    "--workload set -o replication=quorum",
    "--workload converge -o replication=quorum -o sloppy=true",
    "--workload converge -o replication=multi-primary",
    "--workload converge -o replication=multi-primary -o conflict=siblings",
    "--workload converge -o replication=multi-primary -o conflict=lww-wall -o causal=false",
    "--workload set -o replication=multi-primary",
    "--workload counter -o replication=multi-primary",
    "--workload converge -o replication=gossip",
    "--workload set -o replication=gossip",
    "--workload counter -o replication=gossip",
]
"""Every mode, with what it claims to keep under chaos."""


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_keeps_what_it_claims_under_chaos(tmp_path: Path, splitbrain: Command, mode: str) -> None:
    done = splitbrain("hunt", "reference", *CHAOS, "--seeds", "3", *ALONE, *mode.split())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("workload", "isolation", "model", "anomaly"),
    [
        ("write-skew", "snapshot", "serializable", "G2-item"),
        ("rmw", "read-committed", "snapshot-isolation", "lost-update"),
    ],
)
def test_weak_isolation_shows_what_it_allows(
    tmp_path: Path, splitbrain: Command, workload: str, isolation: str, model: str, anomaly: str
) -> None:
    mode = ["--workload", workload, "-o", f"isolation={isolation}", "-o", f"model={model}", "--seed", "1"]
    mode += ["--on", "simulation", "--time", "3", "--rate", "500", "--format", "json"]
    found = json.loads(splitbrain("run", "reference", *mode).stdout)["verdict"]["parts"]["transactions"]
    assert found["validity"] == "invalid"
    assert anomaly in found["evidence"]["anomaly_types"]


@pytest.mark.parametrize("name", BUGS)
def test_every_bug_is_found_within_its_seeds_by_the_checker_that_it_names(
    tmp_path: Path, splitbrain: Command, name: str
) -> None:
    """From a folder that is not the project's. Other code may need other seeds: `make bench-bugs` counts them again."""
    bug = BUGS[name]
    _, *words = shlex.split(bug.command)
    done = splitbrain(*words, "--stop", *ALONE, "--format", "json")
    assert done.returncode == 1, done.stdout + done.stderr
    found = [
        signature for outcome in json.loads(done.stdout)["outcomes"] for signature in outcome.get("signatures", [])
    ]
    assert any(signature.startswith(f"{bug.checker}: ") for signature in found)


def test_raft_survives_the_timetable_that_loses_what_was_committed_by_counting(splitbrain: Command) -> None:
    arguments = BUGS["commit-by-counting"].arguments()
    planted = arguments.index("--bug")
    del arguments[planted : planted + 2]
    done = splitbrain("hunt", *arguments, "--seeds", "50")
    assert done.returncode == 0, done.stdout


def test_asynchronous_replication_is_caught(tmp_path: Path, splitbrain: Command) -> None:
    mode = ["-o", "replication=primary-backup", "-o", "acknowledge=async", "--nemesis", "partition", "--interval", "2"]
    assert splitbrain("hunt", "reference", "--seeds", "6", "--stop", *mode).returncode == 1


@pytest.mark.parametrize("guard", ["majority", "fencing"])
def test_a_guard_that_is_turned_off_is_missed(tmp_path: Path, splitbrain: Command, guard: str) -> None:
    mode = ["-o", "replication=primary-backup", "-o", f"{guard}=false", "-o", "acknowledge=semi-sync"]
    done = splitbrain(
        "hunt", "reference", "--seeds", "20", "--stop", *mode, "--nemesis", "partition", "--interval", "2"
    )
    assert done.returncode == 1, done.stdout


@pytest.mark.parametrize("workload", ["lock", "lease"])
def test_two_primaries_give_one_lock_to_two_and_forget_leases(splitbrain: Command, workload: str) -> None:
    mode = ["-o", "replication=primary-backup", "-o", "majority=false", "-o", "acknowledge=async"]
    mode += ["--workload", workload, "--nemesis", "partition", "--interval", "2"]
    done = splitbrain("hunt", "reference", "--seeds", "20", "--stop", *mode, "--format", "json")
    assert done.returncode == 1, done.stdout
    found = [one for outcome in json.loads(done.stdout)["outcomes"] for one in outcome.get("signatures", [])]
    assert any(one.startswith(f"{workload}: ") for one in found), found


def test_a_campaign_resumes_and_tells_failures_apart(tmp_path: Path, splitbrain: Command) -> None:
    arguments = ["hunt", "reference", "--bug", "no-fsync,stale-reads", "--nemesis", "kill", "-o", "kill=all"]
    arguments += ["--interval", "2", "--time", "10", "--directory", "campaign"]
    assert splitbrain(*arguments, "--seeds", "2").returncode == 1
    first = (tmp_path / "campaign/results.jsonl").read_bytes()
    done = splitbrain(*arguments, "--seeds", "5")
    assert "2 of 5 seeds are in campaign already" in done.stderr
    assert "linearizable: lost write" in done.stdout
    assert "splitbrain shrink campaign/seed-" in done.stdout
    assert (tmp_path / "campaign/results.jsonl").read_bytes().startswith(first)
    assert len((tmp_path / "campaign/results.jsonl").read_text().splitlines()) == 5
    page = (tmp_path / "campaign/report.html").read_text()
    reported = [path.parent.name for path in tmp_path.glob("campaign/seed-*/report.html")]
    assert reported
    assert all(f'href="{name}/report.html"' in page for name in reported)  # the first of each kind of failure
    other = splitbrain("hunt", "reference", "--seeds", "2", "--directory", "campaign")
    assert other.returncode == 2
    assert "another experiment" in other.stderr


def test_three_bugs_under_chaos_shrink_to_a_few_steps(tmp_path: Path, splitbrain: Command) -> None:
    bugs = "stale-reads,vote-without-checking-the-log,no-fsync"
    chaos = ["--nemesis", "chaos", "--time", "15", "--rate", "100", "--seeds", "20", "--stop", "--directory", "three"]
    done = splitbrain("hunt", "reference", "--bug", bugs, *chaos)
    assert done.returncode == 1, done.stdout + done.stderr
    failing = min(tmp_path.glob("three/seed-*"))
    done = splitbrain("shrink", str(failing), "--seconds", "600", "--format", "json", timeout=900)
    assert done.returncode == 1, done.stderr
    directory = tmp_path / json.loads(done.stdout)["directory"]
    timetable = json.loads((directory / "timetable.json").read_text())
    assert len(timetable["faults"]) <= 3
    assert len(timetable["operations"]) + len(timetable.get("final", [])) <= 12
    experiment = json.loads((directory / "experiment.json").read_text())
    again = ["run", "reference", "--on", "simulation", "--bug", bugs, "--nodes", str(experiment["nodes"])]
    again += ["--time", str(experiment["time"]), "--seed", str(experiment["seed"])]
    again += ["--concurrency", str(experiment["concurrency"]), "--timetable", str(directory / "timetable.json")]
    assert splitbrain(*again).returncode == 1


def test_what_passed_or_was_not_simulated_cannot_be_shrunk(tmp_path: Path, splitbrain: Command) -> None:
    run(tmp_path, "--seed", "1")
    (directory,) = tmp_path.glob("r/*")
    done = splitbrain("shrink", str(directory))
    assert done.returncode == 2
    assert "nothing to shrink" in done.stderr


def test_a_campaign_runs_on_a_cluster(tmp_path: Path, splitbrain: Command) -> None:
    from distributed import LocalCluster

    bug = ["hunt", "reference", "--bug", "no-fsync", "--nemesis", "kill", "-o", "kill=all", "--interval", "2"]
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        where = cluster.scheduler_address.replace("tcp://", "dask://")
        done = splitbrain(*bug, "--time", "10", "--seeds", "3", "--executor", where, "--directory", "campaign")
    assert done.returncode == 1, done.stderr
    assert "lost write" in done.stdout
    assert (min(tmp_path.glob("campaign/seed-*")) / "report.html").is_file()
