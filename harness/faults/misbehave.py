"""Tell the file system under the store (``mount``) to misbehave."""

from __future__ import annotations

from typing import Any

from harness.faults import resident

RESIDENT = "storage"


def main(request: dict[str, Any]) -> Any:
    """Hand the request on: set a ``fault``, ``hold`` syncs for some ``seconds``, or ``lose`` what is not synced."""
    return resident.ask(RESIDENT, request)
