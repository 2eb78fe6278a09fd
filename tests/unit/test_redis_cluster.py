"""Where a client of Redis Cluster goes, what it makes of refusals, and what is written for a server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hiredis import ReplyError

from harness.cluster import Cluster, Role
from harness.operation import Declined, Failed, Indeterminate, Operation, Served
from harness.targets import redis_cluster, redis_cluster_client
from harness.targets.redis_cluster import RedisCluster
from harness.targets.redis_cluster_client import RedisClusterClient
from tests.unit.test_targets import Blank

NAMES = {"10.0.0.1": "n1", "10.0.0.2": "n2"}
MOVED = ReplyError("MOVED 12706 10.0.0.2:6379")


class Nodes:
    """What each node answers, one after the other; an exception is raised, and the last one again and again."""

    def __init__(self, **answers: list[Any]) -> None:
        self._answers = {f"10.0.0.{name[1:]}": list(listed) for name, listed in answers.items()}
        self.said: list[tuple[str, ...]] = []

    async def connect(self, address: str, port: int, timeout: float, password: str | None = None) -> Any:
        if address not in self._answers:
            raise ConnectionRefusedError("refused")

        async def execute_command(*words: Any) -> Any:
            self.said.append((NAMES[address], *map(str, words)))
            left = self._answers[address]
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, BaseException):
                raise answer
            return answer

        async def aclose() -> None:
            """There is nothing to close."""

        return SimpleNamespace(execute_command=execute_command, aclose=aclose)


async def done(nodes: Nodes, operation: Operation, monkeypatch: pytest.MonkeyPatch, wait: int = 0) -> Any:
    monkeypatch.setattr(redis_cluster_client, "connect", nodes.connect)
    client = RedisClusterClient("10.0.0.1", 1.0, wait, "secret", NAMES)
    try:
        return await client.invoke(operation)
    finally:
        await client.close()


async def test_its_own_node_is_asked_first_and_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(n1=[MOVED], n2=["5"])
    assert await done(nodes, Operation("read", "k"), monkeypatch) == Served(5, by="n2")
    assert nodes.said == [("n1", "GET", "k"), ("n2", "GET", "k")]
    nodes = Nodes(n1=["OK"], n2=["OK"])
    assert await done(nodes, Operation("write", "k", 5), monkeypatch) == Served(5, by="n1")


async def test_a_key_that_is_on_its_way_is_asked_for_where_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(n1=[ReplyError("ASK 12706 10.0.0.2:6379")], n2=["OK", "5"])
    assert await done(nodes, Operation("read", "k"), monkeypatch) == Served(5, by="n2")
    assert nodes.said[1:] == [("n2", "ASKING"), ("n2", "GET", "k")]


@pytest.mark.parametrize(
    ("nodes", "raised"),
    [
        (Nodes(n1=[ReplyError("CLUSTERDOWN The cluster is down")]), Failed),
        (Nodes(n1=[MOVED], n2=[ReplyError("MOVED 12706 10.0.0.1:6379")]), Failed),
        (Nodes(n1=[MOVED]), Failed),
        (Nodes(n2=["OK"]), Failed),
        (Nodes(n1=[MOVED], n2=[ConnectionResetError("reset")]), ConnectionResetError),
        (Nodes(n1=[TimeoutError()]), TimeoutError),
        (Nodes(n1=[ReplyError("ERR of another kind")]), Indeterminate),
    ],
)
async def test_only_what_is_certain_is_a_failure(
    nodes: Nodes, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(raised) as caught:
        await done(nodes, Operation("write", "k", 5), monkeypatch)
    assert type(caught.value) is raised


async def test_a_comparison_that_fails_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Declined):
        await done(Nodes(n1=[0]), Operation("cas", "k", [1, 2]), monkeypatch)


@pytest.mark.parametrize("reached", [0, ReplyError("UNBLOCKED force unblock from blocking operation")])
async def test_who_has_not_reached_enough_replicas_knows_nothing(reached: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(n1=[MOVED], n2=["OK", reached])
    with pytest.raises(Indeterminate, match="WAIT"):
        await done(nodes, Operation("write", "k", 5), monkeypatch, wait=1)
    assert nodes.said[2] == ("n2", "WAIT", "1", "500")
    assert await done(Nodes(n1=["OK", 1]), Operation("write", "k", 5), monkeypatch, wait=1) == Served(5, by="n1")
    nodes = Nodes(n1=["5"])
    await done(nodes, Operation("read", "k"), monkeypatch, wait=1)
    assert nodes.said == [("n1", "GET", "k")]


async def test_all_keys_of_a_lock_are_in_one_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(n1=[7])
    assert await done(nodes, Operation("acquire", "k", 2.0), monkeypatch) == Served(7, by="n1")
    assert nodes.said[0][3:] == ("3", "k", "{k}/token", "{k}/held", "2000")


LINES = """\
6d0f 10.0.0.2:6379@16379 master - 0 1700000000 2 connected 5461-10922
07c3 10.0.0.1:6379@16379 myself,{flags} - 0 1700000000 7 connected{slots}
"""


@pytest.mark.parametrize(
    ("flags", "slots", "role"),
    [
        ("master", " 0-5460", Role("n1", "primary", 7)),
        ("slave", "", Role("n1", "replica")),
        ("master,fail?", " 0-5460", Role("n1", "primary", 7)),
    ],
)
def test_what_a_server_says_of_itself(flags: str, slots: str, role: Role) -> None:
    assert redis_cluster._role("n1", LINES.format(flags=flags, slots=slots)) == role


@pytest.mark.parametrize(
    ("options", "nodes", "why"),
    [
        ({"wait": 2}, 6, "with 6 nodes each primary has only 1 replica"),
        ({"wait": 2}, 9, None),
        ({"appendfsync": "always"}, 6, "there is no log"),
        ({"appendfsync": "always", "appendonly": True}, 6, None),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any], nodes: int, why: str | None) -> None:
    said = RedisCluster(RedisCluster.Options(**options)).misfit({f"n{number}": "a" for number in range(nodes)})
    assert (said is None) == (why is None)
    assert why is None or why in str(said)


async def test_the_password_is_in_the_configuration_alone_which_listens_on_the_nodes_own_address() -> None:
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
    store = RedisCluster(RedisCluster.Options(cluster_node_timeout_ms=700))
    cluster = Cluster(cast(Any, SimpleNamespace(name="local", real_time=True)), [cast(Any, node)], 0)
    await store.start(cluster, cluster.nodes[0])
    assert store.password not in " ".join(node.argv)
    written = node.files["redis.conf"].splitlines()
    for line in ("bind 10.0.0.1 127.0.0.1", f"requirepass {store.password}", "cluster-node-timeout 700"):
        assert line in written
