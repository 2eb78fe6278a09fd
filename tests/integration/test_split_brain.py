"""Split brain, for real: named where there is one, by those who were in it, and nowhere else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_stores import measured, tells

Command = Callable[..., "subprocess.CompletedProcess[str]"]

CHAOS = "--on simulation --nodes 5 --time 15 --rate 60 --nemesis chaos --interval 3 --seeds 10 --workload append"
MODES = [
    "",
    "-o reads=lease -o snapshot=40",
    "-o replication=primary-backup",
    "-o replication=primary-backup -o witness=n2 --nodes 3",
]
"""The modes of the reference store that promise one primary; `make bench-promises` takes 200 seeds of each."""


@pytest.mark.parametrize("mode", MODES)
def test_no_mode_that_keeps_its_promise_is_accused(splitbrain: Command, mode: str) -> None:
    done = splitbrain("hunt", "reference", *CHAOS.split(), *mode.split(), "--format", "json", timeout=1200)
    outcomes = json.loads(done.stdout)["outcomes"]
    assert len(outcomes) == 10
    assert not [one for one in outcomes if one["validity"] == "invalid"]
    assert sum(one["validity"] == "valid" for one in outcomes) > 7


BUGS = {
    "no-fencing": ("--nemesis partition -o partition=primary --nodes 5", "split-brain"),
    "failover-without-majority": ("--nemesis partition --nodes 5", "split-brain"),
    "failover-to-stale-backup": ("--nemesis partition,kill --nodes 5", "branches"),
    "witness-becomes-primary": ("--nemesis partition,kill --nodes 3 -o witness=n3", "branches"),
}
"""Each bug, what shows it, and who finds it: the last two make no second primary, but lose what was acknowledged."""


@pytest.mark.parametrize("bug", BUGS)
def test_bugs_that_split_brains_are_found_and_those_named_were_primary(
    tmp_path: Path, splitbrain: Command, bug: str
) -> None:
    how, checker = BUGS[bug]
    hunt = ["hunt", "reference", "--bug", bug, "--workload", "append", *how.split(), "--interval", "2", "--time", "20"]
    done = splitbrain(*hunt, "--rate", "100", "--seeds", "20", "--stop", "--format", "json", timeout=600)
    outcomes = json.loads(done.stdout)["outcomes"]
    signatures = [signature for one in outcomes for signature in one.get("signatures", [])]
    assert any(signature.startswith(f"{checker}: ") for signature in signatures)
    for verdict in tmp_path.glob("hunts/*/seed-*/verdict.json"):
        events = [json.loads(line) for line in (verdict.parent / "history.jsonl").read_text().splitlines()]
        for episode in json.loads(verdict.read_text())["evidence"]["episodes"]:
            assert set(episode["nodes"]) <= primaries(events, episode["start"], episode["end"])


def primaries(events: list[dict[str, Any]], start: int, end: int) -> set[str]:
    """Who was primary at some moment between two times, as the store's own metrics tell: by term and role."""
    until, since = set(), set()
    for event in events:
        if event["f"] == "role" and event.get("value"):
            said = event["value"]
            if said["role"] == "primary" and said.get("since", said["asked"]) <= end:
                until.add(event["node"])
                if said["answered"] >= start:
                    since.add(event["node"])
        elif event["type"] == "ok" and event["f"] == "append":
            if event["time"] <= end:
                until.add(event["served_by"]["node"])
            if event["time"] >= start:
                since.add(event["served_by"]["node"])
    return until & since


