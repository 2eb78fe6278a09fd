"""Take CPU time and memory away from the servers of the node that this runs in, by a control group of the kernel.

``cpu`` is the share of one processor that they keep, ``memory`` the bytes that they may take in addition to what they
have; without one of them, that is left as it is. What the group counts then, ``limits`` reads. The group is made for
this node alone; its name begins with ``splitbrain-`` and what tells the run from others.
"""

from __future__ import annotations

import contextlib
import glob
import os
import socket
import time
from typing import Any, TypedDict

from harness.faults import resident
from harness.faults.process import HOME_MARK, pids

RESIDENT = "squeeze"
ROOT = "/sys/fs/cgroup"
_PERIOD = 100_000
_LEAST_QUOTA = 1_000
"""Microseconds of CPU time in each period (100 ms): the kernel gives nobody less."""
_LOOK_SECONDS = 0.05
_TIMED_OUT = 10.0


def group() -> str:
    """The name of this node's control group: those of a host are seen by all namespaces and runs on it."""
    run = os.environ.get("SPLITBRAIN_INSIDE") or os.path.basename(os.environ.get(HOME_MARK, "node"))
    return f"splitbrain-{run}-{socket.gethostname()}"


def controllers() -> dict[str, str]:
    """Where control groups for CPU time and for memory are made. Raises ``SystemExit`` if they cannot be had."""
    with open("/proc/self/mounts") as mounts:
        lines = [line.split() for line in mounts]
    if any(where == ROOT and kind == "cgroup2" for _, where, kind, *_ in lines):
        hierarchies = _unified()
    else:
        first = {
            name: [w for _, w, kind, o, *_ in lines if kind == "cgroup" and name in o.split(",")] for name in _BOTH
        }
        hierarchies = {name: places[0] for name, places in first.items() if places}
    if len(hierarchies) < len(_BOTH):
        raise SystemExit("the kernel's control groups for cpu and memory are not mounted here")
    for place in set(hierarchies.values()):
        attempt = f"{place}/splitbrain-try-{os.getpid()}"
        try:
            os.mkdir(attempt)
            os.rmdir(attempt)
        except OSError as error:
            raise SystemExit(f"no control group can be made in {place}: {error.strerror}; it takes root") from None
    return hierarchies


_BOTH = ("cpu", "memory")


def _unified() -> dict[str, str]:
    with open(f"{ROOT}/cgroup.subtree_control") as file:
        enabled = file.read().split()
    return {name: ROOT for name in _BOTH if name in enabled}


def _limits(cpu: float | None, memory: int | None) -> dict[str, list[tuple[str, str]]]:
    """The files that set the limits, by controller, for both generations of control groups."""
    unified = os.path.exists(f"{ROOT}/cgroup.controllers")
    limits = {}
    if cpu is not None:
        quota = round(cpu * _PERIOD)
        if quota < _LEAST_QUOTA:
            raise SystemExit(f"the kernel gives nobody less than {_LEAST_QUOTA / _PERIOD:g} CPUs, so not {cpu:g}")
        cfs = [("cpu.cfs_period_us", str(_PERIOD)), ("cpu.cfs_quota_us", str(quota))]
        limits["cpu"] = [("cpu.max", f"{quota} {_PERIOD}")] if unified else cfs
    if memory is not None:
        limits["memory"] = [("memory.max" if unified else "memory.limit_in_bytes", str(memory))]
    return limits


class Squeezed(TypedDict, total=False):
    """How many servers were squeezed, and in the end how many the kernel has ended for want of memory."""

    servers: int
    out_of_memory: int


class Squeeze(resident.Work):
    """Holds all servers of the node in the group, those that are started later too."""

    def __init__(self, cpu: float | None, memory: int | None) -> None:
        roots, limits = controllers(), _limits(cpu, memory)
        self._places = {name: f"{roots[name]}/{group()}" for name in limits}
        self._origins: dict[str, dict[str, str]] = {}
        for name, place in self._places.items():
            os.makedirs(place, exist_ok=True)
            for file, value in limits[name]:
                _write(f"{place}/{file}", value)
        self.step()

    def ask(self, request: Any) -> Squeezed:
        """How many servers are squeezed."""
        return {"servers": len(self._origins)}

    def step(self) -> float:
        for pid in map(str, pids()):
            if pid not in self._origins:
                with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                    self._origins[pid] = _groups_of(pid)
                    for place in self._places.values():
                        _write(f"{place}/cgroup.procs", pid)
        return _LOOK_SECONDS

    def end(self) -> Squeezed:
        """Give everything back; how many servers were squeezed, and how many the kernel ended for want of memory."""
        ended = 0
        for name, place in self._places.items():
            ended += _killed(place) if name == "memory" else 0
            for pid in _read(f"{place}/cgroup.procs").split():
                origin = self._origins.get(pid, {}).get(name, "/")
                root = os.path.dirname(place)
                with contextlib.suppress(ProcessLookupError):
                    there = f"{root}{origin}/cgroup.procs"
                    _write(there if os.path.exists(there) else f"{root}/cgroup.procs", pid)
        remove(self._places.values())
        return {"servers": len(self._origins), "out_of_memory": ended}


def _groups_of(pid: str) -> dict[str, str]:
    """The control groups that a process is in, by controller."""
    groups: dict[str, str] = {}
    for line in _read(f"/proc/{pid}/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(",") if names else _BOTH:
            groups.setdefault(name, path)
    return groups


def _killed(place: str) -> int:
    """How many processes the kernel ended in a group for want of memory."""
    for file in ("memory.oom_control", "memory.events"):
        if os.path.exists(f"{place}/{file}"):
            counts = dict(line.split() for line in _read(f"{place}/{file}").splitlines())
            return int(counts.get("oom_kill", 0))
    return 0


def remove(places: Any) -> None:
    """Remove control groups, as soon as what was in them is gone."""
    for place in set(places):
        deadline = time.monotonic() + _TIMED_OUT
        while True:
            try:
                os.rmdir(place)
                break
            except FileNotFoundError:
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise SystemExit(f"the control group {place} could not be removed: {error.strerror}") from None
                time.sleep(0.01)


def leftovers(run: str) -> list[str]:
    """The control groups of a run, on both generations of control groups."""
    return glob.glob(f"{ROOT}/splitbrain-{run}-*") + glob.glob(f"{ROOT}/*/splitbrain-{run}-*")


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)


def squeeze(cpu: float | None = None, memory: int | None = None) -> Squeezed:
    """Leave the servers so little from now on; how many these are."""
    resident.start(RESIDENT, lambda: Squeeze(cpu, memory))
    squeezed: Squeezed = resident.ask(RESIDENT)
    return squeezed


def heal() -> Squeezed:
    """Give everything back; what had been squeezed."""
    seen: Squeezed | None = resident.stop(RESIDENT)
    remove([place for root in set(controllers().values()) if os.path.isdir(place := f"{root}/{group()}")])
    return seen or {}


VERBS = (squeeze, heal)
