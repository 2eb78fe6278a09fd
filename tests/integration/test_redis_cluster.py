"""Redis Cluster on nodes: keys on several primaries, what a cut-off one acknowledges, and who is let in."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import run_tool
from harness.environments.tools import ask
from harness.faults import process
from harness.operation import Failed, Operation, Served
from harness.targets.redis_cluster import RedisCluster
from harness.targets.redis_cluster_client import PORT, RedisClusterClient
from tests.integration.inside import on
from tests.integration.test_passwords import assert_hidden

Command = Callable[..., "subprocess.CompletedProcess[str]"]


async def nobody_else_is_let_in(store: RedisCluster, cluster: Cluster) -> None:
    node = cluster.nodes[0]
    for words in (["get", "k0"], ["cluster", "nodes"]):
        said = (await node.exec(["redis-cli", "-h", node.address, "-p", str(PORT), *words])).text
        assert said.startswith("NOAUTH"), said
    await assert_hidden(node, store.password, {"redis.conf"}, "redis-server")
    sockets = (await node.exec(["ss", "-Hltnp"])).text.splitlines()
    own = {line.split()[3].rpartition(":")[0] for line in sockets if '"redis-server"' in line}
    assert own == {node.address, "127.0.0.1"}, sockets


async def every_key_is_found_from_everywhere(store: RedisCluster, cluster: Cluster) -> None:
    clients = [store.client(cluster, node, 2.0) for node in cluster.nodes]
    served = set()
    for number in range(12):
        wrote = await clients[number % 6].invoke(Operation("append", f"l{number}", number))
        read = await clients[(number + 1) % 6].invoke(Operation("read-list", f"l{number}"))
        assert isinstance(wrote, Served)
        assert read == Served([number], by=wrote.by)
        served.add(wrote.by)
    assert served == {"n1", "n2", "n3"}
    for number, client in enumerate(clients):
        await client.invoke(Operation("add", "s", number))
    for client in clients:
        assert (await client.invoke(Operation("members-local", "s"))).value == [0, 1, 2, 3, 4, 5]
    token = (await clients[5].invoke(Operation("acquire", "lock", 5.0))).value
    assert (await clients[4].invoke(Operation("acquire", "lock", 5.0))).value is False
    assert (await clients[5].invoke(Operation("write-held", "lock", [token, 1]))).value == [token, 1]
    for client in clients:
        await client.close()


async def a_replica_takes_over(store: RedisCluster, cluster: Cluster) -> None:
    first = cluster.nodes[0]
    own, other = (store.client(cluster, node, 2.0) for node in cluster.nodes[:2])
    assert isinstance(own, RedisClusterClient)
    for number in range(50):
        key = f"k{number}"
        if (await own.invoke(Operation("write", key, 1))).by == "n1":
            break
    await asyncio.sleep(0.5)  # until its replica has it
    await run_tool(first, ask(process.kill))

    async def taken_over() -> bool:
        try:
            read = await other.invoke(Operation("read", key))
        except (Failed, OSError):
            await other.close()
            return False
        return bool(read == Served(1, by="n4"))

    await wait_until(taken_over, seconds=40, what="the replica taking over")
    await own.close()
    with pytest.raises(Failed, match="n1 cannot be reached"):
        await own.invoke(Operation("read", key))
    await store.start(cluster, first)
    await wait_until(lambda: store.ready(cluster), seconds=40, what="all servers being back")
    roles = {role.node: role for role in await store.roles(cluster)}
    assert [roles[name].role for name in ("n1", "n2", "n3", "n4")] == ["replica", "primary", "primary", "primary"]
    assert (roles["n1"].term, roles["n2"].term, roles["n3"].term) == (None, 2, 3)
    assert (roles["n4"].term or 0) > 6
    for client in (own, other):
        await client.close()


async def redis_cluster_is_one(cluster: Cluster) -> None:
    store = RedisCluster(RedisCluster.Options(cluster_node_timeout_ms=1000))
    await asyncio.gather(*(store.start(cluster, node) for node in cluster.nodes))
    await store.form(cluster)
    await wait_until(lambda: store.ready(cluster), seconds=40, what="the cluster being ready")
    await nobody_else_is_let_in(store, cluster)
    await every_key_is_found_from_everywhere(store, cluster)
    await a_replica_takes_over(store, cluster)


@pytest.mark.needs("local", "redis")
def test_redis_cluster_is_one() -> None:
    on("local", redis_cluster_is_one, nodes=6)


@pytest.mark.needs("local", "redis")
def test_a_primary_that_is_cut_off_loses_what_it_acknowledges(splitbrain: Command) -> None:
    done = splitbrain(
        "run", "redis-cluster", "--on", "local", "--nodes", "6", "--workload", "append", "--nemesis", "partition",
        "--interval", "3", "--time", "16", "-o", "partition=primary", "--format", "json",
    )  # fmt: skip
    verdict = json.loads(done.stdout)["verdict"]
    assert (done.returncode, verdict["validity"]) == (1, "invalid"), verdict
    assert verdict["parts"]["branches"]["evidence"]["appends_lost"] > 0
