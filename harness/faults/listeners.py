"""Say who listens on TCP ports of the node that this runs in: a server of the run, or somebody else.

The kernel's tables name the inode of each listening socket, and the process table those who have it open.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TypedDict

from harness.faults.process import pids

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTENS = "0A"
_PATIENCE = 3.0
"""Seconds to look again: a server may be just beginning or ending, so that one table knows of it and the other not."""


class Listener(TypedDict):
    """A socket that listens: its port, whether it is one of the run's, and by whom it is held."""

    port: int
    ours: bool
    by: str


def _sockets(ports: set[int]) -> Iterator[tuple[int, str]]:
    """The port and the inode of each socket that listens on one of these ports."""
    for table in _TABLES:
        with contextlib.suppress(FileNotFoundError), open(table) as file:
            for line in file.readlines()[1:]:
                _, local, _, state, *rest = line.split()
                port = int(local.rpartition(":")[2], 16)
                if state == _LISTENS and port in ports:
                    yield port, rest[5]


def _holders() -> dict[str, set[int]]:
    """By the inode of a socket, the processes that have it open."""
    holders: dict[str, set[int]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    kind, _, inode = os.readlink(f"/proc/{pid}/fd/{descriptor}").partition(":")
                    if kind == "socket":
                        holders.setdefault(inode.strip("[]"), set()).add(int(pid))
    return holders


def _told(pid: int) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as file:
        return f"{file.read().strip()} (process {pid})"
    return f"process {pid}"


def look(ports: set[int]) -> list[Listener]:
    """Each socket that listens on one of these ports."""
    sockets = list(_sockets(ports))
    holders, servers = _holders(), set(pids())
    listeners: list[Listener] = []
    for port, inode in sockets:
        by = holders.get(inode, set())
        who = ", ".join(map(_told, sorted(by))) or "a process that cannot be seen from here"
        listeners.append({"port": port, "ours": bool(by & servers), "by": who})
    return listeners


def watch(ports: list[int]) -> list[Listener]:
    """Look at some ports, again for a while where a socket is not ours: only what stays so is."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        listeners = look(set(ports))
        if all(listener["ours"] for listener in listeners) or time.monotonic() > deadline:
            return listeners
        time.sleep(0.05)


VERBS = (watch,)
