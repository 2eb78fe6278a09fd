"""Local nodes from a program: a process of their own, which loads the program's objects, and ends with the program."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness import Budget, Checker, Experiment, History, UsageError, Verdict, check, hunt, hunting, run
from harness.environments import local
from harness.targets.reference.target import Reference
from tests.end_to_end.test_command_line import STORE

pytestmark = pytest.mark.needs("local")

SHORT = Experiment("reference", environment="local", time=1.0, rate=50.0)

PROGRAM = f"""
import asyncio

from harness import Experiment, run

{STORE}

class Mine(Memory):
    def __init__(self, options):
        super().__init__(options)
        self.options = options

    async def form(self, cluster):
        print("formed", end="")

async def main():
    experiment = Experiment("x", environment="local", time=2.0)
    for part in (Mine, Mine(Mine.Options(forget=True))):
        outcome = run(experiment, target=part)
        print(outcome.verdict.validity, len(outcome.history) > 100, outcome.again)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_program_s_own_store_runs_on_local_nodes_under_its_event_loop(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "msgspec.py").write_text("raise SystemError('somebody imports from the current directory')")
    command = [sys.executable, "-P", "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    again = f"splitbrain run {tmp_path}/program.py:Mine --on local "
    assert first.startswith(f"valid True {again}")
    assert second.startswith(f"invalid True {again}")
    assert second.endswith("--option forget=yes")
    assert done.stderr == ""


def test_an_object_that_the_other_process_cannot_load_is_refused(tmp_path: Path) -> None:
    class Here(Reference):
        pass

    with pytest.raises(UsageError, match=r"local nodes live in a process of their own.* not at the top level of test_"):
        run(SHORT, target=Here, runs=tmp_path)
    assert not list(tmp_path.iterdir())


class Strict(Checker):
    """Finds that something is wrong with everything."""

    def __init__(self, why: str) -> None:
        self.why = why

    def check(self, history: History, budget: Budget) -> Verdict:
        return Verdict("invalid", f"{self.why} in {len(history)} events")


async def test_a_checker_of_ones_own_judges_here_what_was_run_there(tmp_path: Path) -> None:
    asyncio.get_running_loop()
    outcome = run(SHORT, checkers=Strict("nothing"), runs=tmp_path)
    assert outcome.verdict.parts["Strict"].reason == f"nothing in {len(outcome.history)} events"
    assert outcome.verdict.parts["integrity"].validity == "valid"
    assert outcome.again.startswith("no command can: Strict (a checker)")
    verdict = (outcome.directory / "verdict.json").read_text()
    assert '"nothing in ' in verdict
    # Whoever has not got it cannot judge the run again as it was judged.
    with pytest.raises(UsageError, match="'Strict'"):
        check(outcome.directory, report=True)
    assert (outcome.directory / "verdict.json").read_text() == verdict
    assert check(outcome.directory, checkers=Strict("nothing")).parts["Strict"].validity == "invalid"


def test_a_hunt_on_real_nodes_begins_no_run_after_its_first_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def fails(experiment: Experiment, runs: Path, **_: Any) -> tuple[Verdict, Path]:
        ran.append(experiment.seed)
        return Verdict("invalid"), runs

    monkeypatch.setattr(hunting, "run_in_a_process", fails)
    assert hunt(SHORT, 9, directory=tmp_path, stop=True).validity == "invalid"
    assert ran == [0]


def test_an_ordinary_user_s_path_is_enough_to_see_what_is_possible_here(monkeypatch: pytest.MonkeyPatch) -> None:
    local._tried.cache_clear()
    found = local._tried()
    folders = os.environ["PATH"].split(":")
    monkeypatch.setenv("PATH", ":".join(folder for folder in folders if not folder.endswith("sbin")))
    local._tried.cache_clear()
    assert local._tried() == found


def test_what_the_other_process_says_is_raised(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither target reference .* has an option"):
        run(Experiment("reference", environment="local", options={"no": "1"}), runs=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"the run directory .* cannot be made"):
        run(SHORT, runs=tmp_path / "file")


LONG = """
import signal, sys

from harness import Experiment, hunt, run

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    %s(Experiment("reference", environment="local", time=3000.0, rate=50.0))
except KeyboardInterrupt as stopped:
    print(*getattr(stopped, "__notes__", ()))
"""


def servers_of(folder: Path) -> list[int]:
    """The processes that were started in a folder, beside the program itself, and still are."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if os.readlink(entry) == str(folder):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("call", ["run", "hunt"])
def test_the_other_process_ends_with_the_program(tmp_path: Path, number: signal.Signals, call: str) -> None:
    (temporary := tmp_path / "tmp").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", LONG.replace("%s", call)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as program:
        while not any(path.stat().st_size > 1000 for path in tmp_path.glob(f"{call}s/**/history.jsonl")):
            assert program.poll() is None
            time.sleep(0.1)
        assert len(servers_of(tmp_path)) > 3
        program.send_signal(number)
        out, _ = program.communicate(timeout=120)
    if number == signal.SIGINT:
        assert program.returncode == 0
        if call == "run":
            assert out.startswith("aborted; what was recorded is in runs/reference-register-")
    while servers_of(tmp_path):
        time.sleep(0.1)
    assert not list(temporary.glob("splitbrain-run-*"))
