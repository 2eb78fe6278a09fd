"""Disks that are full, spoiled, slow or forgetful, as programs see it that know nothing of how that is done.

Every probe stands here and runs as a store's server does. None of it is what the nemeses prove themselves with.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.faults import process
from harness.nemeses.disk import Disk
from harness.nemeses.storage import Storage
from harness.nemesis import Plan
from harness.targets.reference.target import Reference
from tests.conftest import SPLITBRAIN
from tests.integration.inside import on
from tests.integration.test_faults import ENVIRONMENTS

ORDER = ["n1", "n2", "n3"]
AT_N1 = {"aim": "n1", "order": ORDER}
LONG = 64_000_000


class Store(Reference):
    """A store of one server, a few lines of Python, which finds its directory in ``sys.argv[1]``."""

    def __init__(self, script: str) -> None:
        super().__init__(Reference.Options())
        self._script = script

    async def start(self, cluster: Cluster, node: Node) -> None:
        await node.start("store", [node.python, "-uc", self._script, node.directory])


async def said(node: Node, word: str, count: int = 1, name: str = "store") -> str:
    """Wait until a server has printed a word so often; the rest of the last such line.

    A line counts once it is whole: what is printed arrives in pieces.
    """
    found: list[str] = []

    async def there() -> bool:
        lines = (await node.log(name)).splitlines(keepends=True)
        found[:] = [line for line in lines if line.startswith(word) and line.endswith("\n")]
        return len(found) >= count

    await wait_until(there, seconds=90, what=f"{name} saying {word}")
    return found[-1].removeprefix(word).strip()


async def refuses(node: Node, count: int = 1) -> None:
    """Wait until a server has met a bad record so often, and has ended: until then it seems to have started."""
    await said(node, "bad record", count)

    async def ended() -> bool:
        return not (await node.running())["store"]

    await wait_until(ended, seconds=90, what="the server ending")


_probes = 0


async def probe(node: Node, script: str) -> Any:
    """What a program prints, as JSON, that runs as a server does: not as one of the harness's tools."""
    global _probes  # noqa: PLW0603 - each has a log of its own
    _probes += 1
    name = f"probe{_probes}"
    whole = f"import json, os, sys, threading, time\nhere = sys.argv[1]\n{script}\nprint('found', json.dumps(found))"
    await node.start(name, [node.python, "-uc", whole, node.directory])
    return json.loads(await said(node, "found", name=name))


async def fault(cluster: Cluster, nemesis: Disk | Storage, store: Reference, **more: Any) -> tuple[Plan, bool]:
    """Inject what the options of a nemesis say at n1; what it answers, and whether its own proof holds."""
    kinds = nemesis.decks(dict.fromkeys(ORDER, "a"))["kind"]
    plan = nemesis.plan(random.Random(1), dict.fromkeys(ORDER, "a"), {"aim": "n1", "kind": next(iter(kinds))})
    done = await nemesis.inject(cluster, store, plan | more)
    proof = await nemesis.prove(cluster, store, done, 3.0)
    return done, proof.holds


# A log that is made long in advance, with records here and there. It refuses to start with one that it did not write.
LOG = """
import os, sys, time
path, size = sys.argv[1] + "/log", 64_000_000
records = {place: bytes([33 + place % 90]) * 3000 for place in (0, 1_000_000, 30_000_000, 50_000_001)}
if not os.path.exists(path):
    with open(path, "wb") as file:
        for place, record in records.items(): os.pwrite(file.fileno(), record, place)
        file.truncate(size)
    open(sys.argv[1] + "/other", "wb").write(b"o" * 100)
with open(path, "rb") as file:
    for place, record in records.items():
        if os.pread(file.fileno(), len(record), place) != record: sys.exit(f"bad record at {place}")
print("up", flush=True)
time.sleep(600)
"""
LOOK = """
found = {"size": os.path.getsize(here + "/log"), "other": open(here + "/other", "rb").read().decode(), "data": {}}
with open(here + "/log", "rb") as file:
    for place in (0, 1_000_000, 30_000_000, 50_000_001):
        found["data"][place] = os.pread(file.fileno(), 3000, place).hex()
"""


