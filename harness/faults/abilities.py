"""Which faults can be injected where this runs: each is tried on something that nobody else uses."""

from __future__ import annotations

from harness.faults.tools import TOOLS


def tried() -> dict[str, str | None]:
    """For each capability that depends on the kernel: why it cannot be had, None if it can."""
    reasons: dict[str, str | None] = {}
    for tool in TOOLS:
        if tool.attempt is None:
            continue
        try:
            tool.attempt()
            why = None
        except (SystemExit, OSError) as error:
            why = str(error)
        reasons |= dict.fromkeys(tool.capabilities, why)
    return reasons


VERBS = (tried,)
