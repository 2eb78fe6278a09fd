"""The client port's protocol: the part of RESP2 that redis-cli and Redis client libraries need."""

from __future__ import annotations

import asyncio

Reply = str | int | bytes | None | list["Reply"] | Exception
"""What a command answers: a status, a number, a bulk string, nothing, several of these, or an error."""


class ProtocolError(Exception):
    """The peer does not speak RESP."""


async def read_command(reader: asyncio.StreamReader) -> list[bytes] | None:
    """The next command: an array of bulk strings, or words on a line. None at the end of the stream."""
    line = await reader.readline()
    if not line.endswith(b"\n"):
        return None
    if not line.startswith(b"*"):
        return line.split()
    words = []
    for _ in range(_length(line)):
        header = await reader.readline()
        if not header.startswith(b"$"):
            raise ProtocolError(f"expected a bulk string, got {header[:20]!r}")
        words.append((await reader.readexactly(_length(header) + 2))[:-2])
    return words


def _length(header: bytes) -> int:
    try:
        length = int(header[1:])
    except ValueError:
        raise ProtocolError(f"{header[:20]!r} holds no length") from None
    if not 0 <= length <= 1 << 26:
        raise ProtocolError(f"a length of {length}")
    return length


def encode(reply: Reply) -> bytes:
    """A reply as bytes on the wire."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, Exception):
        return b"-%s\r\n" % str(reply).encode()
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, str):
        return b"+%s\r\n" % reply.encode()
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(encode(item) for item in reply)
