"""The nodes' own network on real machines: a connection to each peer, the secret, then one JSON message a line."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

Message = dict[str, Any]

PEER_PORT = 6401
_STALLED_MS = 1000
"""A connection to a peer whose data is not acknowledged for this long is given up and opened anew."""


class Peers:
    """Listens for the peers and sends to them."""

    def __init__(
        self, name: str, addresses: Mapping[str, str], receive: Callable[[Message], None], secret: str
    ) -> None:
        self._receive = receive
        self._greeting = f"{secret}\n".encode()
        self._peers = {peer: _Peer(address, self._greeting) for peer, address in addresses.items() if peer != name}
        runners = [peer.run() for peer in self._peers.values()]
        self._tasks = [asyncio.ensure_future(task) for task in (self._listen(addresses[name]), *runners)]
        for task in self._tasks:
            task.add_done_callback(_end_on_errors)

    def send(self, peer: str, message: Message) -> None:
        """Send soon, or never."""
        self._peers[peer].send(message)

    async def _listen(self, address: str) -> None:
        await asyncio.start_server(self._serve, address, PEER_PORT, limit=1 << 26)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if not hmac.compare_digest(await reader.readexactly(len(self._greeting)), self._greeting):
                writer.close()
                return
            while line := await reader.readline():
                if not line.endswith(b"\n"):
                    break
                self._receive(json.loads(line))
        writer.close()


def _end_on_errors(task: asyncio.Future[None]) -> None:
    """A node that cannot talk to its peers must not look as if it could."""
    if not task.cancelled() and (error := task.exception()) is not None:
        raise SystemExit(f"the reference store could not start: {error}")


class _Peer:
    """The way to one peer. What cannot be delivered is dropped; every protocol here allows for it."""

    def __init__(self, address: str, greeting: bytes) -> None:
        self._address = address
        self._greeting = greeting
        self._queue: asyncio.Queue[Message] = asyncio.Queue(maxsize=10_000)

    def send(self, message: Message) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(message)

    async def run(self) -> None:
        """Connect, send what is queued, and begin again when the connection breaks."""
        while True:
            try:
                async with asyncio.timeout(0.5):
                    _, writer = await asyncio.open_connection(self._address, PEER_PORT)
            except (OSError, TimeoutError):
                await asyncio.sleep(0.1)
                self._forget()
                continue
            try:
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_MS)
                self._forget()
                writer.write(self._greeting)
                while True:
                    writer.write(json.dumps(await self._queue.get()).encode() + b"\n")
                    await writer.drain()
            except OSError:
                pass
            finally:
                writer.close()

    def _forget(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
