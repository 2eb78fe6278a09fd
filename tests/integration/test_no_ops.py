"""A tool that does nothing and says that it did is found out: the verdict is unknown. One that does is proved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration import no_ops

FAMILIES = {
    "simulation": ["kill", "pause", "restart", "clock", "membership"],
    "local": ["kill", "pause", "restart", "clock", "squeeze", "membership"],
}


def come_to(where: str, folder: Path, names: list[str], how: str, each: float = no_ops.TURN) -> dict[str, Any]:
    """What a run comes to whose tools are as they are, or planted."""
    words = [sys.executable, "-m", "tests.integration.no_ops", where, str(folder), ",".join(names), how, str(each)]
    code = (
        "import os, sys; from harness.environments import namespaces; "
        "sys.exit(namespaces.reexecute(sys.argv[1:], os.environ))"
    )
    argv = [sys.executable, "-c", code, *words] if where == "local" else words
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


WHERE = ["simulation", pytest.param("local", marks=pytest.mark.needs("local"))]


@pytest.mark.parametrize("where", WHERE)
def test_tools_that_do_nothing_prove_nothing(tmp_path: Path, where: str) -> None:
    found = come_to(where, tmp_path, FAMILIES[where], "planted")
    assert found["validity"] == "unknown"
    assert all(injected > 0 and proved == 0 for injected, proved in found["faults"].values()), found
    for name in FAMILIES[where]:
        assert f"{name} was asked for, injected and never proved" in found["reason"]


@pytest.mark.parametrize("where", WHERE)
def test_tools_that_do_what_they_should_are_proved(tmp_path: Path, where: str) -> None:
    found = come_to(where, tmp_path, FAMILIES[where], "as-it-is")
    if where == "local" and found["validity"] == "unknown":
        # This machine was too busy to measure one in its turn: two turns for each.
        found = come_to(where, tmp_path, FAMILIES[where], "as-it-is", 1.6 * no_ops.TURN)
    assert found["validity"] == "valid", found
    assert set(found["faults"]) == set(FAMILIES[where])


@pytest.mark.parametrize("name", FAMILIES["simulation"])
def test_each_that_does_nothing_makes_a_run_unknown(tmp_path: Path, name: str) -> None:
    with no_ops.planted():
        found = no_ops.run("simulation", tmp_path, [name])
    assert found["validity"] == "unknown"
    assert f"{name} was asked for, injected and never proved" in found["reason"]
