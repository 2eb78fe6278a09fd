"""What a client of ZooKeeper makes of what a server answers, and what is written for a server."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.metadata
import itertools
import json
import re
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.cluster import Cluster, Role, wait_until
from harness.errors import MissingError
from harness.operation import Declined, Failed, Indeterminate, Operation, Served
from harness.targets import zookeeper, zookeeper_session
from harness.targets.zookeeper import Zookeeper
from harness.targets.zookeeper_client import Reads, ZookeeperClient
from harness.targets.zookeeper_session import Session, driver
from tests.unit.test_targets import Blank

errors: Any = driver().exceptions

EPOCH = 3 << 32


class Asked:
    """What one of kazoo's calls returns: an answer that is there at once."""

    def __init__(self, value: Any = None, exception: BaseException | None = None) -> None:
        self.value, self.exception = value, exception

    def rawlink(self, callback: Callable[[Any], None]) -> None:
        callback(self)


class Ensemble:
    """Znodes in memory, spoken to as kazoo's client is; the call ``at`` raises ``wrong``, the first time only."""

    def __init__(self, at: str = "", wrong: BaseException | None = None, held: Mapping[str, str] | None = None) -> None:
        self._at, self._wrong = at, wrong
        self.held: dict[str, list[Any]] = {path: [text.encode(), 0] for path, text in (held or {}).items()}
        self.called: list[str] = []
        self._changes = 0
        self._numbers = itertools.count()

    def _answer(self, what: str, do: Callable[[], Any]) -> Asked:
        self.called.append(what)
        if what == self._at and self._wrong is not None:
            wrong, self._wrong = self._wrong, None
            return Asked(exception=wrong)
        try:
            return Asked(do())
        except Exception as error:
            return Asked(exception=error)

    def _stat(self, version: int) -> Any:
        self._changes += 1
        return SimpleNamespace(version=version, czxid=EPOCH + self._changes, mzxid=EPOCH + self._changes)

    def _node(self, path: str) -> list[Any]:
        if path not in self.held:
            raise errors.NoNodeError
        return self.held[path]

    def sync_async(self, path: str) -> Asked:
        return self._answer("sync", lambda: path)

    def get_async(self, path: str) -> Asked:
        return self._answer("get", lambda: (self._node(path)[0], self._stat(self._node(path)[1])))

    def set_async(self, path: str, data: bytes, version: int) -> Asked:
        def do() -> Any:
            node = self._node(path)
            if version not in (-1, node[1]):
                raise errors.BadVersionError
            node[:] = [data, node[1] + 1]
            return self._stat(node[1])

        return self._answer("set", do)

    def create_async(self, path: str, data: bytes, include_data: bool, **how: bool) -> Asked:
        def do() -> Any:
            parent = path.rpartition("/")[0]
            if parent and parent not in self.held:
                raise errors.NoNodeError
            made = f"{path}{next(self._numbers):010d}" if how.get("sequence") else path
            if made in self.held:
                raise errors.NodeExistsError
            self.held[made] = [data, 0]
            return made, self._stat(0)

        return self._answer("create", do)

    def delete_async(self, path: str) -> Asked:
        return self._answer("delete", lambda: self._node(path) and bool(self.held.pop(path)))

    def get_children_async(self, path: str) -> Asked:
        def do() -> list[str]:
            self._node(path)
            return [name.rpartition("/")[2] for name in self.held if name.rpartition("/")[0] == path]

        return self._answer("get_children", do)

    def transaction(self) -> Any:
        parts: list[str] = []
        refused = self._wrong if self._at == "multi" else None
        results: list[Any] = [errors.RolledBackError(), refused] if refused is not None else [self._stat(1)]
        return SimpleNamespace(
            check=lambda path, version: parts.append(f"check {path} {version}"),
            set_data=lambda path, data, version: parts.append(f"set {path} {data.decode()} {version}"),
            create=lambda path, data=b"": parts.append(f"create {path} {data.decode()}"),
            delete=lambda path: parts.append(f"delete {path}"),
            commit_async=lambda: self._answer(", ".join(parts), lambda: results),
        )


def client_of(ensemble: Ensemble, *, reads: Reads = "sync") -> ZookeeperClient:
    client = ZookeeperClient(("n2", "10.0.0.2"), 1.0, "secret", reads=reads, grace=1.0)
    session = SimpleNamespace(kazoo=ensemble, lives=True, seconds=3.0, close=lambda: None)
    client._session = cast(Any, session)
    return client


