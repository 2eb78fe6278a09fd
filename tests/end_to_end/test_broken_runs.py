"""Runs that were cut short, killed or broken: never a pass, and what can be saved is saved."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conftest import SPLITBRAIN
from tests.end_to_end.odd_client import ODD_CLIENT

Command = Callable[..., "subprocess.CompletedProcess[str]"]

SIMULATED = ["run", "reference", "--on", "simulation", "--runs", "r"]
CHECKERS = '''
from beside import REASON
from harness.verdict import Anomaly, Checker, Verdict


class Raises(Checker):
    """Breaks."""

    def check(self, history, budget):
        raise KeyError("no such thing")


class Answers(Checker):
    """Gives no verdict."""

    def check(self, history, budget):
        return 7


class Bare(Checker):
    """Finds something without being able to name the operations."""

    def check(self, history, budget):
        return Verdict("invalid", REASON, [Anomaly("bare", "[red]seen[/] \\x1b[31m\\x07")])


class Demands(Checker):
    """Cannot be made."""

    def __init__(self, needed):
        pass

    def check(self, history, budget):
        return Verdict("valid")
'''


@pytest.fixture
def checkers(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CHECKERS)
    (tmp_path / "beside.py").write_text('REASON = "bare it is"\n')


def the_run(folder: Path) -> Path:
    (run,) = folder.glob("r/*")
    return run


def start(folder: Path, *arguments: str, events: int = 300) -> subprocess.Popen[str]:
    """A command whose run has recorded some events."""
    harness = subprocess.Popen(
        [SPLITBRAIN, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 60
    while harness.poll() is None and time.monotonic() < deadline:
        if any(path.read_bytes().count(b"\n") > events for path in folder.glob("r/*/history.jsonl")):
            return harness
        time.sleep(0.01)
    raise AssertionError(f"the run did not get going: {harness.communicate()[0]}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_simulated_run_that_is_stopped_is_no_pass(tmp_path: Path, number: signal.Signals) -> None:
    harness = start(tmp_path, *SIMULATED, "--time", "3000")
    harness.send_signal(number)
    said = harness.communicate(timeout=600)[0]
    assert harness.returncode == 3, said
    run = the_run(tmp_path)
    for text in (said, *((run / name).read_text() for name in ("verdict.json", "junit.xml", "report.html"))):
        assert "of 3000 s" in text
    assert json.loads((run / "verdict.json").read_text())["parts"]["completeness"]["validity"] == "unknown"


def test_what_was_found_before_a_run_was_stopped_counts_and_the_rest_is_said(tmp_path: Path) -> None:
    broken = ["-o", "replication=primary-backup", "-o", "acknowledge=async", "-o", "partition=primary"]
    harness = start(
        tmp_path, *SIMULATED, "--time", "3000", "--nemesis", "partition,kill", "--interval", "2", *broken, events=20_000
    )
    harness.send_signal(signal.SIGTERM)
    said = harness.communicate(timeout=600)[0]
    assert harness.returncode == 1, said
    assert "unknown: completeness: stopped after" in said
    assert "unknown: completeness: stopped after" in (the_run(tmp_path) / "report.html").read_text()


@pytest.mark.parametrize("workload", ["register", "set", "counter", "converge"])
def test_check_judges_a_run_as_the_run_did(tmp_path: Path, splitbrain: Command, workload: str) -> None:
    mode = [] if workload == "register" else ["-o", "replication=multi-primary"]
    ran = splitbrain(*SIMULATED, "--workload", workload, "--time", "4", *mode, "-o", "keys=2")
    verdict = json.loads((the_run(tmp_path) / "verdict.json").read_text())
    again = splitbrain("check", str(the_run(tmp_path)), "--format", "json")
    assert again.returncode == ran.returncode == 0, ran.stdout + again.stderr
    assert json.loads(again.stdout) == verdict


@pytest.mark.parametrize("workload", ["register", "set", "counter", "converge"])
def test_check_of_a_run_whose_harness_was_killed_says_so(tmp_path: Path, splitbrain: Command, workload: str) -> None:
    mode = [] if workload == "register" else ["-o", "replication=multi-primary"]
    harness = start(tmp_path, *SIMULATED, "--workload", workload, "--time", "3000", *mode)
    harness.kill()
    harness.communicate()
    done = splitbrain("check", str(the_run(tmp_path)), "--report", "--format", "json")
    assert done.returncode == 3, done
    assert "the harness was killed" in json.loads(done.stdout)["parts"]["completeness"]["reason"]
    for name in ("verdict.json", "junit.xml", "report.html"):
        assert "the harness was killed" in (the_run(tmp_path) / name).read_text()


def test_check_writes_what_a_run_wrote(tmp_path: Path, splitbrain: Command) -> None:
    assert splitbrain(*SIMULATED, "--time", "4").returncode == 0
    run = the_run(tmp_path)
    before = {name: (run / name).read_text() for name in ("verdict.json", "report.html")}
    for name in (*before, "junit.xml"):
        (run / name).unlink()
    assert splitbrain("check", str(run)).returncode == 0
    assert not (run / "verdict.json").exists()
    assert splitbrain("check", str(run), "--report").returncode == 0
    assert {name: (run / name).read_text() for name in before} == before
    assert ElementTree.parse(run / "junit.xml").getroot().get("errors") == "0"


def test_a_history_without_operations_is_no_pass(tmp_path: Path, splitbrain: Command) -> None:
    (tmp_path / "empty.jsonl").write_text('{"index":0,"time":1,"process":"nemesis","type":"info","f":"start-kill"}\n')
    done = splitbrain("check", "empty.jsonl")
    assert (done.returncode, done.stdout.partition(":")[0]) == (3, "unknown")


@pytest.mark.usefixtures("checkers")
def test_a_checker_that_breaks_takes_nothing_along(tmp_path: Path, splitbrain: Command) -> None:
    asked = ["--checker", "mine.py:Raises,./mine.py:Answers", "--checker", "mine.py:Bare"]
    done = splitbrain(*SIMULATED, "--time", "3", *asked)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("invalid: Bare: bare it is\n")
    assert "unknown: Raises: checker Raises raised KeyError: 'no such thing'" in done.stdout
    assert "unknown: Answers: checker Answers raised" in done.stdout
    assert "[red]seen[/] \\x1b[31m\\x07" in done.stdout
    run = the_run(tmp_path)
    cases = {
        case.get("name"): [part.tag for part in case] for case in ElementTree.parse(run / "junit.xml").iter("testcase")
    }
    assert cases["Raises"] == cases["Answers"] == ["error"]
    assert cases["Bare"] == ["failure"]
    assert cases["linearizable"] == cases["completeness"] == []
    assert "\x1b" not in (run / "report.html").read_text()
    # They are part of the experiment.
    assert "--checker mine.py:Raises --checker ./mine.py:Answers --checker mine.py:Bare" in done.stdout
    refused = splitbrain("check", str(run))
    assert refused.returncode == 2
    assert "--trust" in refused.stderr
    assert splitbrain("check", str(run), "--trust").stdout.splitlines()[0] == "invalid: Bare: bare it is"


@pytest.mark.usefixtures("checkers")
def test_check_takes_more_checkers_and_hunt_too(tmp_path: Path, splitbrain: Command) -> None:
    assert splitbrain(*SIMULATED, "--time", "3").returncode == 0
    done = splitbrain("check", str(the_run(tmp_path)), "--checker", "mine.py:Bare")
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "invalid: Bare: bare it is")
    hunted = splitbrain(
        "hunt",
        "reference",
        "--seeds",
        "1",
        "--time",
        "3",
        "--nemesis",
        "",
        "--checker",
        "mine.py:Bare",
        "--directory",
        "h",
    )
    assert hunted.returncode == 1, hunted.stderr
    assert "Bare: bare" in hunted.stdout


@pytest.mark.usefixtures("checkers")
@pytest.mark.parametrize(
    ("checker", "said"),
    [
        ("mine.py:Demands", "cannot be made"),
        ("mine.py:None", "defines no class"),
        ("vibes", "there is no checker named"),
    ],
)
def test_a_checker_that_cannot_be_had_is_refused_before_anything_starts(
    tmp_path: Path, splitbrain: Command, checker: str, said: str
) -> None:
    done = splitbrain(*SIMULATED, "--checker", checker)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "r").exists()


def test_a_full_disk_ends_the_run_and_the_verdict_is_said(tmp_path: Path) -> None:
    room = 40_000

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    done = subprocess.run(
        [SPLITBRAIN, *SIMULATED, "--time", "30"],
        cwd=tmp_path, capture_output=True, text=True, check=False, preexec_fn=little_room,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "of 30 s: the history could not be written: File too large" in done.stdout.splitlines()[0]
    last = done.stderr.splitlines()[-1]
    assert "history.jsonl" in last
    assert "could not be written: File too large" in last
    run = the_run(tmp_path)
    assert (run / "history.jsonl").stat().st_size == room
    assert "could not be written" in json.loads((run / "verdict.json").read_text())["reason"]
    assert not [path.name for path in run.iterdir() if path.name.endswith(".part")]


@pytest.mark.needs("local")
def test_a_directory_that_vanishes_is_made_again(tmp_path: Path, splitbrain: Command) -> None:
    harness = start(tmp_path, "run", "reference", "--on", "local", "--runs", "r", "--time", "4")
    run = the_run(tmp_path)
    shutil.rmtree(run)
    said = harness.communicate(timeout=600)[0]
    assert harness.returncode == 4, said
    assert "vanished during the run" in said
    assert "\nvalid" in said
    assert {"experiment.json", "history.jsonl", "verdict.json", "junit.xml", "report.html"} <= {
        path.name for path in run.iterdir()
    }
    assert splitbrain("check", str(run)).returncode == 0


@pytest.mark.needs("local")
@pytest.mark.parametrize("where", [0, 1, 99])
def test_the_traceback_of_an_inner_run_is_shown_on_demand(tmp_path: Path, splitbrain: Command, where: int) -> None:
    (tmp_path / "store.py").write_text(
        "from harness.target import Target\n"
        "class Store(Target):\n"
        "    name, workloads = 'store', {'register'}\n"
        "    async def start(self, cluster, node):\n        raise ZeroDivisionError('by hand')\n"
        "    async def form(self, cluster): pass\n"
        "    async def ready(self, cluster): return False\n"
        "    async def roles(self, cluster): return []\n"
        "    def client(self, cluster, node, timeout): pass\n"
    )
    words = ["run", "./store.py:Store", "--on", "local", "--runs", "r"]
    plain = splitbrain(*words)
    assert plain.returncode == 4
    assert "Traceback" not in plain.stderr
    last = plain.stderr.splitlines()[-1]
    assert "store.py, line 5: ZeroDivisionError: by hand; the run's directory is r/" in last
    assert "bug" not in plain.stderr
    done = splitbrain(*words[:where], "--debug", *words[where:])
    assert done.returncode == 4
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("splitbrain: ")


def test_debug_is_listed(splitbrain: Command) -> None:
    for command in ([], ["run"], ["check"], ["images", "build"]):
        assert "--debug" in splitbrain(*command, "--help").stdout


STORE = f"""
import asyncio
from harness.targets.reference.target import Reference
{ODD_CLIENT}
class Raises(Client):
    async def odd(self, operation):
        raise {{raised}}

