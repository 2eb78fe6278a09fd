from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from harness.console.progress import Progress
from harness.operation import NEMESIS, Event


def line(doing: str, *events: Event, seconds: float = 12.0, width: int = 80) -> str:
    progress: Any = Progress({}, 25.0, quiet=True)
    progress._console = Console(file=io.StringIO(), width=width, force_terminal=True)
    progress._run = SimpleNamespace(clock=lambda: int(seconds * 1e9))
    progress.say(doing)
    for event in events:
        progress.saw(event)
    progress._console.file.truncate(0)
    progress._console.print(progress._line())
    return str(progress._line().plain)


def fault(said: str) -> Event:
    return Event(0, 0, NEMESIS, "ok", "start-partition", value={"said": said})


@pytest.mark.parametrize(
    ("doing", "shown", "active"),
    [
        ("running for 25 s", "running", "partition"),
        ("healing, and waiting for the store to recover", "healing", "partition"),
        ("stopping: healing and reading once more; press Ctrl-C again to abort", "stopping", "partition"),
        ("final reads", "final reads", "no fault"),
    ],
)
def test_the_line_has_its_phase_and_elapsed_of_total_and_fits(doing: str, shown: str, active: str) -> None:
    done = [Event(0, 0, 1, "ok", "read") for _ in range(1234)]
    if active == "partition":
        done.append(fault("halves: n1 n2 n3 n4 | n5 n6 n7 n8 n9, dropped, in both directions"))
    said = line(doing, *done)
    assert said.startswith(f"12 of 25 s  {shown}  0 anomalies  {active}")
    assert "1,234 ops" in said
    assert said.endswith("0 failed 0 unknown")
    assert len(said) <= 80


def test_a_wide_terminal_shows_all_of_the_fault() -> None:
    assert "partition halves: n1 | n2 n3" in line("running", fault("halves: n1 | n2 n3"), width=120)


def test_time_does_not_go_beyond_the_total() -> None:
    assert line("final reads", seconds=31.0).startswith("25 of 25 s  ")


def test_faults_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in line("running", fault("\x1b[2J"))


def test_large_numbers_cut_neither_the_phase_nor_the_elapsed_time() -> None:
    done = [Event(0, 0, 1, kind, "read") for kind in ("ok", "fail", "info") for _ in range(2_000)]
    said = line("running for 3000 s", *done, fault("halves: n1 n2 n3 | n4 n5"), seconds=1234.0)
    assert said.startswith("25 of 25 s  running  0 anomalies  partition")
