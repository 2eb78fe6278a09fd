"""Whom a kill or a pause strikes, while the ends of other faults start servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.environments.base import run_tool
from harness.environments.simulation.environment import SimulationEnvironment
from harness.environments.tools import ask
from harness.errors import NothingToDo
from harness.faults import process
from harness.nemeses import victims
from harness.targets.reference.target import Reference
from tests.loops import simulated_loop

NAMES = ["n1", "n2", "n3"]


def test_who_strikes_nobody_keeps_nobody_from_being_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that its full disk has ended is started by the end of that fault, whatever is tried meanwhile."""
    tell, started = victims.tell, []

    async def main() -> None:
        made, store = SimulationEnvironment(seed=1), Reference(Reference.Options())
        cluster = Cluster(made, await made.start(NAMES, tmp_path, "test"), 0, dict.fromkeys(NAMES, "a"))
        await cluster.on_each(NAMES, lambda node: store.start(cluster, node))
        await run_tool(cluster.node("n2"), ask(process.kill))

        async def meanwhile(cluster: Cluster, names: Sequence[str], signal: Any) -> dict[str, list[str]]:
            found = await tell(cluster, names, signal)
            started.append(await victims.revive(cluster, store, ["n2"]))
            return found

        monkeypatch.setattr(victims, "tell", meanwhile)
        plan = {"aim": "n2", "order": NAMES}
        hit = cluster.down["pause"] = set()
        with pytest.raises(NothingToDo, match="no server process on n2"):
            await victims.strike(cluster, store, plan, ask(process.pause), hit)
        assert started == [{"n2": ["reference"]}]
        assert not hit

        started.clear()
        struck = await victims.strike(cluster, store, plan, ask(process.kill), hit)
        assert (struck.commands, hit, started) == ({"n2": ["reference"]}, {"n2"}, [{"n2": []}])

    simulated_loop().run_to_end(main())
