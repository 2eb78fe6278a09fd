"""Whatever a store says, in values, errors and output, is text: it steers no terminal, and breaks no file."""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import hiredis
import pytest

from harness.targets.resp import Link

Command = Callable[..., "subprocess.CompletedProcess[str]"]

NASTY = (
    *("\x1b]0;owned\x07", "\x1b[2J", "\x9b2J", "[/]", "[bold red]x[/bold]", "[link=http://x]y", "\ud800", "\udcff"),
    *("\x00", "\ufffe", "\u202e", "]]>", "<script>", "\r\n", "&#27;", "{}", "%s", "\x7f", "\x85", "語"),
)
STORE = f"""
import random

from harness.operation import Failed, Indeterminate
from harness.targets.reference.target import Reference

NASTY = {NASTY!r}


class Client:
    def __init__(self, inner, seed):
        self.inner, self.rng = inner, random.Random(seed)

    def text(self):
        return "".join(self.rng.choice(NASTY) for _ in range(self.rng.randint(1, 9)))

    async def open(self):
        if self.rng.random() < 0.1:
            raise ConnectionError(self.text())
        await self.inner.open()

    async def invoke(self, operation):
        chance = self.rng.random()
        for limit, error in ((0.03, Failed), (0.05, Indeterminate), (0.07, KeyError)):
            if chance < limit:
                raise error(self.text())
        answer = await self.inner.invoke(operation)
        return self.text() if chance < 0.1 and operation.f == "read" else answer

    async def close(self):
        await self.inner.close()


class Garbles(Reference):
    made = 0

    def client(self, cluster, node, timeout):
        Garbles.made += 1
        return Client(super().client(cluster, node, timeout), Garbles.made)


class Refuses(Reference):
    async def start(self, cluster, node):
        from harness.errors import NodeError

        raise NodeError("[/red] it did not start: " + "".join(NASTY))
"""
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ufffe]")
OWN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[hl]|\x1b\[[0-9]?[AK]|\r")
"""What the live line and styles need of a terminal."""


def assert_harmless(done: subprocess.CompletedProcess[str]) -> None:
    for printed in (done.stdout, done.stderr):
        assert not HIDDEN.search(OWN.sub("", printed))
        assert "\x1b[2J" not in printed
        assert "Traceback" not in printed
        assert "a bug" not in printed


@pytest.mark.parametrize("terminal", [False, True])
def test_a_store_that_talks_garbage_is_judged_and_told(
    tmp_path: Path, splitbrain: Command, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    (tmp_path / "store.py").write_text(STORE)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    asked = ["--on", "simulation", "--time", "3", "--nemesis", "kill", "--interval", "1", "--runs", "r"]
    done = splitbrain("run", "store.py:Garbles", *asked)
    assert done.returncode == 1, done.stderr
    assert_harmless(done)
    # A bracket is a bracket.
    assert "[/]" in done.stdout or "[bold red]x" in re.sub(r"\s+", " ", done.stdout)
    (run,) = tmp_path.glob("r/*")
    failures = [case.findtext("failure") for case in ElementTree.parse(run / "junit.xml").iter("testcase")]
    assert any(failures)
    assert not HIDDEN.search((run / "report.html").read_text())
    for line in (run / "history.jsonl").read_bytes().splitlines():
        json.loads(line.decode())
    again = [["check", str(run), "--trust"], ["check", str(run / "history.jsonl"), "--model", "cas-register"]]
    for command in (*again, ["check", str(run), "--trust", "--report", "--format", "json"], ["convert", str(run)],
                    ["report", str(run)], ["explain", str(run)]):  # fmt: skip
        done = splitbrain(*command)
        assert done.returncode in (0, 1), done.stderr
        assert_harmless(done)


def test_a_store_that_does_not_start_says_why_in_plain_words(tmp_path: Path, splitbrain: Command) -> None:
    (tmp_path / "store.py").write_text(STORE)
    done = splitbrain("run", "store.py:Refuses", "--on", "simulation", "--time", "3")
    assert done.returncode == 4
    assert_harmless(done)
    assert "[/red] it did not start" in done.stderr
    assert "[link=http://x]y" in done.stderr


def test_no_bytes_in_a_history_give_a_traceback(tmp_path: Path) -> None:
    """Bytes of a history are exchanged for others: it is read, or refused in a sentence."""
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO
    from unittest import mock

    from harness.cli import main

    rng = random.Random(7)
    events = [
        {"index": i, "time": i, "process": i // 2, "type": kind, "f": "write", "key": "k", "value": i // 2}
        for i, kind in enumerate(("invoke", "ok") * 10)
    ]
    sources = [
        "".join(json.dumps(event) + "\n" for event in events),
        "".join(f'{{:process {e["process"]}, :type :{e["type"]}, :f :write, :value "{e["value"]}"}}\n' for e in events),
    ]
    junk = [word.encode("utf-8", "surrogatepass") for word in NASTY] + [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80"]
    for number in range(120):
        data = bytearray(rng.choice(sources).encode())
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 3)] = rng.choice(junk)
        file = tmp_path / f"history-{number}"
        file.write_bytes(data)
        for command in (["check", str(file)], ["convert", str(file)]):
            out, err = StringIO(), StringIO()
            for stream in (out, err):
                stream.reconfigure = lambda **_: None  # type: ignore[attr-defined]
            with (
                mock.patch("sys.argv", ["splitbrain", *command]),
                redirect_stdout(out),
                redirect_stderr(err),
                pytest.raises(SystemExit) as ended,
            ):
                main()
            assert ended.value.code in (0, 1, 2, 3), (data, err.getvalue())
            for printed in (out.getvalue(), err.getvalue()):
                assert not HIDDEN.search(printed), data
                assert "Traceback" not in printed


@pytest.mark.parametrize("file", ["experiment.json", "history.jsonl", "timetable.json"])
def test_a_run_whose_files_are_no_text_is_refused_in_a_sentence(tmp_path: Path, splitbrain: Command, file: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "experiment.json").write_text('{"target": "reference", "environment": "simulation", "time": 1.0}')
    (run / "history.jsonl").write_bytes(b'{"process": "\xff\xfe"}\n')
    (run / file).write_bytes(b'{"target": "\xff\xed\xa0\x80\x1b[2J"}\n')
    commands = [["check", "run"], ["replay", "run"], ["shrink", "run"], ["convert", "run"], ["report", "run"]]
    if file == "timetable.json":
        commands = [["run", "reference", "--on", "simulation", "--timetable", "run/timetable.json"]]
    for command in commands:
        if file == "history.jsonl" and command[0] == "replay":
            continue  # it is only compared
        done = splitbrain(*command)
        assert done.returncode == 2, (command, done.stderr)
        assert_harmless(done)
        assert len(done.stderr.splitlines()) == 1


async def test_no_bytes_of_a_server_give_a_traceback_of_the_loop() -> None:
    """A link reads whatever comes: an answer, an error, or the end of the connection."""
    rng = random.Random(3)
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context))
    pieces = [b"+OK\r\n", b"-ERR \xff\xfe[/]\r\n", b"$4\r\n\xff\xfe\x1b[\r\n", b"*2\r\n:1\r\n+\xc3\r\n", b"\x00", b"?"]

    class Transport(asyncio.Transport):
        def write(self, data: object) -> None:
            pass

        def abort(self) -> None:
            pass

    for _ in range(300):
        link = Link()
        link.connection_made(Transport())
        asked = [asyncio.ensure_future(link.execute_command("GET", "k")) for _ in range(3)]
        await asyncio.sleep(0)
        for _ in range(rng.randint(1, 6)):
            link.data_received(rng.choice(pieces))
        link.connection_lost(None)
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(answer, Exception):
                assert isinstance(answer, OSError | hiredis.ReplyError)
            json.dumps(answer if not isinstance(answer, Exception) else str(answer), ensure_ascii=False).encode()
    assert not raised


async def test_a_signal_while_a_number_is_written_out_does_not_crash_the_harness() -> None:
    class Interrupted(float):
        def __repr__(self) -> str:
            raise RuntimeError("a signal, say")

    link = Link()
    link.connection_made(asyncio.Transport())
    with pytest.raises(RuntimeError):
        await link.execute_command("SET", "k", Interrupted())  # type: ignore[arg-type]
