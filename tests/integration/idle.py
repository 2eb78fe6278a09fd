"""Runs a command of splitbrain with fault tools that answer as always and do nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.cli import main
from harness.environments.base import run_tool
from harness.environments.tools import Request
from harness.faults import disk, misbehave
from harness.nemeses import disk as nemesis_disk
from harness.nemeses import storage as nemesis_storage

ANSWERS: dict[Callable[..., Any], Any] = {
    disk.fill: 512 << 20,
    disk.flip: {"file": "/nowhere", "at": 0, "was": "00", "is": "01"},
    disk.truncate: None,
    disk.restore: None,
    misbehave.begin: None,
    misbehave.heal: None,
    misbehave.hold: 3,
    misbehave.lose: 3,
}
"""What tools answer to a request to change something."""


async def run_idle_tool(node: Any, request: Request[Any], **more: Any) -> Any:
    """What the tool would answer; it is asked itself only where it does not change anything."""
    return ANSWERS[request.do] if request.do in ANSWERS else await run_tool(node, request, **more)


if __name__ == "__main__":
    for module in (nemesis_disk, nemesis_storage):
        module.run_tool = run_idle_tool  # type: ignore[attr-defined]
    main()
