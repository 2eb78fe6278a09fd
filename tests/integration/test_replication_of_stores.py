"""How far nodes were behind, and whether they hold the same in the end: of the bundled store, and of real ones."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.periods import fault_periods
from harness.recording import read_jsonl
from tests.integration.test_stores import measured

Command = Callable[..., "subprocess.CompletedProcess[str]"]

HALF_A_SECOND = 500_000_000


def during(lag: dict[str, Any], start: int, end: int) -> list[int]:
    """For how long a node was behind, each time that it was asked between two moments."""
    return [behind for asked, behind in lag["series"] if start <= asked <= end]


def test_a_primary_that_is_cut_off_falls_behind_its_successor_and_in_the_end_all_hold_the_same(
    tmp_path: Path, splitbrain: Command
) -> None:
    mode = "-o replication=primary-backup -o acknowledge=async --workload append"
    faults = "--on simulation --nemesis partition -o partition=primary --interval 4 --time 20 --seed 1"
    done = splitbrain("run", "reference", *mode.split(), *faults.split(), "--format", "json")
    assert done.returncode == 1, done.stdout + done.stderr  # it loses what its successor had not yet received
    outcome = json.loads(done.stdout)
    replication = outcome["verdict"]["evidence"]["replication"]
    cuts = fault_periods(read_jsonl(tmp_path / outcome["directory"] / "history.jsonl"))
    assert len(cuts) > 1
    for cut in cuts:
        victim = cut.what["said"].split()[1]
        behind = {node: max(during(lag, cut.start, cut.end)) for node, lag in replication["nodes"].items()}
        assert 0 < behind[victim] <= cut.end - cut.start
        assert behind[victim] == max(behind.values())
    own = replication["own_states"]
    assert (own["nodes"], own["differing"], own["why"]) == (["n1", "n2", "n3"], 0, "")
    assert own["keys"] > 0


@pytest.mark.parametrize(
    "store",
    [pytest.param(name, marks=pytest.mark.needs("local", name)) for name in ("redis", "etcd")],
)
def test_a_real_replica_that_is_cut_off_is_behind_and_in_the_end_holds_what_the_others_do(
    tmp_path: Path, splitbrain: Command, store: str
) -> None:
    plan = {"kind": "one", "order": ["n3", "n1", "n2"], "how": "drop"}
    # Until the run is over, however long it has to be on this machine for the cut to be proved.
    faults = [{"name": "partition", "start": 1.5, "stop": 60.0, "plan": plan}]
    (tmp_path / "faults.json").write_text(json.dumps({"faults": faults}))
    words = "--on local --nemesis partition --timetable faults.json --seed 1"
    _, verdict, directory = measured(splitbrain, 7, store, *words.split())
    replication = verdict["evidence"]["replication"]
    (cut,) = fault_periods(read_jsonl(tmp_path / directory / "history.jsonl"))
    # Clients reach it all the time, so it can be asked; and it is the same where n3 leads, and is followed by another.
    assert cut.proved
    assert max(during(replication["nodes"]["n3"], cut.start, cut.end)) > HALF_A_SECOND
    own = replication["own_states"]
    assert (sorted(own["nodes"]), own["differing"], own["why"]) == (["n1", "n2", "n3"], 0, "")
    assert own["keys"] > 0
