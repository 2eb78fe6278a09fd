"""Runs a test's coroutine against real nodes: in namespaces of its own for local, in this process for docker."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from harness.cluster import Cluster
from harness.environments import namespaces
from harness.plugins import load

Scenario = Callable[[Cluster], Awaitable[None]]


def on(environment: str, scenario: Scenario, *, nodes: int = 3) -> None:
    """Start nodes, run ``scenario`` (a function of a module), stop the nodes; its assertions fail the test."""
    if environment != "local":
        asyncio.run(_run(environment, scenario, nodes))
        return
    argv = [sys.executable, "-m", "tests.integration.inside", scenario.__module__, scenario.__name__, str(nodes)]
    code = (
        "import os, sys; from harness.environments import namespaces; "
        "sys.exit(namespaces.reexecute(sys.argv[1:], os.environ))"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def _run(environment: str, scenario: Scenario, nodes: int) -> None:
    made = load("environments", environment)()
    with tempfile.TemporaryDirectory() as logs:
        try:
            names = [f"n{number}" for number in range(1, nodes + 1)]
            started = await made.start(names, Path(logs), f"test-{os.getpid()}-{scenario.__name__.replace('_', '-')}")
            zones = dict(zip(names, "abcabcabc", strict=False))
            await scenario(Cluster(made, started, 0, zones))
        finally:
            await made.stop()


if __name__ == "__main__":
    assert namespaces.inside()
    module, name, count = sys.argv[1:]
    asyncio.run(_run("local", getattr(importlib.import_module(module), name), int(count)))
