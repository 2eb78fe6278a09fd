"""Whole runs in the simulation: the same seed gives the same history, and verdicts are right."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SPLITBRAIN

Command = Callable[..., "subprocess.CompletedProcess[str]"]

FAULTS = ["--time", "15", "--rate", "60", "--nemesis", "partition,kill,pause", "--interval", "2"]


def run(folder: Path, *arguments: str, hash_seed: str = "0") -> tuple[str, bytes]:
    """The verdict of a run, and its history as written."""
    done = subprocess.run(
        [SPLITBRAIN, "run", "reference", "--on", "simulation", *FAULTS, *arguments, "--format", "json", "--runs", "r"],
        cwd=folder, capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""
    outcome = json.loads(done.stdout)
    return outcome["verdict"]["validity"], (folder / outcome["directory"] / "history.jsonl").read_bytes()


def test_the_same_seed_gives_the_same_history_byte_for_byte(tmp_path: Path) -> None:
    first = run(tmp_path, "--seed", "4", hash_seed="1")
    assert first == run(tmp_path, "--seed", "4", hash_seed="2")
    assert first != run(tmp_path, "--seed", "5")


def test_a_run_replays_and_other_code_is_noticed(tmp_path: Path, splitbrain: Command) -> None:
    run(tmp_path, "--seed", "4")
    (directory,) = tmp_path.glob("r/*")
    done = splitbrain("replay", str(directory), "--runs", "again")
    assert done.returncode == 0, done.stderr
    assert "byte for byte" in done.stdout
    history = directory / "history.jsonl"
    lines = history.read_text().splitlines()
    history.write_text("\n".join([*lines[:40], lines[40].replace("node", "nodes"), *lines[41:]]) + "\n")
    done = splitbrain("replay", str(directory), "--runs", "again")
    assert done.returncode == 4
    assert "differs from line 41" in done.stderr
    assert "no experiment.json" in splitbrain("replay", "again").stderr


@pytest.mark.parametrize("seed", range(3))
def test_synchronous_replication_is_linearizable_under_every_fault(tmp_path: Path, seed: int) -> None:
    assert run(tmp_path, "--nodes", "5", "--seed", str(seed))[0] == "valid"


def test_asynchronous_replication_is_caught(tmp_path: Path) -> None:
    verdicts = {run(tmp_path, "--seed", str(seed), "-o", "replication=async")[0] for seed in (2, 4)}
    assert "invalid" in verdicts
