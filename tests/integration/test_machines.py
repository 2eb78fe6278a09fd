"""Restarts, disks and want of CPU time and memory, as the nodes themselves see them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.capability import Capability
from harness.cluster import Cluster, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.local import LocalEnvironment
from harness.environments.tools import ask
from harness.errors import NodeError
from harness.faults import process
from harness.nemeses.disk import Disk
from harness.nemeses.kill import Kill
from harness.nemeses.restart import Restart
from harness.nemeses.squeeze import Squeeze
from harness.nemeses.storage import Storage
from harness.nemeses.victims import primary
from harness.nemesis import Plan
from harness.operation import Operation
from harness.targets.reference.target import Reference
from tests.conftest import SPLITBRAIN
from tests.integration.inside import on
from tests.integration.test_faults import ENVIRONMENTS, reference, serving, states

ORDER = ["n1", "n2", "n3"]

# Says how it ends: a SIGTERM can be seen, a SIGKILL cannot.
POLITE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("asked to end", flush=True), sys.exit(0)))
print("up", flush=True)
while True: time.sleep(0.1)
"""
STUBBORN = POLITE.replace("sys.exit(0)", "None")
# Counts as fast as it can, and takes memory when it is told to by a file.
COUNT = """
import os, sys, time
began, count, taken = time.monotonic(), 0, []
while True:
    count += 1
    if count % 100000 == 0:
        print(count, flush=True)
        if os.path.exists(sys.argv[1]): taken.append(bytearray(b"x" * (4 << 20)))
"""
# Writes as a server does: a file that is open already, and a sync.
WRITE = """
import os, sys, time
file = open(sys.argv[1], "ab")
while True:
    try:
        file.write(b"x" * 65536); file.flush(); os.fsync(file.fileno()); print("written", flush=True)
    except OSError as error: print(error.strerror, flush=True)
    time.sleep(0.02)
"""


class Simple(Reference):
    """A target of one server in a few lines of Python."""

    def __init__(self, script: str, *arguments: str) -> None:
        super().__init__(Reference.Options())
        self._script, self._arguments = script, arguments

    async def start(self, cluster: Cluster, node: Node) -> None:
        await node.start("simple", [node.python, "-uc", self._script, *self._arguments])

    async def ready(self, cluster: Cluster) -> bool:
        return True


async def running(store: Reference, cluster: Cluster, said: str) -> None:
    """Start it on all nodes, and wait until each has said something."""
    for node in cluster.nodes:
        await store.start(cluster, node)
    for node in cluster.nodes:
        await until(node, lambda log: said in log)


async def until(node: Node, holds: Callable[[str], bool]) -> str:
    """Wait for something in what the server prints from now on; what it has printed by then."""
    before = len(await node.log("simple"))
    log = ""

    async def there() -> bool:
        nonlocal log
        log = await node.log("simple")
        return holds(log) or holds(log[before:])

    await wait_until(there, seconds=90, what=f"{node.name} saying so")
    return log


async def a_terminated_server_is_asked_and_a_rolling_restart_takes_one_by_one(cluster: Cluster) -> None:
    store = Simple(POLITE)
    await running(store, cluster, "up")
    kill = Kill(Kill.Options(signal="terminate"))
    await kill.inject(cluster, store, {"aim": "n2", "order": ORDER})
    assert [len(await states(node)) for node in cluster.nodes] == [1, 0, 1]
    await until(cluster.node("n2"), lambda log: log.endswith("asked to end\n"))
    await kill.heal(cluster, store)
    assert [len(await states(node)) for node in cluster.nodes] == [1, 1, 1]
    await until(cluster.node("n2"), lambda log: log.endswith("up\n"))  # it can be asked now
    before = [await run_tool(node, ask(process.look)) for node in cluster.nodes]
    restart = Restart(Restart.Options())
    done = await restart.inject(cluster, store, {"aim": "all", "order": ORDER})
    assert list(done["terminated"]) == ORDER
    assert done["ended"] == []
    after = [await run_tool(node, ask(process.look)) for node in cluster.nodes]
    assert all(a[0]["pid"] != b[0]["pid"] for a, b in zip(before, after, strict=True))
    for node in cluster.nodes:
        await until(node, lambda log: "asked to end\nup" in log)


