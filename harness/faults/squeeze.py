"""Take CPU time and memory away from the servers of the node that this runs in, by a control group of the kernel.

``cpu`` is the share of one processor that they keep, ``memory`` the bytes that they may take in addition to what they
have. The group is made for this node alone; its name begins with ``splitbrain-`` and what tells the run from others.
"""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import socket
import time
from typing import Any

from harness.faults import resident
from harness.faults.process import HOME_MARK, pids

RESIDENT = "squeeze"
ROOT = "/sys/fs/cgroup"
_PERIOD = 100_000
_LOOK_SECONDS = 0.05
_BURN_SECONDS = 0.5
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
        found = _unified()
    else:
        first = {
            name: [w for _, w, kind, o, *_ in lines if kind == "cgroup" and name in o.split(",")] for name in _BOTH
        }
        found = {name: places[0] for name, places in first.items() if places}
    if len(found) < len(_BOTH):
        raise SystemExit("the kernel's control groups for cpu and memory are not mounted here")
    for place in set(found.values()):
        attempt = f"{place}/splitbrain-try-{os.getpid()}"
        try:
            os.mkdir(attempt)
            os.rmdir(attempt)
        except OSError as error:
            raise SystemExit(f"no control group can be made in {place}: {error.strerror}; it takes root") from None
    return found


_BOTH = ("cpu", "memory")


def _unified() -> dict[str, str]:
    with open(f"{ROOT}/cgroup.subtree_control") as file:
        enabled = file.read().split()
    return {name: ROOT for name in _BOTH if name in enabled}


def _limits(cpu: float, memory: int) -> dict[str, list[tuple[str, str]]]:
    """The files that set the limits, by controller, for both generations of control groups."""
    if os.path.exists(f"{ROOT}/cgroup.controllers"):
        return {"cpu": [("cpu.max", f"{round(cpu * _PERIOD)} {_PERIOD}")], "memory": [("memory.max", str(memory))]}
    cfs = [("cpu.cfs_period_us", str(_PERIOD)), ("cpu.cfs_quota_us", str(round(cpu * _PERIOD)))]
    return {"cpu": cfs, "memory": [("memory.limit_in_bytes", str(memory))]}


def _make(places: dict[str, str], cpu: float, memory: int) -> None:
    """Make control groups with these limits."""
    limits = _limits(cpu, memory)
    for name, place in places.items():
        os.makedirs(place, exist_ok=True)
        for file, value in limits[name]:
            _write(f"{place}/{file}", value)


class Squeeze(resident.Work):
    """Holds all servers of the node in the group, those that are started later too."""

    def __init__(self, cpu: float, memory: int) -> None:
        self._places = {name: f"{place}/{group()}" for name, place in controllers().items()}
        self._origins: dict[str, dict[str, str]] = {}
        _make(self._places, cpu, memory)
        self.step()

    def ask(self, request: Any) -> dict[str, str]:
        """Where the groups are."""
        return self._places

    def step(self) -> float:
        for pid in map(str, pids()):
            if pid not in self._origins:
                with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                    self._origins[pid] = _groups_of(pid)
                    for place in self._places.values():
                        _write(f"{place}/cgroup.procs", pid)
        return _LOOK_SECONDS

    def end(self) -> dict[str, int]:
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
    found: dict[str, str] = {}
    for line in _read(f"/proc/{pid}/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(",") if names else _BOTH:
            found.setdefault(name, path)
    return found


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


def prove(places: dict[str, str], cpu: float, memory: int) -> dict[str, Any]:
    """See that the servers have these limits, and that processes of our own feel such. Raises ``SystemExit`` if not."""
    deadline = time.monotonic() + _TIMED_OUT
    while any(not _is_in(str(pid), places) for pid in pids()):
        if time.monotonic() > deadline:
            raise SystemExit("there are servers that were to be squeezed, but are not in the control group")
        time.sleep(_LOOK_SECONDS)
    # In groups like those of the servers, and not in theirs: what is little is theirs.
    alike = {name: f"{place}-probe" for name, place in places.items()}
    _make(alike, cpu, memory)
    try:
        return _feel(alike, cpu, memory)
    finally:
        remove(alike.values())


def _is_in(pid: str, places: dict[str, str]) -> bool:
    """Whether a process is in the group, or has ended."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        return all(_groups_of(pid)[name].endswith(group()) for name in places)
    return True


def _feel(places: dict[str, str], cpu: float, memory: int) -> dict[str, Any]:
    used, status = _in_group(places, _burn)
    if used > cpu * _BURN_SECONDS + 0.1:
        raise SystemExit(f"a process that may use {cpu:g} of a processor used {used / _BURN_SECONDS:.2f}")
    _, status = _in_group(places, lambda: _take(memory * 2 + (16 << 20)))
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        raise SystemExit(f"a process took twice the {memory} bytes that its group may have, and lives")
    return {"servers": len(pids()), "cpu_share": round(used / _BURN_SECONDS, 3)}


def _burn() -> None:
    deadline = time.monotonic() + _BURN_SECONDS
    while time.monotonic() < deadline:
        pass


def _take(count: int) -> None:
    _write("/proc/self/oom_score_adj", "1000")  # it is this process that must go, not a server
    taken = bytearray(count)
    for at in range(0, count, 4096):
        taken[at] = 1


def _in_group(places: dict[str, str], do: Any) -> tuple[float, int]:
    """Do something in a process in the group: the CPU seconds that it used, and how it ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for place in places.values():
                _write(f"{place}/cgroup.procs", str(os.getpid()))
            do()
            code = 0
        finally:
            os._exit(code)
    _, status, usage = os.wait4(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 1:
        raise SystemExit("no process could be put into the control group")
    return usage.ru_utime + usage.ru_stime, status


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)


def main(request: dict[str, Any]) -> Any:
    """Do what ``request["do"]`` says: squeeze or heal."""
    if request["do"] == "squeeze":
        cpu, memory = request["cpu"], request["memory"]
        resident.start(RESIDENT, lambda: Squeeze(cpu, memory))
        return prove(resident.ask(RESIDENT), cpu, memory)
    if request["do"] == "heal":
        seen = resident.stop(RESIDENT)
        left = [place for root in set(controllers().values()) if os.path.isdir(place := f"{root}/{group()}")]
        remove(left)
        return seen or {}
    raise SystemExit(f"unknown action {request['do']!r}")
