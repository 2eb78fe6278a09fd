"""One node of the reference store as a process: ``python -m targets.reference.server --name n1 ...``.

It listens on two ports of its address: one for clients (RESP, so that redis-cli can talk to it) and one for its
peers (a JSON message a line).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

from targets.reference import resp
from targets.reference.disk import Host, RealHost
from targets.reference.log import Log
from targets.reference.primary_backup import Message, NotPrimary, Replica

CLIENT_PORT = 6400
PEER_PORT = 6401
_STALLED_MS = 1000
"""A connection to a peer whose data is not acknowledged for this long is given up and opened anew."""


class Peer:
    """The way to one peer. Messages to a peer that cannot be reached are dropped; the protocol allows for it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._queue: asyncio.Queue[Message] = asyncio.Queue(maxsize=10_000)

    def send(self, message: Message) -> None:
        """Send soon, or never."""
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
                _fail_fast(writer)
                self._forget()
                while True:
                    message = await self._queue.get()
                    writer.write(json.dumps(message).encode() + b"\n")
                    await writer.drain()
            except OSError:
                pass
            finally:
                writer.close()

    def _forget(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()


def _fail_fast(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is None:
        return  # a simulated connection has no socket
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_MS)


class Server:
    """The two ports, and the replica behind them."""

    def __init__(self, replica: Replica, addresses: dict[str, str]) -> None:
        self._replica = replica
        self._addresses = addresses

    async def serve_peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a peer's messages until it goes away."""
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                if not line.endswith(b"\n"):
                    break
                self._replica.receive(json.loads(line))
        writer.close()

    async def serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a client's commands one after the other until it goes away."""
        try:
            while (words := await resp.read_command(reader)) is not None:
                if words:
                    writer.write(resp.encode(await self._answer([word.decode() for word in words])))
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError, UnicodeDecodeError):
            pass
        except resp.ProtocolError as error:
            writer.write(resp.encode(ValueError(f"ERR protocol: {error}")))
        finally:
            writer.close()

    async def _answer(self, words: list[str]) -> resp.Reply:
        name, arguments = words[0].upper(), words[1:]
        command = self.COMMANDS.get(name)
        if command is None:
            return ValueError(f"ERR unknown command {words[0]!r}")
        count, answer = command
        if count is not None and len(arguments) != count:
            return ValueError(f"ERR {name} takes {count} arguments, not {len(arguments)}")
        try:
            return await answer(self, name, arguments)
        except NotPrimary as error:
            primary = self._addresses.get(error.primary or "")
            return ValueError(f"NOTPRIMARY {error.primary} {primary}" if primary else "NOTPRIMARY ? ?")

    async def _get(self, _name: str, arguments: list[str]) -> resp.Reply:
        value = await self._replica.read(arguments[0])
        return None if value is None else value.encode()

    async def _change(self, name: str, arguments: list[str]) -> resp.Reply:
        answer: resp.Reply = await self._replica.execute([name, *arguments])
        return answer

    async def _ping(self, _name: str, _arguments: list[str]) -> resp.Reply:
        return "PONG"

    async def _info(self, _name: str, _arguments: list[str]) -> resp.Reply:
        replica = self._replica
        lines = [f"role:{replica.role}", f"term:{replica.log.term}", f"primary:{replica.primary}"]
        lines.append(f"log_entries:{replica.log.last}")
        return "\r\n".join(["# Replication", *lines, ""]).encode()

    async def _accept(self, _name: str, _arguments: list[str]) -> resp.Reply:
        return "OK"

    async def _nothing(self, _name: str, _arguments: list[str]) -> resp.Reply:
        return []

    Handler = Callable[["Server", str, list[str]], Awaitable[resp.Reply]]
    COMMANDS: ClassVar[dict[str, tuple[int | None, Handler]]] = {
        "GET": (1, _get),
        "SET": (2, _change),
        "CAS": (3, _change),
        "DEL": (1, _change),
        "PING": (0, _ping),
        "INFO": (None, _info),
        "CLIENT": (None, _accept),
        "COMMAND": (None, _nothing),
    }
    """Each command by name: how many arguments it takes (None: any number), and what answers it."""


async def run(arguments: Sequence[str], host: Host) -> None:
    """Serve until killed, on a real or a simulated machine."""
    options = _parse(arguments)
    addresses = dict(item.split("=", 1) for item in options.node)
    peers = {name: Peer(address) for name, address in addresses.items() if name != options.name}

    def send(peer: str, message: Message) -> None:
        peers[peer].send(message)

    replica = Replica(
        options.name,
        sorted(peers),
        Log(host.open(f"{options.data}/log.jsonl")),
        send,
        sync=options.replication == "sync",
        rng=host.rng,
    )
    server = Server(replica, addresses)
    own = addresses[options.name]
    await asyncio.start_server(server.serve_peer, own, PEER_PORT, limit=1 << 26)
    clients = await asyncio.start_server(server.serve_client, own, CLIENT_PORT)
    host.say(f"{options.name} serves clients at {own}:{CLIENT_PORT}, term {replica.log.term}")
    replica.start()
    tasks: list[Any] = [peer.run() for peer in peers.values()]
    await asyncio.gather(clients.serve_forever(), *tasks)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="one node of the splitbrain reference store")
    parser.add_argument("--name", required=True, help="this node's name")
    parser.add_argument("--node", action="append", required=True, help="NAME=ADDRESS of every node, this one too")
    parser.add_argument("--data", required=True, help="the folder for the write-ahead log")
    parser.add_argument("--replication", choices=["sync", "async"], default="sync")
    return parser.parse_args(arguments)


def main() -> None:
    """Be one node."""
    try:
        asyncio.run(run(sys.argv[1:], RealHost()))
    except OSError as error:
        sys.exit(f"the reference store could not start: {error}")


if __name__ == "__main__":
    main()
