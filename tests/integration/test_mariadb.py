"""MariaDB and Galera on nodes: snapshots, reads of other nodes' writes, the end of all servers, and who is let in."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.faults import process
from harness.operation import Declined, Failed, Operation, Served
from harness.targets.mariadb import Mariadb
from harness.targets.mariadb_client import Link, MariadbClient, connect, lost
from tests.integration.inside import on
from tests.integration.test_passwords import assert_hidden

Command = Callable[..., "subprocess.CompletedProcess[str]"]

CHANGED = 1020
READ = "SELECT register FROM held WHERE k = 'a'"
OUR_PORTS = {"3306", "4567"}


def txn(*steps: list[Any]) -> Operation:
    return Operation("txn", None, list(steps))


async def answer(client: MariadbClient, *steps: list[Any]) -> Any:
    """What a transaction answered."""
    served = await client.invoke(txn(*steps))
    assert isinstance(served, Served)
    return served.value


async def restarted(store: Mariadb, cluster: Cluster) -> None:
    await asyncio.gather(*(store.start(cluster, node) for node in cluster.nodes))
    await wait_until(lambda: store.ready(cluster), seconds=90, what="all nodes being in service")


async def nobody_else_is_let_in(store: Mariadb, cluster: Cluster) -> None:
    for node in cluster.nodes:
        await assert_hidden(node, store.password, {"users.sql"}, "mariadbd")
        sockets = (await node.exec(["ss", "-Hltn"])).text.splitlines()
        assert {line.split()[3] for line in sockets} == {f"{node.address}:{port}" for port in OUR_PORTS}
    with pytest.raises(lost(), match="Access denied"):
        await connect(cluster.nodes[0].address, "another", 5.0)


async def a_snapshot_is_kept_where_that_is_asked_for(link: Link, writer: MariadbClient, reader: MariadbClient) -> None:
    """What somebody commits at another node is neither seen nor overwritten by who has a snapshot."""
    for level, kept in (("ON", True), ("OFF", False)):
        await answer(writer, ["w", "a", 1])
        await link.change(f"SET SESSION innodb_snapshot_isolation = {level}")
        await link.change("BEGIN")
        assert await link.fetch(READ) == ((1,),)
        await answer(writer, ["w", "a", 2])
        assert await answer(reader, ["r", "a", None]) == [["r", "a", 2]]  # it has arrived at the node
        assert await link.fetch(READ) == ((1,),)
        if kept:
            with pytest.raises(lost()) as raised:
                await link.change("UPDATE held SET register = register + 10 WHERE k = 'a'")
            assert raised.value.args[0] == CHANGED
            await link.change("ROLLBACK")
            assert await link.fetch(READ) == ((2,),)
        else:
            await link.change("UPDATE held SET register = register + 10 WHERE k = 'a'")
            assert await link.fetch(READ) == ((12,),)  # in the same transaction that has read 1
            await link.change("COMMIT")


async def a_read_waits_for_other_nodes_where_that_is_asked_for(
    behind: Link, writer: MariadbClient, reader: MariadbClient
) -> None:
    await answer(writer, ["w", "a", 3])
    await answer(reader, ["r", "a", None])
    await behind.change("SET SESSION wsrep_sync_wait = 0")
    await behind.change("FLUSH TABLES WITH READ LOCK")  # nothing is applied meanwhile
    await answer(writer, ["w", "a", 4])
    assert await behind.fetch(READ) == ((3,),)
    with pytest.raises(Failed):
        await answer(reader, ["r", "a", None])
    await behind.change("UNLOCK TABLES")
    assert await answer(reader, ["r", "a", None]) == [["r", "a", 4]]


async def every_function_does_what_it_is_for(writer: MariadbClient, reader: MariadbClient) -> None:
    """What one node was told, the other one answers."""

    async def ask_both(f: str, key: str, value: Any = None) -> Any:
        clients = (reader, writer) if f in ("read", "members", "read-list", "balances") else (writer,)
        answers = [(await client.invoke(Operation(f, key, value))).value for client in clients]
        assert answers == answers[:1] * len(clients)
        return answers[0]

    assert [await ask_both(f, "x") for f in ("read", "read-list", "members")] == [None, [], []]
    await ask_both("write", "x", 5)
    await ask_both("cas", "x", [5, 5])
    await ask_both("cas", "x", [5, 6])
    with pytest.raises(Declined):
        await ask_both("cas", "x", [5, 7])
    assert await ask_both("read", "x") == 6
    await ask_both("increment", "y", 4)
    await ask_both("increment", "y", -7)
    assert await ask_both("read", "y") == -3
    for element in (3, 1, 2):
        await ask_both("append", "z", element)
        await ask_both("add", "z", element)
        await ask_both("add", "z", element)
    await ask_both("remove", "z", 1)
    await ask_both("remove", "z", 9)
    assert await ask_both("read-list", "z") == [3, 1, 2]
    assert await ask_both("members", "z") == [2, 3]
    given = [(await client.invoke(Operation("generate", "ids"))).value for client in (writer, reader) * 2]
    assert len(set(given)) == len(given)
    await ask_both("init", "bank", {"a": 10, "b": 10})
    await ask_both("init", "bank", {"a": 99, "b": 99})
    moved = {"from": "a", "to": "b", "amount": 4}
    assert await ask_both("transfer", "bank", moved) == {**moved, "balance": 6}
    assert await ask_both("withdraw", "bank", {"account": "b", "amount": 3}) == {
        "account": "b", "amount": 3, "balance": 11,
    }  # fmt: skip
    await ask_both("deposit", "bank", {"account": "a", "amount": 1})
    for f, value in (("withdraw", {"account": "a", "amount": 8}), ("deposit", {"account": "c", "amount": 8})):
        with pytest.raises(Declined):
            await ask_both(f, "bank", value)
    assert await ask_both("balances", "bank") == {"a": 7, "b": 11}


async def what_was_acknowledged_outlives_all_servers(store: Mariadb, cluster: Cluster, writer: MariadbClient) -> None:
    before = await store.identities(cluster)
    assert len(before) == len(cluster.nodes)
    assert len(set(before.values())) == 1
    for number, orderly in enumerate((0, len(cluster.nodes) - 1), 1):
        await answer(writer, ["append", "b", number])
        asked = [ask(process.terminate if at < orderly else process.kill) for at in range(len(cluster.nodes))]
        await asyncio.gather(*(run_tool(node, end) for node, end in zip(cluster.nodes, asked, strict=True)))
        with pytest.raises(Failed):
            await answer(writer, ["r", "b", None])
        await restarted(store, cluster)
        assert await answer(writer, ["r", "b", None]) == [["r", "b", list(range(1, number + 1))]]
    assert await store.identities(cluster) == before


async def galera_keeps_its_promises(cluster: Cluster) -> None:
    store = Mariadb(Mariadb.Options(isolation="repeatable-read"))
    await asyncio.gather(*(store.start(cluster, node) for node in cluster.nodes))
    await store.form(cluster)
    await nobody_else_is_let_in(store, cluster)
    writer, reader = (MariadbClient(node.name, node.address, 2.0, store.password) for node in cluster.nodes[:2])
    link = await connect(cluster.nodes[1].address, store.password, 5.0)
    await a_snapshot_is_kept_where_that_is_asked_for(link, writer, reader)
    await a_read_waits_for_other_nodes_where_that_is_asked_for(link, writer, reader)
    link.drop()
    await every_function_does_what_it_is_for(writer, reader)
    await what_was_acknowledged_outlives_all_servers(store, cluster, writer)
    assert {role.role for role in await store.roles(cluster)} == {"peer"}

    async def own(node: Node) -> Any:
        return await store.own_state(cluster, node)

    held = await cluster.on_each([node.name for node in cluster.nodes], own)
    everything = {
        "a": "4",
        "b": "1 2",
        "x": "6",
        "y": "-3",
        "z": "3 1 2",
        "z (set)": "2 3",
        "bank/a": "7",
        "bank/b": "11",
    }
    assert list(held.values()) == [everything] * len(cluster.nodes)
    for client in (writer, reader):
        await client.close()


@pytest.mark.needs("local", "mariadb")
def test_galera_keeps_its_promises() -> None:
    on("local", galera_keeps_its_promises)


@pytest.mark.needs("local", "mariadb")
def test_one_server_is_serializable_across_kills(splitbrain: Command) -> None:
    done = splitbrain(
        "run", "mariadb", "--on", "local", "--nodes", "1", "--workload", "list-append", "--nemesis", "kill",
        "--interval", "4", "--time", "8", "--format", "json",
    )  # fmt: skip
    verdict = json.loads(done.stdout)["verdict"]
    assert verdict["parts"]["transactions"]["validity"] == "valid", verdict
    assert verdict["validity"] != "invalid", verdict
    assert verdict["evidence"]["ok"] > 100
