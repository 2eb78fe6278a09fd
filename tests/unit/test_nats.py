"""What a client of NATS makes of what a server answers, and what is written for a server."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.cluster import Cluster, Role
from harness.environments.base import Node
from harness.errors import MissingError
from harness.operation import Declined, Failed, Indeterminate, Operation, Served
from harness.targets import nats_client
from harness.targets.nats import Nats
from harness.targets.nats_client import NatsClient, connect, disconnect, driver, lost
from tests.unit.test_targets import Blank

nats: Any = driver()

WRONG = {"error": {"err_code": 10071, "description": "wrong last sequence: 6"}}
OTHER = {"error": {"err_code": 10077, "description": "maximum messages exceeded"}}
NO_MESSAGE = {"error": {"err_code": 10037, "description": "no message found"}}
ACKNOWLEDGED = {"stream": "splitbrain", "seq": 7}
FOUND = {"message": {"subject": "value.k", "seq": 6, "data": "WzEsMl0="}}
"""The list of 1 and 2."""

WRITE, CAS = Operation("write", "k", 5), Operation("cas", "k", [4, 5])
READ, APPEND = Operation("read", "k"), Operation("append", "k", 3)


class Link:
    """Answers requests in turn, or raises what stands in an answer's place; keeps what it was asked."""

    def __init__(self, *answers: Mapping[str, Any] | BaseException) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, Any, Any]] = []
        self.is_closed = False
        self._transport = None

    async def request(self, subject: str, data: bytes, timeout: float, headers: Any = None) -> Any:
        self.asked.append((subject, data, headers))
        answer = self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return SimpleNamespace(data=json.dumps(answer).encode(), headers=None)

    async def close(self) -> None:
        self.is_closed = True


async def done(link: Link, operation: Operation, monkeypatch: pytest.MonkeyPatch, **how: Any) -> Any:
    async def connected(*_: Any) -> Link:
        return link

    async def there(*_: Any) -> None:
        return None

    monkeypatch.setattr(nats_client, "connect", connected)
    monkeypatch.setattr(nats_client, "make", there)
    client = NatsClient(("n2", "10.0.0.2"), 1.0, "somebody", "secret", replicas=3, **how)
    await client.open()
    return await client.invoke(operation)


TIMEOUT, NOBODY = nats.errors.TimeoutError(), nats.errors.NoRespondersError()
CLOSED = nats.errors.ConnectionClosedError()


