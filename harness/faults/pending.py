"""What is not on the disk yet, and how to take it back: which sync makes what durable.

This is the model, which is what ext4, XFS and btrfs do as they are mounted by default:

- What is written to a file, and how long it is made, is durable once that file is synced, and no sooner.
- Changes of directories (a file is created, renamed, linked or unlinked; a directory made or removed) reach the disk in
  the order in which they were made, for there is one journal. They are durable once a directory in which one of them or
  a later one was made is synced, or the file that it is about: so the name of a new file is durable with the first sync
  of that file, but a rename that follows needs a sync of its directory. Modes, owners and times are durable at once.
- A sync of the whole file system makes everything durable.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

SECTOR: Final = 512
"""What a disk writes whole or not at all."""
_BLIND_SECONDS: Final = 2.0


class Change(NamedTuple):
    """A change of a file: ``length`` bytes at ``offset`` were ``old`` before, and the file was ``size`` long.

    ``to`` is the size that it was given, where that was all.
    """

    offset: int
    length: int
    old: bytes
    size: int
    to: int | None = None


class Step(NamedTuple):
    """A change of directories."""

    about: frozenset[int]
    """The inodes of the directories and files of which each makes it durable when it is synced."""
    undo: Callable[[], object]
    forget: Callable[[], object]
    """Called once it is durable."""


class Pending:
    """The changes that are not on the disk yet, latest last."""

    def __init__(self) -> None:
        self._lock = threading.Condition(threading.RLock())
        self._blind = False
        self._changes: dict[int, tuple[int, list[Change]]] = {}
        """By inode, with an open file."""
        self._steps: list[Step] = []

    def count(self) -> int:
        """How many changes they are."""
        with self._lock:
            return len(self._steps) + sum(len(changes) for _, changes in self._changes.values())

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """While something is changed: nothing else is. Waits while a sync of everything would not be noticed."""
        with self._lock:
            self._lock.wait_for(lambda: not self._blind, _BLIND_SECONDS)
            yield

    def see_syncs(self) -> None:
        """From now on the next sync of everything will be noticed."""
        with self._lock:
            self._blind = False
            self._lock.notify_all()

    def write(self, file: int, offset: int, data: bytes) -> int:
        """Write to an open file."""
        with self.changing():
            self._remember(file, offset, len(data))
            return os.pwrite(file, data, offset)

    def truncate(self, file: int, size: int) -> None:
        """Change the size of an open file."""
        with self.changing():
            self._remember(file, size, max(os.fstat(file).st_size - size, 0), size)
            os.ftruncate(file, size)

    def allocate(self, file: int, offset: int, length: int) -> None:
        """Have room in an open file, which may become longer."""
        with self.changing():
            size = os.fstat(file).st_size
            self._remember(file, size, 0, max(size, offset + length))
            os.posix_fallocate(file, offset, length)

    def _remember(self, file: int, offset: int, length: int, to: int | None = None) -> None:
        state = os.fstat(file)
        if state.st_ino not in self._changes:
            self._changes[state.st_ino] = (os.dup(file), [])
        change = Change(offset, length, os.pread(file, length, offset), state.st_size, to)
        self._changes[state.st_ino][1].append(change)

    def step(
        self, about: frozenset[int], undo: Callable[[], object], forget: Callable[[], object] = lambda: None
    ) -> None:
        """Remember a change of directories that was just made, within ``changing``."""
        self._steps.append(Step(about, undo, forget))

    def synced(self, inode: int) -> None:
        """A file or directory was synced."""
        with self._lock:
            self._forget_changes(inode)
            durable = [number for number, step in enumerate(self._steps, 1) if inode in step.about]
            self._forget_steps(durable[-1] if durable else 0)

    def all_synced(self) -> None:
        """Everything was synced. Until ``see_syncs`` is called it could happen again without being noticed."""
        with self._lock:
            self._blind = True
            for inode in list(self._changes):
                self._forget_changes(inode)
            self._forget_steps(len(self._steps))

    def _forget_changes(self, inode: int) -> None:
        if inode in self._changes:
            os.close(self._changes.pop(inode)[0])

    def _forget_steps(self, count: int) -> None:
        for step in self._steps[:count]:
            with contextlib.suppress(OSError):
                step.forget()
        del self._steps[:count]

    def lose(self, rng: random.Random | None = None) -> int:
        """Take back all changes; how many these were.

        With ``rng`` the disk had written some of them meanwhile: of each file any, the latest at most in part; of the
        directories those that were made first.
        """
        with self._lock:
            lost = 0
            for file, changes in self._changes.values():
                lost += _lose(file, changes, rng)
                os.close(file)
            self._changes.clear()
            self._forget_steps(rng.randrange(len(self._steps)) if rng and self._steps else 0)
            for step in reversed(self._steps):
                # Another fault may have changed the directory by itself.
                with contextlib.suppress(OSError):
                    step.undo()
            lost += len(self._steps)
            self._steps.clear()
            return lost


def _lose(file: int, changes: list[Change], rng: random.Random | None) -> int:
    """Take back the changes of one file, but for what ``rng`` lets survive; how many are lost, wholly or in part."""
    made = []
    for change in reversed(changes):
        made.append((change, os.pread(file, change.length, change.offset) if rng and change.to is None else b""))
        os.ftruncate(file, change.size)
        os.pwrite(file, change.old, change.offset)
    if rng is None:
        return len(changes)
    lost = 0
    for number, (change, data) in enumerate(reversed(made), 1):
        last = number == len(changes)
        if not last and rng.random() < 0.5:
            _apply(file, change, data)
            continue
        lost += 1
        # A write that was under way ends where a sector does.
        end = change.offset + len(data)
        sectors = range((change.offset // SECTOR + 1) * SECTOR, end, SECTOR)
        if sectors and rng.random() < 0.5:
            _apply(file, change, data[: rng.choice(sectors) - change.offset])
    return lost


def _apply(file: int, change: Change, data: bytes) -> None:
    if change.to is not None:
        os.ftruncate(file, change.to)
    else:
        os.pwrite(file, data, change.offset)
