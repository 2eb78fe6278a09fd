"""The tutorial's target, by the tutorial's own commands."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import SPLITBRAIN

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs/tutorial.md").read_text()
COMMANDS = re.findall(r"^\.venv/bin/splitbrain (run .+)$", TUTORIAL, re.MULTILINE)

needs = pytest.mark.needs("local", "tarantool")


def run(tmp_path: Path, words: str) -> tuple[int, str]:
    """The exit code, and the verdict as text."""
    command = [SPLITBRAIN, *words.split(), "--runs", str(tmp_path), "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    return done.returncode, json.dumps(json.loads(done.stdout)["verdict"])


@needs
def test_what_a_quorum_has_not_confirmed_is_read_and_undone(tmp_path: Path) -> None:
    code, verdict = run(tmp_path, COMMANDS[0])
    assert code == 1, verdict
    assert "stale read" in verdict


@needs
def test_without_quorums_nothing_is_undone(tmp_path: Path) -> None:
    code, verdict = run(tmp_path, COMMANDS[1])
    assert code == 0, verdict


def test_the_tutorial_counts_the_lines_of_its_target() -> None:
    lines = (ROOT / "docs/tarantool.py").read_text().count("\n")
    assert f"{lines} lines" in TUTORIAL
    assert lines < 150