async def a_server_that_does_not_end_when_it_is_asked_is_killed(cluster: Cluster) -> None:
    store = Simple(STUBBORN)
    await running(store, cluster, "up")
    (ended,) = await run_tool(cluster.nodes[0], ask(process.terminate, grace=1))
    assert ended["forced"]
    assert [len(await states(node)) for node in cluster.nodes] == [0, 1, 1]
    assert (await cluster.nodes[0].log("simple")).count("asked to end") == 1
    done = await Restart(Restart.Options()).inject(cluster, store, {"aim": "n2", "order": ORDER})
    ((name, commands),) = done["terminated"].items()
    assert name == "n2"
    assert [command.endswith(" by SIGKILL") for command in commands] == [True]
    assert [len(await states(node)) for node in cluster.nodes] == [0, 1, 1]


async def a_successor_falls_at_the_moment_that_it_is_elected(cluster: Cluster) -> None:
    store = await serving(cluster, reference())
    first = await primary(cluster, store)
    kill = Kill(Kill.Options(kill="successor"))
    done = await kill.inject(cluster, store, {"aim": "successor", "order": [node.name for node in cluster.nodes]})
    assert len(done["killed"]) == 2
    assert first in done["killed"]
    assert {node.name for node in cluster.nodes if not await states(node)} == set(done["killed"])
    await kill.heal(cluster, store)
    await wait_until(lambda: store.ready(cluster), seconds=90, what="the store being ready again")


async def a_full_disk_refuses_writes_and_others_are_not_full(cluster: Cluster) -> None:
    node, other = cluster.nodes[:2]
    store = Simple(WRITE, f"{node.directory}/written")
    await store.start(cluster, node)
    elsewhere = Simple(WRITE, f"{other.directory}/written")
    await elsewhere.start(cluster, other)
    for one in (node, other):
        await until(one, lambda log: log.count("written") > 2)
    disk = Disk(Disk.Options())
    done = await disk.inject(cluster, store, {"aim": "n1", "order": ORDER, "kind": "full"})
    assert (await disk.prove(cluster, store, done, 3.0)).holds
    await until(node, lambda log: log.endswith("No space left on device\n"))
    assert "No space" not in await other.log("simple")
    await disk.heal(cluster, store)
    await until(node, lambda log: log.endswith("written\n"))
    found = await node.exec(["sh", "-c", f"ls -a {node.directory}"])
    assert "filler" not in found.text


async def a_flipped_bit_is_met_at_the_restart_and_is_gone_after_the_heal(cluster: Cluster) -> None:
    store, (node, *_) = await serving(cluster, reference()), cluster.nodes
    client = store.client(cluster, node, 5.0)
    await client.open()
    for number in range(50):
        await client.invoke(Operation("write", "k", number))
    await client.close()
    disk = Disk(Disk.Options(disk="flip"))
    plan = {"aim": "n1", "order": ORDER, "kind": "flip", "file": "", "place": 0.5, "bit": 2}
    done = await disk.inject(cluster, store, plan)
    assert (await disk.prove(cluster, store, done, 3.0)).holds

    async def met() -> bool:
        return "the disk is corrupt" in await node.log("reference")

    try:
        await wait_until(met, seconds=90, what="the node meeting the spoiled record")
    except NodeError as error:
        raise AssertionError(f"{error}: {done} {await states(node)}\n{await node.log('reference')}") from None
    healed = await disk.heal(cluster, store)
    assert "did not start again: a bit of log." in healed["refused"]["n1"]
    assert healed["mended"] == {"n1": [True]}
    await wait_until(lambda: store.ready(cluster), seconds=90, what="the store being ready again")


