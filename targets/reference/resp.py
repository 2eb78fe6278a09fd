"""The client port's protocol: the part of RESP2 that redis-cli and Redis client libraries need."""

from __future__ import annotations

from collections.abc import Iterator

Reply = str | int | bytes | None | list["Reply"] | Exception
"""What a command answers: a status, a number, a bulk string, nothing, several of these, or an error."""


_LONGEST_LINE = 1 << 16


class ProtocolError(Exception):
    """The peer does not speak RESP."""


class Parser:
    """Turns bytes into commands: arrays of bulk strings, or words on a line."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> Iterator[list[bytes]]:
        """The commands that are complete now. Raises ``ProtocolError``."""
        self._data += data
        while (command := self._command()) is not None:
            words, used = command
            self._data = self._data[used:]
            yield words

    def _command(self) -> tuple[list[bytes], int] | None:
        """The first command and its length in bytes; None while it is not complete."""
        line = self._line(0)
        if line is None:
            return None
        header, at = line
        if not header.startswith(b"*"):
            return header.split(), at
        words = []
        for _ in range(_length(header)):
            line = self._line(at)
            if line is None:
                return None
            header, start = line
            if not header.startswith(b"$"):
                raise ProtocolError(f"expected a bulk string, got {header[:20]!r}")
            at = start + _length(header) + 2
            if len(self._data) < at:
                return None
            words.append(self._data[start : at - 2])
        return words, at

    def _line(self, start: int) -> tuple[bytes, int] | None:
        """The line from ``start`` on and where the next begins."""
        end = self._data.find(b"\n", start)
        if end < 0:
            if len(self._data) - start > _LONGEST_LINE:
                raise ProtocolError("a line without an end")
            return None
        return self._data[start:end].rstrip(b"\r"), end + 1


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
