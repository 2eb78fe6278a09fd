"""Large buffers of sockets, for what arrives faster than it is read: as large as this user may have them."""

from __future__ import annotations

import socket

RECEIVED = (33, socket.SO_RCVBUF)
SENT = (32, socket.SO_SNDBUF)
"""Which buffer: the kernel's option that forces its size, which takes a right, and the one that asks for it."""


def enlarge(line: socket.socket, buffer: tuple[int, int], size: int) -> int:
    """Make a buffer of a socket large; how many bytes it has then: the kernel gives an ordinary user only so many."""
    force, ask = buffer
    try:
        line.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:
        line.setsockopt(socket.SOL_SOCKET, ask, size)
    return line.getsockopt(socket.SOL_SOCKET, ask)
