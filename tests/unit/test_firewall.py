"""Whose lock the firewall's rules are made under."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from harness.environments.programs import search_path
from harness.faults.buffers import RECEIVED, enlarge
from harness.faults.network import iptables
from harness.faults.process import HOME_MARK


@pytest.fixture(autouse=True)
def _firewall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "iptables").write_text('#!/bin/sh\necho "lock=$XTABLES_LOCKFILE"\n')
    (tmp_path / "iptables").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("XTABLES_LOCKFILE", raising=False)


def test_on_a_host_the_lock_is_the_hosts_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_MARK, "/var/tmp/some-run")
    assert iptables("-S") == "lock=\n", "a lock in /tmp can be held by any user of the host"


def test_elsewhere_the_lock_is_the_namespaces_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOME_MARK, raising=False)
    lock = iptables("-S").strip().removeprefix("lock=")
    assert os.stat(lock).st_ino == os.stat("/proc/self/ns/net").st_ino, "nobody else may hold it, nor own it"


class Ordinary(socket.socket):
    """A socket of a user whom the kernel lets force nothing."""

    def setsockopt(self, level: int, name: int, value: Any) -> None:  # type: ignore[override]
        if level == socket.SOL_SOCKET and name in (32, 33):
            raise PermissionError(1, "Operation not permitted")
        super().setsockopt(level, name, value)


def test_a_buffer_that_cannot_be_forced_is_asked_for() -> None:
    with Ordinary(socket.AF_INET, socket.SOCK_DGRAM) as line:
        before = line.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert before <= enlarge(line, RECEIVED, 16 << 20) == line.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def test_a_path_has_the_folders_of_administrators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin:/usr/sbin")
    assert search_path() == "/usr/bin:/bin:/usr/sbin:/usr/local/sbin:/sbin"
