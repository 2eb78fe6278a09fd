"""What a client of RabbitMQ makes of what a broker answers, and what is written for a broker."""

from __future__ import annotations

import asyncio
import importlib
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pamqp.commands import Basic

from harness.cluster import Cluster
from harness.errors import MissingError, UsageError
from harness.operation import Failed, Indeterminate, Operation, Served
from harness.targets import rabbitmq, rabbitmq_client
from harness.targets.rabbitmq import CANARY, Rabbitmq
from harness.targets.rabbitmq_client import RabbitmqClient, driver
from tests.unit.test_targets import Blank

aio_pika: Any = driver()

PUT, TAKE = Operation("enqueue", "q", 5), Operation("dequeue", "q")


class Broker:
    """A connection, its channel, its exchange and its queue in one; ``wrong`` is what a function of it raises."""

    def __init__(self, at: str = "", wrong: BaseException | None = None, holds: bytes | None = None) -> None:
        self._at, self._wrong, self._holds = at, wrong, holds
        self.is_closed = False
        self.name = "q"
        self.did: list[str] = []
        self.given: dict[str, Any] = {}

    @property
    def default_exchange(self) -> Broker:
        return self

    def _do(self, what: str, **given: Any) -> None:
        self.did.append(what)
        self.given |= given
        if what == self._at and self._wrong is not None:
            raise self._wrong

    async def channel(self, **given: Any) -> Broker:
        self._do("channel", **given)
        return self

    async def declare_queue(self, name: str, **given: Any) -> Broker:
        self._do("declare", queue=name, **given)
        return self

    async def publish(self, message: Any, **given: Any) -> None:
        self._do("publish", message=message, **given)

    async def get(self, **given: Any) -> Any:
        self._do("get", **given)
        return None if self._holds is None else SimpleNamespace(body=self._holds)

    async def close(self) -> None:
        self.is_closed = True


async def done(broker: Broker, operation: Operation, monkeypatch: pytest.MonkeyPatch) -> Any:
    async def connected(*_: Any) -> Broker:
        return broker

    monkeypatch.setattr(rabbitmq_client, "connect", connected)
    client = RabbitmqClient(("n2", "10.0.0.2"), 1.0, "secret", "quorum")
    return await client.invoke(operation)


async def test_what_is_put_is_durable_and_what_is_taken_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker()
    assert await done(broker, PUT, monkeypatch) == Served(5, by="n2")
    assert broker.did == ["channel", "declare", "publish"]
    given = broker.given
    assert (given["publisher_confirms"], given["mandatory"], given["durable"]) == (True, True, True)
    assert given["arguments"] == {"x-queue-type": "quorum"}
    assert (given["message"].body, given["message"].delivery_mode) == (b"5", aio_pika.DeliveryMode.PERSISTENT)
    broker = Broker(holds=b"5")
    assert await done(broker, TAKE, monkeypatch) == Served(5, by="n2")
    assert broker.given["no_ack"] is True
    assert await done(Broker(), TAKE, monkeypatch) == Served(None, by="n2")


RESET = ConnectionResetError("reset")
CLOSED = aio_pika.exceptions.ChannelInvalidStateError("closed")
NO_ROUTE: Any = Basic.Return(312, "NO_ROUTE", "", "q")
CAME_BACK = aio_pika.exceptions.PublishError(SimpleNamespace(delivery=NO_ROUTE, delivery_tag=1), NO_ROUTE)
REFUSED = aio_pika.exceptions.DeliveryError(None, Basic.Nack(1))


@pytest.mark.parametrize(
    ("at", "wrong", "operation", "raised"),
    [
        ("channel", RESET, PUT, Failed),
        ("declare", CLOSED, PUT, Failed),
        ("declare", TimeoutError(), TAKE, Failed),
        ("publish", CAME_BACK, PUT, Failed),
        ("publish", REFUSED, PUT, Indeterminate),
        ("publish", CLOSED, PUT, type(CLOSED)),
        ("publish", TimeoutError(), PUT, TimeoutError),
        ("get", CLOSED, TAKE, type(CLOSED)),
        ("get", RESET, TAKE, ConnectionResetError),
        ("", None, Operation("jump", "q"), Failed),
    ],
)
async def test_only_what_is_certain_is_a_failure(
    at: str, wrong: BaseException, operation: Operation, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(at, wrong)
    with pytest.raises(raised) as caught:
        await done(broker, operation, monkeypatch)
    assert type(caught.value) is raised


async def test_a_queue_is_declared_once_by_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker()

    async def connected(*_: Any) -> Broker:
        broker.is_closed = False
        return broker

    monkeypatch.setattr(rabbitmq_client, "connect", connected)
    client = RabbitmqClient(("n2", "10.0.0.2"), 1.0, "secret", "classic")
    for _ in range(2):
        await client.invoke(TAKE)
    await client.close()
    await client.invoke(TAKE)
    assert broker.did.count("declare") == 2


async def test_what_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Broker):
        async def get(self, **given: Any) -> Any:
            await asyncio.Event().wait()

    client = RabbitmqClient(("n2", "10.0.0.2"), 0.05, "secret", "quorum")

    async def connected(*_: Any) -> Broker:
        return Silent()

    monkeypatch.setattr(rabbitmq_client, "connect", connected)
    with pytest.raises(TimeoutError):
        await client.invoke(TAKE)


