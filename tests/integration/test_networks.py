"""Cuts of every shape and bad lines, as the nodes themselves see them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node, answers
from harness.errors import NothingToDo
from nemeses.netem import Netem
from nemeses.partition import Partition, links_of
from tests.integration.inside import on
from tests.integration.test_faults import ENVIRONMENTS, connect, listening, reference

NAMES = ["n1", "n2", "n3", "n4", "n5"]

# Standard library only, and not the tool that the nemesis proves itself with: echoes over UDP, numbered.
ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 7779))
while True:
    data, peer = s.recvfrom(2000); s.sendto(data, peer)
"""
PING = """
import json, select, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], 7779))
count, size, began, took, order = int(sys.argv[2]), int(sys.argv[3]), {}, {}, []
def hear(seconds):
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and select.select([s], [], [], left)[0]:
        number = int(s.recv(2000)[:8]); order.append(number)
        took.setdefault(number, time.monotonic() - began[number])
for number in range(count):
    began[number] = time.monotonic(); s.send(b"%08d" % number + b"x" * size); hear(0.002)
hear(1.0)
print(json.dumps({"took": sorted(took.values()), "order": order}))
"""


async def ping(node: Node, peer: Node, count: int = 150, size: int = 10) -> tuple[list[float], list[int]]:
    """The round trips of the datagrams that came back, and in which order all did."""
    result = await node.exec([node.python, "-c", PING, peer.address, str(count), str(size)])
    assert result.code == 0, result.text
    answer = json.loads(result.out)
    return answer["took"], answer["order"]