async def a_squeezed_server_gets_little_time_and_no_memory(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    store = Simple(COUNT, f"{node.directory}/take")
    await store.start(cluster, node)
    await until(node, lambda log: log.count("\n") > 3)

    async def used() -> float:
        """The CPU seconds that it uses in two seconds."""
        pid = (await run_tool(node, ask(process.look)))[0]["pid"]
        read = f"w = open('/proc/{pid}/stat').read().rpartition(')')[2].split(); print(int(w[11]) + int(w[12]))"
        first = int((await node.exec([node.python, "-c", read])).text)
        await asyncio.sleep(2)
        return (int((await node.exec([node.python, "-c", read])).text) - first) / 100

    async def has_its_share() -> bool:
        return await used() > 0.3

    squeeze = Squeeze(Squeeze.Options())
    await wait_until(has_its_share, seconds=60, what="the server using a processor")
    await squeeze.inject(cluster, store, {"aim": "n1", "order": ORDER, "cpu": 0.02, "memory": 32})
    assert await used() < 0.2
    await squeeze.heal(cluster, store)
    await wait_until(has_its_share, seconds=60, what="the server using a processor again")
    await squeeze.inject(cluster, store, {"aim": "n1", "order": ORDER, "cpu": 0.9, "memory": 32})
    await node.write(f"{node.directory}/take", b"")

    async def gone() -> bool:
        return not await states(node)

    await wait_until(gone, seconds=90, what="the kernel ending a server that takes too much")
    await node.exec(["rm", f"{node.directory}/take"])
    done = await squeeze.heal(cluster, store)
    assert done["started"]["n1"]
    assert await states(node)


# Writes one file that it syncs and one that it does not, and says what it finds when it starts.
TWO = """
import os, sys, time
for name in ("synced", "unsynced"):
    path = f"{sys.argv[1]}/{name}"
    file = open(path, "ab"); print(name, os.path.getsize(path), flush=True)
    file.write(b"x" * 10000); file.flush()
    if name == "synced": os.fsync(file.fileno())
print("done", flush=True); time.sleep(600)
"""


async def storage_refuses_is_slow_and_recovers(cluster: Cluster) -> None:
    storage, (node, *_) = Storage(Storage.Options()), cluster.nodes
    await storage.prepare(cluster)
    store = Simple(WRITE, f"{node.directory}/written")
    await store.start(cluster, node)
    await until(node, lambda log: log.count("written") > 2)
    plan = {"aim": "n1", "order": ORDER, "share": 1.0, "path": "*", "seed": "1"}

    async def proved(more: Plan) -> bool:
        done = await storage.inject(cluster, store, plan | more)
        return (await storage.prove(cluster, store, done, 3.0)).holds

    for kind, said in (("readonly", "Read-only file system"), ("errors", "Input/output error")):
        assert await proved({"kind": kind})
        await until(node, lambda log, said=said: log.endswith(f"{said}\n"))  # type: ignore[misc]
        await storage.heal(cluster, store)
        await until(node, lambda log: log.endswith("written\n"))
    assert await proved({"kind": "slow", "delay": 0.5})
    assert not await proved({"kind": "slow", "delay": 0.5})  # as slow as it was already
    await storage.heal(cluster, store)
    assert await proved({"kind": "slow", "delay": 30.0})
    assert (await storage.heal(cluster, store))["seen"]["n1"]["sync"] < 0.5


async def a_crash_loses_what_was_not_synced(cluster: Cluster) -> None:
    storage, (node, *_) = Storage(Storage.Options()), cluster.nodes
    await storage.prepare(cluster)
    store = Simple(TWO, node.directory)
    await store.start(cluster, node)
    for count in (1, 2):
        await until(node, lambda log, count=count: log.count("done") == count)  # type: ignore[misc]
        done = await storage.inject(cluster, store, {"aim": "n1", "order": ORDER, "kind": "lost"})
        assert done["lost"]["n1"] > 0
        assert not await states(node)
        await storage.heal(cluster, store)
    await until(node, lambda log: log.count("done") == 3)
    starts = (await node.log("simple")).split("done\n")
    assert [start.split()[1::2] for start in starts[:3]] == [["0", "0"], ["10000", "0"], ["20000", "0"]], starts


# Takes back, without a sync, what was on the disk already: a crash brings it back.
CUT = """
import os, sys, time
file = open(f"{sys.argv[1]}/cut", "ab")
file.write(b"x" * 1000000); file.flush(); os.fsync(file.fileno())
file.truncate(0); print("done", flush=True); time.sleep(600)
"""


async def storage_fails_on_a_disk_that_is_full_as_well(cluster: Cluster) -> None:
    storage, disk, (node, *_) = Storage(Storage.Options()), Disk(Disk.Options()), cluster.nodes
    await storage.prepare(cluster)
    store = Simple(CUT, node.directory)
    await store.start(cluster, node)
    await until(node, lambda log: "done" in log)
    plan = {"aim": "n1", "order": ORDER, "share": 1.0, "path": "*", "seed": "1"}
    full = await disk.inject(cluster, store, {**plan, "kind": "full"})
    await storage.inject(cluster, store, {**plan, "kind": "errors"})
    assert (await disk.prove(cluster, store, full, 3.0)).holds
    await storage.heal(cluster, store)
    done = await storage.inject(cluster, store, {**plan, "kind": "slow", "delay": 0.3})
    assert (await storage.prove(cluster, store, done, 3.0)).holds
    assert list((await storage.heal(cluster, store))["seen"]["n1"]["errors"]) == ["No space left on device"]
    await storage.inject(cluster, store, {"aim": "n1", "order": ORDER, "kind": "lost"})
    assert (await node.exec(["stat", "-c", "%s", f"{node.directory}/cut"])).text == "1000000"
    written = await node.exec(["dd", "if=/dev/zero", f"of={node.directory}/more", "bs=64k", "count=1"])
    assert "No space left on device" in written.text
    await disk.heal(cluster, store)
    assert not await states(node)
    await storage.heal(cluster, store)
    assert await states(node)


@pytest.mark.needs("local", "storage")
@pytest.mark.parametrize(("bug", "code"), [("no-fsync", 1), ("", 0)])
def test_a_store_that_does_not_sync_is_caught_by_a_loss_of_power(tmp_path: Path, bug: str, code: int) -> None:
    command = [SPLITBRAIN, "run", "reference", "--on", "local", "--bug", bug, "--nemesis", "storage", "--runs", "r"]
    command += ["-o", "storage=lost", "-o", "under=all"]
    for seconds, interval in ((12, 3), (150, 40)):
        given = [*command, "--time", str(seconds), "--interval", str(interval)]
        done = subprocess.run(given, cwd=tmp_path, capture_output=True, text=True, timeout=800, check=False)
        if done.returncode != 3:  # this machine is quick enough to measure the fault in its time
            break
    assert done.returncode == code, done.stdout + done.stderr


@pytest.mark.needs("local", "storage")
@pytest.mark.parametrize(
    "scenario",
    [
        storage_refuses_is_slow_and_recovers,
        a_crash_loses_what_was_not_synced,
        storage_fails_on_a_disk_that_is_full_as_well,
    ],
)
def test_storage_on_local_nodes(scenario: Any) -> None:
    on("local", scenario)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize(
    "scenario",
    [
        a_terminated_server_is_asked_and_a_rolling_restart_takes_one_by_one,
        a_server_that_does_not_end_when_it_is_asked_is_killed,
        a_successor_falls_at_the_moment_that_it_is_elected,
        a_full_disk_refuses_writes_and_others_are_not_full,
        a_flipped_bit_is_met_at_the_restart_and_is_gone_after_the_heal,
        a_squeezed_server_gets_little_time_and_no_memory,
    ],
)
def test_on_real_nodes(environment: str, scenario: Any) -> None:
    is_squeeze = scenario is a_squeezed_server_gets_little_time_and_no_memory
    if is_squeeze and environment == "local" and (why := LocalEnvironment().lacks(Capability.SQUEEZE)):
        pytest.skip(why)
    on(environment, scenario, nodes=5 if scenario is a_successor_falls_at_the_moment_that_it_is_elected else 3)
