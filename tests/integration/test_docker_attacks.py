"""A hostile image, other users, and other runs on the same engine: none of them gains or loses anything by a run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.capability import Capability
from harness.cluster import Cluster, wait_until
from harness.environments import docker as place
from harness.environments import engine
from harness.environments.base import Node, run_tool
from harness.environments.docker import DockerEnvironment
from harness.environments.gate import Gate
from harness.environments.pods import PRIVATE
from harness.environments.tools import ask
from harness.errors import FaultError, MissingError
from harness.faults import disk, misbehave, network, probe, process, witness
from harness.faults.network import Peer
from harness.faults.output import HEAD, LEFT_OUT, TAIL
from tests.integration.inside import on

pytestmark = pytest.mark.needs("docker")
SLEEP = ["python3", "-c", "import time; time.sleep(1000)"]


@contextlib.asynccontextmanager
async def nodes(count: int = 1, run: str = "attack") -> AsyncIterator[tuple[DockerEnvironment, list[Node]]]:
    environment = DockerEnvironment()
    with tempfile.TemporaryDirectory() as folder:
        try:
            names = [f"n{number + 1}" for number in range(count)]
            yield environment, await environment.start(names, Path(folder), run)
        finally:
            await environment.stop()


async def in_server(node: Node, code: str, *arguments: str, name: str = "attack") -> str:
    """Run Python in a server of the node, as the image under test could, and return what it printed."""
    await node.start(name, ["python3", "-c", code, *arguments])

    async def over() -> bool:
        return not (await node.running())[name]

    await wait_until(over, seconds=60, what="the attack to end")
    return (await node.log(name)).strip()


PLANT = """
import os, sys
target, path = sys.argv[1], "/var/lib/splitbrain/"
for name in sys.argv[2:]:
    os.symlink(target, path + name)
os.mkdir(path + "real")
open(path + "real/data", "w").write("the store's own")
os.symlink("/etc", path + "linked")
os.mkfifo(path + "pipe")
"""
OURS = ("answer", "filler", "witness-new", "witness-kept", "witness-synced", "witness-unsynced", "room", "copy-planted")


async def links_in_the_stores_volume_lead_nowhere(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    for target in ("/etc/ld.so.preload", f"{PRIVATE}/planted", "/tmp/planted"):
        names = [f".splitbrain-{name}" for name in OURS] + ["wal", "made.conf"]
        await in_server(node, PLANT, target, *names, name=f"plant-{target.count('t')}{len(target)}")
        data = node.directory
        for request in (
            ask(process.look),
            ask(witness.room, data),
            ask(witness.use, data),
            ask(witness.leave, data),
            ask(witness.around, f"{data}/linked/passwd", at=0),
            ask(disk.flip, f"{data}/linked/passwd", at=0, bit=1),
            ask(disk.truncate, f"{data}/wal", count=1),
            ask(disk.truncate, f"{data}/pipe", count=1),
            ask(disk.back_up, data, copy="planted"),
            ask(disk.back_up, data, copy="own"),
            ask(disk.restore, data, copy="own"),
            ask(disk.fill, data),
            ask(disk.heal, data, size=512 << 20),
        ):
            with contextlib.suppress(FaultError):
                await run_tool(node, request)
        found = await run_tool(node, ask(disk.find, data, file="*", place=0.5))
        assert found is not None
        assert found["file"] == f"{node.directory}/real/data"
        await node.write(f"{node.directory}/made.conf", b"ours")
        with contextlib.suppress(Exception):
            await node.write(f"{node.directory}/linked/planted", b"ours")
        look = "cat /var/lib/splitbrain/made.conf; ls -d /etc/ld.so.preload /etc/planted /tmp/* /run/splitbrain/p*"
        assert re.sub(r"ls: .*\n?", "", (await node.exec(["sh", "-c", look])).text).strip() == "ours"
        assert (await node.exec(["sh", "-c", "rm -rf /var/lib/splitbrain/* /var/lib/splitbrain/.spl*"])).code == 0


REACH = """
import json, os, socket
seen = {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) == os.getpid():
        continue
    for what in ("root/run", "environ", "mem", "cwd/", "exe", *(f"fd/{n}" for n in range(20))):
        try:
            os.close(os.open(f"/proc/{pid}/{what}", os.O_RDONLY | os.O_NONBLOCK))
            seen[pid + what] = open(f"/proc/{pid}/comm").read()
        except OSError:
            pass