async def outcome(ensemble: Ensemble, f: str, value: Any = None, *, reads: Reads = "sync") -> Any:
    return await client_of(ensemble, reads=reads).invoke(Operation(f, "k", value))


def test_every_workload_that_is_named_is_one() -> None:
    assert Zookeeper.workloads <= {
        entry.name for entry in importlib.metadata.entry_points(group="splitbrain.workloads")
    }


async def test_a_read_follows_a_sync_where_that_is_asked_for() -> None:
    one = Ensemble(held={"/k": "5"})
    assert await outcome(one, "read") == Served(5, by="n2")
    assert one.called == ["sync", "get"]
    one = Ensemble(held={"/k": "5"})
    assert await outcome(one, "read", reads="local") == Served(5, by="n2")
    assert await outcome(one, "read-local") == Served(5, by="n2")
    assert one.called == ["get", "get"]
    assert await outcome(one, "read", reads="write") == Served(5, by="n2")
    assert one.called[2:] == ["set", "create", "get"]
    with pytest.raises(Failed):
        await outcome(Ensemble("create", LOSS, {"/k": "5"}), "read", reads="write")


async def test_what_is_not_there_is_read_as_nothing_and_made_by_a_write() -> None:
    one = Ensemble()
    assert (await outcome(one, "read")).value is None
    assert (await outcome(one, "read-list")).value == []
    assert (await outcome(one, "members")).value == []
    assert await outcome(one, "write", 4) == Served(4, by="n2", term=3)
    assert one.held["/k"] == [b"4", 0]
    assert await outcome(one, "write", 5) == Served(5, by="n2", term=3)
    assert one.held["/k"] == [b"5", 1]


LOSS = errors.ConnectionLoss()
EXPIRED = errors.SessionExpiredError()


@pytest.mark.parametrize(
    ("f", "value", "at", "wrong", "raised"),
    [
        ("read", None, "get", LOSS, Failed),
        ("read", None, "sync", EXPIRED, Failed),
        ("write", 6, "set", LOSS, Indeterminate),
        ("write", 6, "set", EXPIRED, Indeterminate),
        ("write", 6, "set", errors.OperationTimeoutError(), Indeterminate),
        ("write", 6, "set", TimeoutError(), Indeterminate),
        ("write", 6, "set", RuntimeError("of kazoo's own"), Indeterminate),
        ("write", 6, "set", errors.NoAuthError(), Failed),
        ("cas", [5, 6], "get", LOSS, Failed),
        ("cas", [5, 6], "set", LOSS, Indeterminate),
        ("cas", [5, 6], "set", errors.BadVersionError(), Declined),
        ("cas", [7, 6], "", None, Declined),
        ("increment", 6, "get", LOSS, Failed),
        ("increment", 6, "set", LOSS, Indeterminate),
        ("remove", 6, "", None, Declined),
        ("remove", 6, "delete", LOSS, Indeterminate),
        ("txn", [["w", "k", 6]], "multi", errors.BadVersionError(), Declined),
        ("txn", [["w", "k", 6]], "multi", errors.NodeExistsError(), Declined),
        ("txn", [["w", "k", 6]], "multi", LOSS, Indeterminate),
        ("release", 6, "", None, Declined),
        ("write-held", [6, 1], "", None, Declined),
    ],
)
async def test_only_what_is_certain_is_a_failure(
    f: str, value: Any, at: str, wrong: BaseException | None, raised: type[BaseException]
) -> None:
    one = Ensemble(at, wrong, {"/k": "5"})
    with pytest.raises(raised) as caught:
        await outcome(one, f, value)
    assert type(caught.value) is raised
    assert one.held["/k"] == [b"5", 0]


@pytest.mark.parametrize("wrong", [LOSS, TimeoutError(), errors.NoNodeError()])
async def test_a_session_is_given_up_once_an_answer_was_lost(wrong: BaseException) -> None:
    closed: list[bool] = []
    client = client_of(Ensemble("set", wrong, {"/k": "5"}))
    cast(Any, client._session).close = lambda: closed.append(True)
    client._held["/other"] = "/other/0"
    told = isinstance(wrong, errors.NoNodeError)
    try:
        await client.invoke(Operation("write", "k", 6))
    except Indeterminate:
        assert not told
    except Failed:
        assert told
    assert closed == [] if told else [True]
    assert bool(client._held) == told


