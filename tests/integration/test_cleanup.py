"""Nothing is left behind, whatever happens to the harness."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.environments.engine import IMAGE, RUN_LABEL, digest_of, remove
from tests.conftest import SPLITBRAIN

Command = Callable[..., "subprocess.CompletedProcess[str]"]

RUN = ["run", "reference", "--nodes", "3", "--time", "60", "--nemesis", "partition", "--interval", "1", "--runs", "r"]


def start(folder: Path, *more: str) -> tuple[subprocess.Popen[bytes], Path]:
    """A run that has recorded at least 300 events, and its history."""
    harness = subprocess.Popen(
        [SPLITBRAIN, *RUN, *more], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and harness.poll() is None:
        for history in folder.glob("r/*/history.jsonl"):
            if history.read_bytes().count(b"\n") > 300:
                return harness, history
        time.sleep(0.1)
    harness.kill()
    raise AssertionError(f"the run did not get going: {harness.communicate()[0].decode()}")


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def leftovers(folder: Path) -> list[str]:
    """Processes of the run in ``folder`` that still exist anywhere on this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "cwd") == str(folder) and "Z" not in (entry / "stat").read_text().split(")")[1]:
                    found.append((entry / "cmdline").read_bytes().decode())
            except OSError:
                continue
    return found


