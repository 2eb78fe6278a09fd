"""Nobody but the run itself is let in by the stores that know passwords."""

from __future__ import annotations

import random

import pytest

from harness.cluster import Cluster, leader, wait_until
from harness.environments.base import Node, run_tool
from targets.redis import PORT, SENTINEL_PORT, Redis
from tests.integration.inside import on

REAL = [
    pytest.param("local", marks=pytest.mark.needs("local", "redis")),
    pytest.param("ssh", marks=pytest.mark.needs("ssh", "redis")),
]


async def assert_closed(store: Redis, node: Node) -> None:
    """Another user of the machine gets nothing, neither by asking nor from process tables or files."""
    for port, *words in ((PORT, "get", "k0"), (PORT, "info"), (SENTINEL_PORT, "sentinel", "masters")):
        said = (await node.exec(["redis-cli", "-h", node.address, "-p", str(port), *words])).text
        assert said.startswith("NOAUTH"), said
    shown = await node.exec(["sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ"])
    assert store.password.encode() not in shown.out
    assert b"redis-server" in shown.out
    found = await node.exec(["grep", "-rl", store.password, node.directory])
    files = found.out.decode().split()
    assert {file.rpartition("/")[2] for file in files} == {"redis.conf", "sentinel.conf"}
    modes = await node.exec(["stat", "-c", "%a", *files])
    assert modes.out.decode().split() == ["600", "600"]


async def redis_and_its_sentinels_let_nobody_else_in(cluster: Cluster) -> None:
    store = Redis(Redis.Options(down_after_ms=1000))

    async def whole() -> None:
        await wait_until(lambda: store.ready(cluster), seconds=90, what="Redis being whole")
        for node in cluster.nodes:
            await assert_closed(store, node)

    for node in cluster.nodes:
        await store.start(cluster, node)
    await whole()
    # A failover makes servers and sentinels write their files anew.
    first = leader(await store.roles(cluster))
    assert first is not None
    await run_tool(cluster.node(first), "process", {"do": "kill"})

    async def another() -> bool:
        return leader(await store.roles(cluster)) not in (None, first)

    await wait_until(another, seconds=60, what="another primary")
    await store.start(cluster, cluster.node(first))
    await whole()
    # A node that joins again has an empty disk.
    leaving = random.choice(cluster.nodes).name
    await store.leave(cluster, [leaving])
    await store.join(cluster, [leaving])
    await whole()


@pytest.mark.parametrize("environment", REAL)
def test_redis_and_its_sentinels_let_nobody_else_in(environment: str) -> None:
    on(environment, redis_and_its_sentinels_let_nobody_else_in)


def test_a_password_is_drawn_for_each_run() -> None:
    random.seed(1)
    one = Redis(Redis.Options()).password
    random.seed(1)
    assert one != Redis(Redis.Options()).password
    assert len(one) >= 32
