"""Wait on a host until the harness is gone, however that came, and then leave nothing of the run behind.

The harness holds the other end of this tool's input, over the connection that it steers the host by. ``directory`` is
where the run's servers keep their data; while the run goes, a file system of its own is mounted there. A host is one
node of one run at a time: two would heal each other's faults.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import Any

from harness.faults import clock, netem, network, process, resident, squeeze

_PATIENCE = 20.0
"""Seconds that a run which has just ended may take to undo everything."""


def claim() -> socket.socket:
    """Have this host to ourselves while the socket is open. Raises ``SystemExit`` if somebody else has it."""
    claimed = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            claimed.bind("\0splitbrain-leash")  # an abstract name, which goes with the process
            return claimed
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit("another run, or another node of this one, uses this host already") from None
            time.sleep(0.1)


def undo(directory: str) -> list[str]:
    """End the servers and every fault, and remove the data; what could not be done."""
    failed = []
    for what in (
        lambda: process.main({"do": "kill"}),
        lambda: resident.stop(clock.RESIDENT),
        network.heal,
        netem.mend,
        lambda: squeeze.main({"do": "heal"}),
        lambda: _remove(directory),
    ):
        try:
            what()
        except (SystemExit, OSError) as error:
            failed.append(str(error))
    return failed


def _mount(directory: str, size: int) -> None:
    os.makedirs(directory, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "splitbrain", directory]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")


def _remove(directory: str) -> None:
    subprocess.run(["umount", "-l", directory], capture_output=True, check=False)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(directory)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(directory))  # unless there is something else in it


def main(request: dict[str, Any]) -> list[str]:
    """Mount ``directory``, say ``ready``, wait for the end of the input, and undo everything."""
    directory = request["directory"]
    with claim():
        _mount(directory, request["size"])
        print("ready", flush=True)
        with contextlib.suppress(OSError):
            sys.stdin.read()
        return undo(directory)
