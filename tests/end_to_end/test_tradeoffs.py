"""``splitbrain experiment``: a few modes in a short plan show what theory says of them, twice in the same words."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def share(cut: Any, side: str, f: str) -> float:
    served = cut[side][f]
    assert served["whole"] > 5
    return float(served["part"] / served["whole"])


def test_consensus_gives_up_the_minority_and_gossip_its_writes(splitbrain: Command, tmp_path: Path) -> None:
    words = ("experiment", "cap", "--quick", "--only")
    done = splitbrain(*words, "raft,gossip", "--directory", "one", "--format", "json")
    assert done.returncode == 0, done.stderr
    rows = {row["mode"]: row["figures"] for row in json.loads(done.stdout)["rows"]}
    raft, gossip = rows["raft"], rows["gossip"]
    assert raft["model"] == "linearizable"
    assert share(raft["far_cut"], "majority", "write") == 1.0
    for cut in ("far_cut", "primary_cut"):
        assert share(raft[cut], "minority", "write") == 0.0
        assert share(gossip[cut], "majority", "write") == share(gossip[cut], "minority", "write") == 1.0
    assert raft["far"]["write"]["p50"] > 80
    assert raft["near"]["write"]["p50"] < 10
    assert gossip["far"]["write"]["p99"] < 10
    assert (raft["lost"]["part"], raft["stale"]["part"]) == (0, 0)
    assert gossip["lost"]["part"] > 0
    assert gossip["stale"]["part"] > 0
    assert gossip["model"] not in ("linearizable", "sequential")
    assert gossip["converged_after"] is not None
    page = (tmp_path / "one/report.html").read_text()
    assert "Content-Security-Policy" in page
    assert all(mode in page for mode in ("Raft", "gossip, last write wins"))
    for mode in ("raft", "gossip"):  # the rows lead to the reports of their runs
        assert (tmp_path / "one/runs" / mode / "report.html").is_file()
        assert f'href="runs/{mode}/report.html"' in page
    # Once more in the same place: the earlier run is replaced by the same one.
    name = tmp_path / "one/runs/gossip/history.jsonl"
    history, lines = name.read_bytes(), (tmp_path / "one/table.csv").read_text().splitlines()
    again = splitbrain(*words, "gossip", "--directory", "one")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[1].startswith(f"gossip, last write wins  {gossip['model']}")
    assert name.read_bytes() == history
    assert (tmp_path / "one/table.csv").read_text().splitlines() == [lines[0], lines[2]]


def test_reads_are_stale_only_where_quorums_do_not_meet(splitbrain: Command, tmp_path: Path) -> None:
    done = splitbrain("experiment", "quorum", "--sizes", "2", "--directory", "q")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "q/table.csv").open() as file:
        rows = {(row["r"], row["w"]): row for row in csv.DictReader(file)}
    assert len(rows) == 4
    assert {setting for setting, row in rows.items() if int(row["reads_stale"])} == {("1", "1")}
    assert "With R + W > N 0 of" in done.stdout
    assert (tmp_path / "q/report.html").is_file()


def test_rings_move_less_than_modulo_and_one_seed_is_one_page(splitbrain: Command, tmp_path: Path) -> None:
    words = ("experiment", "sharding", "--seed", "7", "--directory", "s")
    done = splitbrain(*words, "--format", "json")
    assert done.returncode == 0, done.stderr
    rows = {(row["placement"], row["keys"]): row for row in json.loads(done.stdout)["rows"]}
    assert len(rows) == 10
    for keys in ("ids", "prefixes"):
        for few, many in zip(rows["consistent-hash", keys]["moves"], rows["hash", keys]["moves"], strict=True):
            assert few["moved"] == few["least"]
            assert many["moved"]["part"] > 2 * few["moved"]["part"]
    kept = {name: (tmp_path / "s" / name).read_bytes() for name in ("report.html", "table.csv")}
    again = splitbrain(*words)
    assert again.stdout.splitlines()[1].startswith("hash, ids")
    assert "consistent-hash and rendezvous moved only what had to move" in again.stdout
    assert kept == {name: (tmp_path / "s" / name).read_bytes() for name in kept}
    with (tmp_path / "s/table.csv").open() as file:
        lines = {(row["placement"], row["keys"]): row for row in csv.DictReader(file)}
    assert int(lines["hash", "ids"]["8_to_9_moved"]) == rows["hash", "ids"]["moves"][4]["moved"]["part"]
    page = kept["report.html"].decode()
    assert "Content-Security-Policy" in page
    assert rows["hash", "ids"]["lesson"] in page
    assert "splitbrain experiment sharding --seed 7 --directory s" in page


def test_what_there_is_not_is_said_in_a_sentence(splitbrain: Command, tmp_path: Path) -> None:
    wrong = (
        (("cap", "--only", "raft,paxos"), "'paxos'"),
        (("quorum", "--sizes", "1"), "'1'"),
        (("cap", "--only", "raft,raft"), "'raft' twice"),
        (("quorum", "--sizes", "2,3", "--sizes", "2"), "'2' twice"),
    )
    for words, said in wrong:
        done = splitbrain("experiment", *words)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert said in line
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_left_alone_and_nothing_is_run(splitbrain: Command, tmp_path: Path) -> None:
    diary = tmp_path / "d/runs/raft/diary.txt"
    diary.parent.mkdir(parents=True)
    diary.write_text("mine")
    done = splitbrain("experiment", "cap", "--quick", "--only", "raft,gossip", "--directory", "d")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "d/runs/raft is no run of this experiment" in line
    assert [path for path in (tmp_path / "d").rglob("*") if path.is_file()] == [diary]
