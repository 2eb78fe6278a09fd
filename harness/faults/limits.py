"""Say how much CPU time and memory the servers of this node may use, and what their control groups count.

The groups are found from the servers, as their own containers show them; nothing is asked of whoever set the limits.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TypedDict

from harness.faults.process import servers
from harness.faults.squeeze import ROOT, group

_NO_LIMIT = 1 << 60


class _Use(TypedDict):
    used: float
    held: int


class _Cpu(TypedDict):
    cpu: float | None
    throttled: int
    throttled_seconds: float


class _Memory(TypedDict):
    memory: int | None
    at_limit: int
    ended: int


class Counts(_Use, _Cpu, _Memory):
    """CPU seconds that a server has ``used`` and bytes that it has ``held``, and what its control groups say.

    ``cpu`` is the share of one processor, ``memory`` is in bytes, both None without a limit. ``throttled`` is how often
    the group had to wait for CPU time; ``at_limit`` how often it had as much memory as it may; ``ended`` how many
    processes the kernel ended for that. ``groups`` tells whether two answers are about the same groups.
    """

    groups: list[str]


def _place(pid: str, controller: str) -> str:
    """The folder of the control group that a process is in for CPU time (``cpu``) or for ``memory``."""
    with open(f"/proc/{pid}/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    of_controller = [path for _, names, path in lines if controller in names.split(",")]
    unified = [path for _, names, path in lines if not names]
    root = f"/proc/{pid}/root{ROOT}"
    first, path = (f"{root}/{controller}", of_controller[0]) if of_controller else (root, unified[0])
    # In a container of its own a process sees its group as the root of all.
    return f"{first}{path}" if path != "/" and os.path.isdir(f"{first}{path}") else first


def _words(place: str, *names: str) -> list[str]:
    """The words of the first of these files that there is; none otherwise."""
    for name in names:
        with contextlib.suppress(FileNotFoundError), open(f"{place}/{name}") as file:
            return file.read().split()
    return []


def _counts(place: str, *names: str) -> dict[str, int]:
    """The numbers that stand behind a word each."""
    words = _words(place, *names)
    return {name: int(number) for name, number in zip(words[::2], words[1::2], strict=True)}


def _cpu(place: str) -> _Cpu:
    quota, *period = [float(word) for word in _words(place, "cpu.cfs_quota_us", "cpu.max") if word != "max"] or [-1.0]
    period = period or [float(word) for word in _words(place, "cpu.cfs_period_us")]
    counts = _counts(place, "cpu.stat")
    return {
        "cpu": quota / period[0] if quota > 0 and period else None,
        "throttled": counts.get("nr_throttled", 0),
        "throttled_seconds": counts.get("throttled_time", 1000 * counts.get("throttled_usec", 0)) / 1e9,
    }


def _memory(place: str) -> _Memory:
    limit = [int(word) for word in _words(place, "memory.limit_in_bytes", "memory.max") if word != "max"]
    events = _counts(place, "memory.events", "memory.oom_control")
    at_limit = _words(place, "memory.failcnt")
    return {
        "memory": limit[0] if limit and limit[0] < _NO_LIMIT else None,
        "at_limit": int(at_limit[0]) if at_limit else events.get("max", 0),
        "ended": events.get("oom_kill", 0),
    }


def _use(pid: int) -> _Use:
    """The CPU seconds that a process has used, and the bytes that it holds."""
    with open(f"/proc/{pid}/statm") as file:
        pages = int(file.read().split()[1])
    # The clock that clock_getcpuclockid(3) finds for the process.
    return {"used": time.clock_gettime(~pid << 3 | 2), "held": pages * os.sysconf("SC_PAGE_SIZE")}


def look() -> dict[str, Counts]:
    """For each server, by command and number, what it has used and holds, and for its groups the limits and counts."""
    counts: dict[str, Counts] = {}
    for server in servers():
        pid = server["pid"]
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, OSError):
            places = _place(str(pid), "cpu"), _place(str(pid), "memory")
            groups = [place.removeprefix(f"/proc/{pid}/root") for place in places]
            counts[f"{server['command']} {pid}"] = {
                **_use(pid), **_cpu(places[0]), **_memory(places[1]), "groups": groups
            }  # fmt: skip
    # Once the kernel has ended all of its servers, a group is found by its name alone.
    alone = [f"{ROOT}/cpu/{group()}", f"{ROOT}/memory/{group()}"] if not _is_unified() else [f"{ROOT}/{group()}"] * 2
    if any(map(os.path.isdir, alone)) and not any(set(alone) & set(server["groups"]) for server in counts.values()):
        counts["nobody"] = {"used": 0.0, "held": 0, **_cpu(alone[0]), **_memory(alone[1]), "groups": alone}
    return counts


def _is_unified() -> bool:
    return os.path.exists(f"{ROOT}/cgroup.controllers")


VERBS = (look,)
