"""Runs a test's coroutine against real nodes: in namespaces of its own, or in this process for docker."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from harness.cli.stopping import end_on_signals
from harness.cluster import Cluster
from harness.environments import namespaces
from harness.environments.base import Environment
from harness.environments.simulation.environment import SimulationEnvironment
from harness.environments.ssh import SshEnvironment
from harness.nemeses.storage import Storage
from harness.plugins import load
from harness.targets.reference.target import Reference
from tests.integration import hosts

Scenario = Callable[[Cluster], Awaitable[None]]

SHIPS = (*Reference.ships, *Storage.ships)


def on(environment: str, scenario: Scenario, *, nodes: int = 3) -> None:
    """Start nodes, run ``scenario`` (a function of a module), stop the nodes; its assertions fail the test."""
    if environment == "docker":
        asyncio.run(_run(environment, scenario, nodes))
        return
    words = [environment, scenario.__module__, scenario.__name__, str(nodes)]
    argv = [sys.executable, "-m", "tests.integration.inside", *words]
    code = (
        "import os, sys; from harness.environments import namespaces; "
        "sys.exit(namespaces.reexecute(sys.argv[1:], os.environ))"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def simulated(folder: Path, scenario: Scenario, *, nodes: int = 3) -> None:
    """The same on simulated nodes, in this process; their logs end up in ``folder``."""
    environment = SimulationEnvironment(None, 1)
    names = [f"n{number}" for number in range(1, nodes + 1)]

    async def main() -> None:
        started = await environment.start(names, folder, "test")
        await scenario(Cluster(environment, started, 0, dict(zip(names, "abcabcabc", strict=False))))

    environment.run(main())


async def _run(environment: str, scenario: Scenario, nodes: int) -> None:
    names = [f"n{number}" for number in range(1, nodes + 1)]
    with tempfile.TemporaryDirectory() as folder:
        machines, made = None, load("environments", environment)
        if environment == "ssh":
            machines = load("environments", "local")()
            options = await hosts.prepare(Path(folder), await machines.start(names, Path(folder) / "machines", "m"))
            used: Environment = SshEnvironment(options=options)
        else:
            used = made()
        try:
            run = f"test-{os.getpid()}-{scenario.__name__.replace('_', '-')}"
            started = await used.start(names, Path(folder), run, SHIPS)
            zones = dict(zip(names, "abcabcabc", strict=False))
            await scenario(Cluster(used, started, 0, zones))
        finally:
            await used.stop()
            if machines is not None:
                await machines.stop()


if __name__ == "__main__":
    assert namespaces.inside()
    end_on_signals()
    environment, module, name, count = sys.argv[1:]
    asyncio.run(_run(environment, getattr(importlib.import_module(module), name), int(count)))
