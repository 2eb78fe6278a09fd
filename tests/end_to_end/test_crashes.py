"""A store that crashes by itself is found out, and one whose servers a nemesis kills is not accused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]
OWN: Final = Path(__file__).parents[1] / "own"
EVERYWHERE: Final = ["simulation", pytest.param("local", marks=pytest.mark.needs("local"))]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The lamp, whose server on n2 ends itself in a panic: late enough for the run to have begun on any machine."""
    folder = tmp_path / "fragile"
    folder.mkdir()
    server = (OWN / "lamp_server.py").read_text()
    waits = "    await asyncio.get_running_loop().create_future()\n"
    assert waits in server
    ends = '    await asyncio.sleep(10 if address.endswith(".2") else 1e6)\n    raise SystemExit("panic: oops")\n'
    (folder / "lamp_server.py").write_text(server.replace(waits, ends))
    (folder / "lamp.py").write_text((OWN / "lamp.py").read_text())
    return folder / "lamp.py"


def run(splitbrain: Command, store: Path, *words: str) -> subprocess.CompletedProcess[str]:
    own = ["--workload", f"{OWN}/toggling.py:Toggling", "--time", "14", "--rate", "50", "--runs", "r"]
    return splitbrain("run", f"{store}:Lamp", *own, *words)


@pytest.mark.parametrize("on", EVERYWHERE)
def test_a_server_that_panics_is_an_anomaly(splitbrain: Command, tmp_path: Path, store: Path, on: str) -> None:
    done = run(splitbrain, store, "--on", on)
    assert done.returncode == 1, done.stdout + done.stderr
    (path,) = tmp_path.glob("r/*")
    verdict = json.loads((path / "verdict.json").read_text())
    found = verdict["parts"]["crashes"]
    assert {one["kind"] for one in found["anomalies"]} == {"server ended by itself", "panic"}
    assert all("lamp on n2" in one["text"] and "panic: oops" in one["text"] for one in found["anomalies"])
    assert [name for name, part in verdict["parts"].items() if part["validity"] == "invalid"] == ["crashes"]
    again = json.loads(splitbrain("check", str(path), "--trust", "--format", "json").stdout)
    assert again["parts"]["crashes"] == found


@pytest.mark.parametrize("on", EVERYWHERE)
def test_a_server_that_a_nemesis_kills_and_those_that_are_stopped_at_the_end_are_none(
    splitbrain: Command, tmp_path: Path, on: str
) -> None:
    words = ["--nemesis", "kill,restart", "-o", "kill=n2", "-o", "restart=n3", "--interval", "5", "--time", "26"]
    done = run(splitbrain, OWN / "lamp.py", "--on", on, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("r/*")
    crashes = json.loads((path / "verdict.json").read_text())["parts"]["crashes"]
    assert crashes["evidence"]["crashes"]["servers"] == 3
    assert crashes["evidence"]["crashes"]["explained"] > 0
