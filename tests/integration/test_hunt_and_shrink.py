"""Hunts and shrinks of whole commands: what breaks, what interrupts them, and what they leave."""

from __future__ import annotations

import gc
import itertools
import json
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from harness.campaign import run_one
from harness.experiment import Experiment
from harness.hunting import run_directly
from harness.targets.reference.bugs import BUGS
from tests.conftest import SPLITBRAIN
from tests.end_to_end.test_command_line import STORE

Command = Callable[..., "subprocess.CompletedProcess[str]"]

SHORT = Experiment("reference", nemeses=("partition",), environment="simulation", time=3.0, rate=50.0)


def living_objects() -> int:
    """How many objects the collector knows, those included that it was told never to look at again."""
    gc.collect()
    return len(gc.get_objects()) + gc.get_freeze_count()


def test_a_worker_of_a_hunt_keeps_nothing_of_the_seeds_that_are_done() -> None:
    counts = []
    for seed in range(9):
        run_one(run_directly, replace(SHORT, seed=seed), None)
        if seed % 4 == 0:
            counts.append(living_objects())
    _first, second, third = counts
    assert third - second < 200, counts


def test_a_store_that_never_became_ready_under_one_seed_does_not_end_the_hunt(
    splitbrain: Command, tmp_path: Path
) -> None:
    store = tmp_path / "my_store.py"
    store.write_text(
        STORE.replace("return True\n\n    async def roles", "return cluster.seed != 1\n\n    async def roles")
    )
    hunt = ["hunt", "./my_store.py:Memory", "--nemesis", "partition", "--time", "5", "--directory", "h"]
    done = splitbrain(*hunt, "--seeds", "3")
    assert done.returncode == 3, done.stderr
    assert "3 seeds: 0 failed, 1 unknown, 2 passed" in done.stdout
    said = (
        r"1 of 3 seeds: 1\n  memory being ready on all nodes, as Memory.ready \(.*\) says, did not happen within 90 s\n"
    )
    assert re.search(said + "  h/seed-1\n", done.stdout), done.stdout
    assert (tmp_path / "h/seed-1/experiment.json").is_file()
    done = splitbrain(*hunt, "--seeds", "4")
    assert "3 of 4 seeds are in h already" in done.stderr
    assert "4 seeds: 0 failed, 1 unknown, 3 passed" in done.stdout
    store.write_text(STORE)
    done = splitbrain(*hunt, "--seeds", "4")
    assert "4 seeds in h run by other code: again" in done.stderr
    assert "4 seeds: 0 failed, 0 unknown, 4 passed" in done.stdout


NO_FSYNC = ["reference", "--bug", "no-fsync", "--interval", "2", "--time", "10"]


@pytest.fixture
def failing(splitbrain: Command, tmp_path: Path) -> Path:
    """The directory of a run that failed."""
    done = splitbrain("hunt", *NO_FSYNC, "--nemesis", "kill", "-o", "kill=all", "--seeds", "9", "--stop")
    assert done.returncode == 1, done.stderr
    return min(tmp_path.glob("hunts/*/seed-*"))