names = [line.split()[-1] for line in open("/proc/net/unix").read().splitlines()[1:] if "splitbrain-flapping" in line]
for name in names:
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(name.replace("@", "\\0", 1))
            seen[name] = "connected"
        except OSError:
            pass
for line in ("mount -t tmpfs none /mnt", "iptables -S", "tc qdisc add dev lo root pfifo"):
    program = line.split()
    if os.spawnvp(os.P_WAIT, program[0], program) == 0:
        seen[program[0]] = "done"
open("/var/lib/splitbrain/seen", "w").write(json.dumps(seen))
"""


async def a_server_reaches_no_process_and_no_resident_of_ours(cluster: Cluster) -> None:
    node, other = cluster.nodes
    peer: Peer = {"addresses": [other.address], "direction": "in"}
    await run_tool(node, ask(network.cut, peers=[peer], flap=0.3))
    await in_server(node, REACH)
    assert json.loads((await node.exec(["cat", f"{node.directory}/seen"])).out) == {}
    # It is there nevertheless, and does what it should.
    assert (await run_tool(node, ask(network.heal))) is not None
    with pytest.raises(FaultError, match="is not there"):
        await run_tool(node, ask(misbehave.heal))


_CAPABILITIES = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7,
    "NET_BIND_SERVICE": 10, "NET_ADMIN": 12, "NET_RAW": 13, "SYS_PTRACE": 19,
}  # fmt: skip


def rights(*names: str) -> str:
    return f"{sum(1 << _CAPABILITIES[name] for name in names):016x}"


STATUS = "print(open('/proc/self/status').read())"
_OWN = rights("NET_ADMIN", "NET_RAW", "SYS_PTRACE", "KILL", "DAC_OVERRIDE", "FOWNER")
_SERVERS = rights("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "NET_BIND_SERVICE")


async def containers_have_the_rights_and_limits_that_are_promised(cluster: Cluster) -> None:
    import docker

    node = cluster.nodes[0]
    await node.start("sleeper", SLEEP)
    for status, most in (
        ((await node.exec(["python3", "-c", STATUS])).text, _OWN),
        (await in_server(node, STATUS), _SERVERS),
    ):
        seen = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert seen["CapEff"] == seen["CapBnd"] == most
        assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2")
        assert seen["Uid"].split() == ["0"] * 4
    run = cluster.environment._run_id  # type: ignore[attr-defined]
    client = docker.from_env()
    found = client.containers.list(all=True, filters={"label": f"{engine.RUN_LABEL}={run}"})
    parts = sorted(container.labels[engine.PART_LABEL] for container in found)
    assert parts == sorted(["sidecar", "server", "server"] + ["gate"] * (os.geteuid() == 0))
    for container in found:
        host, part = container.attrs["HostConfig"], container.labels[engine.PART_LABEL]
        assert not host["Privileged"]
        assert host["CapDrop"] == ["ALL"]
        assert 0 < host["PidsLimit"] <= 8192
        assert 0 < host["Memory"] == host["MemorySwap"]
        assert "/proc/kcore" in host["MaskedPaths"]
        assert "/proc/sys" in host["ReadonlyPaths"]
        assert host["ReadonlyRootfs"] == (part != "server")
        assert not host["PortBindings"]
        assert host["LogConfig"]["Config"] == {"max-size": "32m", "max-file": "2"}
        mounts = [(mount["Type"], mount["Destination"]) for mount in container.attrs["Mounts"]]
        assert mounts == ([] if part == "gate" else [("volume", "/var/lib/splitbrain")])
    network = client.networks.get(f"splitbrain-{run}")
    assert network.attrs["Internal"]
    options = (await node.exec(["sh", "-c", "grep /var/lib/splitbrain /proc/mounts"])).text
    assert {"nosuid", "nodev"} <= set(options.split()[3].split(","))
    modes = (await node.exec(["stat", "-c", "%a %u", PRIVATE, "/tmp"])).text.split("\n")
    assert modes == ["700 0", "1777 0"]


@pytest.mark.parametrize(
    ("scenario", "count"),
    [
        (links_in_the_stores_volume_lead_nowhere, 1),
        (a_server_reaches_no_process_and_no_resident_of_ours, 2),
        (containers_have_the_rights_and_limits_that_are_promised, 1),
    ],
)
def test_a_hostile_image(scenario: Any, count: int) -> None:
    on("docker", scenario, nodes=count)


# Networks

LISTENING = """
import socket, sys
tcp = socket.create_server(("0.0.0.0", 0))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", tcp.getsockname()[1]))
udp.settimeout(0.1)
print(tcp.getsockname()[1], flush=True)
for line in sys.stdin:
    kind, address, port = line.split()
    if kind == "heard":
        try:
            print(udp.recv(100).decode(), flush=True)
        except TimeoutError:
            print("nothing", flush=True)
        continue
    try:
        socket.create_connection((address, int(port)), timeout=2).close()
        print("open", flush=True)
    except OSError as error:
        print("closed", flush=True)
