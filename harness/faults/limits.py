"""Say how much CPU time and memory the servers of this node may use, as their own containers show it."""

from __future__ import annotations

import os
from typing import Any

from harness.faults.process import servers


def _number(root: str, *names: str) -> list[float]:
    """The numbers in the first of these files that there is; none where it says that there is no limit."""
    for name in names:
        path = f"{root}/sys/fs/cgroup/{name}"
        if os.path.exists(path):
            with open(path) as file:
                return [float(word) for word in file.read().split() if word != "max"]
    return []


def main(request: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """For each server: ``cpu``, the share of one processor, and ``memory`` in bytes; None without a limit."""
    found = {}
    for one in servers():
        root = f"/proc/{one['pid']}/root"
        quota = _number(root, "cpu/cpu.cfs_quota_us", "cpu.max")
        period = quota[1:] or _number(root, "cpu/cpu.cfs_period_us")
        memory = _number(root, "memory/memory.limit_in_bytes", "memory.max")
        limited = (len(quota) == 1 and not quota[0] < 0) or len(quota) == 2
        found[f"{one['command']} {one['pid']}"] = {
            "cpu": quota[0] / period[0] if limited and period else None,
            "memory": memory[0] if memory and memory[0] < 1 << 60 else None,
        }
    return found
