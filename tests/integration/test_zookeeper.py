"""ZooKeeper on nodes: what is certain of lost answers, reads of who has not heard the latest, locks, who is let in."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from harness.cluster import Cluster, leader, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.faults import network, process
from harness.faults.network import Peer
from harness.operation import Declined, Failed, Indeterminate, Operation, Served
from harness.targets.zookeeper import Zookeeper
from harness.targets.zookeeper_client import ZookeeperClient
from harness.targets.zookeeper_session import Session, answer, driver
from tests.integration.inside import on
from tests.integration.test_passwords import assert_hidden

Command = Callable[..., "subprocess.CompletedProcess[str]"]


async def outcome(client: ZookeeperClient, f: str, key: str, value: Any = None) -> Any:
    """What an operation answered, or the name of what it raised."""
    try:
        served = await client.invoke(Operation(f, key, value))
    except (Declined, Failed, Indeterminate) as error:
        return type(error).__name__
    assert isinstance(served, Served)
    return served.value


def client_of(store: Zookeeper, cluster: Cluster, node: Node) -> ZookeeperClient:
    client = store.client(cluster, node, 2.0)
    assert isinstance(client, ZookeeperClient)
    return client


async def nobody_else_is_let_in(store: Zookeeper, cluster: Cluster) -> None:
    node = cluster.nodes[0]
    await assert_hidden(node, store._peers, {"jaas.conf"}, "QuorumPeerMain")
    sockets = (await node.exec(["ss", "-Hltnp"])).text.splitlines()
    own = {line.split()[3].rpartition(":")[0].removeprefix("[::ffff:").removesuffix("]")
           for line in sockets if '"java"' in line}  # fmt: skip
    assert own == {node.address}, sockets
    stranger = Session(node.address, "another")
    await stranger.open(5.0)
    for asked in (
        stranger.kazoo.get_async("/k"),
        stranger.kazoo.get_children_async("/"),
        stranger.kazoo.create_async("/mine", b""),
    ):
        with pytest.raises(driver().exceptions.NoAuthError):
            await answer(asked)
    stranger.close()


async def operations_do_what_they_are_called(one: ZookeeperClient, other: ZookeeperClient) -> None:
    assert await outcome(one, "write", "k", 1) == 1
    assert await outcome(other, "read", "k") == 1
    assert await outcome(other, "cas", "k", [1, 2]) == [1, 2]
    assert await outcome(one, "cas", "k", [1, 3]) == "Declined"
    await asyncio.gather(*(client.invoke(Operation("append", "l", number))
                           for number, client in enumerate((one, other), 1)))  # fmt: skip
    assert sorted(await outcome(one, "read-list", "l")) == [1, 2]
    assert [await outcome(client, "generate", "ids") for client in (one, other, one)] == [0, 1, 2]
    assert [await outcome(one, f, "s", 7) for f in ("add", "members", "remove", "remove")] == [7, [7], 7, "Declined"]
    assert [await outcome(one, f, "q", 8) for f in ("enqueue", "dequeue", "dequeue")] == [8, 8, None]
    steps = [["r", "t", None], ["append", "t", 5], ["r", "u", None]]
    assert await outcome(one, "txn", "", steps) == steps
    assert await outcome(other, "txn", "", [["r", "t", None]]) == [["r", "t", [5]]]


async def a_lock_has_one_holder(one: ZookeeperClient, other: ZookeeperClient) -> None:
    token = await outcome(one, "acquire", "lock", 2.0)
    assert token is not False
    assert await outcome(other, "acquire", "lock", 2.0) is False
    assert await outcome(one, "write-fenced", "lock", [token, 1]) == [token, 1]
    assert await outcome(other, "write-fenced", "lock", [token, 2]) == "Declined"
    await one.close()  # and with the session its place in the line

    async def free() -> bool:
        return bool(await outcome(other, "acquire", "lock", 2.0))

    await wait_until(free, seconds=20, what="the lock being free")
    assert await outcome(one, "write-held", "lock", [token, 3]) == "Declined"


async def who_was_cut_off_knows_only_what_was(store: Zookeeper, cluster: Cluster, cut_off: Node) -> None:
    own = client_of(store, cluster, cut_off)
    other = client_of(store, cluster, next(node for node in cluster.nodes if node is not cut_off))
    assert await outcome(own, "write", "c", 1) == 1
    peers: list[Peer] = [
        {"addresses": [node.address], "direction": "both"} for node in cluster.nodes if node is not cut_off
    ]
    await run_tool(cut_off, ask(network.cut, peers=peers))
    wrote = await other.invoke(Operation("write", "c", 2))
    assert (wrote.value, wrote.term) == (2, 1)
    assert await outcome(own, "read-local", "c") == 1
    assert await outcome(own, "read", "c") == "Failed"
    await run_tool(cut_off, ask(network.heal))

    async def caught_up() -> bool:
        return bool(await outcome(own, "read", "c") == 2)

    await wait_until(caught_up, seconds=40, what="who was cut off catching up")
    for client in (own, other):
        await client.close()


async def what_is_certain_is_told(store: Zookeeper, cluster: Cluster, primary: Node) -> None:
    client = client_of(store, cluster, primary)
    assert await outcome(client, "write", "d", 1) == 1
    followers = [node.name for node in cluster.nodes if node is not primary]
    await cluster.on_each(followers, lambda node: run_tool(node, ask(process.pause)))
    assert await outcome(client, "write", "d", 2) == "Indeterminate"
    await cluster.on_each(followers, lambda node: run_tool(node, ask(process.resume)))
    await run_tool(primary, ask(process.kill))
    assert await outcome(client, "write", "d", 3) == "Failed"  # nobody listens
    await store.start(cluster, primary)
    await wait_until(lambda: store.ready(cluster), seconds=60, what="all servers being back")
    assert await outcome(client, "read", "d") in (1, 2)
    await client.close()


async def zookeeper_keeps_its_promises(cluster: Cluster) -> None:
    store = Zookeeper(Zookeeper.Options(sync_limit=20))
    await asyncio.gather(*(store.start(cluster, node) for node in cluster.nodes))
    await store.form(cluster)
    roles = await store.roles(cluster)
    primary = cluster.node(leader(roles) or "")
    assert sorted((role.role, role.term) for role in roles if role.node == primary.name) == [("primary", 1)]
    assert [(role.role, role.term) for role in roles if role.node != primary.name] == [("replica", None)] * 2
    one, other = (client_of(store, cluster, node) for node in cluster.nodes[:2])
    await operations_do_what_they_are_called(one, other)
    await nobody_else_is_let_in(store, cluster)
    await a_lock_has_one_holder(one, other)
    for client in (one, other):
        await client.close()
    await who_was_cut_off_knows_only_what_was(
        store, cluster, next(node for node in cluster.nodes if node is not primary)
    )
    await what_is_certain_is_told(store, cluster, primary)

    async def same() -> bool:
        held = await cluster.on_each(["n1", "n2", "n3"], lambda node: store.own_state(cluster, node))
        return bool(held["n1"]) and held["n1"] == held["n2"] == held["n3"]

    await wait_until(same, seconds=20, what="all nodes holding the same")


@pytest.mark.needs("local", "zookeeper")
def test_zookeeper_keeps_its_promises() -> None:
    on("local", zookeeper_keeps_its_promises)


@pytest.mark.needs("local", "zookeeper")
def test_what_was_acknowledged_is_there_after_faults(splitbrain: Command) -> None:
    done = splitbrain(
        "run", "zookeeper", "--on", "local", "--workload", "append", "--nemesis", "partition", "--interval", "3",
        "--time", "8", "--rate", "100", "--format", "json",
    )  # fmt: skip
    verdict = json.loads(done.stdout)["verdict"]
    assert verdict["parts"]["branches"]["validity"] == "valid", verdict
    assert verdict["validity"] != "invalid", verdict
    assert verdict["evidence"]["ok"] > 100
