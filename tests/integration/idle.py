"""Runs a command of splitbrain with fault tools that answer as always and do nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nemeses.disk
import nemeses.storage
from harness.cli import main
from harness.environments.base import run_tool

ANSWERS: dict[str, dict[str, Any]] = {
    "disk": {
        "fill": {"size": 512 << 20},
        "flip": {"file": "/nowhere", "at": 0, "was": "00", "is": "01"},
        "truncate": None,
        "restore": None,
    },
    "misbehave": {"set": None, "hold": {"pending": 3}, "lose": {"lost": 3}},
}
"""By tool what it answers to a request to change something."""


async def run_idle_tool(node: Any, tool: str, request: Mapping[str, Any], **more: Any) -> Any:
    """What the tool would answer; it is asked itself only where it does not change anything."""
    answers = ANSWERS.get(tool, {})
    return answers[request["do"]] if request["do"] in answers else await run_tool(node, tool, request, **more)


if __name__ == "__main__":
    for module in (nemeses.disk, nemeses.storage):
        module.run_tool = run_idle_tool  # type: ignore[attr-defined]
    main()
