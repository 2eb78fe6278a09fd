"""Simulated disks: a crash loses what was not synced, but for a random part; disks fill up, and bits flip."""

from __future__ import annotations

import errno
import fnmatch
import random
from typing import Any


class SimulatedFile:
    """A file of which ``_safe`` bytes survive a crash for certain."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        self._data = bytearray()
        self._safe = 0
        self._flipped: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._data)

    @property
    def safe(self) -> int:
        """How many bytes survive a crash for certain."""
        return self._safe

    def read(self) -> bytes:
        """What a process reads, synced or not."""
        return bytes(self._data)

    def append(self, data: bytes) -> None:
        """Add to the end. Raises ``OSError`` (ENOSPC) on a full disk."""
        if self._disk.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._data += data

    def truncate(self, size: int) -> None:
        """Keep the first ``size`` bytes only."""
        del self._data[size:]
        self._safe = min(self._safe, size)
        self._forget_flip()

    def sync(self) -> None:
        """Everything is safe from now on."""
        self._safe = len(self._data)

    def crash(self, rng: random.Random) -> None:
        """Lose what was not synced; a write may be torn anywhere."""
        unsafe = len(self._data) - self._safe
        if unsafe:
            del self._data[self._safe + rng.randint(0, unsafe) :]
            self._forget_flip()

    def _forget_flip(self) -> None:
        """What was flipped may be cut off meanwhile."""
        if self._flipped is not None and self._flipped[0] >= len(self._data):
            self._flipped = None

    def flip(self, place: int, bit: int) -> None:
        """Flip a bit."""
        self.restore()
        self._data[place] ^= 1 << bit
        self._flipped = (place, 1 << bit)

    def replace(self, data: bytes) -> None:
        """Hold something else, which is safe."""
        self.truncate(0)
        self._data += data
        self._safe = len(data)

    def restore(self) -> bool:
        """Undo the flip, if there is one; whether there was."""
        if self._flipped is None:
            return False
        place, bit = self._flipped
        self._data[place] ^= bit
        self._flipped = None
        return True


class SimulatedDisk:
    """The files of one node."""

    def __init__(self, rng: random.Random) -> None:
        self._files: dict[str, SimulatedFile] = {}
        self._rng = rng
        self.full = False
        self.copies: dict[str, dict[str, bytes]] = {}
        """By name, what the files held when they were kept."""

    def open(self, path: str) -> SimulatedFile:
        """A file, made if it is not there."""
        return self._files.setdefault(path, SimulatedFile(self))

    def crash(self) -> None:
        """The node crashes."""
        for file in self._files.values():
            file.crash(self._rng)

    def find(self, pattern: str, share: float) -> dict[str, Any] | None:
        """A byte of what is safe, at a share of it, in the largest file or the largest of those that match.

        The share 1 stands for the file's last byte.
        """
        matches = [
            (file.safe, name)
            for name, file in self._files.items()
            if not pattern or any(fnmatch.fnmatch(candidate, pattern) for candidate in (name, name.rpartition("/")[2]))
        ]
        safe, name = max(matches, default=(0, ""))
        if not safe:
            return None
        return {"file": name, "at": int(share * safe) if share < 1 else len(self._files[name]) - 1}

    def flip(self, path: str, place: int, bit: int) -> None:
        """Flip a bit of a file."""
        self._files[path].flip(place, bit)

    def cut(self, path: str, count: int) -> None:
        """Cut bytes off the end of a file."""
        self._files[path].truncate(max(len(self._files[path]) - count, 0))

    def roll_back(self, name: str) -> None:
        """Have the files as they were when they were kept under this name."""
        for path, file in self._files.items():
            file.replace(self.copies[name].get(path, b""))

    def contents(self) -> dict[str, bytes]:
        """What every file holds that is not empty."""
        return {name: file.read() for name, file in sorted(self._files.items()) if len(file)}

    def remove(self, path: str) -> None:
        """Have a file no longer."""
        del self._files[path]