class Store(Reference):
    name = "store"
    def client(self, cluster, node, timeout): return Raises(super().client(cluster, node, timeout))
"""
RUN_STORE = ["run", "./store.py:Store", "--on", "simulation", "--time", "3", "--rate", "50", "--runs", "r"]


def test_code_of_others_that_ends_the_process_is_no_pass(tmp_path: Path, splitbrain: Command) -> None:
    (tmp_path / "store.py").write_text(STORE.format(raised="SystemExit(0)"))
    done = splitbrain(*RUN_STORE)
    assert done.returncode == 4, done.stdout
    assert "code of a store, a workload, a nemesis or a checker has ended the command (0)" in done.stderr


def test_a_client_that_raises_what_looks_like_a_cancellation_loses_no_worker(
    tmp_path: Path, splitbrain: Command
) -> None:
    (tmp_path / "store.py").write_text(STORE.format(raised="asyncio.CancelledError"))
    done = splitbrain(*RUN_STORE, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


ANSWERS = """
from harness.targets.reference.target import Reference

class Client:
    def __init__(self, inner): self.inner = inner
    async def open(self): await self.inner.open()
    async def close(self): await self.inner.close()
    async def invoke(self, operation):
        answer = await self.inner.invoke(operation)
        return None if operation.f in ("cas", "members", "members-local") else answer