class Accepting:
    """A server that gives sessions to those who connect, and answers nothing else."""

    def __init__(self) -> None:
        self.sessions = 0
        self._open: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            if (begin := await reader.readexactly(4)) == b"srvr":
                writer.write(b"Zxid: 0x4\nMode: standalone\n")
                writer.close()
                return
            await reader.readexactly(struct.unpack(">i", begin)[0])
            self.sessions += 1
            told = struct.pack(">iiqi16sb", 0, 60_000, self.sessions, 16, b"secret", 0)
            writer.write(struct.pack(">i", len(told)) + told)
            while True:
                asked = await reader.readexactly(struct.unpack(">i", await reader.readexactly(4))[0])
                if asked.startswith(struct.pack(">i", -4)):  # who it is
                    writer.write(struct.pack(">iiqi", 16, -4, 0, 0))

    def drop(self) -> None:
        """End all connections, as a network does that is cut for long."""
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()


@pytest.fixture
async def accepting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Accepting]:
    one = Accepting()
    async with await asyncio.start_server(one.serve, "127.0.0.1", 0) as server:
        monkeypatch.setattr(zookeeper_session, "CLIENT_PORT", server.sockets[0].getsockname()[1])
        yield one
        one.drop()


async def over(session: Session) -> None:
    async def is_closed() -> bool:
        return bool(session.kazoo.client_state == "CLOSED")

    await wait_until(is_closed, seconds=20, what="the end of a session that has lost its connection")


async def test_a_session_ends_with_its_connection(accepting: Accepting) -> None:
    session = Session("127.0.0.1", "secret", 60.0)
    await session.open(20.0)
    assert session.lives
    accepting.drop()
    await over(session)
    assert not session.lives
    assert accepting.sessions == 1, "nobody has connected again"
    session.close()


async def test_who_has_lost_its_connection_holds_no_lock(accepting: Accepting) -> None:
    client = ZookeeperClient(("n2", "127.0.0.1"), 20.0, "secret", reads="sync", grace=1.0)
    await client.open()
    client._held["/k"] = "/k/0000000004"
    assert client._session is not None
    first = client._session
    accepting.drop()
    await over(first)
    with pytest.raises(Declined, match="not held by this session"):
        await client.invoke(Operation("write-held", "k", [4, 1]))
    assert client._session is not first
    await client.close()


async def test_a_change_of_what_was_read_is_tried_again_where_others_were_faster() -> None:
    one = Ensemble("set", errors.BadVersionError(), {"/k": "[1]"})
    assert await outcome(one, "append", 2) == Served(2, by="n2", term=3)
    assert one.called == ["get", "set", "get", "set"]
    assert json.loads(one.held["/k"][0]) == [1, 2]


async def test_a_transaction_checks_everything_that_it_has_read() -> None:
    one = Ensemble(held={"/a": "[1]", "/b": "[2]"})
    steps = [["r", "a", None], ["append", "b", 5], ["append", "c", 6], ["r", "d", None]]
    answer = await outcome(one, "txn", steps)
    assert answer == Served([["r", "a", [1]], *steps[1:3], ["r", "d", None]], by="n2", term=3)
    assert one.called[-1] == "check /a 0, set /b [2, 5] 0, create /c [6], create /d , delete /d"


async def test_a_lock_is_held_by_who_stands_first() -> None:
    one = Ensemble()
    holder, other = client_of(one), client_of(one)
    token = (await holder.invoke(Operation("acquire", "k", 2.0))).value
    assert (await other.invoke(Operation("acquire", "k", 2.0))).value is False
    assert [path for path in one.held if path.startswith("/k/")] == [f"/k/{token:010d}"]
    with pytest.raises(Declined):
        await other.invoke(Operation("write-fenced", "k", [token, 1]))
    assert (await holder.invoke(Operation("write-fenced", "k", [token, 2]))).value == [token, 2]
    assert one.called[-1] == f"check /k/{token:010d} 0, create /k-held {token} 2"
    await holder.invoke(Operation("release", "k", token))
    after = (await other.invoke(Operation("acquire", "k", 2.0))).value
    assert after > token


