"""Mounts the file system over a directory, and lets a process stay that serves it and is told what goes wrong.

It is run in a node as ``python -m harness.faults.mount DIRECTORY``, and needs what no other module here does: mfusepy.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any, Final

import mfusepy

from harness.faults import resident
from harness.faults.filesystem import Fault, FileSystem
from harness.faults.misbehave import RESIDENT
from harness.faults.syncs import SyncWatch

_MOUNT_SECONDS: Final = 20.0
_THREADS: Final = 64
"""So many syncs that are slow leave room for others."""
_HAS_MANY_THREADS: Final = (3, 12)
"""The version of libfuse which can be told how many."""


class _Asked(FileSystem, mfusepy.Operations):  # type: ignore[misc]
    """The file system as FUSE asks it."""


def _caller() -> int:
    pid: int = mfusepy.fuse_get_context()[2]
    return pid


class Mounted(resident.Work):
    """The file system while it is mounted, and what it is told to do."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._files = _Asked(directory, _caller)
        self._error = ""
        threading.Thread(target=self._serve, daemon=True).start()
        if not self._files.mounted.wait(_MOUNT_SECONDS):
            raise SystemExit(f"the file system could not be mounted over {directory}: {self._error or 'no answer'}")
        seen = threading.Event()

        def ready() -> None:
            self._files.see_syncs()
            seen.set()

        self._watch = SyncWatch(directory, ready)
        self._files.all_synced = self._watch.again
        if not seen.wait(_MOUNT_SECONDS):
            raise SystemExit(f"syncs of everything in {directory} cannot be noticed")

    def _serve(self) -> None:
        # Nothing is cached: what is lost must be gone for whoever looks.
        options: dict[str, Any] = {"foreground": True, "attr_timeout": 0, "entry_timeout": 0, "fsname": "splitbrain"}
        if (mfusepy.fuse_version_major, mfusepy.fuse_version_minor) >= _HAS_MANY_THREADS:
            options["max_threads"] = _THREADS
        try:
            mfusepy.FUSE(self._files, self._directory, **options)
        except (RuntimeError, OSError) as error:
            self._error = str(error)

    def ask(self, request: dict[str, Any]) -> Any:
        """Do what ``misbehave`` asks."""
        do = request.pop("do")
        if do == "hold":
            return self._files.hold(**request)
        if do == "lose":
            # Whatever was asked before this is done when this is answered.
            os.stat(self._directory)
            return self._files.lose(**request)
        if do not in ("begin", "heal"):
            raise SystemExit(f"the file system cannot {do}")
        self._files.misbehave(Fault(**request))
        return None

    def end(self) -> None:
        self._watch.end()
        subprocess.run(["umount", "-l", self._directory], check=False, capture_output=True)


if __name__ == "__main__":
    resident.start(RESIDENT, lambda: Mounted(sys.argv[1]))
