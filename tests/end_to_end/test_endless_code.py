"""Code of others that never comes back: a simulation ends, names it, keeps the history, and is no pass."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.odd_client import ODD_CLIENT

Command = Callable[..., "subprocess.CompletedProcess[str]"]

BEGIN = f"""
import asyncio, time
from harness.environments.simulation import watchdog
from harness.generator import repeat
from harness.operation import Failed, Operation
from harness.targets.reference.target import Reference
from harness.workloads.register import Register
watchdog.BLOCKED_TICKS, watchdog.STANDING_TICKS = 5, 10  # sooner than for others
{ODD_CLIENT}
class Base(Reference):
    name = "store"
    def client(self, cluster, node, timeout): return Mine(super().client(cluster, node, timeout))

async def stubbornly(seconds):
    while True:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            pass

class Mine(Client): pass
class Store(Base): pass
"""
SWALLOWS = """
class Mine(Client):
    async def odd(self, operation): await stubbornly(3600)
"""
SLEEPS = """
class Mine(Client):
    async def odd(self, operation):
        time.sleep(10000)
"""
SPINS = """
class Mine(Client):
    async def odd(self, operation):
        while True:
            try:
                while True: pass
            except Exception:
                pass
"""
NEVER_WAITS = """
class Mine(Client):
    async def invoke(self, operation):
        raise Failed("at once")
"""
CLOSES_NEVER = """
class Mine(Client):
    async def close(self): await stubbornly(3600)
"""
STARTS_NEVER = """
class Store(Base):
    async def start(self, cluster, node):
        await asyncio.Event().wait()
"""
STARTS_STUBBORNLY = """
class Store(Base):
    async def start(self, cluster, node): await stubbornly(1)
"""
NEVER_READY = """
class Store(Base):
    async def ready(self, cluster):
        await asyncio.Event().wait()
"""
NO_ROLES = """
class Store(Base):
    async def roles(self, cluster):
        await asyncio.Event().wait()
    async def ready(self, cluster):
        return any(role.role == "primary" for role in await super().roles(cluster))
"""
ENDLESS = """
class Work(Register):
    name = "register"
    def final(self): return repeat(Operation("read", "k0"))
"""
BLOCKING = """
class Work(Register):
    name = "register"
    def final(self):
        while True: pass
"""
RUN = ["run", "./mine.py:Store", "--on", "simulation", "--time", "2", "--recovery", "5", "--runs", "r"]
CLIENT, WORK = "Mine.invoke (", ["--workload", "./mine.py:Work"]


@pytest.mark.parametrize(
    ("source", "words", "code", "said"),
    [
        (SWALLOWS, [], 3, CLIENT),
        (SLEEPS, [], 3, "Mine.odd ("),
        (SPINS, [], 3, "Mine.odd ("),
        (NEVER_WAITS, ["--rate", "0"], 3, "virtual time stands still"),
        (CLOSES_NEVER, [], 3, "Mine.close ("),
        (STARTS_NEVER, [], 4, "Store.start ("),
        (STARTS_STUBBORNLY, [], 3, "Store.start ("),
        (NEVER_READY, [], 4, "Store.ready ("),
        (ENDLESS, WORK, 3, "Work.final ("),
        (BLOCKING, WORK, 3, "Work.final ("),
    ],
)
def test_code_that_does_not_come_back_is_named(
    tmp_path: Path, splitbrain: Command, source: str, words: list[str], code: int, said: str
) -> None:
    (tmp_path / "mine.py").write_text(BEGIN + source)
    done = splitbrain(*RUN, *words, timeout=600)
    assert done.returncode == code, done.stdout + done.stderr
    first = done.stdout.splitlines()[0] if code == 3 else done.stderr.splitlines()[-1]
    assert first.startswith("unknown: " if code == 3 else "splitbrain: ")
    assert said in first
    assert "mine.py" in first or source == NEVER_WAITS
    (run,) = tmp_path.glob("r/*")
    assert splitbrain("check", str(run), "--trust").returncode == 3
    if code == 3:
        assert json.loads((run / "verdict.json").read_text())["validity"] == "unknown"


def test_roles_that_never_come_are_noted(tmp_path: Path, splitbrain: Command) -> None:
    (tmp_path / "mine.py").write_text(BEGIN + NO_ROLES)
    done = splitbrain(*RUN, "--time", "12")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = tmp_path.glob("r/*")
    assert "Store.roles (" in (run / "history.jsonl").read_text()
