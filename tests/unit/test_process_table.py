"""The table of server processes, while these come and go."""

from __future__ import annotations

import os
import subprocess
import sys
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
