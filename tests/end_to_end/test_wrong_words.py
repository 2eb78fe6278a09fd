"""Whatever a person types wrongly comes to one sentence on stderr and exit code 2, before anything starts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]

SIMULATED = ["run", "reference", "--on", "simulation", "--runs", "r"]
NAMESAKES = """
from harness.nemeses.kill import Kill
from harness.checkers.total import Total as Base
class Mine(Kill):
    pass
class Other(Kill):
    pass
class Total(Base):
    pass
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "reference", "--foo"], "--foo"),
        (["run", "reference", "more"], "more"),
        (["run", "reference", "--format", "xml"], "'xml' is not one of 'text', 'json'"),
        (["run", "reference", "--time"], "--time"),
        (["bogus"], "'bogus'"),
        (["images", "bogus"], "'bogus'"),
        (["--bogus"], "--bogus"),
        (["check"], "history"),
        (["list", "bogus"], "'bogus'"),
        (["check", "a", "b", "c"], "b c"),
        ([*SIMULATED, "--checker", ","], "--checker has an empty name"),
        ([*SIMULATED, "--checker", ""], "--checker has an empty name"),
        ([*SIMULATED, "--checker", "total,"], "--checker has an empty name"),
        ([*SIMULATED, "--nemesis", ","], "--nemesis has an empty name"),
        ([*SIMULATED, "--nemesis", "kill,,pause"], "--nemesis has an empty name"),
        ([*SIMULATED, "--nemesis", "mine.py:Mine,mine.py:Other"], "two nemeses that are called kill"),
        ([*SIMULATED, "--nemesis", "kill,mine.py:Mine"], "two nemeses that are called kill"),
        ([*SIMULATED, "--nemesis", "chaos,mine.py:Mine"], "two nemeses that are called kill"),
        ([*SIMULATED, "--checker", "mine.py:Total,./mine.py:Total"], "two classes that are called Total"),
        ([*SIMULATED, "--nodes", "1", "--nemesis", "kill", "-o", "kill=replicas"], "that needs at least 2 nodes"),
        ([*SIMULATED, "--nodes", "1", "--nemesis", "pause", "-o", "pause=successor"], "that needs at least 2 nodes"),
        ([*SIMULATED, "--nodes", "2", "--nemesis", "kill", "-o", "kill=minority"], "that needs at least 3 nodes"),
    ],
)
def test_one_sentence(tmp_path: Path, splitbrain: Command, words: list[str], said: str) -> None:
    (tmp_path / "mine.py").write_text(NAMESAKES)
    done = splitbrain(*words)
    assert done.returncode == 2, done
    assert done.stderr.startswith("splitbrain: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "r").exists()


def test_help_is_still_help(splitbrain: Command) -> None:
    for words in ([], ["images"]):
        done = splitbrain(*words)
        assert "Usage: splitbrain" in done.stdout + done.stderr
    assert splitbrain("run", "--help").returncode == 0