async def test_a_missing_driver_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    why = "it is spoken to through aio-pika, which is not installed: pip install 'splitbrain[rabbitmq]'"
    assert Rabbitmq(Rabbitmq.Options()).unfit_for("queue") == why
    with pytest.raises(MissingError, match="pip install"):
        driver()


async def test_secrets_are_in_one_file_each_and_a_broker_listens_on_its_own_address() -> None:
    class Shown(Blank):
        def __init__(self) -> None:
            super().__init__()
            self.files: dict[str, str] = {}
            self.argv: list[str] = []
            self.env: dict[str, str] = {}

        async def write(self, path: str, data: bytes) -> None:
            self.files[path.rpartition("/")[2]] = data.decode()

        async def start(self, name: str, argv: Any, env: Any = None) -> None:
            self.argv, self.env = argv, env

    node = Shown()
    store = Rabbitmq(Rabbitmq.Options(cluster_partition_handling="autoheal", net_ticktime=7))
    cluster = Cluster(cast(Any, SimpleNamespace(name="local", real_time=True)), [cast(Any, node)], 0)
    await store.start(cluster, cluster.nodes[0])
    for secret, file in ((store.password, "rabbitmq.conf"), (store.cookie, ".erlang.cookie")):
        assert {name for name, text in node.files.items() if secret in text} == {file}
        assert secret not in " ".join([*node.argv, *node.env.values()])
    conf = node.files["rabbitmq.conf"].splitlines()
    assert {
        "listeners.tcp.1 = 10.0.0.1:5672",
        "cluster_partition_handling = autoheal",
        "net_ticktime = 7",
        "cluster_formation.classic_config.nodes.1 = rabbit@10.0.0.1",
    } <= set(conf)
    assert node.env["ERL_EPMD_ADDRESS"] == "10.0.0.1"
    assert "inet_dist_use_interface {10,0,0,1}" in node.env["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]


class Member:
    """A broker that shares its queues with the others of its cluster; a connection and a channel in one."""

    def __init__(self, queues: set[str]) -> None:
        self._queues = queues

    async def channel(self) -> Member:
        return self

    async def declare_queue(self, name: str, *, passive: bool = False, **_: Any) -> Member:
        if passive and name not in self._queues:
            raise aio_pika.exceptions.ChannelNotFoundEntity("no queue")
        self._queues.add(name)
        return self

    async def purge(self) -> None: ...

    async def queue_delete(self, name: str) -> None:
        self._queues.discard(name)

    async def close(self) -> None: ...


@pytest.mark.parametrize("alone", [[], [1], [3]])
async def test_brokers_that_began_apart_are_not_in_service(alone: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    shared = {f"{CANARY}-n{number}" for number in (1, 2, 3)}
    queues = {f"10.0.0.{number}": set(shared) if number in alone else shared for number in (1, 2, 3)}

    async def connected(address: str, *_: Any) -> Member:
        return Member(queues[address])

    monkeypatch.setattr(rabbitmq, "connect", connected)
    nodes = [SimpleNamespace(name=f"n{number}", address=f"10.0.0.{number}") for number in (1, 2, 3)]
    cluster = Cluster(cast(Any, SimpleNamespace(name="local", real_time=True)), cast(Any, nodes), 0)
    assert await Rabbitmq(Rabbitmq.Options()).ready(cluster) == (not alone)
    assert all(len(held) == 3 for held in queues.values()), "what was made to be seen is deleted"


async def test_hosts_on_which_a_name_server_would_be_left_are_refused() -> None:
    cluster = Cluster(cast(Any, SimpleNamespace(name="ssh", real_time=True)), [cast(Any, Blank())], 0)
    with pytest.raises(UsageError, match="session"):
        await Rabbitmq(Rabbitmq.Options()).start(cluster, cluster.nodes[0])
