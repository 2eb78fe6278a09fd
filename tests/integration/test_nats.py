"""NATS JetStream on nodes: who is let in, what each node tells, what is certain of lost answers, and known losses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.cluster import Cluster, leader, wait_until
from harness.environments.base import run_tool
from harness.environments.tools import ask
from harness.faults import process
from harness.operation import Declined, Failed, Operation, Served
from harness.targets.nats import CLIENT, Nats
from harness.targets.nats_client import NatsClient, connect, lost
from tests.integration.inside import on
from tests.integration.test_passwords import assert_hidden

TURNS = 5
MOST_TURNS = 200


def client_of(store: Nats, cluster: Cluster, name: str, **how: Any) -> NatsClient:
    node = cluster.node(name)
    return NatsClient((node.name, node.address), 4.0, CLIENT, store.password, replicas=3, **how)


async def outcome(client: NatsClient, f: str, key: str, value: Any = None) -> Any:
    """What an operation answered, or the name of what it raised."""
    try:
        answer = await client.invoke(Operation(f, key, value))
    except Exception as error:
        return type(error).__name__
    assert isinstance(answer, Served)
    return answer.value


async def nobody_else_is_let_in(store: Nats, cluster: Cluster) -> None:
    for node in cluster.nodes:
        await assert_hidden(node, store.password, {"nats.conf"}, "nats-server")
        sockets = (await node.exec(["ss", "-Hltnp"])).text.splitlines()
        own = sorted(line.split()[3] for line in sockets if '"nats-server"' in line)
        assert own == [f"{node.address}:4222", f"{node.address}:6222"], sockets
    with pytest.raises(lost(), match="Authorization"):
        await connect(cluster.nodes[0].address, CLIENT, "another", 5.0)


async def each_function_does_what_it_says(store: Nats, cluster: Cluster) -> None:
    client, other = client_of(store, cluster, "n1"), client_of(store, cluster, "n2")
    assert await outcome(client, "read", "k") is None
    assert await outcome(client, "write", "k", 1) == 1
    assert await outcome(other, "cas", "k", [2, 3]) == Declined.__name__
    assert await outcome(other, "cas", "k", [1, 2]) == [1, 2]
    assert await outcome(client, "read", "k") == 2
    assert await outcome(client, "read-list", "l") == []
    for element in range(12):
        assert await outcome(client if element % 2 else other, "append", "l", element) == element
        assert await outcome(other, "add", "s", element) == element
    assert await outcome(other, "read-list", "l") == list(range(12))
    updating = client_of(store, cluster, "n3", appends="update")
    assert [await outcome(updating, "append", "u", element) for element in (5, 4)] == [5, 4]
    assert await outcome(updating, "read-list", "u") == [5, 4]
    assert await outcome(client, "remove", "s", 3) == 3
    assert await outcome(client_of(store, cluster, "n3", removes="purge"), "remove", "s", 4) == 4
    assert await outcome(client, "remove", "s", 77) == Declined.__name__
    left = [element for element in range(12) if element not in (3, 4)]
    assert await outcome(client, "members", "s") == left
    for name in ("n1", "n2", "n3"):
        own = client_of(store, cluster, name)

        async def arrived(own: NatsClient = own) -> bool:
            return bool(await outcome(own, "members-local", "s") == left)

        await wait_until(arrived, seconds=20, what=f"{name} having all")
    first, second = await outcome(client, "generate", "ids"), await outcome(other, "generate", "ids")
    assert first < second
    assert await outcome(client_of(store, cluster, "n2", reads="direct"), "read", "k") == 2


async def updates_of_one_revision_are_lost_where_a_stream_is_replicated(store: Nats, cluster: Cluster) -> None:
    """As this version is known for; what is a message of its own each is not lost."""
    for key, how, some in (("u1", "update", True), ("l1", "publish", False)):
        clients = [client_of(store, cluster, name, appends=how) for name in ("n1", "n2", "n3") for _ in range(3)]
        acknowledged: set[int] = set()
        missing: set[int] = set()
        for turn in range(MOST_TURNS):
            elements = [turn * len(clients) + number for number in range(len(clients))]
            pairs = zip(clients, elements, strict=True)
            answers = await asyncio.gather(*(outcome(client, "append", key, element) for client, element in pairs))
            acknowledged |= {answer for answer in answers if isinstance(answer, int)}
            missing = acknowledged - {*await outcome(clients[0], "read-list", key)}
            if turn >= TURNS and bool(missing) == some:
                break
        assert bool(missing) == some, (key, missing)
        await asyncio.gather(*(client.close() for client in clients))


async def what_a_killed_majority_does_not_say_is_not_known(store: Nats, cluster: Cluster) -> None:
    roles = await store.roles(cluster)
    assert sorted(role.role for role in roles) == ["primary", "replica", "replica"]
    primary = leader(roles)
    assert primary is not None
    client = client_of(store, cluster, primary)
    await client.open()
    others = [node.name for node in cluster.nodes if node.name != primary]
    await cluster.on_each(others, lambda node: run_tool(node, ask(process.kill)))
    assert await outcome(client, "write", "k", 9) == "TimeoutError"  # the leader has it, and no majority
    assert await outcome(client_of(store, cluster, others[0]), "write", "k", 8) == Failed.__name__
    await cluster.on_each(others, lambda node: store.start(cluster, node))
    await wait_until(lambda: store.ready(cluster), seconds=60, what="the store being whole", every=0.5)
    assert await outcome(client_of(store, cluster, others[0]), "read", "k") in (2, 9)


async def nats_keeps_its_promises(cluster: Cluster) -> None:
    store = Nats(Nats.Options())
    await asyncio.gather(*(store.start(cluster, node) for node in cluster.nodes))
    await store.form(cluster)
    await wait_until(lambda: store.ready(cluster), seconds=30, what="the store being whole")
    await nobody_else_is_let_in(store, cluster)
    await each_function_does_what_it_says(store, cluster)
    assert len(set((await store.identities(cluster)).values())) == 1

    async def same() -> bool:
        held = await cluster.on_each(["n1", "n2", "n3"], lambda node: store.own_state(cluster, node))
        return bool(held["n1"]) and held["n1"] == held["n2"] == held["n3"]

    await wait_until(same, seconds=20, what="all nodes holding the same")
    await updates_of_one_revision_are_lost_where_a_stream_is_replicated(store, cluster)
    await what_a_killed_majority_does_not_say_is_not_known(store, cluster)


@pytest.mark.needs("local", "nats")
def test_nats_keeps_its_promises() -> None:
    on("local", nats_keeps_its_promises)
