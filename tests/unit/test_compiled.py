"""What is compiled already is not compiled again, and no process is started for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.checkers.compiled import compile_in_background
from harness.checkers.linearizability import Linearizable
from harness.checkers.transactions import Transactional


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []

    def popen(command: list[str], **_: Any) -> None:
        commands.append(command)

    monkeypatch.setattr(subprocess, "Popen", popen)
    return commands


def test_a_process_is_started_only_where_something_is_to_be_compiled(tmp_path: Path, started: list[list[str]]) -> None:
    kernel, index = tmp_path / "kernel.py", tmp_path / "__pycache__" / "kernel.f-1.py311.nbi"
    kernel.write_text("")
    index.parent.mkdir()
    compile_in_background("some.module", [kernel])
    assert [command[-1] for command in started] == ["some.module"]
    index.write_text("")
    compile_in_background("some.module", [kernel])
    assert len(started) == 1
    os.utime(index, (1, 1))
    compile_in_background("some.module", [kernel])
    assert len(started) == 2


def test_checkers_name_files_that_are_there(started: list[list[str]]) -> None:
    for checker in (Linearizable(), Transactional()):
        checker.warm()
    for command in started:
        assert command[-1].endswith(".warm")
