"""Whose lock the firewall's rules are made under."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.faults.network import iptables
from harness.faults.process import HOME_MARK


def test_on_a_host_the_lock_is_the_hosts_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "iptables").write_text('#!/bin/sh\necho "lock=$XTABLES_LOCKFILE"\n')
    (tmp_path / "iptables").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("XTABLES_LOCKFILE", raising=False)
    monkeypatch.setenv(HOME_MARK, "/var/tmp/some-run")
    assert iptables("-S") == "lock=\n", "a lock in /tmp can be held by any user of the host"
