"""The command as its users meet it: good input, bad input, scripts."""

from __future__ import annotations

import contextlib
import gzip
import inspect
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.check import convert
from harness.errors import UsageError

Command = Callable[..., "subprocess.CompletedProcess[str]"]

GOOD = """\
{"index":0,"time":0,"process":0,"type":"invoke","f":"write","key":"x","value":1}
{"index":1,"time":10,"process":0,"type":"ok","f":"write","key":"x","value":1}
{"index":2,"time":20,"process":1,"type":"invoke","f":"read","key":"x"}
{"index":3,"time":30,"process":1,"type":"ok","f":"read","key":"x","value":1}
"""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "postgress"], 2, "there is no target named 'postgress'"),
        (["run", "redsi"], 2, "did you mean redis?"),
        (["run", "redis", "--workload", "banc"], 2, "there is no workload named 'banc'"),
        (["run", "redis", "--nemesis", "parition"], 2, "did you mean partition?"),
        (["run", "redis", "--on", "moon"], 2, "there is no environment named 'moon'"),
        (["run", "redis", "--nodes", "0"], 2, "--nodes is 0, but it must be a whole number from 1 to 1000"),
        (["run", "etcd", "--on", "local", "--nodes", "4"], 2, "etcd runs on 1, 3, 5, 7 nodes, not on 4"),
        (["run", "redis", "--on", "local", "--nodes", "1", "--nemesis", "partition"], 2, "at least 2 nodes, not 1"),
        (["run", "etcd", "--on", "simulation"], 2, "only asyncio servers in Python can be simulated, not etcd"),
        (["hunt", "redis", "--seeds", "2"], 2, "can be simulated, not redis-server"),
        (
            ["run", "reference", "--on", "simulation", "--nemesis", "clock", "-o", "monotonic=yes"],
            2,
            "--nemesis clock cannot be had with --on simulation: a simulated monotonic clock does not jump",
        ),
        (["run", "redis", "--on", "ssh", "-o", "hosts=a,b"], 2, "3 nodes need as many hosts, but -o hosts names 2"),
        (["run", "redis", "--on", "ssh", "-o", "hosts=a,b,a"], 2, "-o hosts names a host twice"),
        (["run", "redis", "--on", "local", "--image", "redis:8"], 2, "--image is for nodes in containers"),
        (["run", "redis", "--time", "-1"], 2, "--time is -1"),
        (["run", "redis", "-o", "apendonly=yes"], 2, "did you mean appendonly?"),
        (["run", "redis", "-o", "wait=soon"], 2, "-o wait of target redis is soon, but it must be a whole"),
        (["run", "redis", "-o", "wait"], 2, "an option is written NAME=VALUE"),
        (["run", "./nowhere.py:Store"], 2, "there is no file ./nowhere.py"),
        (["run"], 2, "name one target"),
        (["run", "redis", "--nonsense"], 2, "No such option"),
        (["hunt", "reference", "--timetable", "nowhere.json"], 2, "there is no timetable nowhere.json"),
        (
            ["hunt", "reference", "--timetable", "no.such:t.json"],
            2,
            "there is no package no.such to take",
        ),
        (
            ["hunt", "reference", "--timetable", "harness.targets.reference.bugs:t.json"],
            2,
            "bugs:t.json cannot be read",
        ),
        (["hunt", "reference", "--timetable", "bad.jsonl"], 2, "bad.jsonl is not a timetable"),
        (["check", "nowhere.jsonl"], 2, "there is no history at nowhere.jsonl"),
        (["report", "nowhere"], 2, "nowhere is no run's directory"),
        (["report", "nowhere", "--format", "gif"], 2, "is not one of 'html', 'svg', 'png'"),
        (["explain", "nowhere", "2"], 2, "nowhere is no run's directory"),
        (["check", "good.jsonl", "--model", "spreadsheet"], 2, "there is no model named 'spreadsheet'"),
        (["check", "bad.jsonl"], 2, "line 2"),
        (["list", "planets"], 2, "planets"),
        (["check", "good.jsonl", "--executor", "moon"], 2, "an executor is threads:N"),
        (["check", "good.jsonl", "--executor", "dask://127.0.0.1:9"], 4, "no Dask scheduler answers"),
        (["check", "good.jsonl", "--model", "nothing.py:Model"], 2, "there is no file nothing.py"),
        (["check", "good.jsonl", "--model", "kv"], 0, ""),
        (["check", "good.jsonl", "--model", "mutex"], 2, "line 1: the model mutex has no function 'write'"),
        (["check", "torn.edn"], 2, "torn.edn, line 3: '{' is never closed"),
        (
            ["check", "back.jsonl"],
            2,
            "back.jsonl, line 3: this is not an event of a history (an operation has the time -5",
        ),
        (["check", "orphan.jsonl"], 2, "orphan.jsonl, line 3: process 9 completes (ok) an operation that it never"),
        (["check", "types.jsonl"], 2, "types.jsonl, line 2: this is not an event of a history"),
    ],
)
def test_bad_input_is_one_sentence_and_starts_nothing(
    splitbrain: Command, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "good.jsonl").write_text(GOOD)
    first, second, third, fourth = GOOD.splitlines()
    files = {
        "bad.jsonl": [first, "hello"],
        "torn.edn": ["{:process 0 :type :invoke :f :read}", "{:process 0 :type :ok :f :read}", "{:process"],
        "back.jsonl": [first, second, third.replace("20", "-5"), fourth],
        "orphan.jsonl": [first, second, third.replace('"process":1', '"process":9').replace("invoke", "ok")],
        "types.jsonl": [first, second.replace('"time":10', '"time":"ten"')],
    }
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    done = splitbrain(*arguments)
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "hunts").exists()


