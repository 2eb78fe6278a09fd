"""Notices when somebody syncs the whole file system, which FUSE does not tell.

A process of ours keeps a page of a file of the file system dirty in memory. Whoever syncs everything has the kernel
write it, which the file system sees; then it is made dirty again. The kernel writes it by itself after half a minute
as well, as it does with everything of that age.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Final

CANARY: Final = ".splitbrain-canary"
PAGE: Final = 4096
_PROGRAM: Final = """
import mmap, sys
with open(sys.argv[1], "r+b") as file:
    page = mmap.mmap(file.fileno(), 0)
while True:
    page[0] = (page[0] + 1) % 256
    sys.stdout.write("dirty\\n")
    sys.stdout.flush()
    if not sys.stdin.readline():
        break
"""


class SyncWatch:
    """Calls ``ready`` when the next sync will be noticed; when one is, ``again`` has to be called."""

    def __init__(self, directory: str, ready: Callable[[], None]) -> None:
        self._ready = ready
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, f"{directory}/{CANARY}"]
        self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._keeper.stdout is not None
        for _ in self._keeper.stdout:
            self._ready()

    def again(self) -> None:
        """The page was written: have it made dirty again."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(b"again\n")
        self._keeper.stdin.flush()

    def end(self) -> None:
        """Look no longer."""
        self._keeper.kill()
        self._keeper.wait()
