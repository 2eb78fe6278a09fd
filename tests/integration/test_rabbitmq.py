"""RabbitMQ on nodes: who is let in, what is certain of lost answers, mirrors, and brokers that were killed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import run_tool
from harness.environments.tools import ask
from harness.faults import process
from harness.operation import Failed, Operation, Served
from harness.targets.rabbitmq import Rabbitmq
from harness.targets.rabbitmq_client import RabbitmqClient, connect, lost
from tests.integration.inside import on
from tests.integration.test_passwords import assert_hidden


def client_of(store: Rabbitmq, cluster: Cluster, name: str, kind: Any = "quorum") -> RabbitmqClient:
    node = cluster.node(name)
    return RabbitmqClient((node.name, node.address), 5.0, store.password, kind)


async def outcome(client: RabbitmqClient, f: str, key: str, value: Any = None) -> Any:
    """What an operation answered, or the name of what it raised."""
    try:
        answer = await client.invoke(Operation(f, key, value))
    except Exception as error:
        return type(error).__name__
    assert isinstance(answer, Served)
    return answer.value


async def nobody_else_is_let_in(store: Rabbitmq, cluster: Cluster) -> None:
    for node in cluster.nodes:
        await assert_hidden(node, store.password, {"rabbitmq.conf"}, "beam.smp")
        await assert_hidden(node, store.cookie, {".erlang.cookie"}, "beam.smp")
        sockets = (await node.exec(["ss", "-Hltn"])).text.splitlines()
        places = {line.split()[3] for line in sockets}
        assert {f"{node.address}:{port}" for port in (5672, 25672, 4369)} <= places
        assert all(place.rpartition(":")[0] in (node.address, "127.0.0.1", "[::1]") for place in places), places
    with pytest.raises(lost(), match="ACCESS_REFUSED"):
        await connect(cluster.nodes[0].address, "another", 5.0)


async def what_goes_in_at_one_broker_comes_out_at_another(store: Rabbitmq, cluster: Cluster) -> None:
    for kind in ("quorum", "classic"):
        first, second = (client_of(store, cluster, name, kind) for name in ("n1", "n2"))
        assert await outcome(second, "dequeue", kind) is None
        for element in (1, 2, 3):
            assert await outcome(first, "enqueue", kind, element) == element
        assert [await outcome(second, "dequeue", kind) for _ in range(4)] == [1, 2, 3, None]
        assert await outcome(first, "enqueue", kind, 4) == 4
        for client in (first, second):
            await client.close()


async def a_killed_broker_is_back_and_a_minority_confirms_nothing(store: Rabbitmq, cluster: Cluster) -> None:
    client = client_of(store, cluster, "n1")
    await client.open()
    assert await outcome(client, "enqueue", "quorum", 5) == 5
    others = ["n2", "n3"]
    await cluster.on_each(others, lambda node: run_tool(node, ask(process.kill)))
    assert await outcome(client, "enqueue", "quorum", 6) != 6
    assert await outcome(client_of(store, cluster, "n2"), "enqueue", "quorum", 7) == Failed.__name__
    await cluster.on_each(others, lambda node: store.start(cluster, node))
    await wait_until(lambda: store.ready(cluster), seconds=90, what="all brokers serving", every=0.5)
    left = []
    for _ in range(3):
        left.append(await outcome(client_of(store, cluster, "n3"), "dequeue", "quorum"))
    assert left[:2] == [4, 5]
    assert left[2] in (None, 6)


async def rabbitmq_keeps_its_promises(cluster: Cluster) -> None:
    store = Rabbitmq(Rabbitmq.Options())
    await asyncio.gather(*(store.start(cluster, node) for node in cluster.nodes))
    await store.form(cluster)
    await wait_until(lambda: store.ready(cluster), seconds=60, what="all brokers serving", every=0.5)
    await nobody_else_is_let_in(store, cluster)
    await what_goes_in_at_one_broker_comes_out_at_another(store, cluster)
    await a_killed_broker_is_back_and_a_minority_confirms_nothing(store, cluster)


@pytest.mark.needs("local", "rabbitmq")
def test_rabbitmq_keeps_its_promises() -> None:
    on("local", rabbitmq_keeps_its_promises)
