"""Simulated disks: a crash loses what was not synced, but for a random part; disks fill up, and bits flip."""

from __future__ import annotations

import errno
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

    def read(self) -> bytes:
        """All of it."""
        return bytes(self._data)

    def append(self, data: bytes) -> None:
        """Add to the end. Raises ``OSError`` (ENOSPC) on a full disk."""
        if self._disk.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._data += data

    def truncate(self, size: int) -> None:
        """Cut short."""
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

    def flip(self, share: float, bit: int) -> int | None:
        """Flip a bit of what is safe, at a share of its length; the place, None in an empty file."""
        if not self._safe:
            return None
        self.restore()
        place = int(share * self._safe)
        self._data[place] ^= 1 << bit
        self._flipped = (place, 1 << bit)
        return place

    def restore(self) -> None:
        """Undo the flip."""
        if self._flipped is not None:
            place, bit = self._flipped
            self._data[place] ^= bit
            self._flipped = None


class SimulatedDisk:
    """The files of one node."""

    def __init__(self, rng: random.Random) -> None:
        self._files: dict[str, SimulatedFile] = {}
        self._rng = rng
        self.full = False

    def open(self, path: str) -> SimulatedFile:
        """A file, made if it is not there."""
        return self._files.setdefault(path, SimulatedFile(self))

    def crash(self) -> None:
        """The node crashes."""
        for file in self._files.values():
            file.crash(self._rng)

    def flip(self, share: float, bit: int) -> dict[str, Any] | None:
        """Flip one bit in the largest file; says where, None on an empty disk."""
        if not self._files:
            return None
        path = self._largest()
        place = self._files[path].flip(share, bit)
        return None if place is None else {"file": path, "at": place}

    def cut(self, count: int) -> dict[str, Any] | None:
        """Cut bytes off the end of the largest file."""
        if not self._files:
            return None
        path = self._largest()
        kept = max(len(self._files[path]) - count, 0)
        self._files[path].truncate(kept)
        return {"file": path, "from": kept}

    def _largest(self) -> str:
        return max(self._files, key=lambda name: (len(self._files[name]), name))

    def restore(self) -> None:
        """The disk is as good as new, with the data that it had."""
        self.full = False
        for file in self._files.values():
            file.restore()
