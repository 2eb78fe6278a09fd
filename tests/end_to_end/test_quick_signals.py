"""Two signals right after each other, from the first line of the command on: a sentence and a code of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import SPLITBRAIN

INT, TERM = signal.SIGINT, signal.SIGTERM


def heeds_signals(pid: int) -> bool:
    """Whether a process holds or catches SIGTERM: until then it is Python that starts."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigBlk", "SigCgt"))]
    return any(mask >> (TERM - 1) & 1 for mask in masks)


@pytest.mark.parametrize("place", ["simulation", pytest.param("local", marks=pytest.mark.needs("local"))])
@pytest.mark.parametrize("pair", [(INT, INT), (TERM, INT)])
@pytest.mark.parametrize(("delay", "gap"), [(0.0, 0.0), (0.02, 0.02), (0.1, 0.0), (0.3, 0.02), (0.5, 0.0)])
def test_two_quick_signals(
    tmp_path: Path, place: str, pair: tuple[signal.Signals, signal.Signals], delay: float, gap: float
) -> None:
    words = [SPLITBRAIN, "run", "reference", "--on", place, "--time", "3000", "--runs", "r"]
    pipe, shown = subprocess.PIPE, {**os.environ, "PYTHONFAULTHANDLER": "1"}
    harness = subprocess.Popen(words, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, env=shown)
    while not heeds_signals(harness.pid):
        assert harness.poll() is None
        time.sleep(0.002)
    time.sleep(delay)
    for number in pair:
        harness.send_signal(number)
        time.sleep(gap)
    try:
        out, err = harness.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        harness.send_signal(signal.SIGABRT)  # Python shows where it is
        pytest.fail(harness.communicate()[1])
    assert harness.returncode in (3, 4), (harness.returncode, err)
    assert "Traceback" not in err
    if harness.returncode == 3:
        assert out.startswith("unknown: ")
    else:
        assert err.splitlines()[-1].startswith("splitbrain: ")


SLOW = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
for _ in range(3_000_000):
    pass
done = True
"""
ENDLESS = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True:\n    pass"
IMPORTS = """
import sys, time
from harness.cli import stopping

stopping.end_on_signals()
stopping._IMPORT_SECONDS = float(sys.argv[1])
try:
    try:
        import module
    except BaseException:  # as some libraries do, to try something else
        print("swallowed")
    exec(sys.argv[2])
except stopping.Ended as ended:
    print(ended, sys.modules["module"].done)
"""
WORKS, WAITS = "for _ in range(10**9): pass", "time.sleep(600)"


@pytest.mark.parametrize(
    ("module", "seconds", "then", "said"),
    [
        (SLOW, "1000", WORKS, "SIGINT True\n"),
        (SLOW, "1000", WAITS, "SIGINT True\n"),
        (ENDLESS, "0.2", "pass", "swallowed\n"),
    ],
)
def test_a_signal_waits_until_a_module_is_imported_but_not_for_ever(
    tmp_path: Path, module: str, seconds: str, then: str, said: str
) -> None:
    (tmp_path / "module.py").write_text(module)
    shown = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", IMPORTS, seconds, then]
    done = subprocess.run(command, env=shown, capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.stderr) == (said, "")


SWALLOWED = """
import asyncio, os, signal
from harness.cli.stopping import Ended, end_on_signals, go_on, tell

async def run():
    tell(lambda: print("told"))

end_on_signals()
go_on()
try:
    os.kill(os.getpid(), signal.SIGTERM)
except BaseException:
    pass
for begin in (go_on, lambda: asyncio.run(run())):
    try:
        begin()
    except Ended as ended:
        print(ended)
"""


def test_a_signal_that_somebody_swallows_ends_the_command_before_anything_long_begins() -> None:
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.stderr) == ("SIGTERM\nSIGTERM\n", "")


IGNORED = """
import os, signal, weakref
from harness.cli.stopping import Ended, end_on_signals

end_on_signals()
thing = type("Thing", (), {})()
reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
try:
    del thing
    for _ in range(10**9):
        pass
except Ended as ended:
    print(ended)
"""


def test_a_signal_that_comes_in_a_callback_which_python_ignores_ends_the_command_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", IGNORED], capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.stderr) == ("SIGTERM\n", "")


HALF_CHANGED = """
import io, os, signal, sys
from harness import cli

class Stream(io.TextIOWrapper):
    half = False
    def reconfigure(self, **changes):
        self.half = True
        os.kill(os.getpid(), signal.SIGTERM)
        self.half = False
    def writable(self):
        return not self.half
    def write(self, text):
        return 0 if self.half else super().write(text)

sys.stderr = Stream(sys.stderr.buffer)
sys.argv = ["splitbrain", "list", "targets"]
cli.main()
"""


def test_a_signal_does_not_find_a_stream_half_changed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HALF_CHANGED], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (4, "splitbrain: stopped by SIGTERM, without a verdict\n")
