"""``splitbrain check`` of transactions: levels of isolation, anomalies, versions, and words that do not exist."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]

SKEW = """{:process 0, :type :invoke, :f :txn, :value [[:append :x 1] [:r :y nil]], :time 0, :index 0}
{:process 1, :type :invoke, :f :txn, :value [[:append :y 1] [:r :x nil]], :time 1, :index 1}
{:process 0, :type :ok, :f :txn, :value [[:append :x 1] [:r :y nil]], :time 2, :index 2}
{:process 1, :type :ok, :f :txn, :value [[:append :y 1] [:r :x nil]], :time 3, :index 3}
"""


def events(*values: list[list[Any]], f: str = "txn") -> str:
    """Transactions one after the other, each of a process of its own, as JSON lines."""
    lines = []
    for at, value in enumerate(values):
        for number, kind in enumerate(("invoke", "ok")):
            index = 2 * at + number
            event = {"index": index, "time": index, "process": at, "type": kind, "f": f, "key": None, "value": value}
            lines.append(json.dumps(event) + "\n")
    return "".join(lines)


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    (tmp_path / "skew.edn").write_text(SKEW)
    (tmp_path / "stale.jsonl").write_text(events([["w", "x", 1]], [["w", "x", 2]], [["r", "x", 1]]))
    (tmp_path / "register.jsonl").write_text(events([["w", "x", 1]]).replace('"txn"', '"write"'))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["skew.edn"], 1, "invalid: not strict-serializable: 1 G2-item, called write skew"),
        (["skew.edn"], 1, "T2 ──rw y──▶ T3"),
        (["skew.edn", "--model", "PL-3,read-committed"], 1, "invalid: not serializable: 1 G2-item"),
        (["skew.edn", "--model", "snapshot-isolation"], 0, "that snapshot-isolation forbids; beside that there are G2"),
        (["skew.edn", "--model", "postgres-repeatable-read"], 0, "valid"),
        (["skew.edn", "--anomalies", "G0,G1c"], 0, "without an anomaly that G0 and G1c forbids"),
        (["skew.edn", "--anomalies", "G0", "--anomalies", "G2"], 1, "1 G2-item"),
        (["skew.edn", "--checker", "transactions"], 1, "invalid: transactions: not strict-serializable"),
        (["stale.jsonl", "--model", "causal"], 0, "valid"),
        (["stale.jsonl", "--model", "serializable", "--versions", "wfr"], 0, "valid"),
        (["stale.jsonl", "--versions", "wfr,realtime"], 1, "1 cyclic-versions"),
        (["stale.jsonl", "--workload", "list-append", "--model", "serializable"], 3, "unknown"),
        (["stale.jsonl", "--model", "multi-register"], 1, "invalid"),
        (["skew.edn", "--model", "serialisable"], 2, "there is no model named 'serialisable': there are register, "),
        (
            ["skew.edn", "--model", "serializable,kv"],
            2,
            "there is no level of isolation named 'kv', as serializable is",
        ),
        (["skew.edn", "--anomalies", "G4"], 2, "--anomalies has 'G4', which is none: there is"),
        (["skew.edn", "--versions", "luck"], 2, "--versions has 'luck': there are wfr, process, realtime"),
        (["skew.edn", "--workload", "bag"], 2, "--workload has 'bag': there are list-append, rw-register, rmw"),
        (["skew.edn", "--model", "kv", "--versions", "wfr"], 2, "--versions and levels of isolation are of"),
        (["skew.edn", "--model", "serializable", "--initial", "1"], 2, "--initial are of linearizability"),
        (["register.jsonl", "--model", "serializable"], 3, "unknown: there is no transaction in the history"),
    ],
)
def test_what_transactions_are_held_against(splitbrain: Command, arguments: list[str], code: int, said: str) -> None:
    done = splitbrain("check", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in " ".join((done.stdout + done.stderr).split())
    if code == 2:
        assert len(done.stderr.splitlines()) == 1


def test_the_verdict_for_scripts(splitbrain: Command) -> None:
    done = splitbrain("check", "skew.edn", "--model", "serializable", "--format", "json")
    verdict = json.loads(done.stdout)
    evidence = verdict["evidence"]
    assert (verdict["validity"], evidence["anomaly_types"], evidence["not"]) == (
        "invalid",
        ["G2-item"],
        ["repeatable-read"],
    )
    assert "serializable" in evidence["also_not"]
    assert "strong-snapshot-isolation" in evidence["strongest"]
    assert evidence["transactions"] == 2
    anomaly = verdict["anomalies"][0]
    assert [op["index"] for op in anomaly["operations"]] == [2, 3]
    assert [(edge["kind"], edge["source"], edge["target"]) for edge in anomaly["edges"]] == [("rw", 2, 3), ("rw", 3, 2)]


def test_levels_are_listed(splitbrain: Command) -> None:
    names = [row["name"] for row in json.loads(splitbrain("list", "models", "--format", "json").stdout)]
    assert {"cas-register", "strict-serializable", "causal", "read-committed"} <= set(names)
