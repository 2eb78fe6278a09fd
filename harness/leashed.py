"""A command that lives no longer than its parent: ``python -P leashed.py PARENT COMMAND...``.

The kernel ends it when the thread that started it ends, however that comes. Imports little: it is over in a moment.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""


def main(parent: str, *command: str) -> None:
    """Become the command; end at once if the parent, a process by its number, is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == int(parent):
        os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
