"""Where files hold data, what is spoiled of them, and what is brought back."""

from __future__ import annotations

import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.environments.simulation.disk import SimulatedDisk
from harness.environments.tools import Request
from harness.errors import UsageError
from harness.faults import disk, process, witness
from harness.faults.files import data
from harness.nemeses.disk import Disk
from harness.nemeses.victims import revive
from tests.loops import simulated_loop

LONG = 64_000_000
RECORDS = {40_000: b"first record", 8_000_000: b"x" * 9000, 8_020_000: b"last"}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a log that was made long in advance, one that is empty yet, and what is not its data."""
    (tmp_path / "wal").mkdir()
    with (tmp_path / "wal/0.tmp").open("wb") as spare:
        spare.truncate(LONG)
    with (tmp_path / "wal/1.wal").open("wb") as log:
        for place, record in RECORDS.items():
            os.pwrite(log.fileno(), record, place)
        log.truncate(LONG - 1)
    (tmp_path / "small").write_bytes(b"s" * 100)
    (tmp_path / "server.log").write_bytes(b"l" * 100_000)
    (tmp_path / ".splitbrain-filler").write_bytes(b"f" * 100_000)
    return tmp_path


def in_a_record(at: int) -> bool:
    return any(start <= at < start + len(record) for start, record in RECORDS.items())


def test_bits_are_flipped_in_records_all_over_the_data_and_in_constant_memory(store: Path) -> None:
    tracemalloc.start()
    found: list[disk.Place] = []
    for seed in range(25):
        one = disk.find(str(store), "", random.Random(seed).random())
        assert one is not None
        found.append(one)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000
    assert {one["file"] for one in found} == {str(store / "wal/1.wal")}
    assert all(in_a_record(one["at"]) for one in found)
    assert len({one["at"] for one in found}) > 15
    assert len({one["at"] // 1_000_000 for one in found}) == 2


def test_a_file_is_chosen_by_its_name_or_path(store: Path) -> None:
    assert disk.find(str(store), "small", 0.5) == {"file": str(store / "small"), "at": 50}
    for pattern in ("*.wal", "wal/*"):
        found = disk.find(str(store), pattern, 0.0)
        assert found == {"file": str(store / "wal/1.wal"), "at": 40_000}
    assert disk.find(str(store), "nothing", 0.5) is None
    assert disk.find(str(store), "*.tmp", 0.5) is None


def test_a_flipped_bit_is_flipped_back_unless_somebody_wrote_there(store: Path) -> None:
    file = store / "small"
    flipped = disk.flip(str(file), 7, 3)
    assert file.read_bytes() == b"s" * 7 + bytes([ord("s") ^ 8]) + b"s" * 92
    assert disk.mend([flipped]) == [True]
    assert file.read_bytes() == b"s" * 100
    flipped = disk.flip(str(file), 7, 3)
    file.write_bytes(b"t" * 100)
    assert disk.mend([flipped]) == [False]
    assert file.read_bytes() == b"t" * 100


def test_what_is_cut_off_is_data_and_a_copy_brings_it_back(store: Path) -> None:
    log = store / "wal/1.wal"
    before, sparse = witness.digest(str(store)), log.stat().st_blocks
    disk.keep(str(store), "backup")
    assert witness.digest(f"{store}/.splitbrain-copy-backup") == before
    disk.truncate(str(log), 3)
    assert log.stat().st_size == 8_020_000 + 1
    (store / "wal/2.wal").write_bytes(b"new")
    (store / "server.log").write_bytes(b"said since")
    disk.restore(str(store), "backup")
    assert witness.digest(str(store)) == before
    assert log.stat().st_size == LONG - 1
    assert log.stat().st_blocks <= sparse + 16
    assert (store / "server.log").read_bytes() == b"said since"
    disk.forget(str(store), "backup")
    assert not list(store.glob(".splitbrain-copy-*"))


def test_holes_are_not_read(store: Path) -> None:
    with (store / "wal/0.tmp").open("rb") as file:
        assert list(data(file.fileno())) == []


def test_a_region_is_a_third_of_the_data() -> None:
    places = {}
    for region in ("head", "middle", "tail"):
        nemesis = Disk(Disk.Options(disk="flip", region=region))
        dealt = {"aim": "one", "kind": "flip"}
        places[region] = [nemesis.plan(random.Random(n), {"n1": "a"}, dealt)["place"] for n in range(50)]
    assert max(places["head"]) <= 1 / 3 < min(places["middle"])
    assert max(places["middle"]) <= 2 / 3 < min(places["tail"])


@pytest.mark.parametrize(
    "options",
    [{"file": "x"}, {"region": "head"}, {"bytes": 9}, {"age": 2.0, "disk": "flip"}, {"bytes": 9, "disk": "any"}],
)
def test_an_option_that_would_do_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="is for disk="):
        Disk(Disk.Options(**{"disk": "full"} | options))


def test_a_simulated_disk_is_spoiled_where_it_is_safe_and_rolled_back() -> None:
    simulated = SimulatedDisk(random.Random(1))
    for name, size in (("/n1/a", 100), ("/n1/b.log", 50)):
        file = simulated.open(name)
        file.append(b"x" * size)
        file.sync()
        file.append(b"y" * 1000)
    assert simulated.find("", 0.999) == {"file": "/n1/a", "at": 99}
    assert simulated.find("b.*", 0.5) == {"file": "/n1/b.log", "at": 25}
    assert simulated.find("c", 0.5) is None
    simulated.copies["old"] = simulated.contents()
    simulated.cut("/n1/a", 10)
    assert len(simulated.open("/n1/a")) == 1090
    simulated.open("/n1/c").append(b"new")
    simulated.roll_back("old")
    assert simulated.contents() == simulated.copies["old"]
    simulated.crash()
    assert simulated.contents() == simulated.copies["old"]


class Machine:
    """A node whose files are looked at and changed while another fault's end wants to start its server."""

    name, directory = "n1", "/data"
    own_tools = frozenset({process, disk, witness})

    def __init__(self) -> None:
        nodes: Any = [self]
        environment: Any = None
        self.cluster = Cluster(environment, nodes, 0)
        self.runs, self.changes = True, list[str]()

    async def start(self, cluster: Cluster, node: Any) -> None:
        self.runs = True

    async def own_tool(self, request: Request[Any]) -> Any:
        if request.tool is process:
            found = [{"pid": 7, "since": 1, "command": "server"}] if self.runs else []
            self.runs = self.runs and request.do is not process.kill
            return found
        if request.tool is witness:
            return {"size": 1, "bytes": "00"}
        if request.do in (disk.truncate, disk.restore, disk.flip):
            self.changes.append(request.do.__name__)
            target: Any = self
            await revive(self.cluster, target, [self.name])
            assert not self.runs
        return {"file": "/data/log", "at": 0}


