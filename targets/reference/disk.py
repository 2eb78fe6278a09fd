"""What a node of the reference store asks of the machine that it runs on, and the real machine's answer."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Protocol


class File(Protocol):
    """A file that is only ever appended to or cut short. Nothing is safe from a crash before ``sync``."""

    def read(self) -> bytes: ...

    def append(self, data: bytes) -> None: ...

    def truncate(self, size: int) -> None: ...

    def sync(self) -> None: ...


class Host(Protocol):
    """The machine: its files, its randomness, and where a server says what it does."""

    rng: random.Random

    def open(self, path: str) -> File: ...

    def say(self, text: str) -> None: ...


class RealFile:
    """A file of the operating system."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._path = path

    def read(self) -> bytes:
        return self._path.read_bytes()

    def append(self, data: bytes) -> None:
        os.write(self._descriptor, data)

    def truncate(self, size: int) -> None:
        os.truncate(self._descriptor, size)

    def sync(self) -> None:
        os.fsync(self._descriptor)


class RealHost:
    """The machine that this process runs on."""

    def __init__(self) -> None:
        self.rng = random.Random()

    def open(self, path: str) -> File:
        return RealFile(Path(path))

    def say(self, text: str) -> None:
        print(text, flush=True)
