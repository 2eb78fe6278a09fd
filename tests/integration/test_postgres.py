"""PostgreSQL on nodes: levels of isolation, what is certain of lost answers, replicas, and who is let in."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import run_tool
from harness.environments.tools import ask
from harness.faults import process
from harness.operation import Declined, Failed, Indeterminate, Operation, Served
from harness.targets.postgres import Postgres
from harness.targets.postgres_client import PostgresClient, connect
from tests.integration.inside import on
from tests.integration.test_passwords import assert_hidden

Command = Callable[..., "subprocess.CompletedProcess[str]"]

PAIRS = 25
MOST_PAIRS = 2000


def txn(*steps: list[Any]) -> Operation:
    return Operation("txn", None, list(steps))


async def outcome(client: PostgresClient, *steps: list[Any]) -> Any:
    """What a transaction answered, or the name of what it raised."""
    try:
        answer = await client.invoke(txn(*steps))
    except (Failed, Indeterminate) as error:
        return type(error).__name__
    assert isinstance(answer, Served)
    return answer.value


async def both(clients: Sequence[PostgresClient], one: list[list[Any]], other: list[list[Any]]) -> list[Any]:
    """Two transactions at once, by two clients."""
    return list(await asyncio.gather(outcome(clients[0], *one), outcome(clients[1], *other)))


async def started(store: Postgres, cluster: Cluster) -> None:
    await asyncio.gather(*(store.start(cluster, node) for node in cluster.nodes))
    await store.form(cluster)


def clients_of(store: Postgres, cluster: Cluster, **options: Any) -> list[PostgresClient]:
    """Two clients of the first node, and one of the second."""
    primary, replica = cluster.nodes[:2]
    return [
        PostgresClient((node.name, node.address), (primary.name, primary.address), 2.0, store.password, **options)
        for node in (primary, primary, replica)
    ]


async def each_level_allows_what_it_is_known_for(store: Postgres, cluster: Cluster) -> None:
    skewed, lost = {}, {}
    for number, level in enumerate(("serializable", "repeatable-read", "read-committed")):
        pair = clients_of(store, cluster, isolation=level)[:2]
        for client in pair:
            await client.open()
        skewed[level] = lost[level] = 0
        for turn in range(MOST_PAIRS):
            met = (level == "serializable" or skewed[level]) and (level != "read-committed" or lost[level])
            if turn >= PAIRS and met:
                break  # what a level allows needs two that meet, which is by chance
            key = 10_000 * number + 2 * turn
            reads = [["r", key, None], ["r", key + 1, None]]
            answers = await both(pair, [*reads, ["w", key, 1]], [*reads, ["w", key + 1, 1]])
            skewed[level] += answers == [[*reads, ["w", key, 1]], [*reads, ["w", key + 1, 1]]]
            key += 5_000
            answers = await both(pair, [["r", key, None], ["w", key, 1]], [["r", key, None], ["w", key, 2]])
            lost[level] += all(isinstance(answer, list) and answer[0][2] is None for answer in answers)
        for client in pair:
            await client.close()
    assert (skewed["serializable"], lost["serializable"], lost["repeatable-read"]) == (0, 0, 0)
    assert skewed["repeatable-read"] > 0
    assert skewed["read-committed"] > 0
    assert lost["read-committed"] > 0


async def a_replica_answers_what_it_knows(store: Postgres, cluster: Cluster) -> None:
    client = clients_of(store, cluster, any_node=True)[2]
    primary, replica = cluster.nodes[:2]
    await client.invoke(txn(["append", "a", 1]))
    link = await connect(replica.address, store.password, 5.0)

    async def arrived() -> bool:
        return bool(await outcome(client, ["r", "a", None]) == [["r", "a", [1]]])

    await wait_until(arrived, seconds=20, what="the first element at the replica")
    await link.execute("SELECT pg_wal_replay_pause()")

    async def stands() -> bool:
        return bool(await link.fetchval("SELECT pg_get_wal_replay_pause_state()") == "paused")

    await wait_until(stands, seconds=20, what="the replica standing still")
    wrote = await client.invoke(txn(["append", "a", 2], ["r", "a", None]))
    assert (wrote.by, wrote.value[1][2]) == (primary.name, [1, 2])
    read = await client.invoke(txn(["r", "a", None], ["r", "b", None]))
    assert (read.by, read.value) == (replica.name, [["r", "a", [1]], ["r", "b", None]])
    await link.execute("SELECT pg_wal_replay_resume()")
    link.terminate()
    await client.close()


async def what_is_certain_is_told(store: Postgres, cluster: Cluster) -> None:
    waiting, other, _ = clients_of(store, cluster, commit="remote_apply")
    for client in (waiting, other):
        await client.open()
    # Replicas that stand still: COMMIT is sent, and its answer does not come.
    replicas = [node.name for node in cluster.nodes[1:]]
    await cluster.on_each(replicas, lambda node: run_tool(node, ask(process.pause)))
    assert await outcome(waiting, ["w", "c", 1]) == "Indeterminate"
    await cluster.on_each(replicas, lambda node: run_tool(node, ask(process.resume)))

    async def there() -> bool:
        return bool(await outcome(other, ["r", "c", None]) == [["r", "c", 1]])

    await wait_until(there, seconds=30, what="what was committed being seen")

    # A primary that is killed while a transaction waits for a lock: nothing was committed.
    link = await connect(cluster.nodes[0].address, store.password, 5.0)
    await link.execute("BEGIN")
    await link.execute("SELECT * FROM held WHERE key = 'c' FOR UPDATE")
    hanging = asyncio.create_task(waiting.invoke(txn(["w", "d", 1], ["w", "c", 2])))
    await asyncio.sleep(0.5)
    await run_tool(cluster.nodes[0], ask(process.kill))
    with pytest.raises(Failed) as raised:
        await hanging
    assert not isinstance(raised.value, Declined)
    assert await outcome(other, ["w", "c", 3]) == "Failed"  # nobody listens
    link.terminate()
    await store.start(cluster, cluster.nodes[0])
    await wait_until(lambda: store.ready(cluster), seconds=60, what="the primary being back")
    assert await outcome(other, ["r", "c", None], ["r", "d", None]) == [["r", "c", 1], ["r", "d", None]]
    for client in (waiting, other):
        await client.close()


async def nobody_else_is_let_in(store: Postgres, cluster: Cluster) -> None:
    for node in cluster.nodes:
        await assert_hidden(node, store.password, {"password", "passwords"}, "postgres")
        sockets = (await node.exec(["ss", "-Hltnp"])).text.splitlines()
        own = [line.split()[3] for line in sockets if '"postgres"' in line]
        assert own == [f"{node.address}:5432"], sockets
    with pytest.raises(Exception, match="password authentication failed"):
        await connect(cluster.nodes[0].address, "another", 5.0)


async def postgres_keeps_its_promises(cluster: Cluster) -> None:
    store = Postgres(Postgres.Options(synchronous=1))
    await started(store, cluster)
    await nobody_else_is_let_in(store, cluster)
    await each_level_allows_what_it_is_known_for(store, cluster)
    await a_replica_answers_what_it_knows(store, cluster)
    await what_is_certain_is_told(store, cluster)
    roles = await store.roles(cluster)
    assert [(role.node, role.role, role.term) for role in roles] == [
        ("n1", "primary", 1), ("n2", "replica", None), ("n3", "replica", None),
    ]  # fmt: skip
    assert len(set((await store.identities(cluster)).values())) == 1

    async def same() -> bool:
        held = await cluster.on_each(["n1", "n2", "n3"], lambda node: store.own_state(cluster, node))
        return bool(held["n1"]) and held["n1"] == held["n2"] == held["n3"]

    await wait_until(same, seconds=20, what="all nodes holding the same")


@pytest.mark.needs("local", "postgres")
def test_postgres_keeps_its_promises() -> None:
    on("local", postgres_keeps_its_promises)


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param("local", marks=pytest.mark.needs("local")),
        pytest.param("docker", marks=pytest.mark.needs("docker")),
    ],
)
@pytest.mark.needs("postgres")
def test_under_faults_serializable_is_serializable(environment: str, splitbrain: Command) -> None:
    done = splitbrain(
        "run", "postgres", "--on", environment, "--workload", "list-append", "--nemesis", "kill,pause",
        "--interval", "3", "--time", "14", "--rate", "100", "--format", "json",
    )  # fmt: skip
    verdict = json.loads(done.stdout)["verdict"]
    assert verdict["parts"]["transactions"]["validity"] == "valid", verdict
    assert verdict["validity"] != "invalid", verdict
    assert verdict["evidence"]["ok"] > 100


@pytest.mark.needs("local", "postgres")
def test_what_postgres_calls_repeatable_read_has_write_skew_and_nothing_worse(splitbrain: Command) -> None:
    done = splitbrain(
        "run", "postgres", "--on", "local", "--nodes", "1", "--workload", "write-skew", "--time", "4",
        "-o", "isolation=repeatable-read", "--format", "json",
    )  # fmt: skip
    verdict = json.loads(done.stdout)["verdict"]
    assert (done.returncode, verdict["validity"]) == (1, "invalid"), verdict
    evidence = verdict["parts"]["transactions"]["evidence"]
    assert {kind.removesuffix("-realtime").removesuffix("-process") for kind in evidence["anomaly_types"]} == {
        "G2-item"
    }
    assert "strong-snapshot-isolation" in evidence["strongest"]
