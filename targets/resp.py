"""Talking to stores that speak Redis' protocol: hiredis on bare connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

import hiredis

_QUICK_SECONDS = 0.5


class Link(asyncio.Protocol):
    """One open connection. It never retries: a write that is sent again would be a second write."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(encoding="utf-8", errors="backslashreplace")
        self._transport: Any = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._lost: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not False:
                future = self._waiting.popleft()
                if future.done():
                    continue  # whoever asked has given up
                if isinstance(answer, hiredis.ReplyError):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        except (hiredis.ProtocolError, IndexError) as error:
            self.connection_lost(ConnectionError(f"the server does not speak Redis' protocol: {error}"))
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc or ConnectionResetError("the server closed the connection")
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(self._lost)

    async def execute_command(self, *words: str | int, patience: float | None = None) -> Any:
        """Send a command and return its answer.

        Raises ``hiredis.ReplyError`` and ``OSError``, as which a time-out after ``patience`` seconds counts too.
        """
        if self._lost is not None:
            raise self._lost
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(future)
        # As text: hiredis takes the representation of a number without looking whether a signal has ended that.
        self._transport.write(hiredis.pack_command(tuple(map(str, words))))  # type: ignore[arg-type]
        if patience is None:
            return await future
        timer = loop.call_later(patience, _expire, future)  # much cheaper than asyncio.timeout
        try:
            return await future
        finally:
            timer.cancel()

    async def execute_each(self, commands: Sequence[Sequence[str | int]]) -> list[Any]:
        """Send commands together, in one write, and return their answers in order.

        A ``hiredis.ReplyError`` that the server answers is one of these. Raises ``OSError``.
        """
        if self._lost is not None:
            raise self._lost
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in commands]
        self._waiting.extend(futures)
        self._transport.write(b"".join(hiredis.pack_command(tuple(map(str, words))) for words in commands))  # type: ignore[arg-type]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, hiredis.ReplyError):
                raise answer
        return answers

    async def aclose(self) -> None:
        """Close the connection; what it was doing is abandoned."""
        self._transport.abort()


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError("there was no answer in time"))


async def connect(address: str, port: int, timeout: float, password: str | None = None) -> Link:
    """A connection that is open, and let in by a password if one is given, when this returns.

    Raises ``OSError``, also when ``timeout`` seconds were too few, and ``hiredis.ReplyError`` when it is not let in.
    """
    async with asyncio.timeout(timeout):
        _, link = await asyncio.get_running_loop().create_connection(Link, address, port)
        if password is not None:
            try:
                await link.execute_command("AUTH", password)
            except BaseException:
                await link.aclose()
                raise
    return link


@contextlib.asynccontextmanager
async def connected(address: str, port: int, timeout: float, password: str | None = None) -> AsyncIterator[Link]:
    """A connection as ``connect`` makes it, which is closed afterwards."""
    link = await connect(address, port, timeout, password)
    try:
        yield link
    finally:
        await link.aclose()


async def quick(address: str, port: int, *words: str, password: str | None = None) -> Any:
    """The answer to one command on a connection of its own; None when there is none within half a second."""
    answers = await quick_each(address, port, [words], password=password)
    return answers[0] if answers else None


async def quick_each(
    address: str, port: int, commands: Sequence[Sequence[str]], *, password: str | None = None
) -> list[Any]:
    """The answers to a few commands, one after the other; an empty list when not all came within half a second."""
    try:
        async with (
            asyncio.timeout(_QUICK_SECONDS),
            connected(address, port, _QUICK_SECONDS, password) as link,
        ):
            return [await link.execute_command(*words) for words in commands]
    except (hiredis.HiredisError, OSError):
        return []


async def quick_info(
    nodes: Sequence[tuple[str, str]], port: int, password: str | None = None
) -> dict[str, dict[str, str]]:
    """``INFO replication`` of each (name, address) that answers, by name."""
    asked = (quick(address, port, "INFO", "replication", password=password) for _, address in nodes)
    answers = await asyncio.gather(*asked)
    return {name: _fields(text) for (name, _), text in zip(nodes, answers, strict=True) if isinstance(text, str)}


def _fields(text: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
