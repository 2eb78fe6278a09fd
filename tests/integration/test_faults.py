"""Faults as the nodes themselves see them, on real nodes."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.errors import MissingError, NothingToDo
from harness.faults import process
from harness.nemeses.disk import Disk
from harness.nemeses.kill import Kill
from harness.nemeses.partition import Partition
from harness.nemeses.pause import Pause
from harness.nemeses.restart import Restart
from harness.target import Target
from harness.targets.reference.target import Reference
from tests.integration.inside import on

Store = TypeVar("Store", bound=Target)

ENVIRONMENTS = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("local", "docker", "ssh")]

# Standard library only, and not the tool that the nemesis proves itself with.
CONNECT = """
import json, socket, sys
answer = {}
for address in sys.argv[2:]:
    try:
        socket.create_connection((address, int(sys.argv[1])), timeout=0.5).close()
        answer[address] = "open"
    except OSError as error:
        answer[address] = type(error).__name__  # a TimeoutError, or an OSError: no route to host
print(json.dumps(answer))
"""
LISTEN = "import socket, time; s = socket.create_server(('0.0.0.0', 7777)); time.sleep(600)"
HEAR = """
import socket
heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
heard.bind(("0.0.0.0", 7778))
print("up")
while True:
    print(heard.recv(100).decode())
"""
SAY = """
import socket, sys, time
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(sys.argv[2].encode(), (sys.argv[1], 7778))
time.sleep(0.1)
"""
TICK = "import time, sys\nwhile True: print(time.monotonic(), flush=True); time.sleep(0.05)"


async def connect(node: Node, port: int, *others: Node) -> list[str]:
    """What this node sees when it opens a TCP connection to each of the others."""
    result = await node.exec([node.python, "-c", CONNECT, str(port), *(other.address for other in others)])
    assert result.code == 0, result.text
    answers: dict[str, str] = json.loads(result.out)
    return [answers[other.address] for other in others]


async def states(node: Node) -> list[str]:
    """The states of the node's server processes, from the process table inside the node."""
    return [one["state"] for one in await run_tool(node, ask(process.look))]


def reference() -> Reference:
    return Reference(Reference.Options())


async def up(node: Node, name: str) -> None:
    """Wait until a server has printed that it is up, as its first line."""

    async def there() -> bool:
        return (await node.log(name)).startswith("up\n")

    await wait_until(there, seconds=90, what=f"{name} of {node.name} being up")


async def listening(cluster: Cluster) -> None:
    for node in cluster.nodes:
        await node.start("listener", [node.python, "-c", LISTEN])
    first, *others = cluster.nodes

    async def all_open() -> bool:
        return await connect(first, 7777, *others) == ["open"] * len(others)

    await wait_until(all_open, seconds=90, what="every listener")


async def a_partition_cuts_exactly_the_links_across(cluster: Cluster) -> None:
    await listening(cluster)
    a, b, c = cluster.nodes
    partition = Partition(Partition.Options(partition="one"))
    done = await partition.inject(
        cluster, reference(), {"kind": "one", "order": ["n1", "n3", "n2"], "minority": 1, "senders": 1, "how": "drop"}
    )
    assert done["said"] == "one: n1 | n2 n3"
    assert done["cut"] == {"n1": {"n2": "both", "n3": "both"}, "n2": {"n1": "both"}, "n3": {"n1": "both"}}
    assert await connect(a, 7777, b, c) == ["TimeoutError", "TimeoutError"]
    assert await connect(b, 7777, a, c) == ["TimeoutError", "open"]
    assert await connect(c, 7777, a, b) == ["TimeoutError", "open"]
    healed = await partition.heal(cluster, reference())
    assert all(count > 0 for count in healed["packets_dropped"].values())
    for node in cluster.nodes:
        others = [other for other in cluster.nodes if other is not node]
        assert await connect(node, 7777, *others) == ["open", "open"]
        rules = await node.exec(["iptables", "-S"])
        assert "SPLITBRAIN" not in rules.text