def flipped(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[int]:
    """By record how many bits differ."""
    return [(int(a, 16) ^ int(b, 16)).bit_count() for a, b in zip(before.values(), now.values(), strict=True)]


async def a_bit_is_flipped_in_one_of_the_records_of_a_long_empty_log(cluster: Cluster) -> None:
    node, store = cluster.nodes[0], Store(LOG)
    await store.start(cluster, node)
    await said(node, "up")
    before = await probe(node, LOOK)
    hit = []
    for place in (0.1, 0.9):
        disk = Disk(Disk.Options(disk="flip"))
        done, holds = await fault(cluster, disk, store, place=place)
        assert holds
        assert done["said"] == "flip: n1"
        now = await probe(node, LOOK)
        assert now["size"] == LONG
        differs = flipped(before["data"], now["data"])
        assert sorted(differs) == [0, 0, 0, 1]
        hit.append(differs.index(1))
        await refuses(node, len(hit))
        healed = await disk.heal(cluster, store)
        assert healed["refused"] == {"n1": "n1 did not start again: a bit of log was flipped"}
        assert await probe(node, LOOK) == before
        await said(node, "up", 1 + len(hit))
    assert hit == [0, 3]


async def another_file_or_region_is_spoiled_when_it_is_named(cluster: Cluster) -> None:
    node, store = cluster.nodes[0], Store(LOG)
    await store.start(cluster, node)
    await said(node, "up")
    before = await probe(node, LOOK)
    disk = Disk(Disk.Options(disk="flip", file="oth*"))
    assert (await fault(cluster, disk, store))[1]
    now = await probe(node, LOOK)
    assert now["data"] == before["data"]
    assert now["other"] != before["other"]
    await disk.heal(cluster, store)
    disk = Disk(Disk.Options(disk="flip", region="tail"))
    assert (await fault(cluster, disk, store))[1]
    assert flipped(before["data"], (await probe(node, LOOK))["data"])[:2] == [0, 0]
    await disk.heal(cluster, store)
    assert await probe(node, LOOK) == before


async def what_is_cut_off_is_named_and_comes_back_when_the_server_refuses(cluster: Cluster) -> None:
    node, store = cluster.nodes[0], Store(LOG)
    await store.start(cluster, node)
    await said(node, "up")
    before = await probe(node, LOOK)
    disk = Disk(Disk.Options(disk="truncate", bytes=100))
    _, holds = await fault(cluster, disk, store)
    assert holds
    assert (await probe(node, LOOK))["size"] == 50_000_001 + 3000 - 100
    await refuses(node)
    healed = await disk.heal(cluster, store)
    assert healed["refused"] == {"n1": "n1 did not start again: log was cut off"}
    assert healed["restored"] == ["n1"]
    await said(node, "up", 2)
    assert await probe(node, LOOK) == before


# Counts in a file, and does not care what is there when it starts. It may be killed at any moment, and leaves whole
# lines then; and it counts so slowly that its starts stay at the end of the log, which is what can be read.
COUNT = """
import os, sys, time
path = sys.argv[1] + "/count"
count = int(open(path).read()) if os.path.exists(path) else 0
print("starts", count, flush=True)
while True:
    count += 1
    with open(path + ".new", "w") as file: file.write(str(count))
    os.rename(path + ".new", path)
    os.write(1, f"counted {count}\\n".encode())
    time.sleep(0.05)
"""


async def files_are_those_of_a_while_ago_after_a_rollback(cluster: Cluster) -> None:
    node, store = cluster.nodes[0], Store(COUNT)
    await store.start(cluster, node)
    await said(node, "counted", 20)
    disk = Disk(Disk.Options(disk="rollback", age=4.0))  # a server that stands still for a while counts nothing then
    _, holds = await fault(cluster, disk, store)
    assert holds
    await said(node, "starts", 2)
    lines = (await node.log("store")).splitlines()
    again = max(number for number, line in enumerate(lines) if line.startswith("starts"))
    assert 0 < int(lines[again].split()[1]) < int(lines[again - 1].split()[1])
    assert "refused" not in await disk.heal(cluster, store)
    left = await node.exec(["sh", "-c", f"ls -a {node.directory}"])
    assert "copy" not in left.text
    assert "witness" not in left.text


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize(
    "scenario",
    [
        a_bit_is_flipped_in_one_of_the_records_of_a_long_empty_log,
        another_file_or_region_is_spoiled_when_it_is_named,
        what_is_cut_off_is_named_and_comes_back_when_the_server_refuses,
        files_are_those_of_a_while_ago_after_a_rollback,
    ],
)
def test_disks(environment: str, scenario: Any) -> None:
    on(environment, scenario, nodes=1)


# Storage: its file system is mounted before the store is started.

IDLE = "import time; print('up', flush=True); time.sleep(600)"


async def mounted(cluster: Cluster) -> tuple[Node, Reference]:
    await Storage(Storage.Options()).prepare(cluster)
    node, store = cluster.nodes[0], Store(IDLE)
    await store.start(cluster, node)
    await said(node, "up")
    return node, store


async def only_syncs_are_slow(cluster: Cluster) -> None:
    node, store = await mounted(cluster)
    # By far slower than anything that a busy machine makes slow: a sync before the fault, or all that is not a sync.
    storage = Storage(Storage.Options(storage="slow", slowness=5.0))
    _, holds = await fault(cluster, storage, store)
    assert holds
    # Twenty syncs at once leave room for everything else, on files of their own.
    found = await probe(
        node,
        """
order, took = [], []
open(here + "/read", "w").write("r")
files = [open(f"{here}/file{n}", "wb", buffering=0) for n in range(20)]
for file in files: file.write(b"x")
def sync(file):
    began = time.monotonic()
    os.fsync(file.fileno())
    took.append(time.monotonic() - began)
    order.append("sync")
threads = [threading.Thread(target=sync, args=(file,)) for file in files]
for thread in threads: thread.start()
with open(here + "/unsynced", "wb", buffering=0) as file: file.write(b"y")
order.append("write")
open(here + "/read").read()
order.append("read")
os.rename(here + "/unsynced", here + "/renamed")
order.append("rename")
for thread in threads: thread.join()
found = {"first": order[:3], "syncs": order.count("sync"), "least": min(took)}
""",
    )
    assert found["first"] == ["write", "read", "rename"]
    assert found["syncs"] == 20
    assert found["least"] >= 5.0
    await storage.heal(cluster, store)


WRITE_OTHERS = """
found = {}
for name in ("a.wal", "b.db"):
    errors = 0
    for _ in range(100):
        try:
            with open(here + "/" + name, "wb", buffering=0) as file: file.write(b"x")
        except OSError as error: errors += 1; found["said"] = error.strerror
    found[name] = errors
"""


async def changes_fail_as_often_and_where_they_are_to(cluster: Cluster) -> None:
    node, store = await mounted(cluster)
    for kind, message in (("errors", "Input/output error"), ("readonly", "Read-only file system")):
        storage = Storage(Storage.Options(storage=kind, path="*.wal"))  # type: ignore[arg-type]
        assert (await fault(cluster, storage, store))[1]
        assert await probe(node, WRITE_OTHERS) == {"a.wal": 100, "b.db": 0, "said": message}
        await storage.heal(cluster, store)
        assert await probe(node, WRITE_OTHERS) == {"a.wal": 0, "b.db": 0}
    storage = Storage(Storage.Options(storage="errors", share=0.2))
    assert (await fault(cluster, storage, store))[1]
    found = await probe(node, WRITE_OTHERS)
    assert 10 < found["a.wal"] < 90
    assert 10 < found["b.db"] < 90
    await storage.heal(cluster, store)


async def what_is_read_fails_or_is_wrong(cluster: Cluster) -> None:
    node, store = await mounted(cluster)
    await probe(node, "open(here + '/kept', 'wb').write(b'k' * 100_000); found = None")
    await node.write(f"{node.directory}/.splitbrain-keys/key", b"of a server")
    key = "found = open(here + '/.splitbrain-keys/key').read()"
    read = """
try: found = sum((a ^ ord("k")).bit_count() for a in open(here + "/kept", "rb").read())
except OSError as error: found = error.strerror
"""
    assert await probe(node, read) == 0
    storage = Storage(Storage.Options(storage="unreadable"))
    assert (await fault(cluster, storage, store))[1]
    assert await probe(node, read) == "Input/output error"
    assert await probe(node, key) == "of a server"
    await storage.heal(cluster, store)
    assert await probe(node, read) == 0
    storage = Storage(Storage.Options(storage="wrong"))
    assert (await fault(cluster, storage, store))[1]
    assert await probe(node, read) > 0
    assert await probe(node, key) == "of a server"
    await storage.heal(cluster, store)
    assert await probe(node, read) == 0


WRITER = """
import ctypes
def write(name, text):
    file = open(f"{here}/{name}", "wb", buffering=0)
    file.write(text.encode())
    return file
def sync_all(): return ctypes.CDLL(None).syncfs(folder)
folder = os.open(here, os.O_RDONLY)
"""
DURABLE = """
write("replaced", "old"); write("removed", "old"); write("overwritten", "old")
os.mkdir(here + "/emptied")
found = sync_all()
"""
CHANGED = """
new = write("new", "new"); os.fsync(new.fileno())                      # synced, and so is its name
os.rename(write("replacing", "new").name, here + "/replaced")          # no sync of the folder
os.unlink(here + "/removed")
os.rmdir(here + "/emptied")
os.mkdir(here + "/made")
open(here + "/overwritten", "r+b", buffering=0).write(b"new")
write("unsynced", "new")
found = sorted(name for name in os.listdir(here) if not name.startswith("."))
"""
LEFT = """
found = {name: None if os.path.isdir(here + "/" + name) else open(here + "/" + name).read()
         for name in os.listdir(here) if not name.startswith(".")}
"""


async def a_crash_takes_back_what_was_not_synced_in_any_way(cluster: Cluster) -> None:
    node, store = await mounted(cluster)
    assert await probe(node, WRITER + DURABLE) == 0
    before = {"replaced": "old", "removed": "old", "overwritten": "old", "emptied": None}
    names = await probe(node, WRITER + CHANGED)
    assert names == ["made", "new", "overwritten", "replaced", "unsynced"]
    storage = Storage(Storage.Options(storage="lost"))
    done, holds = await fault(cluster, storage, store)
    assert holds
    assert done["lost"]["n1"] >= 8
    await storage.heal(cluster, store)
    assert await probe(node, LEFT) == {**before, "new": "new"}
    for sync in ("os.fsync(folder)", "sync_all()", "os.sync()"):
        renamed = f"""
write("removed", "old"); sync_all()
file = write("replacing", "{sync}"); os.fsync(file.fileno()); os.rename(file.name, here + "/replaced")
os.unlink(here + "/removed")
{sync}
found = write("after", "x") and None
"""
        await probe(node, WRITER + renamed)
        _, holds = await fault(cluster, storage, store)
        assert holds
        await storage.heal(cluster, store)
        assert await probe(node, LEFT) == {
            "replaced": sync, "overwritten": "old", "emptied": None, "new": "new",
        }  # fmt: skip


async def sockets_and_pipes_can_be_made_and_devices_not(cluster: Cluster) -> None:
    node, store = await mounted(cluster)
    names = """
import socket, stat
socket.socket(socket.AF_UNIX).bind(here + "/socket")
os.mkfifo(here + "/pipe")
try:
    os.mknod(here + "/device", stat.S_IFBLK | 0o600, os.makedev(7, 0))
except PermissionError:
    pass
found = sorted(name for name in os.listdir(here) if name in ("socket", "pipe", "device"))
"""
    assert await probe(node, names) == ["pipe", "socket"]
    storage = Storage(Storage.Options(storage="lost"))
    _, holds = await fault(cluster, storage, store)
    assert holds
    await storage.heal(cluster, store)
    assert (
        await probe(node, "found = [name for name in ('socket', 'pipe') if os.path.lexists(here + '/' + name)]") == []
    )


# Syncs everything at once, in place of each file, as fast as it can, and says what is safe.
SYNCFS = """
import ctypes, os, sys
folder, count = os.open(sys.argv[1], os.O_RDONLY), 0
file = open(sys.argv[1] + "/log", "ab", buffering=0)
print("starts", os.path.getsize(sys.argv[1] + "/log"), flush=True)
while True:
    file.write(b"x"); count += 1
    ctypes.CDLL(None).syncfs(folder)
    if count % 100 == 0: print("safe", os.path.getsize(sys.argv[1] + "/log"), flush=True)
"""
# Syncs each record before it says that it is safe.
RIGHT = """
import os, sys
path = sys.argv[1] + "/log"
file = open(path, "ab", buffering=0)
print("starts", os.path.getsize(path), flush=True)
while True:
    file.write(b"x"); os.fsync(file.fileno())
    size = os.fstat(file.fileno()).st_size
    if size % 50 == 0: print("safe", size, flush=True)
"""


async def what_a_store_has_synced_survives_every_crash(cluster: Cluster) -> None:
    await Storage(Storage.Options()).prepare(cluster)
    node = cluster.nodes[0]
    for number, script in enumerate((SYNCFS, RIGHT)):
        store = Store(script)
        await store.start(cluster, node)
        for kind in ("lost", "torn", "lost"):
            storage = Storage(Storage.Options(storage=kind))
            await said(node, "safe", 1 + (await node.log("store")).count("safe"))
            done, holds = await fault(cluster, storage, store)
            if script == RIGHT:
                # The power fails while it waits for a sync: so even a store that is right has lost something.
                assert holds
                assert done["lost"]["n1"] > 0
            safe = int(await said(node, "safe"))
            starts = (await node.log("store")).count("starts")
            await storage.heal(cluster, store)
            assert int(await said(node, "starts", starts + 1)) >= safe
        if number == 0:
            await node.exec(["sh", "-c", f"rm {node.directory}/log"])
            await Storage(Storage.Options(storage="lost")).heal(cluster, store)
            await run_tool(node, ask(process.kill))


async def a_torn_write_leaves_a_part_of_what_was_not_synced(cluster: Cluster) -> None:
    node, store = await mounted(cluster)
    write = """
file = open(here + "/log", "wb", buffering=0)
file.write(bytes(64 * 512)); os.fsync(file.fileno())
for n in range(64): os.pwrite(file.fileno(), bytes([n + 1]) * 512, n * 512)
found = None
"""
    look = "d = open(here + '/log', 'rb').read(); found = [d[n * 512:n * 512 + 512].count(n + 1) for n in range(64)]"
    outcomes = []
    storage = Storage(Storage.Options(storage="torn"))
    for seed in ("a", "b"):
        await probe(node, write)
        done, holds = await fault(cluster, storage, store, seed=seed)
        assert holds
        await storage.heal(cluster, store)
        found = await probe(node, look)
        assert set(found) == {0, 512}
        assert found.count(0) == done["lost"]["n1"]
        outcomes.append(found)
    assert outcomes[0] != outcomes[1]


@pytest.mark.needs("local", "storage")
@pytest.mark.parametrize(
    "scenario",
    [
        only_syncs_are_slow,
        changes_fail_as_often_and_where_they_are_to,
        what_is_read_fails_or_is_wrong,
        sockets_and_pipes_can_be_made_and_devices_not,
        # Whoever syncs the whole machine meanwhile, as installing a package does, makes everything durable.
        pytest.param(a_crash_takes_back_what_was_not_synced_in_any_way, marks=pytest.mark.alone),
        what_a_store_has_synced_survives_every_crash,
        pytest.param(a_torn_write_leaves_a_part_of_what_was_not_synced, marks=pytest.mark.alone),
    ],
)
def test_storage(scenario: Any) -> None:
    on("local", scenario, nodes=1)


# A tool that answers as always and does nothing: the verdict may not be a pass.


def outcome(environment: str, folder: Path, *arguments: str) -> tuple[int, Mapping[str, Any]]:
    """The exit code and verdict of a run whose fault tools do nothing."""
    command = [sys.executable, "-m", "tests.integration.idle", "run", "reference", "--on", environment]
    command += [*arguments, "--format", "json", "--runs", str(folder), "--seed", "1"]
    if environment == "local":
        code = "import os, sys; from harness.environments import namespaces; "
        code += "sys.exit(namespaces.reexecute(sys.argv[1:], os.environ))"
        command = [sys.executable, "-c", code, *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["verdict"]


KINDS = [("disk", kind) for kind in ("full", "flip", "truncate", "rollback")]
KINDS += [("storage", kind) for kind in ("lost", "torn", "slow", "errors", "readonly", "unreadable", "wrong")]
NEEDS: dict[tuple[str, str], pytest.MarkDecorator | tuple[()]] = {
    ("simulation", "disk"): (),
    ("local", "disk"): pytest.mark.needs("local"),
    ("local", "storage"): pytest.mark.needs("local", "storage"),
}
NOWHERE = [
    pytest.param(environment, name, kind, marks=NEEDS[environment, name])
    for environment in ("simulation", "local")
    for name, kind in KINDS
    if (environment, name) in NEEDS
]


@pytest.mark.parametrize(("environment", "name", "kind"), NOWHERE)
def test_a_tool_that_does_nothing_proves_nothing(tmp_path: Path, environment: str, name: str, kind: str) -> None:
    code, verdict = outcome(
        environment, tmp_path, "--nemesis", name, "-o", f"{name}={kind}", "--time", "4", "--interval", "2"
    )
    assert (code, verdict["validity"]) == (3, "unknown")
    assert f"{name} was asked for, injected and never proved" in verdict["reason"]


@pytest.mark.parametrize("kind", ["any", "truncate", "rollback"])
def test_spoiled_disks_are_proved_in_the_simulation_which_stays_the_same(tmp_path: Path, kind: str) -> None:
    histories = []
    for seed in ("1", "2"):
        command = [SPLITBRAIN, "run", "reference", "--on", "simulation", "--nemesis", "disk", "--time", "25"]
        command += ["--interval", "3", "-o", f"disk={kind}", "--runs", str(tmp_path / seed), "--format", "json"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)
        outcome = json.loads(done.stdout)
        histories.append((Path(outcome["directory"]) / "history.jsonl").read_bytes())
        faults = outcome["verdict"]["evidence"]["faults"]["disk"]
        assert faults["proved"] == faults["injected"] >= 2, faults
        if kind == "any":
            assert done.returncode == 0
    assert histories[0] == histories[1]
