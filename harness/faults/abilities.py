"""Which faults can be injected where this runs: each is tried on something that nobody else uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.faults import clock, netem, squeeze
from harness.faults.vdso import NONE, Skew, Unpatchable, Vdso


def _try_clock() -> None:
    try:
        clock.try_out(Vdso(), Skew(offset=3600 * 10**9), NONE)
    except (Unpatchable, OSError) as error:
        raise SystemExit(str(error)) from None


TRIED: dict[str, Callable[[], object]] = {
    "clock": _try_clock,
    "netem": netem.mechanism,
    "squeeze": squeeze.controllers,
}


def main(request: dict[str, Any]) -> dict[str, str | None]:
    """For each capability of ``TRIED``: why it cannot be had, None if it can."""
    found: dict[str, str | None] = {}
    for name, attempt in TRIED.items():
        try:
            attempt()
            found[name] = None
        except SystemExit as why:
            found[name] = str(why)
    return found
