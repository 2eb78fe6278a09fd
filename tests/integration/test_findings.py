"""Published findings about real stores, each by the one command that a person types."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("postgres-write-skew", marks=pytest.mark.needs("postgres")),
        pytest.param("redis-check-then-act", marks=pytest.mark.needs("redis")),
    ],
)
@pytest.mark.needs("local")
def test_a_finding_about_a_real_store_comes_out_as_known(splitbrain: Command, name: str) -> None:
    done = splitbrain("reproduce", name, "--format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["reproduced"], said["experiment"]["count"], said["control"]["count"]) == (True, 1, 1)
