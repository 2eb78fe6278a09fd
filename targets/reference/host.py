"""What a node of the reference store asks of the machine that it runs on, and the real machine's answer."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from harness.targets.reference.peers import Message, Peers

Send = Callable[[str, Message], None]
"""Sends a message to a peer, soon or never. Nobody may change a message once it is sent."""


class File(Protocol):
    """A file that is only ever appended to or cut short. Nothing is safe from a crash before ``sync``."""

    def read(self) -> bytes: ...

    def append(self, data: bytes) -> None:
        """Raises ``OSError`` on a full disk."""
        ...

    def truncate(self, size: int) -> None: ...

    def sync(self) -> None: ...


class Timer(Protocol):
    """Something that will happen, unless it is cancelled."""

    def cancel(self) -> None: ...


class Host(Protocol):
    """The machine: its files, its clocks, its randomness, its network, and where a server says what it does."""

    rng: random.Random
    secret: str
    """What clients and peers have to know; nothing where nobody else can be."""

    def wall(self) -> float:
        """Seconds since 1970, as this machine believes; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since any moment; never goes back, but may run fast or slow."""
        ...

    def later(self, seconds: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        """Call back after so many seconds."""
        ...

    def open(self, path: str) -> File: ...

    def say(self, text: str) -> None: ...

    def join(self, name: str, addresses: Mapping[str, str], receive: Callable[[Message], None]) -> Send:
        """Take part in the cluster as ``name``: messages may be lost, doubled and overtake one another."""
        ...


class RealFile:
    """A file of the operating system."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._path = path

    def read(self) -> bytes:
        return self._path.read_bytes()

    def append(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def truncate(self, size: int) -> None:
        os.truncate(self._descriptor, size)

    def sync(self) -> None:
        os.fsync(self._descriptor)


class RealHost:
    """The machine that this process runs on."""

    def __init__(self, secret: str = "") -> None:
        self.secret = secret
        self.rng = random.Random()
        self.wall = time.time
        self.monotonic = time.monotonic

    def later(self, seconds: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback, *arguments)

    def open(self, path: str) -> File:
        return RealFile(Path(path))

    def say(self, text: str) -> None:
        print(text, flush=True)

    def join(self, name: str, addresses: Mapping[str, str], receive: Callable[[Message], None]) -> Send:
        return Peers(name, addresses, receive, self.secret).send