async def a_rejecting_partition_answers_at_once(cluster: Cluster) -> None:
    await listening(cluster)
    a, b, c = cluster.nodes
    partition = Partition(Partition.Options())
    plan = {"kind": "one", "order": ["n1", "n2", "n3"], "minority": 1, "senders": 1, "how": "reject"}
    await partition.inject(cluster, reference(), plan)

    async def refused() -> bool:
        """The kernel limits how often it tells that it refuses: some attempts just time out."""
        return await connect(a, 7777, b, c) == ["OSError"] * 2

    await wait_until(refused, seconds=90, what="being refused by both")
    await partition.heal(cluster, reference())
    assert await connect(a, 7777, b, c) == ["open", "open"]


async def a_cut_in_one_direction_loses_only_what_is_sent_that_way(cluster: Cluster) -> None:
    a, b, _ = cluster.nodes
    for node in (a, b):
        await node.start("hearer", [node.python, "-u", "-c", HEAR])
    for node in (a, b):
        await up(node, "hearer")

    async def hears(sender: Node, hearer: Node, word: str, tries: int = 50) -> bool:
        """Whether a datagram arrives, of several that are sent; of many, since a hearer may stand still for a while."""
        for _ in range(tries):
            argv = [sender.python, "-c", SAY, hearer.address, word]
            await sender.exec(argv)
            if word in await hearer.log("hearer"):
                return True
        return False

    assert [await hears(a, b, "before-ab"), await hears(b, a, "before-ba")] == [True, True]
    partition = Partition(Partition.Options())
    plan = {"kind": "one-way", "order": ["n1", "n2", "n3"], "minority": 1, "senders": 1, "how": "drop"}
    done = await partition.inject(cluster, reference(), plan)
    assert done["said"] == "one-way: n1 -x n2 n3"
    assert [await hears(a, b, "during-ab", 5), await hears(b, a, "during-ba")] == [False, True]
    await partition.heal(cluster, reference())
    assert [await hears(a, b, "after-ab"), await hears(b, a, "after-ba")] == [True, True]


