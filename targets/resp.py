"""Talking to stores that speak Redis' protocol, on single connections of redis-py."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

_QUICK_SECONDS = 0.5


class Link:
    """One open connection. It never retries: a write that is sent again would be a second write."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute_command(self, *words: Any) -> Any:
        """Send a command and return its answer as Redis gives it. Raises what redis-py raises."""
        await self._connection.send_command(*words)
        return await self._connection.read_response()

    async def aclose(self) -> None:
        """Close the connection; what it was doing is abandoned."""
        await self._connection.disconnect(nowait=True)


async def connect(address: str, port: int, timeout: float) -> Link:
    """A connection that is open when this returns."""
    connection = Connection(
        host=address,
        port=port,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        decode_responses=True,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
    )
    await connection.connect()  # type: ignore[no-untyped-call]
    return Link(connection)


async def quick(address: str, port: int, *words: str) -> Any:
    """The answer to one command on a connection of its own; None when there is none within half a second."""
    connection = None
    try:
        async with asyncio.timeout(_QUICK_SECONDS):
            connection = await connect(address, port, _QUICK_SECONDS)
            return await connection.execute_command(*words)
    except (RedisError, OSError, TimeoutError):
        return None
    finally:
        if connection is not None:
            await connection.aclose()


async def quick_info(nodes: Sequence[tuple[str, str]], port: int) -> dict[str, dict[str, str]]:
    """``INFO replication`` of each (name, address) that answers, by name."""
    answers = await asyncio.gather(*(quick(address, port, "INFO", "replication") for _, address in nodes))
    return {name: _fields(text) for (name, _), text in zip(nodes, answers, strict=True) if isinstance(text, str)}


def _fields(text: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
