"""Real stores, end to end: what keeps its promise passes, what does not is found out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.targets.reference.bugs import BUGS
from harness.targets.reference.metrics import METRICS_PORT
from harness.targets.reference.server import CLIENT_PORT
from tests.conftest import SPLITBRAIN

Command = Callable[..., "subprocess.CompletedProcess[str]"]

LOCAL = pytest.param("local", marks=pytest.mark.needs("local"))
DOCKER = pytest.param("docker", marks=pytest.mark.needs("docker"))


def run(splitbrain: Command, *arguments: str) -> tuple[int, dict[str, Any], Path]:
    done = splitbrain("run", *arguments, "--format", "json", "--runs", "r")
    assert done.returncode in (0, 1, 3), done.stderr + done.stdout
    outcome = json.loads(done.stdout)
    return done.returncode, outcome["verdict"], Path(outcome["directory"])


def tells(verdict: dict[str, Any], *, failover: bool = False) -> bool:
    """Whether a run knows what it found. With ``failover`` it must have had one to pass.

    A sentinel that stood still for 2 s fails nothing over for the next 30 s: Redis calls that TILT.
    """
    none_yet = failover and verdict["validity"] == "valid" and verdict["evidence"]["role_changes"] == 0
    return verdict["validity"] != "unknown" and not none_yet


def measured(
    splitbrain: Command, seconds: int, *arguments: str, failover: bool = False
) -> tuple[int, dict[str, Any], Path]:
    """A run that tells something; a longer one where this machine is too busy for that in the time that it takes."""
    for time_given in (seconds, 4 * seconds):
        found = run(splitbrain, *arguments, "--time", str(time_given))
        if tells(found[1], failover=failover):
            break
    return found


@pytest.mark.parametrize("environment", [LOCAL, DOCKER])
@pytest.mark.needs("etcd")
def test_etcd_keeps_its_promise(environment: str, splitbrain: Command, tmp_path: Path) -> None:
    code, verdict, directory = measured(
        splitbrain, 14, "etcd", "--on", environment, "--nemesis", "partition,kill,pause", "--interval", "2",
        "--seed", "7",
    )  # fmt: skip
    assert (code, verdict["validity"]) == (0, "valid"), verdict
    evidence = verdict["evidence"]
    assert evidence["ok"] > 1000
    assert set(evidence["faults"]) == {"partition", "kill", "pause"}
    assert all(entry["proved"] >= 1 for entry in evidence["faults"].values())
    path = tmp_path / directory
    assert {"experiment.json", "history.jsonl", "verdict.json", "report.html", "junit.xml"} <= {
        p.name for p in path.iterdir()
    }
    assert (path / "nodes/n1/etcd.log").stat().st_size > 0
    suite = ElementTree.parse(path / "junit.xml").getroot()
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")


@pytest.mark.needs("local", "etcd")
def test_a_member_joins_again_once_those_that_were_killed_meanwhile_serve_again(
    splitbrain: Command, tmp_path: Path
) -> None:
    nodes = ["n1", "n2", "n3"]
    faults = [
        {"name": "membership", "start": 6.0, "stop": 60.0, "plan": {"aim": "n3", "order": nodes, "leaving": 1}},
        # Late: etcd lets nobody leave until all members have been connected for 5 s.
        {"name": "kill", "start": 25.0, "stop": 60.0, "plan": {"aim": "all", "order": nodes}},
    ]
    (tmp_path / "faults.json").write_text(json.dumps({"faults": faults}))
    code, verdict, directory = run(
        splitbrain, "etcd", "--on", "local", "--time", "28", "--nemesis", "kill,membership",
        "--timetable", "faults.json",
    )  # fmt: skip
    assert (code, verdict["validity"]) == (0, "valid"), verdict
    (healed,) = (
        event
        for event in map(json.loads, (tmp_path / directory / "history.jsonl").read_text().splitlines())
        if event["process"] == "nemesis" and event["f"] == "heal" and event["type"] == "ok"
    )
    assert healed["value"]["membership"]["members"] == ["n1", "n2", "n3"]


@pytest.mark.parametrize(
    ("environment", "seed"),
    [
        pytest.param("local", 3, marks=pytest.mark.needs("local")),
        pytest.param("docker", 1, marks=pytest.mark.needs("docker")),
    ],
)
@pytest.mark.needs("redis")
def test_redis_with_sentinel_loses_writes_whatever_the_seed_since_its_primary_is_cut_off_first(
    environment: str, seed: int, splitbrain: Command, tmp_path: Path
) -> None:
    code, verdict, directory = measured(
        splitbrain, 20, "redis", "--on", environment, "--nemesis", "partition", "--seed", str(seed), failover=True
    )
    assert (code, verdict["validity"]) == (1, "invalid"), verdict
    anomaly = verdict["parts"]["linearizable"]["anomalies"][0]
    assert anomaly["kind"] in ("lost write", "stale read", "lost update", "impossible update")
    # A write that the lone primary took may be found missing only after the cut.
    assert any(fault.startswith("partition") for one in verdict["anomalies"] for fault in one.get("faults", ()))
    assert len(anomaly["operations"]) >= 2
    suite = ElementTree.parse(tmp_path / directory / "junit.xml").getroot()
    invalid = [part for part in verdict["parts"].values() if part["validity"] == "invalid"]
    assert suite.get("failures") == str(len(invalid)) != "0"


@pytest.mark.needs("local")
def test_the_reference_store_passes_with_raft(splitbrain: Command) -> None:
    chaos = ["--on", "local", "--nemesis", "chaos", "--interval", "2", "--nodes", "5", "--seed", "3", "--rate", "50"]
    code, verdict, _ = measured(splitbrain, 20, "reference", *chaos)
    assert (code, verdict["validity"]) == (0, "valid"), verdict


@pytest.mark.needs("local")
def test_the_reference_store_fails_in_async_mode(splitbrain: Command) -> None:
    faults = ["--nemesis", "partition", "-o", "partition=primary", "--interval", "2"]
    mode = ["-o", "replication=primary-backup", "-o", "acknowledge=async"]
    code, verdict, _ = measured(splitbrain, 12, "reference", "--on", "local", *faults, *mode)
    assert (code, verdict["validity"]) == (1, "invalid"), verdict


SHOWN_BY_REAL_PROCESSES = [
    "read-from-any-node",
    "cas-checked-early",
    "failover-without-majority",
    "witness-becomes-primary",
    "small-quorums",
    "half-a-tree",
    "tombstone-resurrected",
    "key-by-key",
    "reads-after-the-commit",
    "last-committer-wins",
    "snapshot-of-half-the-keys",
    "unlocks-before-the-commit",
    "reads-between-the-phases",
]
"""Those that need no luck: a cut or a kill of the primary is enough, or nothing at all."""


def test_a_quarter_of_the_planted_bugs_are_looked_for_in_real_processes() -> None:
    assert len(set(SHOWN_BY_REAL_PROCESSES) & set(BUGS)) >= len(BUGS) / 4


@pytest.mark.needs("local")
@pytest.mark.parametrize("name", SHOWN_BY_REAL_PROCESSES)
def test_a_planted_bug_shows_in_real_processes_too(splitbrain: Command, name: str) -> None:
    more = ["--on", "local", "--time", "9", "--rate", "150", "--recovery", "5"]
    for seed in range(1, 6):
        _, verdict, _ = run(splitbrain, *BUGS[name].arguments(), *more, "--seed", str(seed))
        if verdict["parts"][BUGS[name].checker]["validity"] == "invalid":
            return
    pytest.fail(f"{name} showed under none of five seeds")


@pytest.mark.needs("docker", "redis")
def test_a_vendors_image_runs_unmodified(splitbrain: Command) -> None:
    import docker

    from harness.environments.engine import IMAGE

    client = docker.from_env()
    client.images.get(IMAGE).tag("splitbrain-test/vendor", "1")
    try:
        faults = ["--nemesis", "kill", "-o", "kill=one", "--interval", "2"]
        code, verdict, _ = measured(splitbrain, 6, "redis", "--image", "splitbrain-test/vendor:1", *faults)
    finally:
        client.images.remove("splitbrain-test/vendor:1")
    assert code in (0, 1), verdict
    assert verdict["evidence"]["faults"]["kill"]["proved"] >= 1


@pytest.mark.needs("local")
def test_without_the_right_to_make_namespaces_a_user_namespace_does(tmp_path: Path) -> None:
    rights = "-sys_admin,-net_admin"

    def without(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", SPLITBRAIN, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)

    faults = ["--nemesis", "partition,pause", "--interval", "3"]
    code, verdict, _ = measured(without, 12, "reference", "--on", "local", *faults)
    assert (code, verdict["validity"]) == (0, "valid"), verdict


@pytest.mark.usefixtures("loopback")
@pytest.mark.needs("redis")
@pytest.mark.parametrize("replication", ["raft", "gossip"])
def test_a_wrong_command_is_refused_and_changes_nothing(tmp_path: Path, replication: str) -> None:
    command = [sys.executable, "-m", "harness.targets.reference.server", "--name", "n1", "--node", "n1=127.0.0.1"]
    options = json.dumps({"replication": replication})
    server = subprocess.Popen([*command, "--data", str(tmp_path), "--options", options], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert b"serves clients" in server.stdout.readline()

        def cli(*words: str) -> str:
            argv = ["redis-cli", "-h", "127.0.0.1", "-p", str(CLIENT_PORT), *words]
            return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

        deadline = time.monotonic() + 20
        while cli("SET", "k", "1") != "OK" and time.monotonic() < deadline:
            time.sleep(0.05)
        wrong = ["ONCE me x SET k 2", "ONCE me 1 GET k", "ONCE me 1 MEMBERS ADD", "ONCE me 1 SET k", "INCRBY k abc"]
        wrong += ["PEEK SET k", "PEEK FOO k", "SET k", "HSET k f v" if replication == "raft" else "MEMBERS"]
        for line in wrong:
            assert cli(*line.split()).startswith("ERR "), line
        assert cli("GET", "k") == "1"
    finally:
        server.kill()
        server.wait()


@pytest.mark.usefixtures("loopback")
@pytest.mark.needs("redis")
def test_redis_cli_talks_to_the_reference_store(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness.targets.reference.server", "--name", "n1", "--node", "n1=127.0.0.1"]
    server = subprocess.Popen([*command, "--data", str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert b"serves clients" in server.stdout.readline()

        def cli(*words: str) -> str:
            argv = ["redis-cli", "-h", "127.0.0.1", "-p", str(CLIENT_PORT), *words]
            return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

        deadline = time.monotonic() + 20
        while "NOTPRIMARY" in cli("SET", "k", "1") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert cli("SET", "k", "2") == "OK"
        assert (cli("CAS", "k", "2", "3"), cli("CAS", "k", "2", "4"), cli("GET", "k")) == ("1", "0", "3")
        assert (cli("DEL", "k"), cli("GET", "k"), cli("PING")) == ("1", "", "PONG")
        assert "role:primary" in cli("INFO")
        assert cli("FROBNICATE").startswith("ERR unknown command")
        assert (cli("SADD", "s", "x"), cli("SMEMBERS", "s"), cli("GET", "s")) == (
            "1",
            "x",
            "WRONGTYPE s holds no string and no number",
        )
        assert (cli("ONCE", "me", "1", "INCRBY", "n", "5"), cli("ONCE", "me", "1", "INCRBY", "n", "5")) == ("5", "5")
        assert (cli("PEEK", "GET", "n"), cli("MEMBERS")) == ("5", "n1")
        with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        assert 'splitbrain_role{role="primary"} 1' in metrics
        assert "splitbrain_keys 2" in metrics
        assert int(re.findall(r"splitbrain_storage_bytes (\d+)", metrics)[0]) > 100
        second = subprocess.run([*command, "--data", str(tmp_path / "2")], capture_output=True, text=True, check=False)
        assert second.returncode != 0
        assert "could not start" in second.stderr
    finally:
        server.kill()
        server.wait()


@pytest.mark.needs("local", "etcd")
def test_serializable_reads_of_etcd_are_stale(splitbrain: Command) -> None:
    faults = ["--nemesis", "partition", "--interval", "3"]
    code, verdict, _ = measured(splitbrain, 15, "etcd", "--on", "local", *faults, "-o", "reads=serializable")
    assert code == 1
    assert {anomaly["kind"] for anomaly in verdict["anomalies"]} <= {"stale read", "lost write"}


@pytest.mark.needs("local", "docker")
def test_the_same_seed_plans_the_same_faults_on_every_environment(splitbrain: Command, tmp_path: Path) -> None:
    def planned(environment: str) -> list[bytes]:
        _, verdict, directory = run(
            splitbrain, "reference", "--on", environment, "--time", "10", "--interval", "2", "--seed", "5",
            "--nemesis", "partition,kill,pause,clock,netem,disk,restart",
        )  # fmt: skip
        assert verdict["validity"] != "invalid"
        lines = (tmp_path / directory / "history.jsonl").read_bytes().splitlines()
        starts = [json.loads(line) for line in lines if b'"invoke","f":"start-' in line]
        return [json.dumps([event["f"], event["value"]]).encode() for event in starts]

    with ThreadPoolExecutor(3) as pool:  # runs mostly wait
        plans = list(pool.map(planned, ("local", "docker", "simulation")))
    # A fault that takes long delays the next, and the last may not come about in time.
    least = min(map(len, plans))
    assert least >= 2
    assert len({b"\n".join(some[:least]) for some in plans}) == 1
