"""Talking to stores that speak Redis' protocol: connections that never retry behind the harness's back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

_QUICK_SECONDS = 0.5


async def connect(address: str, port: int, timeout: float) -> Any:
    """One connection that is open when this returns. A retried write would be a second write: it never retries."""
    connection = Redis(
        host=address,
        port=port,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        decode_responses=True,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=True,
    )
    try:
        await connection.initialize()
    except BaseException:
        await connection.aclose()
        raise
    return connection


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


async def quick_info(nodes: Sequence[tuple[str, str]], port: int) -> dict[str, dict[str, Any]]:
    """``INFO replication`` of each (name, address) that answers, by name."""
    answers = await asyncio.gather(*(quick(address, port, "INFO", "replication") for _, address in nodes))
    return {name: answer for (name, _), answer in zip(nodes, answers, strict=True) if isinstance(answer, dict)}
