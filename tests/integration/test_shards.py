"""Keys that are split over Raft groups: promises under chaos while ranges move, what a move proves, real processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.errors import NothingToDo
from harness.nemeses.reshard import Reshard
from harness.operation import Operation
from harness.targets.reference.target import Reference
from tests.integration.inside import simulated
from tests.integration.test_stores import run

Command = Callable[..., "subprocess.CompletedProcess[str]"]

CHAOS = ["--nodes", "5", "--time", "12", "--rate", "60", "--nemesis", "chaos", "--interval", "3"]


def plan(kind: str) -> dict[str, Any]:
    return {"kind": kind, "at": 0.0, "to": 0.0}


async def ranges_move(cluster: Cluster) -> None:
    """A move, a split and a merge, each with what was written before, and the proof of each."""
    store = Reference(Reference.Options(shards=3, placement="range"))
    await cluster.on_each([node.name for node in cluster.nodes], lambda node: store.start(cluster, node))
    await wait_until(lambda: store.ready(cluster), seconds=20, what="a primary of every shard")
    client = store.client(cluster, cluster.nodes[0], 5.0)
    await client.open()
    reshard = Reshard(Reshard.Options())
    with pytest.raises(NothingToDo, match="no keys"):
        await reshard.inject(cluster, store, plan("move"))
    keys = [f"k{number // 2}{number % 2}" for number in range(9)]
    for number, key in enumerate(keys):
        await client.invoke(Operation("write", key, number))
    for round_, kind in enumerate(("move", "split", "merge")):
        done = await reshard.inject(cluster, store, plan(kind))
        before = {tuple(owners) for _, *owners in done["before"].values()}
        assert len(before) == 1
        assert (done["to"],) not in before
        proof = await reshard.prove(cluster, store, done, 5.0)
        assert proof.holds, proof
        assert {tuple(owners) for _, *owners in proof.during.values()} == {(done["to"],)}
        healed = await reshard.heal(cluster, store)
        assert healed["epoch"] == 3 + 2 * round_
        for number, key in enumerate(keys):
            answer = await client.invoke(Operation("read", key))
            assert answer.value == number
    states = [await store.own_state(cluster, node) for node in cluster.nodes]
    assert states[0] is not None
    assert len(states[0]) == 9
    await client.close()


def test_ranges_move_and_the_nodes_themselves_say_so(tmp_path: Path) -> None:
    simulated(tmp_path, ranges_move)


class Unanswered(Reference):
    """Plans what it is asked to, and the answer is lost."""

    async def _ask(self, cluster: Cluster, name: str, *words: str) -> Any:
        answer = await super()._ask(cluster, name, *words)
        return None if words[0] == "RESHARD" else answer


async def a_range_moves_unanswered(cluster: Cluster) -> None:
    store = Unanswered(Reference.Options(shards=3, placement="range"))
    await cluster.on_each([node.name for node in cluster.nodes], lambda node: store.start(cluster, node))
    await wait_until(lambda: store.ready(cluster), seconds=20, what="a primary of every shard")
    client = store.client(cluster, cluster.nodes[0], 5.0)
    await client.open()
    await client.invoke(Operation("write", "k1", 1))
    reshard = Reshard(Reshard.Options())
    done = await reshard.inject(cluster, store, plan("move"))
    assert done["epoch"] == 2
    assert (await reshard.prove(cluster, store, done, 5.0)).holds
    with pytest.raises(NothingToDo, match="no primary"):
        await store.reshard(cluster, done["low"], done["high"], done["to"])
    await client.close()


def test_a_move_that_was_planned_and_not_answered_is_known(tmp_path: Path) -> None:
    simulated(tmp_path, a_range_moves_unanswered)


async def nothing_moves(cluster: Cluster) -> None:
    """What was never done is not proved."""
    store = Reference(Reference.Options(shards=3, placement="range"))
    await cluster.on_each([node.name for node in cluster.nodes], lambda node: store.start(cluster, node))
    await wait_until(lambda: store.ready(cluster), seconds=20, what="a primary of every shard")
    done = {"low": "", "high": "1", "to": 2, "epoch": 1, "before": {}}
    proof = await Reshard(Reshard.Options()).prove(cluster, store, done, 2.0)
    assert not proof.holds
    assert {tuple(seen) for seen in proof.during.values()} == {(1, 1)}


def test_what_has_not_moved_is_not_proved(tmp_path: Path) -> None:
    simulated(tmp_path, nothing_moves)


@pytest.mark.parametrize(
    "mode",
    [
        "-o placement=range -o snapshot=50",
        "-o placement=consistent-hash --workload append",
        "-o placement=rendezvous --workload set",
        "-o placement=hierarchical --workload lock -o fencing=true",
        "--workload bank",
        "--workload atm",
        "--workload list-append",
        "--workload write-skew -o placement=range",
    ],
)
def test_shards_keep_what_they_promise_under_chaos(splitbrain: Command, mode: str) -> None:
    done = splitbrain(
        "hunt", "reference", *CHAOS, "--seeds", "2", "--executor", "processes:1", "-o", "shards=3", *mode.split()
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_transactions_go_across_shards(splitbrain: Command) -> None:
    mode = ["--workload", "list-append", "-o", "shards=3", "--nemesis", "reshard", "--interval", "2"]
    code, verdict, _ = run(
        splitbrain, "reference", "--on", "simulation", "--time", "8", "--nodes", "3", "--seed", "3", *mode
    )
    assert (code, verdict["validity"]) == (0, "valid"), verdict
    assert verdict["evidence"]["ok"] > 1000
    assert verdict["evidence"]["faults"]["reshard"]["proved"] >= 1


def test_a_store_without_shards_cannot_be_resharded(splitbrain: Command) -> None:
    done = splitbrain("run", "reference", "--on", "simulation", "--nemesis", "reshard")
    assert done.returncode == 2
    assert "needs a target with reshard" in done.stderr


@pytest.mark.needs("local")
def test_real_processes_move_ranges_while_they_serve(splitbrain: Command, tmp_path: Path) -> None:
    mode = ["--workload", "bank", "-o", "shards=3", "--nemesis", "reshard,kill", "-o", "kill=primary"]
    code, verdict, directory = run(
        splitbrain,
        "reference",
        "--on",
        "local",
        "--time",
        "12",
        "--rate",
        "100",
        "--interval",
        "2",
        "--seed",
        "1",
        *mode,
    )
    assert (code, verdict["validity"]) == (0, "valid"), verdict
    proofs = [
        event["value"]
        for event in map(json.loads, (tmp_path / directory / "history.jsonl").read_text().splitlines())
        if event["f"] == "prove-reshard" and event["type"] == "ok"
    ]
    assert proofs
    assert all(proof["holds"] for proof in proofs)
