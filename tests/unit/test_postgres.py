"""What a client of PostgreSQL makes of what a server answers, and what is written for a server."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.cluster import Cluster
from harness.errors import MissingError, UsageError
from harness.operation import Declined, Failed, Indeterminate, Operation, Served
from harness.targets import postgres_client
from harness.targets.postgres import Postgres
from harness.targets.postgres_client import PostgresClient, driver
from tests.unit.test_targets import Blank

asyncpg: Any = driver()

WRITE = Operation("txn", None, [["r", 1, None], ["append", 1, 5]])
READ = Operation("txn", None, [["r", 1, None]])
OTHER = Exception("something of asyncpg's own")


class Server:
    """Answers statements as a connection of asyncpg does; ``wrong`` is what it raises, or says, for one of them."""

    def __init__(self, at: str = "", wrong: BaseException | str | None = None, warning: str = "") -> None:
        self._at, self._wrong, self._warning = at, wrong, warning
        self._listeners: list[Callable[[Any, Any], None]] = []
        self.said: list[str] = []
        self.terminated = False

    async def execute(self, query: str, *args: Any) -> str:
        self.said.append(query.split()[0])
        if self._at and query.startswith(self._at):
            if isinstance(self._wrong, BaseException):
                raise self._wrong
            assert self._wrong is not None
            return self._wrong
        if query == "COMMIT" and self._warning:
            for listener in self._listeners:
                listener(self, SimpleNamespace(severity="WARNING", message=self._warning))
        return query.split()[0]

    async def fetchrow(self, query: str, *args: Any) -> dict[str, Any] | None:
        await self.execute(query, *args)
        return {"list": [3, 4], "register": None}

    def is_closed(self) -> bool:
        return self.terminated

    def is_in_transaction(self) -> bool:
        return self.said[-1] != "COMMIT"

    def add_log_listener(self, listener: Callable[[Any, Any], None]) -> None:
        self._listeners.append(listener)

    def remove_log_listener(self, listener: Callable[[Any, Any], None]) -> None:
        self._listeners.remove(listener)

    def terminate(self) -> None:
        self.terminated = True


async def done(server: Server, operation: Operation, monkeypatch: pytest.MonkeyPatch) -> Any:
    async def connected(*_: Any, **__: Any) -> Server:
        return server

    monkeypatch.setattr(postgres_client, "connect", connected)
    client = PostgresClient(("n2", "10.0.0.2"), ("n1", "10.0.0.1"), 1.0, "secret")
    await client.open()
    try:
        return await client.invoke(operation)
    finally:
        assert not server._listeners


async def test_a_committed_transaction_is_answered_with_what_it_read(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    answer = await done(server, WRITE, monkeypatch)
    assert answer == Served([["r", 1, [3, 4]], ["append", 1, 5]], by="n1")
    assert server.said == ["BEGIN", "SELECT", "INSERT", "COMMIT"]


CONFLICT = asyncpg.SerializationError("could not serialize access")
SHUTDOWN = asyncpg.AdminShutdownError("terminating connection")
LOST = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


@pytest.mark.parametrize(
    ("at", "wrong", "operation", "raised", "terminated"),
    [
        ("BEGIN", ConnectionResetError("reset"), WRITE, Failed, False),
        ("INSERT", LOST, WRITE, Failed, False),
        ("INSERT", CONFLICT, WRITE, Declined, False),
        ("INSERT", asyncpg.DeadlockDetectedError("deadlock"), WRITE, Declined, False),
        ("INSERT", asyncpg.OutOfMemoryError("out of shared memory"), WRITE, Failed, False),
        ("COMMIT", CONFLICT, WRITE, Declined, False),
        ("COMMIT", "ROLLBACK", WRITE, Failed, False),
        ("COMMIT", LOST, WRITE, Indeterminate, True),
        ("COMMIT", SHUTDOWN, WRITE, Indeterminate, True),
        ("COMMIT", TimeoutError(), WRITE, Indeterminate, True),
        ("COMMIT", LOST, READ, Failed, True),
        ("COMMIT", OTHER, WRITE, Exception, True),
    ],
)
async def test_only_what_is_certain_is_a_failure(
    at: str,
    wrong: BaseException | str,
    operation: Operation,
    raised: type[BaseException],
    terminated: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for error in (CONFLICT, SHUTDOWN, LOST):  # they are raised several times
        error.__traceback__ = None
    server = Server(at, wrong)
    with pytest.raises(raised) as caught:
        await done(server, operation, monkeypatch)
    assert type(caught.value) is raised
    assert server.terminated == terminated
    assert ("ROLLBACK" in server.said) == (at in ("BEGIN", "INSERT"))


async def test_a_commit_that_has_not_waited_for_replicas_is_not_known_to_last(monkeypatch: pytest.MonkeyPatch) -> None:
    warning = "canceling wait for synchronous replication due to user request"
    with pytest.raises(Indeterminate, match="canceling wait"):
        await done(Server(warning=warning), WRITE, monkeypatch)


async def test_a_missing_driver_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    why = "it is spoken to through asyncpg, which is not installed: pip install 'splitbrain[postgres]'"
    assert Postgres(Postgres.Options()).unfit_for("list-append") == why
    with pytest.raises(MissingError, match="pip install"):
        postgres_client.driver()


async def test_passwords_are_in_no_argument_and_in_two_files() -> None:
    class Shown(Blank):
        def __init__(self) -> None:
            super().__init__()
            self.files: dict[str, str] = {}
            self.argv: list[str] = []

        async def write(self, path: str, data: bytes) -> None:
            self.files[path.rpartition("/")[2]] = data.decode()

        async def start(self, name: str, argv: Any, env: Any = None) -> None:
            self.argv = [*argv, *(env or ())]

    node = Shown()
    store = Postgres(Postgres.Options())
    environment = SimpleNamespace(name="local", real_time=True, driver={"address": "10.0.0.254"})
    cluster = Cluster(cast(Any, environment), [cast(Any, node)], 0)
    await store.start(cluster, cluster.nodes[0])
    assert store.password not in " ".join(node.argv)
    assert {name for name, text in node.files.items() if store.password in text} == {"password", "passwords"}
    assert node.files["pg_hba.conf"].splitlines() == [
        "host all splitbrain 10.0.0.254/32 scram-sha-256",
        "host replication splitbrain 10.0.0.1/32 scram-sha-256",
    ]
    assert "listen_addresses = '10.0.0.1'\n" in node.files["postgresql.conf"]


@pytest.mark.parametrize(
    ("options", "nodes", "why"),
    [
        ({"synchronous": 2}, 2, "2 nodes have 1 replicas"),
        ({"reads": "any"}, 1, "one node has no replicas"),
        ({"synchronous_commit": "remote_apply"}, 3, "it waits for no replica"),
        ({"synchronous_commit": "mixed", "synchronous": 1}, 3, None),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any], nodes: int, why: str | None) -> None:
    said = Postgres(Postgres.Options(**options)).misfit({f"n{number}": "a" for number in range(nodes)})
    assert (said is None) == (why is None)
    assert why is None or why in str(said)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("2026-11-28 02:27:13.126 GMT PANIC:  could not write to file", {"panic"}),
        ("2026-11-28 02:27:13 GMT LOG:  server process (PID 7) was terminated by signal 11: Segmentation fault",
         {"panic", "memory error"}),
        ("2026-11-28 02:27:13 GMT LOG:  server process (PID 7) was terminated by signal 9: Killed", set()),
        ("2026-11-28 02:27:13 GMT ERROR:  invalid page in block 3 of relation base/5/16384", {"corrupt file"}),
        ("2026-11-28 02:27:13 GMT HINT:  If this has occurred more than once some data might be corrupted", set()),
        ("2026-11-28 02:27:13 GMT FATAL:  the database system is starting up", set()),
        ("2026-11-28 02:27:13 GMT LOG:  invalid record length at 0/5055688: wanted 24, got 0", set()),
    ],
)  # fmt: skip
def test_which_lines_of_its_log_are_anomalies(line: str, found: set[str]) -> None:
    assert {kind for kind, pattern in Postgres.log_patterns.items() if re.search(pattern, line)} == found


async def test_hosts_on_which_a_pause_would_miss_processes_are_refused() -> None:
    cluster = Cluster(cast(Any, SimpleNamespace(name="ssh", real_time=True, driver={})), [cast(Any, Blank())], 0)
    with pytest.raises(UsageError, match="session"):
        await Postgres(Postgres.Options()).start(cluster, cluster.nodes[0])


async def test_what_takes_too_long_is_cancelled_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = asyncio.Event()

    class Waiting(Server):
        async def execute(self, query: str, *args: Any) -> str:
            if query == "COMMIT":
                await cancelled.wait()
            if query.startswith("SELECT pg_cancel_backend"):
                assert args == (4711,)
                cancelled.set()
            return await super().execute(query, *args)

        def get_server_pid(self) -> int:
            return 4711

    server = Waiting(warning="canceling wait for synchronous replication due to user request")

    async def connected(*_: Any, **__: Any) -> Server:
        return server

    monkeypatch.setattr(postgres_client, "connect", connected)
    client = PostgresClient(("n1", "10.0.0.1"), ("n1", "10.0.0.1"), 0.2, "secret", cancel=True)
    with pytest.raises(Indeterminate, match="canceling wait"):
        await client.invoke(WRITE)


async def test_who_thinks_does_so_between_reading_and_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()

    async def slept(seconds: float) -> None:
        server.said.append(f"{seconds:g} s")

    async def connected(*_: Any, **__: Any) -> Server:
        return server

    monkeypatch.setattr(postgres_client, "connect", connected)
    client = PostgresClient(("n1", "10.0.0.1"), ("n1", "10.0.0.1"), 1.0, "secret", think=0.5)
    monkeypatch.setattr(asyncio, "sleep", slept)
    await client.invoke(WRITE)
    assert server.said == ["BEGIN", "SELECT", "0.5 s", "INSERT", "COMMIT"]