@pytest.mark.parametrize(
    ("operation", "answers", "raised"),
    [
        (WRITE, [NOBODY], Failed),
        (WRITE, [OTHER], Indeterminate),
        (WRITE, [TIMEOUT], nats.errors.TimeoutError),
        (WRITE, [CLOSED], nats.errors.ConnectionClosedError),
        (READ, [TIMEOUT], Failed),
        (READ, [NOBODY], Failed),
        (READ, [OTHER], Failed),
        (CAS, [TIMEOUT], Failed),  # it was about to be read
        (CAS, [NO_MESSAGE], Declined),
        (CAS, [{"message": {"seq": 6, "data": "OQ=="}}], Declined),
        (CAS, [{"message": {"seq": 6, "data": "NA=="}}, WRONG], Indeterminate),  # who still leads may have taken it
        (CAS, [{"message": {"seq": 6, "data": "NA=="}}, TIMEOUT], nats.errors.TimeoutError),
        (Operation("remove", "s", 1), [TIMEOUT], Failed),
        (Operation("remove", "s", 1), [NO_MESSAGE], Declined),
        (Operation("remove", "s", 1), [FOUND, TIMEOUT], nats.errors.TimeoutError),
        (Operation("remove", "s", 1), [FOUND, OTHER], Indeterminate),
        (Operation("jump", "k"), [], Failed),
    ],
)
async def test_only_what_is_certain_is_a_failure(
    operation: Operation, answers: list[Any], raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(raised) as caught:
        await done(Link(*answers), operation, monkeypatch)
    assert type(caught.value) is raised


async def test_an_update_is_on_condition_of_what_was_read_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link(FOUND, WRONG, {"message": {"seq": 8, "data": "WzEsMiw5XQ=="}}, {"seq": 9})
    assert await done(link, APPEND, monkeypatch, appends="update") == Served(3, by="n2")
    published = [(data, headers) for subject, data, headers in link.asked if subject == "value.k"]
    assert published == [
        (b"[1, 2, 3]", {"Nats-Expected-Last-Subject-Sequence": "6"}),
        (b"[1, 2, 9, 3]", {"Nats-Expected-Last-Subject-Sequence": "8"}),
    ]
    link = Link(NO_MESSAGE, ACKNOWLEDGED)
    await done(link, APPEND, monkeypatch, appends="update")
    assert link.asked[1] == ("value.k", b"[3]", {"Nats-Expected-Last-Subject-Sequence": "0"})


@pytest.mark.parametrize("answers", [[TIMEOUT], [NO_MESSAGE, NOBODY], [FOUND, NOBODY]])
async def test_an_update_has_failed_where_nothing_was_sent_before(
    answers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Failed):
        await done(Link(*answers), APPEND, monkeypatch, appends="update")


@pytest.mark.parametrize("answers", [[TIMEOUT], [FOUND, NOBODY], [OTHER], [FOUND, WRONG] * nats_client._TRIES])
async def test_an_update_that_was_refused_once_is_never_certain(
    answers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Indeterminate):
        await done(Link(FOUND, WRONG, *answers), APPEND, monkeypatch, appends="update")


async def test_an_update_that_one_leader_refused_and_another_took_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = Link(FOUND, WRONG, {"message": {"seq": 7, "data": "WzEsMiwzXQ=="}})
    assert await done(link, APPEND, monkeypatch, appends="update") == Served(3, by="n2")
    assert [subject for subject, _, _ in link.asked].count("value.k") == 1


async def test_no_socket_stays_open_where_a_server_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def stand_still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        ended.set()

    async with await asyncio.start_server(stand_still, "127.0.0.1", 0) as server:
        monkeypatch.setattr(nats_client, "PORT", server.sockets[0].getsockname()[1])
        with pytest.raises(lost()):
            await connect("127.0.0.1", "somebody", "secret", 0.1)
        await asyncio.wait_for(ended.wait(), 20)


async def test_a_connection_that_cannot_be_closed_in_time_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    aborted: list[bool] = []

    class Full(Link):
        async def close(self) -> None:
            await asyncio.Event().wait()

    link = Full()
    writer = SimpleNamespace(transport=SimpleNamespace(abort=lambda: aborted.append(True)))
    link._transport = cast(Any, SimpleNamespace(_io_writer=writer))
    monkeypatch.setattr(nats_client, "_CLOSE_SECONDS", 0.01)
    await disconnect(link)
    assert aborted == [True]


async def test_what_was_published_is_a_message_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link(ACKNOWLEDGED)
    assert await done(link, APPEND, monkeypatch) == Served(3, by="n2")
    assert link.asked == [("list.k", b"3", None)]
    assert await done(Link(ACKNOWLEDGED), Operation("generate", "ids"), monkeypatch) == Served(7, by="n2")
    members = {"state": {"subjects": {"element.s.10": 1, "element.s.9": 2}}}
    assert await done(Link(members), Operation("members", "s"), monkeypatch) == Served([9, 9, 10], by="n2")
    assert await done(Link({"state": {}}), Operation("members", "s"), monkeypatch) == Served([], by="n2")


class Consumed(Link):
    """Delivers these messages to whoever has made a consumer."""

    def __init__(self, known: int, *messages: Any) -> None:
        super().__init__({"state": {"subjects": {"list.k": known}}}, {"name": "c"})
        self._messages = list(messages)
        self.subject = "inbox"

    def new_inbox(self) -> str:
        return self.subject

    async def subscribe(self, _: str) -> Consumed:
        return self

    async def publish(self, *_: Any) -> None:
        """The next message is asked for, or the consumer deleted."""

    async def next_msg(self, timeout: float) -> Any:
        if not self._messages:
            raise TIMEOUT
        return self._messages.pop(0)

    async def unsubscribe(self) -> None:
        """Nobody asks for more."""


def message(subject: str, text: str) -> Any:
    return SimpleNamespace(subject=subject, data=text.encode())


async def test_a_list_is_read_only_where_all_came_that_the_leader_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [message("list.k", "4"), message("list.k", "2")]
    read = Operation("read-list", "k")
    assert await done(Consumed(2, *both), read, monkeypatch) == Served([4, 2], by="n2")
    with pytest.raises(Failed):
        await done(Consumed(3, *both), read, monkeypatch)
    with pytest.raises(Failed):
        await done(Consumed(3, *both, message("inbox", "")), read, monkeypatch)


async def test_who_has_no_stream_serves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link({"error": {"err_code": 10059, "description": "stream not found"}}, OTHER)

    async def connected(*_: Any) -> Link:
        return link

    monkeypatch.setattr(nats_client, "connect", connected)
    client = NatsClient(("n2", "10.0.0.2"), 1.0, "somebody", "secret", replicas=3)
    with pytest.raises(Failed, match="maximum messages"):
        await client.invoke(WRITE)
    assert link.is_closed
    assert [subject for subject, _, _ in link.asked] == [
        "$JS.API.STREAM.INFO.splitbrain",
        "$JS.API.STREAM.CREATE.splitbrain",
    ]


async def test_a_missing_driver_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    why = "it is spoken to through nats-py, which is not installed: pip install 'splitbrain[nats]'"
    assert Nats(Nats.Options()).unfit_for("append") == why
    with pytest.raises(MissingError, match="pip install"):
        driver()


class Shown(Blank):
    """A node that keeps what it was given."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.name, self.address = f"n{number}", f"10.0.0.{number}"
        self.files: dict[str, str] = {}
        self.argv: list[str] = []

    async def write(self, path: str, data: bytes) -> None:
        self.files[path] = data.decode()

    async def start(self, name: str, argv: Any, env: Any = None) -> None:
        self.argv = [*argv, *(env or ())]


def clustered(*nodes: Any) -> Cluster:
    return Cluster(cast(Any, SimpleNamespace(name="local", real_time=True)), nodes, 0)


async def test_passwords_are_in_one_file_and_servers_listen_on_their_own_address() -> None:
    nodes = [Shown(number) for number in (1, 2, 3)]
    store = Nats(Nats.Options())
    await store.start(clustered(*nodes), cast(Node, nodes[0]))
    assert store.password not in " ".join(nodes[0].argv)
    ((path, text),) = nodes[0].files.items()
    assert path == "/data/.splitbrain-keys/nats.conf"
    settings = json.loads(text)
    assert (settings["listen"], settings["cluster"]["listen"]) == ("10.0.0.1:4222", "10.0.0.1:6222")
    assert "http" not in settings
    assert [route.rpartition("@")[2] for route in settings["cluster"]["routes"]] == ["10.0.0.2:6222", "10.0.0.3:6222"]
    await store.start(clustered(nodes[1]), cast(Node, nodes[1]))
    assert "cluster" not in json.loads(nodes[1].files[path])


@pytest.mark.parametrize(
    ("options", "nodes", "why"),
    [
        ({}, 3, None),
        ({"replicas": 1}, 1, None),
        ({"replicas": 2}, 3, "odd"),
        ({"replicas": 5}, 3, "only 3 nodes"),
        ({"replicas": 1}, 2, "two servers"),
        ({}, 2, "two servers"),
    ],
)
def test_streams_that_cannot_be_are_refused(options: dict[str, Any], nodes: int, why: str | None) -> None:
    said = Nats(Nats.Options(**options)).misfit({f"n{number}": "a" for number in range(nodes)})
    assert (said is None) == (why is None)
    assert why is None or why in str(said)


def status(leader: str, meta: str = "n1", *, current: bool = True, last: int = 4) -> dict[str, Any]:
    replicas = [{"name": "n2", "current": current}, {"name": "n3", "current": True}]
    cluster = {"leader": leader, "replicas": replicas}
    stream = {"name": "splitbrain", "cluster": cluster, "state": {"last_seq": last, "messages": last}}
    return {"account_details": [{"stream_detail": [stream]}], "meta_cluster": {"leader": meta, "name": "c"}}


class Told(Nats):
    """Servers that say what they are told to."""

    def __init__(self, said: Mapping[str, dict[str, Any]]) -> None:
        super().__init__(self.Options())
        self._said = said
        self.made = 0

    async def _status(self, node: Node) -> dict[str, Any] | None:
        return self._said.get(node.name)

    async def _make(self, node: Node) -> bool:
        self.made += 1
        return False


@pytest.mark.parametrize(
    ("said", "serves", "made"),
    [
        ({name: status("n1") for name in ("n1", "n2", "n3")}, True, 0),
        ({name: status("n1") for name in ("n1", "n2")}, False, 0),
        ({"n1": status("n1"), "n2": status("n1"), "n3": status("n3")}, False, 0),
        ({"n1": status("n1"), "n2": status("n1"), "n3": status("n1", meta="n3")}, False, 0),
        ({name: status("") for name in ("n1", "n2", "n3")}, False, 0),
        ({name: status("n1", current=False) for name in ("n1", "n2", "n3")}, False, 0),
        ({name: {"meta_cluster": {"leader": "n1"}} for name in ("n1", "n2", "n3")}, False, 1),
    ],
)
async def test_a_store_is_in_service_when_all_agree_and_nobody_is_behind(
    said: Mapping[str, dict[str, Any]], serves: bool, made: int
) -> None:
    store = Told(said)
    assert await store.ready(clustered(*(Shown(number) for number in (1, 2, 3)))) == serves
    assert store.made == made


async def test_each_server_tells_what_it_knows_itself() -> None:
    store = Told({"n1": status("n1"), "n2": status("n1", last=3), "n3": {"meta_cluster": {"name": "c"}}})
    cluster = clustered(*(Shown(number) for number in (1, 2, 3)))
    assert await store.roles(cluster) == [Role("n1", "primary", None, 4), Role("n2", "replica", None, 3)]
    assert await store.identities(cluster) == {"n1": "c", "n2": "c", "n3": "c"}
    assert await store.own_state(cluster, cluster.nodes[2]) is None
    held = await store.own_state(cluster, cluster.nodes[1])
    assert held is not None
    assert held["last_seq"] == "3"


@pytest.mark.parametrize(
    ("cluster", "role"),
    [
        ({"cluster": {"leader": "n1"}}, "primary"),
        ({"cluster": {"leader": "n2"}}, "replica"),
        ({"cluster": {"replicas": []}}, "replica"),  # it knows of no leader
        ({"cluster": {}}, "replica"),
        ({}, "primary"),  # a server alone
    ],
)
async def test_who_knows_of_no_leader_is_none(cluster: dict[str, Any], role: Any) -> None:
    stream = {"name": "splitbrain", "state": {"last_seq": 4}} | cluster
    store = Told({"n1": {"account_details": [{"stream_detail": [stream]}]}})
    assert await store.roles(clustered(Shown(1))) == [Role("n1", role, None, 4)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("[7] 2026/11/28 10:39:52.527906 [WRN] RAFT [BX - S-R3F] Request from follower for index [308] possibly beyond "
         "our last index [489] - malformed or corrupt message", set()),
        ("[7] 2026/11/28 10:39:52.527906 [ERR] Error opening WAL, corrupt entries", {"corrupt file"}),
        ("[7] 2026/11/28 10:39:52.527906 [WRN] Filestore [S] Stream state checksum mismatch", {"corrupt file"}),
        ("panic: runtime error: index out of range", {"panic"}),
        ("[7] 2026/11/28 10:39:52.527906 [WRN] Waiting for routing to be established...", set()),
    ],
)  # fmt: skip
def test_which_lines_of_its_log_are_anomalies(line: str, found: set[str]) -> None:
    assert {kind for kind, pattern in Nats.log_patterns.items() if re.search(pattern, line)} == found
