"""PostgreSQL with Patroni on nodes: another primary takes over, clients find it, and nobody else is let in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.cluster import Cluster, Role, wait_until
from harness.environments.base import run_tool
from harness.environments.tools import ask
from harness.faults import process
from harness.nemeses.pause import Pause
from harness.operation import Failed, Indeterminate, Operation, Served
from harness.targets.patroni import API_PORT, FollowingClient, Patroni
from harness.targets.postgres_client import PORT, connect
from tests.integration.inside import on
from tests.integration.test_passwords import ASK, assert_hidden


def clients(store: Patroni, cluster: Cluster) -> dict[str, FollowingClient]:
    """A client of each node."""
    made = {node.name: store.client(cluster, node, 2.0) for node in cluster.nodes}
    assert all(isinstance(client, FollowingClient) for client in made.values())
    return made  # type: ignore[return-value]


async def primaries(store: Patroni, cluster: Cluster) -> list[Role]:
    return [role for role in await store.roles(cluster) if role.role == "primary"]


async def done(client: FollowingClient, f: str, *arguments: Any) -> Served | None:
    """What an operation answered, if it did."""
    try:
        answer = await client.invoke(Operation(f, *arguments))
    except (Failed, Indeterminate):
        return None
    assert isinstance(answer, Served)
    return answer


async def nobody_else_is_let_in(store: Patroni, cluster: Cluster) -> None:
    (primary,) = await primaries(store, cluster)
    for node in cluster.nodes:
        files = {"patroni.yml"} if node.name == primary.node else {"patroni.yml", "passwords"}
        await assert_hidden(node, store.password, files, "patroni")
    sockets = (await node.exec(["ss", "-Hltn"])).text.splitlines()
    assert {line.split()[3] for line in sockets} == {f"{node.address}:{port}" for port in store.ports}
    own, status = f"{node.directory}/both.pem", f"https://{node.address}:{API_PORT}/patroni"
    keys = f"{node.directory}/.splitbrain-keys"
    await node.exec(["sh", "-c", f"umask 077; cat {keys}/patroni.pem {keys}/patroni.key >{own}"])
    for certificate, answered in ((own, "b'{"), ("", "refused")):
        said = (await node.exec([node.python, "-c", ASK, status, certificate])).text
        assert said.startswith(answered), said
    with pytest.raises(Exception, match="password authentication failed"):
        await connect(node.address, "another", 5.0)
    assert PORT in store.ports


async def every_client_finds_the_primary(store: Patroni, cluster: Cluster) -> None:
    (primary,) = await primaries(store, cluster)
    for number, client in enumerate(clients(store, cluster).values()):
        assert await done(client, "write", "k", number) == Served(number, by=primary.node)
        assert await done(client, "read", "k") == Served(number, by=primary.node)
        await client.close()


async def only_patroni_stands_still(store: Patroni, cluster: Cluster) -> None:
    """What the nemesis pauses, its proof holds against: the server beside it goes on."""
    nemesis = Pause(Pause.Options(pause="primary", pause_only="patroni"))
    plan = {"aim": "primary", "order": [node.name for node in cluster.nodes]}
    (primary,) = await primaries(store, cluster)
    injected = await nemesis.inject(cluster, store, plan)
    assert (await nemesis.prove(cluster, store, injected, 3.0)).holds
    assert injected["paused"] == {primary.node: ["patroni"]}
    states = {
        (server["command"], server["state"])
        for server in await run_tool(cluster.node(primary.node), ask(process.look))
        if server["command"] in ("patroni", "etcd", "postgres")
    }
    assert ("patroni", "T") in states
    assert not {("etcd", "T"), ("postgres", "T")} & states
    client = clients(store, cluster)[primary.node]
    assert await done(client, "write", "k", 7) == Served(7, by=primary.node)
    await client.close()
    healed = await nemesis.heal(cluster, store)
    assert healed["resumed"] == {primary.node: ["patroni"]}


async def another_takes_over(store: Patroni, cluster: Cluster) -> None:
    (first,) = await primaries(store, cluster)
    everybody = clients(store, cluster)
    assert await done(everybody[first.node], "append", "l", 1)
    await run_tool(cluster.node(first.node), ask(process.kill))
    other = next(client for name, client in everybody.items() if name != first.node)

    async def served() -> bool:
        return await done(other, "append", "l", 2) is not None

    await wait_until(served, seconds=30, what="another primary")
    (second,) = await primaries(store, cluster)
    assert second.node != first.node
    assert first.term is not None
    assert second.term is None or second.term > first.term
    await store.start(cluster, cluster.node(first.node))
    await wait_until(lambda: store.ready(cluster), seconds=40, what="the former primary following")
    read = await done(everybody[first.node], "read-list", "l")
    assert read is not None
    assert (read.value, read.by) == ([1, 2], second.node)
    assert {role.role for role in await store.roles(cluster) if role.node != second.node} == {"replica"}
    for client in everybody.values():
        await client.close()


async def patroni_fails_over(cluster: Cluster) -> None:
    options = Patroni.Options(ttl=7, synchronous_mode=True, synchronous_mode_strict=True)
    store = Patroni(options)
    await asyncio.gather(*(store.start(cluster, node) for node in cluster.nodes))
    await store.form(cluster)
    assert len(set((await store.identities(cluster)).values())) == 1
    await nobody_else_is_let_in(store, cluster)
    await every_client_finds_the_primary(store, cluster)
    await only_patroni_stands_still(store, cluster)
    await another_takes_over(store, cluster)


@pytest.mark.needs("local", "postgres", "patroni")
def test_patroni_fails_over() -> None:
    on("local", patroni_fails_over)
