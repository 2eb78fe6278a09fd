"""What a first day with the command shows: help, lists, hints, files of one's own, and text that steers a terminal."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SPLITBRAIN

Command = Callable[..., "subprocess.CompletedProcess[str]"]

STORE = '''
from beside import NAME
from harness.target import Target


class Store(Target):
    """Nothing at all, said [in brackets]."""

    name = NAME
    workloads = frozenset({"register"})

    async def start(self, cluster, node):
        pass

    async def form(self, cluster):
        pass

    async def ready(self, cluster):
        return True

    async def roles(self, cluster):
        return []

    def client(self, cluster, node, timeout):
        return Client()


class Client:
    async def open(self):
        pass

    async def close(self):
        pass

    async def invoke(self, operation):
        raise RuntimeError("[red]no \\x1b[31mstore")
'''


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.usefixtures("narrow")
def test_brackets_are_text(splitbrain: Command) -> None:
    assert "[key value]" in splitbrain("check", "--help").stdout
    assert "[expected, new]" in splitbrain("list", "models").stdout
    assert "ssh" in next(line for line in splitbrain("run", "--help").stdout.splitlines() if "--on" in line)


@pytest.mark.usefixtures("narrow")
def test_bugs_can_be_read_and_their_commands_copied_in_80_columns(splitbrain: Command) -> None:
    lines = splitbrain("list", "bugs").stdout.splitlines()
    commands = [line.partition("splitbrain ")[2] for line in lines if line.startswith("  found by: splitbrain ")]
    assert len(commands) == sum(not line.startswith(" ") for line in lines) >= 30
    assert all(command.startswith("hunt reference --bug ") and " -o " in command for command in commands)
    assert all(len(line) <= 80 for line in lines if "found by" not in line)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "./nope.py"], "write ./nope.py:Class"),
        (["run", "nope.py"], "write nope.py:Class"),
        (["run", "./nope.py:"], "write ./nope.py:Class"),
        (["run", "--target", "./store.py"], "write ./store.py:Class"),
        (["run", "reference", "--workload", "./nope.py"], "write ./nope.py:Class"),
        (["run", "reference", "--nemesis", "./nope.py"], "write ./nope.py:Class"),
        (["run", "reference", "--checker", "./nope.py"], "write ./nope.py:Class"),
        (["check", "history.jsonl", "--model", "./nope.py"], "write ./nope.py:Class"),
        (["run", "./nope.py:Store"], "there is no file ./nope.py"),
        (["run", "./store.py:Shop"], "./store.py defines no class Shop"),
        (["run", "./store.py:Client"], "./store.py:Client is no target: it does not extend harness.target.Target"),
        (
            ["run", "reference", "--workload", "./store.py:Store"],
            "is no workload: it does not extend harness.workload.Workload",
        ),
        (["run", "./broken.py:Store"], "./broken.py does not run: SyntaxError"),
        (["run", "./leaves.py:Store"], "./leaves.py does not run: SystemExit"),
        (["run", "reference", "--on", "simulation", "--runs", "store.py"], "store.py"),
        (["run", "reference", "-o", b"bug=\xff"], "is not text in UTF-8"),
        (["check", "folder"], "there is no history at folder"),
        (["check", "run", "--report", "--model", "kv"], "are for the directory of a run"),
    ],
)
def test_what_a_person_gets_wrong_is_a_hint_and_no_bug(tmp_path: Path, arguments: list[str | bytes], said: str) -> None:
    (tmp_path / "store.py").write_text(STORE)
    (tmp_path / "beside.py").write_text('NAME = "mine"')
    (tmp_path / "broken.py").write_text("class Store(")
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)")
    (tmp_path / "history.jsonl").write_text("")
    (tmp_path / "folder").mkdir()
    done = subprocess.run([SPLITBRAIN, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "bug" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.needs("local")
def test_a_store_imports_what_lies_beside_it_and_nothing_else_does(tmp_path: Path, splitbrain: Command) -> None:
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "store.py").write_text(STORE)
    (tmp_path / "stores" / "beside.py").write_text('NAME = "mine"')
    for stray in ("typer", "msgspec", "rich", "asyncio", "docker"):
        for folder in (tmp_path, tmp_path / "stores"):
            (folder / f"{stray}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write('{stray} ')")
    for store in ("stores/store.py:Store", "reference"):
        done = splitbrain("run", store, "--on", "local", "--time", "3", "--runs", "r")
        assert done.returncode == (3 if ":" in store else 0), done.stderr
        assert not (tmp_path / "imported").exists()


HOSTILE = """\
{"index":0,"time":0,"process":0,"type":"invoke","f":"write","key":"\\u001b[31m\\u009b2J","value":1}
{"index":1,"time":10,"process":0,"type":"ok","f":"write","key":"\\u001b[31m\\u009b2J","value":1}
{"index":2,"time":20,"process":1,"type":"invoke","f":"read","key":"\\u001b[31m\\u009b2J"}
{"index":3,"time":30,"process":1,"type":"ok","f":"read","key":"\\u001b[31m\\u009b2J","value":"[bold]\\u001b]0;\\u0007"}
"""


@pytest.mark.parametrize("more", [[], ["--format", "json"], ["--model", "kv"]])
def test_keys_values_and_errors_steer_no_terminal(tmp_path: Path, splitbrain: Command, more: list[str]) -> None:
    (tmp_path / "hostile.jsonl").write_text(HOSTILE)
    done = splitbrain("check", "hostile.jsonl", *more)
    text = done.stdout + done.stderr
    assert "31m" in text
    assert not any(character in text for character in "\x1b\x07\x9b")


def test_output_that_nobody_reads_is_no_anomaly(tmp_path: Path) -> None:
    for sink in ("| true", "> /dev/full", ">&-"):
        for command in ("list bugs", "--help", "check nothing.jsonl"):
            done = subprocess.run(
                ["bash", "-c", f"{SPLITBRAIN} {command} {sink}; exit ${{PIPESTATUS[0]}}"],
                cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONUNBUFFERED": ""},
            )  # fmt: skip
            assert done.returncode in (0, 2, 4), (sink, command, done.stderr)
            assert "Traceback" not in done.stderr
            assert "Exception ignored" not in done.stderr
            assert "bug" not in done.stderr
            assert bool(done.stderr) == (done.returncode != 0)