KEPT = """
import json
from pathlib import Path
from harness.targets.redis import PORT, Redis
from harness.targets.resp import quick, quick_each

class Kept(Redis):
    \"\"\"Writes down what every server holds whenever a client is closed: for the last time as the run ends.\"\"\"

    def client(self, cluster, node, timeout):
        inner = super().client(cluster, node, timeout)
        close = inner.close

        async def closing():
            await close()
            for name, address in ((one.name, one.address) for one in cluster.nodes):
                for _ in range(5):  # there is no answer, or an empty list, where one takes longer than half a second
                    keys = await quick(address, PORT, "KEYS", "*", password=self.password)
                    commands = [("LRANGE", key, "0", "-1") for key in keys or ()]
                    lists = await quick_each(address, PORT, commands, password=self.password)
                    if keys is not None and len(lists) == len(keys):
                        Path(FOLDER, name + ".json").write_text(json.dumps(dict(zip(keys, lists))))
                        break

        inner.close = closing
        return inner
"""


@pytest.mark.needs("local", "redis")
def test_redis_loses_what_an_isolated_primary_acknowledged_and_says_who(tmp_path: Path, splitbrain: Command) -> None:
    (tmp_path / "kept.py").write_text(KEPT.replace("FOLDER", repr(str(tmp_path))))
    words = "--on local --workload append --nemesis partition -o partition=primary --seed 1"
    for more in (1, 4):
        # One cut only: a second one may isolate the second primary.
        times = ["--interval", str(20 * more), "--time", str(30 * more), "--runs", f"r{more}"]
        done = splitbrain("run", "./kept.py:Kept", *words.split(), *times)
        assert done.returncode in (0, 1, 3), done.stdout + done.stderr
        (run,) = tmp_path.glob(f"r{more}/*")
        verdict = json.loads((run / "verdict.json").read_text())
        if tells(verdict, failover=True):
            break
    assert done.returncode == 1, done.stdout + done.stderr
    told = done.stdout.splitlines()
    told = told[: told.index("")]  # figures of the whole run follow
    assert len(told) <= 10
    assert told[0].startswith("invalid: split brain: n1 and n")
    assert "partition (primary: n1" in told[0]
    assert "n1 (term 0) acknowledged" in told[1]
    assert "(term 1) acknowledged" in told[1]
    assert " forked " in told[2]

    (episode, *_) = verdict["evidence"]["episodes"]
    former, successor = episode["nodes"]
    assert former == "n1"
    assert episode["start"] < episode["end"]
    events = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    acknowledged = {
        (e["key"], e["value"]): e["served_by"]["node"] for e in events if (e["type"], e["f"]) == ("ok", "append")
    }
    held = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("n1", "n2", "n3")}
    there = {name: {(key, int(element)) for key in lists for element in lists[key]} for name, lists in held.items()}
    lost = [one for one in episode["writes"] if one["fate"] == "lost"]
    assert lost
    for one in lost:
        assert acknowledged[one["key"], one["value"]] == one["node"] == "n1"
        assert not any((one["key"], one["value"]) in elements for elements in there.values())
    for one in episode["writes"]:
        if one["fate"] == "kept":
            assert (one["key"], one["value"]) in there[successor]
    gone = {one for one in acknowledged if one not in there[successor]}
    assert verdict["evidence"]["appends_lost"] == len(gone)
    assert {(one["key"], one["value"]) for one in lost} <= gone


@pytest.mark.needs("local", "etcd")
def test_etcd_has_one_order_of_appends(tmp_path: Path, splitbrain: Command) -> None:
    words = "--on local --workload append --nemesis partition,kill --seed 1"
    code, verdict, directory = measured(splitbrain, 25, "etcd", *words.split())
    assert (code, verdict["validity"]) == (0, "valid"), verdict
    events = [json.loads(line) for line in (tmp_path / directory / "history.jsonl").read_text().splitlines()]
    served = [e["served_by"] for e in events if (e["type"], e["f"]) == ("ok", "append")]
    # Members acknowledge what the leader has ordered, and their terms never go back.
    assert {one["node"] for one in served} == {"n1", "n2", "n3"}
    assert all(one["term"] >= 2 for one in served)
    for node in ("n1", "n2", "n3"):
        terms = [one["term"] for one in served if one["node"] == node]
        assert all(a <= b for a, b in pairwise(terms))
