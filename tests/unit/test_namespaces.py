"""Whether the harness is in namespaces of its own is looked up, and not taken on trust."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.environments import namespaces

SAY = "from harness.environments import namespaces; print(namespaces.inside())"
ENTER = f"""
import os, sys
from harness.environments import namespaces
sys.exit(namespaces.reexecute([sys.executable, "-c", {SAY!r}], os.environ))
"""


@pytest.mark.parametrize("said", ["1", "4711-815"])
def test_a_variable_makes_nobody_believe_to_be_in_namespaces(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    for name in ("SPLITBRAIN_INSIDE", "SPLITBRAIN_NAMESPACES"):
        monkeypatch.setenv(name, said)
    assert not namespaces.inside()


@pytest.mark.needs("local")
def test_who_is_in_them_knows_it() -> None:
    lied_to = {**os.environ, "SPLITBRAIN_INSIDE": "1", "SPLITBRAIN_NAMESPACES": "1"}
    done = subprocess.run([sys.executable, "-c", ENTER], capture_output=True, text=True, check=False, env=lied_to)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.needs("local")
def test_a_run_that_is_told_so_makes_its_own(splitbrain, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SPLITBRAIN_INSIDE", "1")
    before = subprocess.run(["ip", "link"], capture_output=True, check=True).stdout
    done = splitbrain("run", "reference", "--on", "local", "--nodes", "1", "--time", "3")
    assert done.returncode == 0, done.stderr
    # That was no bridge of this machine's own.
    assert b"splitbrain0" not in subprocess.run(["ip", "link"], capture_output=True, check=True).stdout + before
