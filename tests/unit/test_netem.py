"""The kernel's netem: what somebody else has put on an interface stays there."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.faults import netem

TC = """#!/bin/sh
case "$*" in
"qdisc show") cat "$(dirname "$0")/shown";;
"qdisc show dev lo") sed 's/ dev lo//' "$(dirname "$0")/shown";;
"qdisc show"*) ;;
*) echo "$*" >>"$(dirname "$0")/done";;
esac
"""


@pytest.mark.parametrize(
    ("shown", "removed"),
    [
        ("qdisc netem 8001: dev lo root refcnt 2 limit 1000 delay 100ms\n", []),
        ("qdisc prio 1: dev lo root refcnt 2 bands 4\nqdisc netem 40: dev lo parent 1:4 limit 1000 loss 5%\n", []),
        ("qdisc noqueue 0: dev lo root refcnt 2\n", []),
        (
            f"qdisc prio {netem.DISCIPLINE} dev lo root refcnt 2 bands 4\n"
            f"qdisc netem 8002: dev lo parent {netem.DISCIPLINE}4 limit 1000 loss 5%\n",
            ["qdisc del dev lo root"],
        ),
    ],
)
def test_only_our_own_discipline_is_removed(
    shown: str, removed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tc").write_text(TC)
    (tmp_path / "tc").chmod(0o755)
    (tmp_path / "shown").write_text(shown)
    (tmp_path / "done").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(netem, "iptables", lambda *words, **named: "")
    netem.mend()
    assert (tmp_path / "done").read_text().splitlines() == removed
