"""Tell the file system under the store (``harness.storage``) to misbehave, and see from outside it that it does."""

from __future__ import annotations

import errno
import os
import time
from typing import Any

from harness.faults import resident

RESIDENT = "storage"
PROBE = "storage-probe"
_SAYS = {"readonly": "Read-only file system", "errors": "Input/output error"}


def probe(path: str) -> tuple[str | None, float]:
    """Write and sync a file there: the error, None without one, and how many seconds the sync took.

    That a disk is full, too, is another fault's doing.
    """
    name = f"{path}/{PROBE}"
    began = time.monotonic()
    try:
        with open(name, "wb", buffering=0) as file:
            try:
                file.write(b"x")
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            began = time.monotonic()
            os.fsync(file.fileno())
        took = time.monotonic() - began
        os.unlink(name)
    except OSError as error:
        return os.strerror(error.errno or 0), time.monotonic() - began
    return None, took


def main(request: dict[str, Any]) -> Any:
    """Set ``fault`` (``readonly``, ``errors``, ``slow`` with ``delay``, or None), or lose what is not synced."""
    if request["do"] == "lose":
        return resident.ask(RESIDENT, {"do": "lose"})
    fault, delay = request["fault"], request.get("delay", 0.0)
    resident.ask(RESIDENT, {"do": "set", "fault": fault, "delay": delay})
    said, took = probe(request["path"])
    if said != _SAYS.get(fault) or took < delay:
        raise SystemExit(f"with the fault {fault} a write said {said}, and its sync took {took:.3f} s")
    return {"said": said, "sync": round(took, 4)}
