"""What Patroni is told, and how its clients find out who is primary."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.cluster import Cluster, Role
from harness.errors import NodeError, UsageError
from harness.operation import Failed, Operation, Served
from harness.targets import patroni, postgres_client
from harness.targets.patroni import FollowingClient, Patroni
from tests.unit.test_targets import Blank

NODES = [("n2", "10.0.0.2"), ("n1", "10.0.0.1"), ("n3", "10.0.0.3")]
READ = Operation("read", "k")


class Server:
    """A server that can be a replica or a primary, or out of reach."""

    def __init__(self, name: str, role: str) -> None:
        self.name, self.role = name, role
        self.asked = 0
        self.closed = False

    async def execute(self, query: str, *args: Any) -> str:
        return query.split()[0]

    async def fetchrow(self, query: str, *args: Any) -> dict[str, Any]:
        return {"list": None, "register": self.name}

    async def fetchval(self, query: str) -> bool:
        self.asked += 1
        if self.role == "paused":
            await asyncio.Event().wait()
        return self.role == "replica"

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True

    def add_log_listener(self, listener: Any) -> None: ...

    def remove_log_listener(self, listener: Any) -> None: ...


def following(monkeypatch: pytest.MonkeyPatch, **roles: str) -> tuple[FollowingClient, dict[str, Server]]:
    """A client of n2, and the servers."""
    servers = {name: Server(name, role) for name, role in roles.items()}

    async def connected(address: str, *_: Any, **__: Any) -> Server:
        server = servers[f"n{address[-1]}"]
        if server.role == "dead":
            raise ConnectionRefusedError("refused")
        server.closed = False
        return server

    monkeypatch.setattr(postgres_client, "connect", connected)
    return FollowingClient(NODES, 1.0, "secret"), servers


async def test_its_own_node_is_asked_first_although_another_is_primary_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = following(monkeypatch, n1="primary", n2="primary", n3="replica")
    await client.open()
    assert await client.invoke(READ) == Served("n2", by="n2")


async def test_who_becomes_primary_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    client, servers = following(monkeypatch, n1="primary", n2="replica", n3="replica")
    assert await client.invoke(READ) == Served("n1", by="n1")
    asked = servers["n1"].asked, servers["n3"].asked
    assert await client.invoke(READ) == Served("n1", by="n1")
    assert (servers["n1"].asked, servers["n3"].asked) == asked, "a primary stays one as long as its connection lasts"
    servers["n1"].role, servers["n1"].closed, servers["n3"].role = "dead", True, "primary"
    assert await client.invoke(READ) == Served("n3", by="n3")
    servers["n2"].role = "primary"
    assert await client.invoke(READ) == Served("n2", by="n2")


async def test_one_that_has_started_again_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client, servers = following(monkeypatch, n1="replica", n2="primary", n3="replica")
    assert await client.invoke(READ) == Served("n2", by="n2")
    another = Server("n2", "replica")
    servers["n2"].closed, servers["n2"], servers["n1"].role = True, another, "primary"
    assert await client.invoke(READ) == Served("n1", by="n1")


async def test_without_a_primary_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = following(monkeypatch, n1="dead", n2="replica", n3="replica")
    with pytest.raises(Failed, match="no node that answers is primary"):
        await client.invoke(Operation("write", "k", 1))


async def test_who_searches_for_too_long_has_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    client, servers = following(monkeypatch, n1="paused", n2="paused", n3="paused")
    client._timeout, client._primary = 0.2, NODES[1]
    async with asyncio.timeout(20):
        with pytest.raises(Failed, match=r"no node that answers|no server was found in time"):  # on a busy machine
            await client.invoke(Operation("write", "k", 1))
        assert all(server.closed for server in servers.values()), "an answer that comes late is nobody's"
        monkeypatch.setattr(patroni, "_ASK_SHARE", 100.0)
        for f in ("write", "read-local"):
            with pytest.raises(Failed, match="no server was found in time"):
                await client.invoke(Operation(f, "k", 1))
    assert servers["n2"].closed


async def test_one_node_is_asked_for_so_long_that_others_are_found_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    client, servers = following(monkeypatch, n1="paused", n2="paused", n3="primary")
    client._timeout, client._primary = 3.0, NODES[1]
    assert await client.invoke(Operation("read", "k")) == Served("n3", by="n3")
    assert servers["n3"].asked == 1


async def test_what_a_node_itself_holds_is_asked_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = following(monkeypatch, n1="primary", n2="replica", n3="replica")
    assert await client.invoke(Operation("read-local", "k")) == Served("n2", by="n2")


async def test_patroni_is_told_of_its_own_etcd_and_of_secrets_in_files_only() -> None:
    class Shown(Blank):
        def __init__(self) -> None:
            super().__init__()
            self.files: dict[str, bytes] = {}
            self.argv: list[str] = []

        async def write(self, path: str, data: bytes) -> None:
            self.files[path.rpartition("/")[2]] = data

        async def start(self, name: str, argv: Any, env: Any = None) -> None:
            self.argv += [name, *argv, *(env or ())]

    node = Shown()
    store = Patroni(Patroni.Options(synchronous_mode=True, maximum_lag_on_failover=2))
    environment = SimpleNamespace(name="local", real_time=True, driver={"address": "10.0.0.254"})
    cluster = Cluster(cast(Any, environment), [cast(Any, node)], 0)
    await store.start(cluster, cluster.nodes[0])
    assert ("etcd" in node.argv, "patroni" in node.argv) == (True, True)
    assert store.password not in " ".join(node.argv)
    assert [name for name, data in node.files.items() if store.password.encode() in data] == ["patroni.yml"]
    told = json.loads(node.files["patroni.yml"])
    assert (told["etcd3"]["hosts"], told["etcd3"]["use_proxies"]) == (["10.0.0.1:2379"], True)
    assert (told["restapi"]["listen"], told["restapi"]["verify_client"]) == ("10.0.0.1:8008", "required")
    dynamic = told["bootstrap"]["dcs"]
    assert (dynamic["synchronous_mode"], dynamic["maximum_lag_on_failover"]) == (True, 2 << 20)
    assert told["postgresql"]["pg_hba"] == [
        "host all splitbrain 10.0.0.1/32 scram-sha-256",
        "host all splitbrain 10.0.0.254/32 scram-sha-256",
        "host replication splitbrain 10.0.0.1/32 scram-sha-256",
    ]


def test_options_that_would_have_two_primaries_or_do_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="which is 9"):
        Patroni(Patroni.Options(ttl=8, loop_wait=1, retry_timeout=4))
    zones = {"n1": "a", "n2": "b", "n3": "c"}
    assert "is true, but" in str(Patroni(Patroni.Options(synchronous_mode_strict=True)).misfit(zones))
    assert "waits for no replica" in str(Patroni(Patroni.Options(synchronous_commit="remote_apply")).misfit(zones))
    assert Patroni(Patroni.Options(synchronous_mode=True, synchronous_mode_strict=True)).misfit(zones) is None


class Ending:
    """A node whose Patroni ends so many times."""

    def __init__(self, ends: int) -> None:
        self.name, self.directory, self.ends, self.started = "n1", "/nowhere", ends, 0

    async def running(self) -> dict[str, bool]:
        return {"etcd": True, "patroni": self.started >= self.ends}

    async def start(self, name: str, argv: Any, env: Any = None) -> None:
        assert name == "patroni"
        self.started += 1


@pytest.mark.parametrize("ends", [0, 2, 3])
async def test_a_first_attempt_that_failed_is_repeated(monkeypatch: pytest.MonkeyPatch, ends: int) -> None:
    node = Ending(ends)
    made: list[str] = []
    cluster = cast(Any, SimpleNamespace(nodes=[node], node=lambda name: name))

    async def ready(*_: Any) -> bool:
        return node.started >= node.ends

    async def roles(*_: Any) -> list[Role]:
        return [Role("n1", "primary")]

    async def tables(_: Any, node: str) -> None:
        made.append(node)

    for name, instead in (("ready", ready), ("roles", roles), ("_make_tables", tables)):
        monkeypatch.setattr(Patroni, name, instead)
    store = Patroni(Patroni.Options())
    if ends < 3:
        await store.form(cluster)
        assert (node.started, made) == (ends, ["n1"])
    else:
        with pytest.raises(NodeError, match="patroni on n1 has ended by itself, 3 times"):
            await store.form(cluster)