def steps(directory: Path) -> int:
    """How many faults and operations the timetable of a run has."""
    timetable = json.loads((directory / "timetable.json").read_text())
    return sum(len(timetable.get(part, ())) for part in ("faults", "operations", "final"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_shrink_that_is_stopped_writes_the_smallest_so_far(
    failing: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = [SPLITBRAIN, "shrink", str(failing)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=-1, stderr=-1, text=True) as shrinking:
        assert shrinking.stderr is not None
        whole, less = shrinking.stderr.readline(), shrinking.stderr.readline()
        assert whole.count("operations") == less.count("operations") == 1
        shrinking.send_signal(number)
        said, errors = shrinking.communicate(timeout=300)
    assert shrinking.returncode == 1, errors
    assert "splitbrain: stopped" in errors
    assert "Traceback" not in errors
    (directory,) = tmp_path.glob("runs/*")
    assert f"report: {directory.relative_to(tmp_path)}/report.html" in said
    assert (directory / "report.html").is_file()
    assert 0 < steps(directory) < len((failing / "history.jsonl").read_text().splitlines()) / 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_hunt_that_is_stopped_says_what_it_found_and_goes_on_later(
    splitbrain: Command, tmp_path: Path, number: signal.Signals
) -> None:
    hunt = ["hunt", "reference", "--nemesis", "partition", "--time", "5", "--directory", "h", "--seeds"]
    with subprocess.Popen([SPLITBRAIN, *hunt, "5000"], cwd=tmp_path, stdout=-1, stderr=-1, text=True) as hunting:
        results = tmp_path / "h/results.jsonl"
        while hunting.poll() is None and not (results.exists() and results.read_bytes()):
            time.sleep(0.02)
        hunting.send_signal(number)
        said, errors = hunting.communicate(timeout=300)
    assert hunting.returncode == 3, errors
    assert "passed" in said
    assert "of 5,000 seeds; the same command goes on from there" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "h/running").exists()
    done = splitbrain(*hunt, "9")
    assert done.returncode == 0
    assert re.search(r"[1-9] of 9 seeds are in h already", done.stderr)


def again(splitbrain: Command, said: str) -> subprocess.CompletedProcess[str]:
    """The command that a run printed to be run again."""
    (line,) = (line for line in said.splitlines() if line.startswith("  again:"))
    return splitbrain(*shlex.split(line.removeprefix("  again:"))[1:])


def test_options_of_nemeses_that_are_left_out_are_left_out(splitbrain: Command, tmp_path: Path) -> None:
    faults = ["--nemesis", "kill,netem,partition", "-o", "kill=all", "-o", "netem=one", "-o", "flap=0"]
    done = splitbrain("hunt", *NO_FSYNC, *faults, "--overlap", "--seeds", "9", "--stop")
    assert done.returncode == 1, done.stdout + done.stderr
    done = splitbrain("shrink", str(min(tmp_path.glob("hunts/*/seed-*"))))
    assert done.returncode == 1, done.stderr
    (directory,) = tmp_path.glob("runs/*")
    experiment = json.loads((directory / "experiment.json").read_text())
    assert experiment["nemeses"] == ["kill"]
    assert experiment["options"] == {"bug": "no-fsync", "kill": "all"}
    assert again(splitbrain, done.stdout).returncode == 1


def test_a_run_with_a_nemesis_of_ones_own_shrinks(splitbrain: Command, tmp_path: Path) -> None:
    (tmp_path / "my_kill.py").write_text(
        "from harness.nemeses.kill import Kill\nclass Mine(Kill):\n    name = 'my-kill'\n"
    )
    faults = ["--nemesis", "./my_kill.py:Mine,pause", "-o", "kill=all"]
    done = splitbrain("hunt", *NO_FSYNC, *faults, "--overlap", "--seeds", "9", "--stop")
    assert done.returncode == 1, done.stdout + done.stderr
    failing = min(tmp_path.glob("hunts/*/seed-*"))
    assert f"splitbrain shrink --trust {failing.relative_to(tmp_path)}" in done.stdout
    done = splitbrain("shrink", "--trust", str(failing))
    assert done.returncode == 1, done.stderr
    assert "--nemesis ./my_kill.py:Mine " in done.stdout
    assert again(splitbrain, done.stdout).returncode == 1


@pytest.mark.parametrize("name", ["no-fsync", "small-quorums", "counter-takes-the-greater", "commit-by-counting"])
def test_what_the_command_of_a_bug_finds_can_be_shrunk(splitbrain: Command, tmp_path: Path, name: str) -> None:
    """For all of them: ``make bench-bugs``."""
    _, *words = shlex.split(BUGS[name].command)
    done = splitbrain(*words, "--stop", "--format", "json")
    assert done.returncode == 1, done.stdout + done.stderr
    failing = json.loads(done.stdout)["found"][0]["directory"]
    with subprocess.Popen([SPLITBRAIN, "shrink", failing], cwd=tmp_path, stdout=-1, stderr=-1, text=True) as shrinking:
        assert shrinking.stderr is not None
        smaller = list(itertools.islice(shrinking.stderr, 4))
        if not any(", after " in line for line in smaller):
            shrinking.send_signal(signal.SIGINT)  # how far it comes shows elsewhere
        said, errors = shrinking.communicate(timeout=300)
    assert len(smaller) > 1, smaller
    assert shrinking.returncode == 1, errors
    (directory,) = tmp_path.glob("runs/*")
    assert (directory / "timetable.json").is_file()
    assert again(splitbrain, said).returncode == 1
