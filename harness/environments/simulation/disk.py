"""Simulated disks: a crash loses what was not synced, except for a random part that happened to be written."""

from __future__ import annotations

import random


class SimulatedFile:
    """A file of which ``_safe`` bytes survive a crash for certain."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._safe = 0

    def read(self) -> bytes:
        """All of it."""
        return bytes(self._data)

    def append(self, data: bytes) -> None:
        """Add to the end."""
        self._data += data

    def truncate(self, size: int) -> None:
        """Cut short."""
        del self._data[size:]
        self._safe = min(self._safe, size)

    def sync(self) -> None:
        """Everything is safe from now on."""
        self._safe = len(self._data)

    def crash(self, rng: random.Random) -> None:
        """Lose what was not synced; a write may be torn anywhere."""
        unsafe = len(self._data) - self._safe
        if unsafe:
            del self._data[self._safe + rng.randint(0, unsafe) :]


class SimulatedDisk:
    """The files of one node."""

    def __init__(self, rng: random.Random) -> None:
        self._files: dict[str, SimulatedFile] = {}
        self._rng = rng

    def open(self, path: str) -> SimulatedFile:
        """A file, made if it is not there."""
        return self._files.setdefault(path, SimulatedFile())

    def crash(self) -> None:
        """The node crashes."""
        for file in self._files.values():
            file.crash(self._rng)