"""
TALK = """
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
try:
    socket.create_connection((address, port), timeout=2)
    print("open")
except OSError:
    print("closed")
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"from a store", (address, port))
except OSError:
    pass
"""
SERVE = "import socket, time; server = socket.create_server(('', 6379)); time.sleep(1000)"


class Bystander:
    """A process on this machine that is no part of a run, and listens on all its addresses."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", LISTENING]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def ask(self, *words: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()
        return self._line()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def reached(address: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, 6379), timeout=5):
        return True
    return False


@pytest.mark.parametrize(
    "gate",
    [pytest.param(True, marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root enters a namespace")), False],
)
def test_the_network_of_a_run_leads_to_nobody_else(gate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not gate:
        monkeypatch.setattr(Gate, "held_by", lambda *given: None)
    bystander = Bystander()
    elsewhere = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()[:2]

    async def main() -> None:
        async with nodes(2) as (environment, (node, other)):
            gateway = re.findall(r"-s (\S+)/32 -j DROP", (await node.exec(["iptables", "-S", "INPUT"])).text)
            hosts = gateway[0] if gate else environment.driver["address"]
            await other.start("store", ["python3", "-c", SERVE])

            async def serves() -> bool:
                return reached(other.address)

            await wait_until(serves, seconds=30, what="clients to reach the store")
            assert bystander.ask("open", other.address, "6379") == ("closed" if gate else "open")
            assert await in_server(node, TALK, other.address, "6379", name="peer") == "open"
            assert await in_server(node, TALK, hosts, bystander.port, name="host") == "closed"
            assert bystander.ask("heard", "-", "0") == "nothing"
            # Nor by another address of this machine, or to what is beyond it.
            for number, address in enumerate(elsewhere):
                assert await in_server(node, TALK, address, bystander.port, name=f"beyond-{number}") == "closed"
            assert bystander.ask("heard", "-", "0") == "nothing"
            assert not (await node.exec(["sh", "-c", "grep -v ' lo$' /proc/net/if_inet6"])).out
            assert "127.0.0.11" in (await node.exec(["cat", "/etc/resolv.conf"])).text
            # What proves faults reaches the clients' machine and comes back.
            # Both end as soon as they have heard enough: the node may begin late.
            here: probe.Asked = {
                "me": "driver", "peers": {"n1": node.address}, "senders": ["n1"], "enough": 6,
                "session": "s", "port": 7300, "every": 0.05, "seconds": 30.0, "linger": 1.0,
            }  # fmt: skip
            peers = {"driver": environment.driver["address"]}
            there: probe.Asked = {**here, "me": "n1", "peers": peers, "senders": ["driver"]}
            ours, theirs = await asyncio.gather(
                environment.measure(ask(probe.watch, here)), run_tool(node, ask(probe.watch, there))
            )
            assert ours["peers"]["n1"]["heard"] > 5
            assert theirs["peers"]["driver"]["heard"] > 5
        # Afterwards this thread is where it was before.
        with socket.create_connection(("127.0.0.1", int(bystander.port)), timeout=5):
            pass

    try:
        asyncio.run(main())
    finally:
        bystander.end()


# Images


def test_an_image_of_our_own_is_never_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    client = engine.connect()
    asked: list[Any] = []
    monkeypatch.setattr(type(client.images), "pull", lambda self, *names, **more: asked.append(names))
    monkeypatch.setattr(type(client.api), "pull", lambda self, *names, **more: asked.append(names))
    for name in (
        "splitbrain/node:none",
        "docker.io/splitbrain/base:none",
        f"index.docker.io/splitbrain/node@sha256:{0:064}",
    ):
        with pytest.raises(MissingError, match="splitbrain images build"):
            engine.image_of(client, name)
    monkeypatch.setattr(engine, "IMAGE", "splitbrain/node:none")
    assert "splitbrain images build" in str(DockerEnvironment.missing(None))
    place._tried.cache_clear()
    try:
        assert "splitbrain images build" in str(DockerEnvironment().lacks(Capability.CLOCK))
        with pytest.raises(MissingError, match="splitbrain images build"):
            asyncio.run(DockerEnvironment().start(["n1"], Path("/nonexistent"), "r"))
    finally:
        place._tried.cache_clear()
    assert asked == []


def test_it_is_said_that_a_vendors_image_is_pulled(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MissingError, match=r"127\.0\.0\.1:9/nobody/nothing:1 is not there and cannot be pulled"):
        engine.image_of(engine.connect(), "127.0.0.1:9/nobody/nothing:1")
    assert "pulling the image 127.0.0.1:9/nobody/nothing:1" in capsys.readouterr().err


def test_a_name_that_moves_changes_no_run_that_has_begun(tmp_path: Path) -> None:
    client = engine.connect()
    name, ours = f"splitbrain-test/moved-{os.getpid()}", client.images.get(engine.IMAGE)
    ours.tag(name, "1")

    async def main() -> None:
        environment = DockerEnvironment(f"{name}:1")
        try:
            assert environment.pin_image() in (ours.id, *ours.attrs["RepoDigests"])
            client.images.remove(f"{name}:1")
            [node] = await environment.start(["n1"], tmp_path, "moved")
            await node.start("sleeper", SLEEP)
            assert await node.running() == {"sleeper": True}
        finally:
            await environment.stop()

    asyncio.run(main())


def test_what_is_no_name_of_an_image_is_said_in_a_sentence() -> None:
    assert "cannot look for the image Not:A:Name" in str(DockerEnvironment.missing("Not:A:Name"))


# Several runs


def test_runs_of_the_same_name_at_the_same_time_leave_each_other_alone() -> None:
    async def main() -> None:
        async with nodes(run="same") as (_, [first]):
            await first.start("sleeper", SLEEP)
            async with nodes(run="same") as (_, [second]):
                await second.start("sleeper", SLEEP)
                assert first.address != second.address
            assert await first.running() == {"sleeper": True}
            assert (await first.exec(["hostname"])).text == "n1"

    asyncio.run(main())


def test_whose_harness_lives_is_told_by_more_than_its_number() -> None:
    host, boot, namespace, process, began = engine.owner().split("/")

    def label(*words: str) -> str:
        return "/".join(words)

    assert engine.alive(engine.owner())
    assert not engine.alive(label(host, boot, namespace, process, "1"))
    assert not engine.alive(label(host, "another", namespace, process, began))
    assert engine.alive(label(host, boot, "another", process, began))
    assert engine.alive(label("another", "boot", namespace, "1", "1"))
    assert not engine.alive(label(host, boot, namespace, "none", began))
    assert engine.alive(label(host, process, began))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_who_may_not_use_the_engine_is_told_what_to_do() -> None:
    code = (
        "import os\nfrom harness.environments.engine import connect\n"
        "os.setgroups([])\nos.setresgid(65534, 65534, 65534)\nos.setresuid(65534, 65534, 65534)\n"
        "try: connect()\nexcept Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "this user may not use the Docker engine at" in done.stdout
    assert "group" in done.stdout
    assert "DOCKER_HOST" in done.stdout


def test_a_store_that_prints_without_end_fills_no_disk(tmp_path: Path) -> None:
    async def main() -> None:
        environment = DockerEnvironment()
        try:
            [node] = await environment.start(["n1"], tmp_path, "prints")
            code = "print('the beginning'); [print('x' * 2000) for _ in range(30_000)]; print('the end')"
            await node.start("prints", ["python3", "-c", code])

            async def over() -> bool:
                return not (await node.running())["prints"]

            await wait_until(over, seconds=120, what="all being printed")
        finally:
            await environment.stop()

    asyncio.run(main())
    kept = (tmp_path / "n1" / "prints.log").read_bytes()
    assert len(kept) < HEAD + TAIL + 200
    assert kept.startswith(b"the beginning\n")
    assert kept.endswith(b"the end\n")
    assert kept.count(LEFT_OUT) == 1