async def test_a_missing_driver_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    why = "it is spoken to through kazoo, which is not installed: pip install 'splitbrain[zookeeper]'"
    assert Zookeeper(Zookeeper.Options()).unfit_for("register") == why
    with pytest.raises(MissingError, match="pip install"):
        zookeeper_session.driver()


class Shown(Blank):
    """A node that keeps what is written, and has or lacks the servers' jar."""

    def __init__(self, code: int = 0) -> None:
        super().__init__()
        self.files: dict[str, str] = {}
        self.argv: list[str] = []
        self._code = code

    async def exec(self, argv: Any, *, timeout: float = 30.0) -> Any:
        return SimpleNamespace(code=self._code)

    async def write(self, path: str, data: bytes) -> None:
        self.files[path.rpartition("/")[2]] = data.decode()

    async def start(self, name: str, argv: Any, env: Any = None) -> None:
        self.argv = [*argv, *(env or ())]


def cluster_of(node: Shown) -> Cluster:
    return Cluster(cast(Any, SimpleNamespace(name="local", real_time=True)), [cast(Any, node)], 0)


async def test_passwords_are_in_no_argument_and_at_most_in_one_file() -> None:
    node, store = Shown(), Zookeeper(Zookeeper.Options(force_sync=False))
    cluster = cluster_of(node)
    await store.start(cluster, cluster.nodes[0])
    for secret in (store.password, store._peers):
        assert secret not in " ".join(node.argv)
    assert {name for name, text in node.files.items() if store._peers in text} == {"jaas.conf"}
    assert not any(store.password in text for text in node.files.values())
    written = node.files["zoo.cfg"].splitlines()
    for line in ("clientPortAddress=10.0.0.1", "admin.enableServer=false", "forceSync=no", "tickTime=500"):
        assert line in written
    assert "server.1=10.0.0.1:2888:3888" in written


async def test_a_node_without_the_servers_is_told_of() -> None:
    cluster = cluster_of(Shown(1))
    with pytest.raises(MissingError, match="n1: apt install zookeeper"):
        await Zookeeper(Zookeeper.Options()).start(cluster, cluster.nodes[0])


PROPOSED = "Proposal sizes last/min/max"


@pytest.mark.parametrize(
    ("said", "role"),
    [
        ({"Mode": "leader", "Zxid": "0x300000004", PROPOSED: "92/48/92"}, Role("n1", "primary", 3)),
        ({"Mode": "leader", "Zxid": "0x300000004", PROPOSED: "-1/-1/-1"}, Role("n1", "primary")),  # its predecessor's?
        ({"Mode": "follower", "Zxid": "0x300000004"}, Role("n1", "replica")),
        ({"Mode": "standalone", "Zxid": "0x4"}, Role("n1", "primary")),
        ({}, Role("n1", "candidate")),
    ],
)
def test_what_a_server_says_of_itself(said: dict[str, str], role: Role) -> None:
    assert zookeeper._role("n1", said) == role


async def test_the_term_is_of_an_answer_that_was_given_after_a_proposal(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"Mode": "leader", "Zxid": "0x300000004", PROPOSED: "92/48/92"}
    answers = [first, {**first, "Zxid": "0x400000001"}]

    async def status(_: str) -> dict[str, str]:
        return answers.pop(0)

    monkeypatch.setattr(zookeeper, "status", status)
    assert await Zookeeper(Zookeeper.Options()).roles(cluster_of(Shown())) == [Role("n1", "primary", 4)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        # What it calls severe is the end of a thread whose server has lost its leader, and begins anew.
        ("[FollowerRequestProcessor:1] ERROR CriticalThread - Severe unrecoverable error, from thread", set()),
        ("# A fatal error has been detected by the Java Runtime Environment:", {"panic"}),
        ("java.lang.OutOfMemoryError: Java heap space", {"out of memory"}),
        ("2026-11-28 [main] INFO org.apache.zookeeper.server.ZooKeeperServer - minSessionTimeout set to 1 ms", set()),
    ],
)  # fmt: skip
def test_which_lines_of_its_log_are_anomalies(line: str, found: set[str]) -> None:
    assert {kind for kind, pattern in Zookeeper.log_patterns.items() if re.search(pattern, line)} == found
