"""One node of the reference store as a process: ``python -m harness.targets.reference.server --name n1 ...``.

It listens on three ports of its address: for clients (RESP, so that redis-cli can talk to it), for its peers, and for
whoever collects metrics. Where it has a secret, clients and peers have to say it first, as they do to Redis.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness.targets.reference import metrics, resp
from harness.targets.reference.bugs import plant
from harness.targets.reference.elected import Elected
from harness.targets.reference.gossip import Gossip
from harness.targets.reference.host import Host, RealHost
from harness.targets.reference.multi_primary import MultiPrimary
from harness.targets.reference.options import Options
from harness.targets.reference.primary_backup import PrimaryBackup
from harness.targets.reference.quorum import Quorum
from harness.targets.reference.raft import Raft
from harness.targets.reference.replica import READS, NotPrimary, Replica, Site, Unavailable, Unknown
from harness.targets.reference.shards.router import Router
from harness.targets.reference.state import WrongTypeError
from harness.targets.reference.transactions import parse

CLIENT_PORT = 6400
_MANY = 10_000
"""The most words that a command of any length has."""
_DIGITS = 18
"""The longest number that a command has."""
NUMBERS = {
    "INCRBY": slice(1, None),
    "LRANGE": slice(1, None),
    "MOVE": slice(1, 2),
    "OPEN": slice(2, None, 2),
    "COMMIT": slice(0, 1),
    "RESHARD": slice(2, None),
    **dict.fromkeys(("GRANT", "RENEW", "RELEASE", "GUARDED", "FENCED"), slice(1, 2)),
}
"""Which arguments of a command are whole numbers."""
REPLICATIONS: dict[str, type[Replica]] = {
    "raft": Raft,
    "primary-backup": PrimaryBackup,
    "quorum": Quorum,
    "multi-primary": MultiPrimary,
    "gossip": Gossip,
}


class Connection(asyncio.Protocol):
    """A client's connection: its commands are answered one after the other."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = resp.Parser()
        self._commands: deque[list[str]] = deque()
        self._transport: Any = None
        self._serving: asyncio.Task[None] | None = None
        self._let_in = not server.secret

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._commands.extend([word.decode() for word in words] for words in self._parser.feed(data) if words)
        except (resp.ProtocolError, UnicodeDecodeError) as error:
            self._transport.write(resp.encode(ValueError(f"ERR protocol: {error}")))
            self._transport.close()
            return
        if self._commands and self._serving is None:
            self._serving = asyncio.get_running_loop().create_task(self._serve())

    def connection_lost(self, exc: Exception | None) -> None:
        self._commands.clear()

    async def _serve(self) -> None:
        while self._commands:
            self._transport.write(resp.encode(await self._answer(self._commands.popleft())))
        self._serving = None

    async def _answer(self, words: list[str]) -> resp.Reply:
        if words[0].upper() != "AUTH":
            return await self._server.answer(words) if self._let_in else ValueError("NOAUTH the secret comes first")
        if not self._server.secret or not hmac.compare_digest(words[-1].encode(), self._server.secret.encode()):
            return ValueError("WRONGPASS that is not the secret")
        self._let_in = True
        return "OK"