class Silent(Reference):
    name = "store"
    def client(self, cluster, node, timeout): return Client(super().client(cluster, node, timeout))

class Nobody(Reference):
    name = "store"
    def client(self, cluster, node, timeout): return None

class Roleless(Reference):
    name = "store"
    async def roles(self, cluster): return None
"""


@pytest.mark.parametrize(
    ("store", "workload", "said"),
    [
        ("Silent", "register", ["Client.invoke (", "answered cas with nothing"]),
        ("Silent", "set", ["Client.invoke (", "answered members with nothing"]),
        ("Nobody", "register", ["Nobody.client (", "returned NoneType, which has no open, invoke, close"]),
        ("Roleless", "register", ["Roleless.ready ("]),
    ],
)
def test_who_answers_with_nothing_where_a_value_is_needed_is_named(
    tmp_path: Path, splitbrain: Command, store: str, workload: str, said: list[str]
) -> None:
    (tmp_path / "store.py").write_text(ANSWERS)
    mode = ["-o", "replication=multi-primary"] if workload == "set" else []
    done = splitbrain("run", f"./store.py:{store}", "--workload", workload, *mode, *SIMULATED[2:], "--time", "3")
    assert done.returncode == 4, done.stdout
    last = done.stderr.splitlines()[-1]
    for words in (*said, "store.py)"):
        assert words in last
