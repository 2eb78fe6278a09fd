"""The table of server processes, while these come and go."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from harness.faults import process

_GONE = "2147483647"
"""No process or thread ever has this number."""


@pytest.fixture
def server() -> Iterator[dict[str, object]]:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with child:
        yield {"pid": child.pid, "since": 1, "state": "S", "command": "server"}
        child.kill()


def test_a_thread_that_ends_during_a_look_does_not_hide_its_server(
    server: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.listdir
    monkeypatch.setattr(process, "servers", lambda: [server])
    monkeypatch.setattr(os, "listdir", lambda path: [*listed(path), _GONE])
    (seen,) = process.look()
    assert seen["pid"] == server["pid"]
    assert seen["threads"] in ("R", "S", "D")


def test_a_server_that_ends_during_a_look_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "servers", lambda: [{"pid": int(_GONE)}])
    assert process.look() == []


def test_servers_of_several_nodes_are_killed_at_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were there before are killed first, without looking for them once more; later ones as well."""
    clock = [100.0]
    killed: list[tuple[float, int]] = []
    tables = [[1, 2], [2, 3], []]
    named = {"since": 1, "state": "S", "command": "server"}
    monkeypatch.setattr(process, "servers", lambda: [{"pid": pid, **named} for pid in tables.pop(0)])
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append((clock[0], pid)))
    signalled = process.kill(at=100.75)
    assert killed == [(100.75, 1), (100.75, 2), (100.75, 2), (100.75, 3)]
    assert [server["pid"] for server in signalled] == [1, 2, 3]


def test_who_has_another_clock_does_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(process, "servers", list)
    monkeypatch.setattr(time, "sleep", waited.append)
    assert process.kill(at=1e9) == []
    assert waited == [process.TOGETHER_SECONDS]