def test_no_engine_is_one_sentence(splitbrain: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    for arguments in (["run", "redis", "--on", "docker"], ["clean"], ["images", "build"]):
        done = splitbrain(*arguments)
        assert done.returncode == 4
        assert "no Docker engine answers" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "host", ["tcp://192.0.2.1:2375", "ssh://root@192.0.2.1", "192.0.2.1:2375", "https://192.0.2.1"]
)
def test_an_engine_on_another_machine_is_refused(
    splitbrain: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    done = splitbrain("run", "reference", "--on", "docker")
    assert done.returncode == 4
    assert f"DOCKER_HOST names an engine on another machine ({host})" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_an_engine_that_this_machine_has_at_an_address_is_its_own(
    splitbrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = ["tcp://127.0.0.9:1", "localhost:1"]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        hosts.append(f"tcp://{probe.getsockname()[0]}:1")
    for host in hosts:
        monkeypatch.setenv("DOCKER_HOST", host)
        done = splitbrain("run", "reference", "--on", "docker")
        assert done.returncode == 4
        assert "no Docker engine answers" in done.stderr, done.stderr


@pytest.mark.needs("local")
def test_a_missing_server_is_one_sentence(splitbrain: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import shutil

    for tool in ("ip", "iptables", "nsenter", "setpriv", "unshare", "sh", "sleep", "hostname", "mount"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    done = splitbrain("run", "etcd", "--on", "local")
    assert done.returncode == 4
    assert done.stderr == "splitbrain: etcd is not on this machine: apt-get install etcd-server\n"
    assert not (tmp_path / "runs").exists()


def test_check_gives_the_verdict_and_its_exit_code(splitbrain: Command, tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text(GOOD)
    (tmp_path / "stale.jsonl").write_text(
        GOOD.replace('"type":"ok","f":"read","key":"x","value":1', '"type":"ok","f":"read","key":"x","value":null')
    )
    assert splitbrain("check", "good.jsonl").returncode == 0
    done = splitbrain("check", "stale.jsonl", "--format", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["anomalies"][0]["kind"] == "stale read"
    assert "\x1b[" not in splitbrain("check", "stale.jsonl").stdout


TOGGLE = """
from harness.checkers.linearizability.models import Model, UNKNOWN

class Toggle(Model):
    def init(self):
        return False

    def step(self, state, call):
        return [not state] if call.result in (UNKNOWN, not state) else []
"""


@pytest.mark.parametrize(("second", "code"), [("false", 0), ("true", 1)])
def test_a_model_of_ones_own_judges(splitbrain: Command, tmp_path: Path, second: str, code: int) -> None:
    (tmp_path / "my_model.py").write_text(TOGGLE)
    lines = []
    for answer in ("true", second):
        lines += ["{:process 0, :type :invoke, :f :toggle}", f"{{:process 0, :type :ok, :f :toggle, :value {answer}}}"]
    (tmp_path / "toggle.edn").write_text("\n".join(lines))
    done = splitbrain("check", "toggle.edn", "--model", "my_model.py:Toggle")
    assert done.returncode == code, done.stderr


def test_a_history_converts_to_edn_and_checks_as_that(splitbrain: Command, tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text(GOOD)
    assert splitbrain("convert", "good.jsonl", "good.edn").returncode == 0
    assert (tmp_path / "good.edn").read_text().splitlines()[0] == (
        '{:index 0, :time 0, :process 0, :type :invoke, :f :write, :value ["x" 1]}'
    )
    assert splitbrain("check", "good.edn", "--independent").returncode == 0
    assert splitbrain("convert", "good.jsonl").stdout == (tmp_path / "good.edn").read_text()


def test_convert_never_writes_over_its_source(splitbrain: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "history.jsonl").write_text(GOOD)
    (tmp_path / "symbolic.edn").symlink_to(run / "history.jsonl")
    (tmp_path / "hard.edn").hardlink_to(run / "history.jsonl")
    (tmp_path / "linked").symlink_to(run)
    for source in ("run", "symbolic.edn", "hard.edn", "linked"):
        for to in ("run/history.jsonl", "symbolic.edn", "hard.edn", "./run/../linked/history.jsonl"):
            with pytest.raises(UsageError, match="is the history that is to be converted: write to another file"):
                convert(tmp_path / source, tmp_path / to, independent=False)
            assert (run / "history.jsonl").read_text() == GOOD
    assert splitbrain("convert", "run", "run/history.jsonl").returncode == 2
    command = [str(Path(sys.executable).with_name("splitbrain")), "convert", "-", "hard.edn"]
    with (run / "history.jsonl").open() as given:
        assert subprocess.run(command, cwd=tmp_path, stdin=given, capture_output=True, check=False).returncode == 2
    assert (run / "history.jsonl").read_text() == GOOD
    (tmp_path / "other.edn").write_text("something else")
    assert splitbrain("convert", "run", "other.edn").returncode == 0
    assert (tmp_path / "other.edn").read_text().startswith("{:index 0")


def test_what_a_reader_should_know_is_noted_beside_the_verdict(splitbrain: Command, tmp_path: Path) -> None:
    lines = GOOD.replace('"time":20', '"time":7').splitlines()
    (tmp_path / "back.jsonl").write_text("\n".join(lines) + '\n{"index":4,"ti')
    done = splitbrain("check", "back.jsonl")
    assert done.returncode == 0, done.stderr
    assert "note: the recorded time steps back once, first on line 3, by at most 3 ns" in done.stdout
    assert "note: the last line of the history is torn" in done.stdout
    notes = json.loads(splitbrain("check", "back.jsonl", "--format", "json").stdout)["evidence"]["notes"]
    assert len(notes) == 2
    pairs = ["0 :invoke :write [0 5]", "0 :ok :write [0 5]", "1 :invoke :write [1 6]", "1 :ok :write [1 6]"]
    pairs += ["0 :invoke :read [0 nil]", "0 :ok :read [0 5]"]
    (tmp_path / "pairs.edn").write_text("\n".join(f"[{pair}]" for pair in pairs))
    done = splitbrain("check", "pairs.edn")
    assert done.returncode == 1
    assert "the values look like [key value] pairs of several objects: --independent reads them so" in done.stdout
    assert "phantom" not in done.stdout
    assert "stale" not in done.stdout
    assert splitbrain("check", "pairs.edn", "--independent").stdout.strip() == "valid"
    done = splitbrain("check", "pairs.edn", "--model", "mutex")
    assert done.returncode == 2
    done = splitbrain("check", "pairs.edn", "--model", "multi-register")
    assert "--independent reads them so" in done.stderr + done.stdout


@pytest.mark.parametrize("compress", [False, True])
def test_a_history_comes_through_a_pipe(splitbrain: Command, tmp_path: Path, compress: bool) -> None:
    data = gzip.compress(GOOD.encode()) if compress else GOOD.encode()
    (tmp_path / "data").write_bytes(data)
    shell = "cat data | {} check -; cat data | {} check /dev/stdin; cat data | {} convert -"
    command = str(Path(sys.executable).with_name("splitbrain"))
    done = subprocess.run(
        ["sh", "-c", shell.replace("{}", command)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[:3] == [
        "valid",
        "valid",
        '{:index 0, :time 0, :process 0, :type :invoke, :f :write, :value ["x" 1]}',
    ]


def test_big_numbers_and_odd_values_are_printed_as_json(splitbrain: Command, tmp_path: Path) -> None:
    for value in ("1" * 30, "#{1 [2]}", "##NaN", "##Inf", "{[1 2] #{3}}", '"\\u001b[2J"'):
        text = f"[0 :invoke :write 1] [0 :ok :write 1] [0 :invoke :read nil] [0 :ok :read {value}]"
        (tmp_path / "odd.edn").write_text(text)
        done = splitbrain("check", "odd.edn", "--format", "json")
        assert done.returncode == 1, done.stderr
        assert json.loads(done.stdout)["anomalies"][0]["kind"] == "phantom value"
        assert "\x1b" not in splitbrain("check", "odd.edn").stdout


def test_a_dask_cluster_checks_a_history(splitbrain: Command, tmp_path: Path) -> None:
    from distributed import LocalCluster

    text = GOOD.replace('"value":1', '"value":[1]').replace("write", "enqueue").replace("read", "dequeue")
    (tmp_path / "queue.jsonl").write_text(text)
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        where = cluster.scheduler_address.replace("tcp://", "dask://")
        done = splitbrain("check", "queue.jsonl", "--model", "fifo-queue", "--executor", where)
    assert (done.returncode, done.stdout) == (0, "valid\n"), done.stderr


def test_the_help_of_hunt_says_which_defaults_are_not_those_of_run(splitbrain: Command) -> None:
    from harness.cli import app

    run, hunt = (inspect.signature(command).parameters for command in (app.run, app.hunt))
    text = " ".join(splitbrain("hunt", "--help").stdout.partition("Arguments")[0].split())
    other = [f"--{name} {hunt[name].default}" for name in run if name in hunt and run[name] != hunt[name]]
    assert len(other) > 3
    assert all(words.removesuffix(".0") in text for words in other), (other, text)


@pytest.mark.parametrize("nodes", [3, 5])
def test_hunts_go_on_three_nodes_and_on_five(splitbrain: Command, tmp_path: Path, nodes: int) -> None:
    words = ["--seeds", "1", "--time", "5", "--directory", "h", *(["--nodes", "3"] if nodes == 3 else [])]
    done = splitbrain("hunt", "reference", "--bug", "no-fsync", "--nemesis", "kill", "-o", "kill=all", *words)
    assert done.returncode in (0, 1, 3), done.stderr
    assert json.loads((tmp_path / "h/experiment.json").read_text())["nodes"] == nodes


@pytest.mark.parametrize("kind", ["models", "targets", "workloads", "nemeses", "checkers", "environments"])
def test_lists_are_readable_by_people_and_scripts(splitbrain: Command, kind: str) -> None:
    rows = json.loads(splitbrain("list", kind, "--format", "json").stdout)
    assert all(row["name"] and row["what"] for row in rows)
    text = splitbrain("list", kind).stdout
    assert all(row["name"] in text for row in rows)


def test_doctor_says_what_is_there_and_how_to_get_the_rest(splitbrain: Command) -> None:
    done = splitbrain("doctor", "--format", "json")
    findings = json.loads(done.stdout)
    usable = {finding["name"]: finding["there"] for finding in findings}
    assert done.returncode == (0 if usable["--on local"] or usable["--on docker"] else 4)
    assert all(finding["said"] for finding in findings)


STORE = '''
"""A store of one value per key in a folder that all nodes share: not distributed at all."""
import msgspec
from harness.cluster import Role
from harness.operation import Failed
from harness.target import Target


class Memory(Target):
    """A dictionary."""

    class Options(msgspec.Struct):
        forget: bool = False

    name = "memory"
    workloads = frozenset({"register"})
    programs = {}
    claims = "linearizable"

    def __init__(self, options):
        self.values = {}
        self.forget = options.forget

    async def start(self, cluster, node):
        pass

    async def form(self, cluster):
        pass

    async def ready(self, cluster):
        return True

    async def roles(self, cluster):
        return [Role("n1", "primary", 1)]

    def client(self, cluster, node, timeout):
        return Client(self)


class Client:
    def __init__(self, store):
        self.store = store
        self.count = 0

    async def open(self):
        pass

    async def close(self):
        pass

    async def invoke(self, operation):
        values = self.store.values
        self.count += 1
        if operation.f == "read":
            return values.get(operation.key)
        if operation.f == "write":
            if not (self.store.forget and self.count % 7 == 0):
                values[operation.key] = operation.value
            return operation.value
        old, new = operation.value
        if values.get(operation.key) != old:
            raise Failed("another value")
        values[operation.key] = new
        return operation.value
'''


@pytest.mark.needs("local")
def test_a_store_in_a_file_of_ones_own_plugs_in(splitbrain: Command, tmp_path: Path) -> None:
    (tmp_path / "my_store.py").write_text(STORE)
    run = ["--on", "local", "--time", "2", "--format", "json"]
    done = splitbrain("run", "--target", "./my_store.py:Memory", *run)
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path / json.loads(done.stdout)["directory"]).name.startswith("my_store-register-")
    done = splitbrain("run", "./my_store.py:Memory", *run, "--time", "5", "-o", "forget=yes")
    assert done.returncode == 1, done.stderr


@pytest.mark.needs("local")
def test_a_run_that_dies_says_why_and_keeps_its_directory(splitbrain: Command, tmp_path: Path) -> None:
    (tmp_path / "my_store.py").write_text(
        STORE.replace(
            "        pass\n\n    async def form",
            '        if node.name == "n1":\n'
            '            await node.start("x", ["sh", "-c", "echo no space; exit 3"])\n\n    async def form',
        ).replace("return True\n\n    async def roles", "return False\n\n    async def roles")
    )
    done = splitbrain("run", "./my_store.py:Memory", "--on", "local", timeout=600)
    assert done.returncode == 4
    last = done.stderr.splitlines()[-1]
    assert "memory did not start: x on n1 ended at once" in last
    assert "x on n1 said: no space" in last
    assert len(list(tmp_path.glob("runs/*/nodes/n1/x.log"))) == 1