class Server:
    """Commands by name, and the replica that executes them."""

    def __init__(self, name: str, replica: Replica, addresses: dict[str, str], secret: str) -> None:
        self._name = name
        self.secret = secret
        """What a client has to say first; nothing where it has not."""
        self._replica = replica
        self._addresses = addresses

    async def answer(self, words: list[str]) -> resp.Reply:
        """The reply to a command."""
        name, arguments = words[0].upper(), words[1:]
        command = self.COMMANDS.get(name)
        if command is None:
            return ValueError(f"ERR unknown command {words[0]!r}")
        least, most, handler = command
        if not least <= len(arguments) <= most:
            return ValueError(f"ERR {name} does not take {len(arguments)} arguments")
        try:
            return await handler(self, name, arguments)
        except NotPrimary as error:
            primary = self._addresses.get(error.primary or "")
            return ValueError(f"NOTPRIMARY {error.primary} {primary}" if primary else "NOTPRIMARY ? ?")
        except Unavailable as error:
            return ValueError(f"UNAVAILABLE {error}")
        except WrongTypeError as error:
            return ValueError(f"WRONGTYPE {error}")
        except Unknown as error:
            return ValueError(f"UNKNOWN {error}")

    async def _execute(self, name: str, arguments: list[str], once: Sequence[str] = ()) -> resp.Reply:
        """Execute a command that the replica has; ``once`` holds its client and number if it may be repeated."""
        if name not in self._replica.commands:
            return ValueError(f"ERR {name} is not a command of this way of replicating")
        for number in arguments[NUMBERS.get(name, slice(0))]:
            if not _is_whole(number):
                return ValueError(f"ERR {number!r} is not a whole number")
        if name in ("TXN", "COMMIT"):
            try:
                parse(arguments[-1])
            except ValueError as error:
                return ValueError(f"ERR {error}")
        command = [name, *arguments]
        if once and isinstance(self._replica, Elected | Router):
            command = ["ONCE", *once, *command]
        return _reply(await self._replica.execute(command))

    async def _once(self, _name: str, arguments: list[str]) -> resp.Reply:
        """``ONCE client number command...``: executed at most once, however often it is sent."""
        name, words = arguments[2].upper(), arguments[3:]
        least, most, handler = self.COMMANDS.get(name, (0, 0, Server._nothing))
        changes = handler is Server._execute and name not in READS | {"MEMBERS", "RESHARD", "SHARDS"}
        if not changes or not least <= len(words) <= most:
            return ValueError("ERR ONCE takes a client, a number and a command that changes something")
        if not arguments[1].isdecimal() or len(arguments[1]) > _DIGITS:
            return ValueError(f"ERR {arguments[1]!r} is not a number of a command")
        return await self._execute(name, words, once=arguments[:2])

    async def _served(self, _name: str, words: list[str]) -> resp.Reply:
        """``SERVED command...``: this node's name, the term in which it took the command (if it has one), the answer.

        Who steps down answers nothing that it has taken as a primary: an acknowledgement is of that term.
        """
        if words[0].upper() == "SERVED":
            return ValueError("ERR SERVED takes another command")
        term = self._replica.status()["term"] if isinstance(self._replica, Elected) else None
        answer = await self.answer(words)
        return answer if isinstance(answer, Exception) else [self._name.encode(), term, answer]

    async def _peek(self, _name: str, arguments: list[str]) -> resp.Reply:
        """``PEEK GET key``: what this very node holds."""
        name = arguments[0].upper()
        if name not in READS & self._replica.commands:
            return ValueError(f"ERR PEEK takes a command that reads, not {arguments[0]!r}")
        least, most, _ = self.COMMANDS[name]
        if not least < len(arguments) <= most + 1:
            return ValueError(f"ERR {name} does not take {len(arguments) - 1} arguments")
        return _reply(self._replica.peek([name, *arguments[1:]]))

    async def _contents(self, _name: str, _arguments: list[str]) -> resp.Reply:
        """``CONTENTS``: each key and what this very node holds of it, where all nodes are to hold the same."""
        if not isinstance(self._replica, Elected | Router):
            return ValueError("ERR CONTENTS is not a command of this way of replicating")
        held = self._replica.contents() if isinstance(self._replica, Router) else self._replica.state.contents()
        return [word.encode() for pair in held.items() for word in pair]

    async def _ping(self, _name: str, _arguments: list[str]) -> resp.Reply:
        return "PONG"

    async def _info(self, _name: str, _arguments: list[str]) -> resp.Reply:
        lines = [f"{name}:{value}" for name, value in self._replica.status().items()]
        return "\r\n".join(["# Replication", *lines, ""]).encode()

    async def _accept(self, _name: str, _arguments: list[str]) -> resp.Reply:
        return "OK"

    async def _nothing(self, _name: str, _arguments: list[str]) -> resp.Reply:
        return []

    Handler = Callable[["Server", str, list[str]], Awaitable[resp.Reply]]
    COMMANDS: ClassVar[dict[str, tuple[int, int, Handler]]] = {
        "GET": (1, 1, _execute),
        "SET": (2, 2, _execute),
        "CAS": (3, 3, _execute),
        "DEL": (1, 1, _execute),
        "INCRBY": (2, 2, _execute),
        "SADD": (2, 2, _execute),
        "SREM": (2, 2, _execute),
        "SMEMBERS": (1, 1, _execute),
        "RPUSH": (2, 2, _execute),
        "LRANGE": (3, 3, _execute),
        "LPOP": (1, 1, _execute),
        "OPEN": (3, _MANY, _execute),
        "MOVE": (4, 4, _execute),
        "GRANT": (2, 2, _execute),
        "RENEW": (2, 2, _execute),
        "RELEASE": (2, 2, _execute),
        "GUARDED": (3, 3, _execute),
        "FENCED": (3, 3, _execute),
        "TXN": (1, 1, _execute),
        "BEGIN": (0, 0, _execute),
        "COMMIT": (2, 2, _execute),
        "HSET": (3, 3, _execute),
        "HGETALL": (1, 1, _execute),
        "MEMBERS": (0, 99, _execute),
        "SHARDS": (0, 0, _execute),
        "RESHARD": (3, 3, _execute),
        "ONCE": (4, _MANY, _once),
        "SERVED": (1, _MANY, _served),
        "PEEK": (2, 4, _peek),
        "CONTENTS": (0, 0, _contents),
        "PING": (0, 0, _ping),
        "INFO": (0, 9, _info),
        "CLIENT": (0, 9, _accept),
        "COMMAND": (0, 9, _nothing),
    }
    """Each command by name: the least and the most arguments, and what answers it."""


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) <= _DIGITS


