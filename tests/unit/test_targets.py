"""What the bundled targets remember of the nodes that they have started servers on."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.cli.images import build
from harness.cluster import Cluster
from harness.environments import images
from harness.plugins import load
from harness.target import Target


class Blank:
    """A node with nothing on it, which keeps the names of the files that are written."""

    name, address, directory, python, shipped = "n1", "10.0.0.1", "/data", "python3", "/shipped"

    def __init__(self) -> None:
        self.written: list[str] = []

    async def write(self, path: str, data: bytes) -> None:
        self.written.append(path)

    async def start(self, name: str, argv: Sequence[str], env: Any = None) -> None:
        """Nothing runs here."""


@pytest.mark.parametrize("name", ["reference", "redis", "etcd"])
async def test_one_object_serves_several_runs_whose_nodes_have_the_same_names(name: str) -> None:
    plugin = load("targets", name)
    store: Target = plugin(plugin.Options())
    for node in (Blank(), Blank()):
        cluster = Cluster(cast(Any, SimpleNamespace(real_time=True)), [cast(Any, node)], 0)
        await store.start(cluster, cluster.nodes[0])
        first = list(node.written)
        assert first
        await store.start(cluster, cluster.nodes[0])
        assert node.written == first


def test_the_node_image_gets_the_servers_of_all_targets_or_of_some(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []
    monkeypatch.setattr(images, "build", lambda packages, **_: asked.append(packages))
    build(None, bootstrap=False)
    assert {"etcd-server", "mariadb-server", "postgresql-15", "redis-sentinel", "redis-server"} < set(asked[0])
    build("redis, postgres", bootstrap=False)
    assert asked[1:] == [["postgresql-15", "redis-sentinel", "redis-server"]]