async def a_pause_stops_and_resumes(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    await node.start("ticker", [node.python, "-c", TICK])

    async def ticks() -> bool:
        return len((await node.log("ticker")).split()) > 3

    await wait_until(ticks, seconds=90, what="the first ticks")
    pause = Pause(Pause.Options())
    await pause.inject(cluster, reference(), {"aim": "one", "order": ["n1", "n2", "n3"]})
    assert await states(node) == ["T"]
    before = await node.log("ticker")
    assert await states(node) == ["T"]
    assert await node.log("ticker") == before
    await pause.heal(cluster, reference())
    assert await states(node) in (["S"], ["R"])

    async def goes_on() -> bool:
        return len(await node.log("ticker")) > len(before)

    await wait_until(goes_on, seconds=90, what="further ticks")


async def serving(cluster: Cluster, store: Store, seconds: float = 120) -> Store:
    """The store, started on all nodes and ready."""
    for node in cluster.nodes:
        await store.start(cluster, node)
    await wait_until(lambda: store.ready(cluster), seconds=seconds, what="the store being ready")
    return store


async def a_kill_ends_processes_and_the_heal_starts_them(cluster: Cluster) -> None:
    store = await serving(cluster, reference())
    before = {node.name: await states(node) for node in cluster.nodes}
    assert all(len(found) == 1 for found in before.values())
    kill = Kill(Kill.Options())
    done = await kill.inject(cluster, store, {"aim": "majority", "order": ["n2", "n3", "n1"]})
    assert sorted(done["killed"]) == ["n2", "n3"]
    assert [len(await states(node)) for node in cluster.nodes] == [1, 0, 0]

    async def noticed() -> bool:
        return [(await node.running())["reference"] for node in cluster.nodes] == [True, False, False]

    await wait_until(noticed, seconds=90, what="the harness noticing")
    await kill.heal(cluster, store)
    assert [len(await states(node)) for node in cluster.nodes] == [1, 1, 1]
    await wait_until(lambda: store.ready(cluster), seconds=90, what="the store being ready again")


async def a_killed_node_stays_down_when_another_fault_on_it_ends(cluster: Cluster) -> None:
    store, node = await serving(cluster, reference()), cluster.nodes[1]
    kill, restart, disk = Kill(Kill.Options()), Restart(Restart.Options()), Disk(Disk.Options())
    order = ["n2", "n3", "n1"]
    await kill.inject(cluster, store, {"aim": "one", "order": order})
    # Only now: a server that happens to write while its disk is full ends itself, and is not there to be killed.
    await disk.inject(cluster, store, {"aim": "one", "order": order, "kind": "full"})
    with pytest.raises(NothingToDo):
        await restart.inject(cluster, store, {"aim": "one", "order": order})
    assert (await disk.heal(cluster, store))["started"] == {"n2": []}
    assert await restart.heal(cluster, store) == {"started": {"n2": []}}
    assert await states(node) == []
    await kill.heal(cluster, store)
    assert len(await states(node)) == 1


async def a_paused_server_hears_no_sigterm_and_stays_down_when_it_is_killed(cluster: Cluster) -> None:
    store, node = await serving(cluster, reference()), cluster.nodes[1]
    kill, pause = Kill(Kill.Options()), Pause(Pause.Options())
    plan = {"aim": "one", "order": ["n2", "n3", "n1"]}
    await pause.inject(cluster, store, plan)
    for ending in (Restart(Restart.Options()), Kill(Kill.Options(signal="terminate"))):
        with pytest.raises(NothingToDo):
            await ending.inject(cluster, store, plan)
        await ending.heal(cluster, store)
    assert await states(node) == ["T"]
    await kill.inject(cluster, store, plan)
    assert await kill.heal(cluster, store) == {"started": {"n2": []}}
    assert await states(node) == []
    await pause.heal(cluster, store)
    assert await states(node) in (["S"], ["R"])


async def a_fault_that_hits_nobody_does_not_count(cluster: Cluster) -> None:
    for nemesis in (Kill(Kill.Options()), Pause(Pause.Options())):
        with pytest.raises(NothingToDo, match="no server process"):
            await nemesis.inject(cluster, reference(), {"aim": "one", "order": ["n1", "n2", "n3"]})


async def a_server_that_is_not_there_is_named(cluster: Cluster) -> None:
    with pytest.raises(MissingError, match="no-such-server"):
        await cluster.nodes[0].start("x", ["no-such-server"])


async def nodes_reach_nothing_outside(cluster: Cluster) -> None:
    result = await cluster.nodes[0].exec(["ip", "route"])
    assert "default" not in result.text


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize(
    "scenario",
    [
        a_partition_cuts_exactly_the_links_across,
        a_rejecting_partition_answers_at_once,
        a_cut_in_one_direction_loses_only_what_is_sent_that_way,
        a_pause_stops_and_resumes,
        a_kill_ends_processes_and_the_heal_starts_them,
        a_killed_node_stays_down_when_another_fault_on_it_ends,
        a_paused_server_hears_no_sigterm_and_stays_down_when_it_is_killed,
        a_fault_that_hits_nobody_does_not_count,
        a_server_that_is_not_there_is_named,
    ],
)
def test_on_real_nodes(environment: str, scenario: Any) -> None:
    on(environment, scenario)


# Its first thread ends at once, the other one a little later: until then it is a zombie that nobody can reap.
LINGER = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(0.8,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


async def a_process_is_gone_only_when_it_can_be_started_again(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    await node.start("linger", [node.python, "-c", LINGER])

    async def gone() -> bool:
        return not await states(node)

    await wait_until(gone, seconds=90, what="the process being gone", every=0.01)
    assert not (await node.running())["linger"]


@pytest.mark.needs("local")
def test_a_process_is_gone_only_when_it_can_be_started_again() -> None:
    on("local", a_process_is_gone_only_when_it_can_be_started_again)


@pytest.mark.needs("local")
def test_local_nodes_have_no_way_out() -> None:
    on("local", nodes_reach_nothing_outside)