def _reply(answer: Any) -> resp.Reply:
    if isinstance(answer, dict):
        return ValueError(answer["error"])
    if isinstance(answer, list):
        return [word.encode() for word in answer]
    return answer.encode() if isinstance(answer, str) and answer != "OK" else answer


async def run(arguments: Sequence[str], host: Host) -> None:
    """Serve until killed, on a real or a simulated machine. Raises ``DiskError``."""
    given = _parse(arguments)
    options = Options(**json.loads(given.options))
    addresses = dict(item.split("=", 1) for item in given.node)
    own = addresses[given.name]
    replica: Replica

    def receive(message: dict[str, Any]) -> None:
        replica.receive(message)

    send = host.join(given.name, addresses, receive)
    site = Site(given.name, tuple(sorted(addresses)), host, send, given.data, options)
    replica = Router(site) if options.shards else plant(REPLICATIONS[options.replication], options.bug)(site)
    server = Server(given.name, replica, addresses, host.secret)
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Connection(server), own, CLIENT_PORT)
    await metrics.serve(own, replica)
    host.say(f"{given.name} serves clients at {own}:{CLIENT_PORT}, {json.dumps(replica.status())}")
    replica.start()
    await loop.create_future()


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="one node of the splitbrain reference store")
    parser.add_argument("--name", required=True, help="this node's name")
    parser.add_argument("--node", action="append", required=True, help="NAME=ADDRESS of every node, this one too")
    parser.add_argument("--data", required=True, help="the folder for the node's files")
    parser.add_argument("--secret", help="the file with what clients (AUTH) and peers have to say first")
    parser.add_argument("--options", default="{}", help="the options of targets/reference/options.py, as JSON")
    return parser.parse_args(arguments)


def main() -> None:
    """Be one node."""
    file = _parse(sys.argv[1:]).secret
    try:
        asyncio.run(run(sys.argv[1:], RealHost(Path(file).read_text() if file else "")))
    except OSError as error:
        sys.exit(f"the reference store could not start: {error}")


if __name__ == "__main__":
    main()