def middle(values: list[float]) -> float:
    return values[len(values) // 2]


async def every_quality_is_felt_and_gone_after_the_heal(cluster: Cluster) -> None:
    a, b, c = cluster.nodes
    for node in cluster.nodes:
        await node.start("echo", [node.python, "-c", ECHO])
    await asyncio.sleep(0.5)
    netem = Netem(Netem.Options())

    async def under(**quality: float) -> tuple[list[float], list[int]]:
        plan = {"aim": "n1", "order": NAMES[:3], "quality": quality, "direction": "out", "seed": "7"}
        done = await netem.inject(cluster, reference(), plan)
        assert set(done["seen"]) == {"n1"}
        return await ping(a, b)

    before, order = await ping(a, b)
    assert (len(before), order) == (150, sorted(order))
    assert middle(before) < 0.15
    took, _ = await under(delay=0.3)
    assert middle(took) > 0.29
    assert middle((await ping(b, c))[0]) < 0.15, "a link that nobody meant"
    took, _ = await under(jitter=0.2)
    assert middle(took) > 0.02
    assert took[len(took) * 9 // 10] - took[len(took) // 10] > 0.05
    took, _ = await under(loss=0.3)
    assert 60 < len(took) < 145
    _, order = await under(duplicate=0.3)
    assert len(order) > 160
    _, order = await under(reorder=0.3)
    assert len(set(order)) == 150
    assert order != sorted(order)
    took, _ = await under(corrupt=0.3)
    assert len(took) < 145, "what is corrupt must not arrive"
    await under(rate=20_000)
    took, _ = await ping(a, b, 30, 1000)
    assert took[-1] > 0.5, "30 packets of 1 kB through 20 kB a second"
    await netem.heal(cluster, reference())
    after, order = await ping(a, b)
    assert (len(after), order) == (150, sorted(order))
    assert middle(after) < 0.15
    assert "SPLITBRAIN" not in (await a.exec(["iptables", "-t", "mangle", "-S"])).text


async def a_direction_is_the_one_that_was_meant(cluster: Cluster) -> None:
    plan = {"aim": "n1", "order": NAMES[:3], "quality": {"delay": 0.05}, "seed": "7"}
    netem = Netem(Netem.Options())
    for direction, senders in (("out", {"n1"}), ("in", {"n2", "n3"}), ("both", {"n1", "n2", "n3"})):
        done = await netem.inject(cluster, reference(), {**plan, "direction": direction})
        assert set(done["seen"]) == senders
        await netem.heal(cluster, reference())


async def bad_lines_and_cuts_meet(cluster: Cluster) -> None:
    netem, partition = Netem(Netem.Options()), Partition(Partition.Options())
    bad = {"order": NAMES[:3], "quality": {"loss": 0.3}, "direction": "out", "seed": "7"}
    one = {"kind": "one", "order": NAMES[:3], "how": "drop"}
    await partition.inject(cluster, reference(), one)
    with pytest.raises(NothingToDo, match="every link of n1 is cut"):
        await netem.inject(cluster, reference(), {**bad, "aim": "n1"})
    done = await netem.inject(cluster, reference(), {**bad, "aim": "all"})
    assert done["seen"]["n1"] is None
    assert done["seen"]["n2"]["seen"]["lost"] > 0
    for _ in range(3):
        await partition.heal(cluster, reference())
        await partition.inject(cluster, reference(), one)
    await netem.heal(cluster, reference())
    await partition.heal(cluster, reference())


async def cuts_have_the_shape_that_was_meant(cluster: Cluster) -> None:
    await listening(cluster)
    partition = Partition(Partition.Options())
    plan = {"order": NAMES, "minority": 2, "senders": 2, "how": "drop"}

    async def seen() -> dict[str, str]:
        """For each node the numbers of the others that it reaches."""

        async def by(node: Node) -> str:
            others = [other for other in cluster.nodes if other is not node]
            state = await connect(node, 7777, *others)
            return "".join(o.name[1:] for o, s in zip(others, state, strict=True) if s == "open")

        return await cluster.on_each(NAMES, by)

    shapes: dict[str, Any] = {
        "ring": {"n1": "25", "n2": "13", "n3": "24", "n4": "35", "n5": "14"},
        "bridge": {"n1": "2345", "n2": "13", "n3": "12", "n4": "15", "n5": "14"},
        "third": {"n1": "", "n2": "345", "n3": "245", "n4": "235", "n5": "234"},
        "zone": {"n1": "4", "n2": "35", "n3": "25", "n4": "1", "n5": "23"},
        "links": {"n1": "345", "n2": "345", "n3": "124", "n4": "1235", "n5": "124"},
    }
    for kind, shape in shapes.items():
        await partition.inject(cluster, reference(), {**plan, "kind": kind, "links": [["n1", "n2"], ["n5", "n3"]]})
        assert (kind, await seen()) == (kind, shape)
        await partition.heal(cluster, reference())
    assert await seen() == {name: "12345".replace(name[1:], "") for name in NAMES}


async def clients_lose_the_nodes_that_they_are_cut_from(cluster: Cluster) -> None:
    partition = Partition(Partition.Options())
    plan = {"kind": "clients", "order": NAMES[:3], "minority": 1, "senders": 2, "how": "drop"}
    await partition.inject(cluster, reference(), plan)
    assert [await answers(node.address) for node in cluster.nodes] == [False, False, True]
    await partition.heal(cluster, reference())
    assert [await answers(node.address) for node in cluster.nodes] == [True, True, True]


async def a_flapping_cut_comes_and_goes(cluster: Cluster) -> None:
    await listening(cluster)
    partition = Partition(Partition.Options())
    plan = {"kind": "one", "order": NAMES[:3], "minority": 1, "senders": 1, "how": "drop", "flap": 1.5}
    await partition.inject(cluster, reference(), plan)
    states: list[str] = []

    async def lost_and_regained_twice() -> bool:
        states.extend(await connect(cluster.nodes[0], 7777, cluster.nodes[1]))
        changes = [b for a, b in zip(["", *states], states, strict=False) if a != b]
        return changes.count("open") >= 2 and changes.count("TimeoutError") >= 2

    await wait_until(lost_and_regained_twice, seconds=60, what="a cut that comes and goes")
    await partition.heal(cluster, reference())
    for _ in range(6):
        assert await connect(cluster.nodes[0], 7777, *cluster.nodes[1:]) == ["open", "open"]
    assert "SPLITBRAIN" not in (await cluster.nodes[0].exec(["iptables", "-S"])).text


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize(
    ("scenario", "nodes"),
    [
        (every_quality_is_felt_and_gone_after_the_heal, 3),
        (a_direction_is_the_one_that_was_meant, 3),
        (bad_lines_and_cuts_meet, 3),
        (cuts_have_the_shape_that_was_meant, 5),
        (clients_lose_the_nodes_that_they_are_cut_from, 3),
        (a_flapping_cut_comes_and_goes, 3),
    ],
)
def test_on_real_nodes(environment: str, scenario: Any, nodes: int) -> None:
    on(environment, scenario, nodes=nodes)


def test_every_node_of_a_ring_sees_another_majority() -> None:
    for count in (5, 7, 9):
        names = [f"n{number}" for number in range(count)]
        _, cuts = links_of({"kind": "ring"}, names, {})
        sees = {name: frozenset(set(names) - cuts[name].keys()) for name in names}
        assert all(len(seen) > count / 2 for seen in sees.values())
        assert len(set(sees.values())) == count
