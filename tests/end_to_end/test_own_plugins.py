"""A target, a workload, a nemesis, a checker and a model of one's own, as ARCHITECTURE.md tells how to write them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]
OWN: Final = Path(__file__).parents[1] / "own"


def run(splitbrain: Command, *words: str) -> subprocess.CompletedProcess[str]:
    own = ["--workload", f"{OWN}/toggling.py:Toggling", "--checker", f"{OWN}/dark.py:Dark", "-o", "delay=5ms"]
    return splitbrain("run", f"{OWN}/lamp.py:Lamp", *own, "--time", "10", "--runs", "r", *words)


@pytest.mark.parametrize(
    "on", ["simulation", *(pytest.param(on, marks=pytest.mark.needs(on)) for on in ("local", "docker"))]
)
def test_a_run_may_be_of_nothing_but_ones_own(splitbrain: Command, tmp_path: Path, on: str) -> None:
    done = run(splitbrain, "--nemesis", f"{OWN}/freeze.py:Freeze", "--on", on)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "freeze: 1 planned, 1 injected, 1 proved" in done.stdout
    (history,) = tmp_path.glob("r/*/history.jsonl")
    assert splitbrain("check", str(history), "--model", f"{OWN}/toggle.py:Toggle").returncode == 0


@pytest.mark.needs("local")
def test_a_server_may_listen_after_the_store_is_ready(splitbrain: Command) -> None:
    done = run(splitbrain, "--nemesis", "kill", "-o", "kill=n3", "-o", "late=3s", "--on", "local", "--time", "4")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ones_own_model_refutes_a_store_that_forgets(splitbrain: Command, tmp_path: Path) -> None:
    done = run(splitbrain, "--nemesis", "kill", "-o", "kill=n1", "--on", "simulation", "--time", "30")
    assert done.returncode == 1, done.stdout + done.stderr
    (history,) = tmp_path.glob("r/*/history.jsonl")
    assert splitbrain("check", str(history), "--model", f"{OWN}/toggle.py:Toggle").returncode == 1
    wrong = splitbrain("check", str(history), "--model", f"{OWN}/dark.py:Dark")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "Dark is no model: it does not extend harness.checkers.linearizability.model.Model" in wrong.stderr