def host_network() -> str:
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    rules = subprocess.run(["iptables", "-S"], capture_output=True, text=True, check=False).stdout
    return "\n".join(line for line in (links + rules).splitlines() if "splitbrain" in line.lower() or line[:2] == "sb")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_campaign_that_is_ended_leaves_no_worker_and_goes_on(tmp_path: Path, number: int) -> None:
    command = [SPLITBRAIN, "hunt", "reference", "--nodes", "3", "--time", "10", "--directory", "campaign"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    hunt = subprocess.Popen([*command, "--seeds", "500"], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL)
    results = tmp_path / "campaign/results.jsonl"
    until(lambda: results.exists() and len(results.read_text().splitlines()) >= 2)
    assert len(leftovers(tmp_path)) > 1
    hunt.send_signal(number)
    hunt.wait(60)
    until(lambda: not leftovers(tmp_path))
    assert not list(tmp_path.glob("splitbrain-hunt-*"))
    done = len(results.read_text().splitlines())
    again = subprocess.run([*command, "--seeds", str(done)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode in (0, 3), again.stderr
    kept = {"experiment.json", "results.jsonl", "report.html"}
    assert {path.name for path in (tmp_path / "campaign").iterdir()} == kept


@pytest.mark.alone
@pytest.mark.needs("local")
def test_sigkill_on_local_leaves_nothing_and_the_history_checks(tmp_path: Path, splitbrain: Command) -> None:
    harness, history = start(tmp_path, "--on", "local")
    assert leftovers(tmp_path)
    harness.kill()
    harness.wait()
    until(lambda: not leftovers(tmp_path))
    assert host_network() == ""
    assert list(Path("/dev/shm").glob("n[0-9]*")) == []
    done = splitbrain("check", str(history.parent))
    assert done.returncode == 3, done
    assert "the harness was killed" in done.stdout.splitlines()[0]


def of_this_host() -> dict[str, object]:
    """What no fault may change: the firewall, the interfaces, the mounts, the control groups, the clock, devices."""
    commands = {
        "rules": ["iptables-save"],
        "links": ["ip", "-o", "link"],
        "queues": ["tc", "qdisc", "show"],
    }
    said = {n: subprocess.run(c, capture_output=True, text=True, check=True).stdout for n, c in commands.items()}
    said["mounts"] = Path("/proc/self/mounts").read_text()
    # Counters and time stamps go on by themselves, and so does what a Docker engine does for somebody else.
    others = re.compile("veth|br-|docker|^#", re.IGNORECASE)
    kept: dict[str, object] = {
        name: [re.sub(r"\[\d+:\d+\]|qlen.*", "", line) for line in text.splitlines() if not others.search(line)]
        for name, text in said.items()
    }
    return {**kept, "clock": round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))}


@pytest.mark.alone
@pytest.mark.needs("local")
def test_chaos_does_not_reach_this_host_and_leaves_nothing_when_it_is_killed(tmp_path: Path) -> None:
    before, began = of_this_host(), time.monotonic()
    harness, history = start(tmp_path, "--on", "local", "--nemesis", "chaos", "--interval", "2", "--time", "240")
    families: set[str] = set()
    while len(families) < 6:
        now = of_this_host()
        assert abs(now.pop("clock") - before["clock"]) <= 1  # type: ignore[operator]
        assert now == {name: value for name, value in before.items() if name != "clock"}
        families = set(re.findall(r'"type":"ok","f":"start-(\w+)"', history.read_text()))
        assert harness.poll() is None or len(families) >= 6, families
        assert time.monotonic() < began + 240, families
        time.sleep(0.3)
    harness.kill()
    harness.wait()
    until(lambda: not leftovers(tmp_path) and not control_groups(harness))
    after = of_this_host()
    assert abs(after.pop("clock") - before.pop("clock")) <= 1  # type: ignore[operator]
    assert after == before


def control_groups(harness: subprocess.Popen[bytes]) -> list[Path]:
    mine, root = f"splitbrain-{harness.pid}-*", Path("/sys/fs/cgroup")
    return [*root.glob(mine), *root.glob(f"*/{mine}")]


def start_squeezed(folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A run whose first node is squeezed until its end."""
    plan = {"aim": "n1", "order": ["n1", "n2", "n3"], "cpu": 0.5}
    faults = [{"name": "squeeze", "start": 0.5, "stop": 600.0, "plan": plan}]
    (folder / "squeeze.json").write_text(json.dumps({"faults": faults}))
    squeeze = ["--nemesis", "squeeze", "--timetable", "squeeze.json", "--time", "600"]
    harness, history = start(folder, "--on", "local", *squeeze)
    until(lambda: bool(control_groups(harness)) and "start-squeeze" in history.read_text())
    return harness, history


@pytest.mark.needs("local")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make control groups")
def test_sigkill_while_servers_are_squeezed_leaves_no_control_group(tmp_path: Path) -> None:
    harness, _ = start_squeezed(tmp_path)
    harness.kill()
    harness.wait()
    until(lambda: not control_groups(harness) and not leftovers(tmp_path))


@pytest.mark.alone  # every other run would remove them as well
@pytest.mark.needs("local")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make control groups")
@pytest.mark.parametrize("by", ["clean", "a later run"])
def test_control_groups_whose_watcher_was_killed_too_are_removed(tmp_path: Path, splitbrain: Command, by: str) -> None:
    harness, _ = start_squeezed(tmp_path)
    mine = {str(path) for path in control_groups(harness)}
    said = splitbrain("clean").stdout
    assert not any(name in said for name in mine), "a run that still goes must not be touched"
    watcher = [pid for pid in children(harness.pid) if os.getsid(pid) == pid]
    assert len(watcher) == 1
    for pid in (*watcher, harness.pid):
        os.kill(pid, signal.SIGKILL)
    harness.wait()
    until(lambda: not leftovers(tmp_path))
    left = control_groups(harness)
    assert left
    if by == "clean":
        said = splitbrain("clean").stdout
        assert all(f"removed control group {path}\n" in said for path in left)
    else:
        splitbrain("run", "reference", "--on", "local", "--time", "1")
    assert not control_groups(harness)


@pytest.mark.needs("docker")
def test_sigkill_on_docker_leaves_what_clean_removes_and_nothing_else(tmp_path: Path, splitbrain: Command) -> None:
    import docker

    client = docker.from_env()

    def existing(run: str) -> set[str]:
        containers = {container.name for container in client.containers.list(all=True, ignore_removed=True)}
        names = containers | {n.name for n in client.networks.list()} | {v.name for v in client.volumes.list()}
        return {name for name in names if run in name}

    stranger = client.containers.create(IMAGE, ["true"], name=f"stranger-{os.getpid()}")
    try:
        harness, history = start(tmp_path, "--on", "docker")
        run = history.parent.name
        assert run not in splitbrain("clean").stdout, "a run that still goes must not be touched"
        harness.kill()
        harness.wait()
        # Three sidecars (and volumes of their names), three servers, the network, and the gate where there is one.
        assert len(existing(run)) == 7 + (os.geteuid() == 0)
        experiment = json.loads((history.parent / "experiment.json").read_text())
        assert experiment["image_digest"] == digest_of(client.images.get(IMAGE))
        done = splitbrain("clean")
        assert done.returncode == 0
        assert existing(run) == set()
        assert existing("stranger") >= {stranger.name}
        assert run not in splitbrain("clean").stdout
        assert splitbrain("check", str(history)).returncode == 0
    finally:
        stranger.remove(force=True)


@pytest.mark.needs("docker")
def test_a_run_on_docker_that_ends_while_another_one_cleans_up_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import docker

    client = docker.from_env()
    mine, other = (
        client.containers.create(IMAGE, ["true"], labels={RUN_LABEL: f"{run}-{os.getpid()}"})
        for run in ("mine", "other")
    )
    listing = client.api.containers

    def lists_and_the_other_ends(**query: Any) -> Any:
        listed = listing(**query)
        assert {mine.id, other.id} <= {entry["Id"] for entry in listed}
        other.remove(force=True)
        return listed

    monkeypatch.setattr(client.api, "containers", lists_and_the_other_ends)
    try:
        removed = remove(client, lambda labels: labels[RUN_LABEL] == f"mine-{os.getpid()}")
        assert removed == {"containers": [mine.name], "networks": [], "volumes": []}
    finally:
        for container in (mine, other):
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True)


@pytest.mark.needs("local")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_stops_gracefully_and_is_no_pass(tmp_path: Path, number: signal.Signals) -> None:
    harness, history = start(tmp_path, "--on", "local")
    harness.send_signal(number)
    output = harness.communicate(timeout=300)[0].decode()
    assert harness.returncode == 3, output
    assert "stopping" in output
    assert "final reads" in output
    for said in (
        output,
        *((history.parent / name).read_text() for name in ("verdict.json", "junit.xml", "report.html")),
    ):
        assert re.search(r"stopped after \d+ of 60 s", said)
    assert leftovers(tmp_path) == []


@pytest.mark.needs("local")
@pytest.mark.parametrize("seconds", [0.0, 0.5])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_at_launch_is_a_sentence_and_leaves_nothing(
    tmp_path: Path, seconds: float, number: signal.Signals
) -> None:
    harness = subprocess.Popen([SPLITBRAIN, *RUN, "--on", "local"], cwd=tmp_path, stderr=subprocess.PIPE)
    until(lambda: listens(harness.pid))
    time.sleep(seconds)
    harness.send_signal(number)
    said = harness.communicate(timeout=300)[1].decode()
    assert harness.returncode in (3, 4), said
    assert "stop" in said
    assert "Traceback" not in said
    until(lambda: not leftovers(tmp_path))


def listens(pid: int) -> bool:
    """Whether the command has come so far as to catch SIGTERM: before that Python ends without a word."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(re.findall(r"SigCgt:\s*(\w+)", status)[0], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.needs("local")
def test_an_inner_process_that_is_killed_is_a_sentence(tmp_path: Path) -> None:
    harness, history = start(tmp_path, "--on", "local")
    inner = [int(pid) for init in children(harness.pid) for pid in children(init)]
    os.kill(inner[0], signal.SIGKILL)
    output = harness.communicate(timeout=300)[0].decode()
    assert harness.returncode == 4, output
    assert "ended by SIGKILL" in output.splitlines()[-1]
    until(lambda: not leftovers(tmp_path))
    assert history.exists()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def below(pid: int) -> dict[int, bytes]:
    """The command of every process that comes from one, but for those that end meanwhile."""
    commands: dict[int, bytes] = {}
    for child in children(pid):
        with contextlib.suppress(OSError):
            commands |= {child: Path(f"/proc/{child}/cmdline").read_bytes()} | below(child)
    return commands


@pytest.mark.needs("local")
def test_two_signals_abort_and_keep_the_history(tmp_path: Path, splitbrain: Command) -> None:
    harness, history = start(tmp_path, "--on", "local")
    server = next(pid for pid, command in below(harness.pid).items() if b"reference.server" in command)
    os.kill(server, signal.SIGSTOP)  # so that the store does not recover, and the run waits for it between the two
    harness.send_signal(signal.SIGINT)
    assert harness.stdout is not None
    assert any(b"stopping" in line for line in harness.stdout)
    harness.send_signal(signal.SIGINT)
    output = harness.communicate(timeout=300)[0].decode()
    assert harness.returncode == 4, output
    assert "aborted" in output
    assert splitbrain("check", str(history)).returncode == 0
    assert leftovers(tmp_path) == []