@pytest.mark.parametrize(
    ("plan", "changes"),
    [
        ({"kind": "truncate", "file": "", "place": 1.0, "bytes": 64}, ["truncate", "restore"]),
        ({"kind": "rollback", "age": 0.1}, ["restore", "restore"]),
        ({"kind": "flip", "file": "", "place": 0.5, "bit": 1}, ["flip"]),
    ],
)
def test_no_other_fault_starts_a_server_whose_files_are_being_changed(plan: dict[str, Any], changes: list[str]) -> None:
    async def main() -> None:
        machine, nemesis = Machine(), Disk(Disk.Options())
        target: Any = machine
        await nemesis.inject(machine.cluster, target, {"aim": "one", "order": ["n1"], **plan})
        assert machine.runs
        assert machine.cluster.kept_down == set()
        machine.runs = False  # it has found out what was spoiled
        await nemesis.heal(machine.cluster, target)
        assert machine.runs
        assert machine.cluster.kept_down == set()
        assert machine.changes == changes

    simulated_loop().run_to_end(main())


def test_a_server_that_another_fault_keeps_down_is_not_given_its_backup() -> None:
    async def main() -> None:
        machine, nemesis = Machine(), Disk(Disk.Options())
        target: Any = machine
        plan = {"aim": "one", "order": ["n1"], "kind": "rollback", "age": 0.1}
        await nemesis.inject(machine.cluster, target, plan)
        machine.cluster.down["kill"] = {"n1"}
        machine.runs = False
        healed = await nemesis.heal(machine.cluster, target)
        assert "restored" not in healed
        assert not machine.runs
        assert machine.changes == ["restore"]

    simulated_loop().run_to_end(main())
