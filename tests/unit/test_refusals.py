"""Whether an error of a store is a failure, after which nothing was done, or leaves that open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hiredis import ReplyError

from harness.operation import Failed, Indeterminate, Operation
from harness.targets.etcd import EtcdClient
from harness.targets.etcd_calls import Calls
from harness.targets.redis import RedisClient


class Server:
    """Answers commands, and refuses some."""

    def __init__(self, refuses: dict[str, str]) -> None:
        self._refuses = refuses

    async def execute_command(self, command: str, *_: Any) -> Any:
        if command in self._refuses:
            raise ReplyError(self._refuses[command])
        return ["10.0.0.1", b"6379"] if command == "SENTINEL" else 1


def redis(refuses: dict[str, str]) -> RedisClient:
    client = RedisClient("10.0.0.1", 1.0, 1, "", {})
    client._sentinel = client._primary = Server(refuses)
    client._primary_address = "10.0.0.1"
    return client


@pytest.mark.parametrize(
    ("command", "said", "error"),
    [
        ("SET", "READONLY You can't write against a read only replica.", Failed),
        ("SET", "UNBLOCKED force unblock from blocking operation", Indeterminate),
        ("WAIT", "READONLY You can't write against a read only replica.", Indeterminate),
        ("WAIT", "LOADING Redis is loading the dataset in memory", Indeterminate),
    ],
)
def test_what_redis_says_once_a_write_is_done_is_no_refusal_of_it(
    command: str, said: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        asyncio.run(redis({command: said}).invoke(Operation("write", "k", 1)))


class Gateway:
    """A session whose answer is always the same."""

    def __init__(self, status: int, answer: dict[str, Any]) -> None:
        self.status, self._answer = status, answer

    def post(self, *_: Any, **__: Any) -> Gateway:
        return self

    async def __aenter__(self) -> Gateway:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def json(self, **_: Any) -> dict[str, Any]:
        return self._answer


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (3, "etcdserver: key is not provided", Failed),
        (8, "etcdserver: too many requests", Failed),
        (8, "etcdserver: mvcc: database space exceeded", Indeterminate),
        (14, "etcdserver: request timed out", Indeterminate),
    ],
)
def test_etcd_may_have_done_what_it_has_no_space_for(code: int, message: str, error: type[Exception]) -> None:
    client = EtcdClient.__new__(EtcdClient)
    client._url, client._session = "", Gateway(500, {"code": code, "message": message})  # type: ignore[assignment]
    with pytest.raises(error, match=message):
        asyncio.run(client._post("kv/put", {}))


@pytest.mark.parametrize("function", ["write-held", "write-fenced"])
def test_who_is_told_that_a_write_failed_keeps_its_lock_alive_no_longer(function: str) -> None:
    refuses = False

    async def post(method: str, body: dict[str, Any]) -> Any:
        if refuses:
            raise Failed("too many requests")
        return {"ID": "7", "succeeded": True, "header": {"revision": "5"}}

    async def follow(method: str, body: dict[str, Any]) -> AsyncGenerator[Any, None]:
        yield

    async def tasks() -> int:
        nonlocal refuses
        calls = Calls(post, follow, 1.0, serializable=False, locks="transaction")
        token = await calls.apply(Operation("acquire", "k", 9))
        alive = len(asyncio.all_tasks())
        await calls.apply(Operation(function, "k", [token, 1]))
        assert len(asyncio.all_tasks()) == alive
        refuses = True
        with pytest.raises(Failed):
            await calls.apply(Operation(function, "k", [token, 2]))
        await asyncio.sleep(0)
        return alive - len(asyncio.all_tasks())

    assert asyncio.run(tasks()) == 1
