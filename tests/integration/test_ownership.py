"""A run tests the store that it has started: another one that answers in its place is told, and left as it is."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.errors import NodeError
from harness.faults import listeners, process
from harness.operation import Event, Failed, Operation
from harness.ownership import Ownership, StrangerError
from harness.plugins import load
from harness.surviving import Surviving, compiled
from harness.targets.etcd import Etcd
from harness.targets.reference.server import CLIENT_PORT
from tests.conftest import SPLITBRAIN
from tests.integration import hosts
from tests.integration.inside import on
from tests.integration.test_ssh import RUN, arguments, traces

LISTEN = """
import socket, sys
with socket.socket(getattr(socket, sys.argv[1])) as listener:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((sys.argv[2], int(sys.argv[3])))
    listener.listen()
    while True:
        listener.accept()[0].close()
"""
STRANGER = "SPLITBRAIN_TOOL=1"
"""On a node of our own all processes are the run's servers but those that say that they are none."""


def ownership(cluster: Cluster, target: Any) -> Ownership:
    return Ownership(cluster, target, lambda *noted: None)


async def listen(node: Node, port: int, address: str = "0.0.0.0", family: str = "AF_INET") -> None:
    """Let a stranger listen on a node."""
    listener = [node.python, "-c", LISTEN, family, address, str(port)]
    await node.start(f"stranger-{port}", ["env", STRANGER, *listener])

    async def listens() -> bool:
        seen = await run_tool(node, ask(listeners.watch, [port]))
        return [one["ours"] for one in seen] == [False]

    await wait_until(listens, seconds=90, what=f"somebody listening on {port}")


async def no_port_of_a_target_may_be_in_use(cluster: Cluster) -> None:
    node, other = cluster.nodes
    for name in ("etcd", "redis", "reference"):
        target = load("targets", name)
        await ownership(cluster, target).refuse_occupied()
        for port, where in zip(target.ports, ("0.0.0.0", "127.0.0.1", node.address), strict=False):
            await listen(node, port, where)
            with pytest.raises(StrangerError, match=rf"port {port} of n1 \({node.address}\) is used by python"):
                await ownership(cluster, target).refuse_occupied()
            done = await node.exec(["sh", "-c", "kill $(pgrep -f [A]F_INET)"])
            assert done.code == 0, done.text

            async def free(port: int = port) -> bool:
                return not await run_tool(node, ask(listeners.watch, [port]))

            await wait_until(free, seconds=90, what="the port being free")
    await listen(other, Etcd.ports[0], "::", "AF_INET6")
    with pytest.raises(StrangerError, match="port 2379 of n2"):
        await ownership(cluster, Etcd).refuse_occupied()


async def what_is_passed_on_to_elsewhere_answers_too(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    await listen(node, 4000)
    passed = ["-p", "tcp", "--dport", "2379", "-j", "REDIRECT", "--to-ports", "4000"]
    done = await node.exec(["iptables", "-t", "nat", "-A", "PREROUTING", *passed])
    assert done.code == 0, done.text
    with pytest.raises(StrangerError, match=r"port 2379 of n1 .* is used by something that does not run there"):
        await ownership(cluster, Etcd).refuse_occupied()


async def started(cluster: Cluster, target: Any) -> Any:
    for node in cluster.nodes:
        await target.start(cluster, node)
    await wait_until(lambda: target.ready(cluster), seconds=60, what="the store")
    return target


async def a_server_and_its_port_are_watched(cluster: Cluster) -> None:
    target = await started(cluster, load("targets", "reference")(load("targets", "reference").Options()))
    owned = ownership(cluster, target)
    await owned.check(whole=True)
    node = cluster.nodes[0]
    await run_tool(node, ask(process.kill))
    await owned.check(whole=False)
    with pytest.raises(NodeError, match="reference of n1 ended by itself") as ended:
        await owned.check(whole=True)
    assert not isinstance(ended.value, StrangerError)
    await target.start(cluster, node)
    await wait_until(lambda: target.ready(cluster), seconds=60, what="the store")
    more = SimpleNamespace(name="more", ports=(CLIENT_PORT, 6999))
    with pytest.raises(StrangerError, match="port 6999 of n1 has no server of the run; port 6999 of n2"):
        await ownership(cluster, more).check(whole=True)
    await run_tool(node, ask(process.kill))
    await listen(node, CLIENT_PORT)
    with pytest.raises(StrangerError, match=rf"port {CLIENT_PORT} of n1 is used by python"):
        await owned.check(whole=False)


async def servers_that_end_by_themselves_are_noted(cluster: Cluster) -> None:
    noted: list[Any] = []
    events: list[Event] = []
    target = await started(cluster, load("targets", "reference")(load("targets", "reference").Options()))
    owned = Ownership(cluster, target, lambda *one: noted.append(one))
    over = asyncio.Event()
    watch = asyncio.create_task(Surviving(cluster, compiled(target), lambda: 7, events.append).until(over))

    async def runs() -> bool:
        return len(events) == len(cluster.nodes)

    await wait_until(runs, seconds=90, what="servers being seen")
    for node in cluster.nodes:
        await run_tool(node, ask(process.kill))
    cluster.down["kill"] = {"n2"}
    over.set()
    await watch
    assert {(one.node, one.value["runs"]) for one in events} == {(n.name, r) for n in cluster.nodes for r in (0, 1)}
    assert all("serves clients" in one.value["last"] for one in events if not one.value["runs"])
    # At the end its port is nobody's, which is no stranger's doing.
    await owned.conclude(whole=True)
    assert noted == [("recovered", None, "ended by itself: reference of n1")]


async def another_cluster_at_the_same_place_is_told_from_ours(cluster: Cluster) -> None:
    target = await started(cluster, Etcd(Etcd.Options()))
    owned = ownership(cluster, target)
    await owned.check(whole=True)
    node = cluster.nodes[0]
    await run_tool(node, ask(process.kill))
    await target.start(cluster, node)
    await wait_until(lambda: target.ready(cluster), seconds=60, what="the store")
    await owned.check(whole=True)

    async def replaced(other: Etcd) -> None:
        await run_tool(node, ask(process.kill))
        await node.exec(["rm", "-rf", f"{node.directory}/etcd"])
        await started(cluster, other)

    known = Etcd(Etcd.Options())
    known._authority, known._identity = target._authority, target._identity
    for other, seen in ((known, r"\d+"), (Etcd(Etcd.Options()), "with another authority")):
        await replaced(other)
        with pytest.raises(StrangerError, match=rf"n1 says that it is of the etcd {seen}, and not of \d+"):
            await owned.check(whole=False)
    # Nor does it get anything to write.
    client = target.client(cluster, node, 5)
    await client.open()
    with pytest.raises(Failed, match="no connection"):
        await client.invoke(Operation("write", "k", 1))
    await client.close()


async def command(folder: str, *words: str) -> tuple[int, str]:
    """How the real command ends, and what it says of an error."""
    done = await asyncio.to_thread(
        subprocess.run, [SPLITBRAIN, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


async def anothers_redis_on_a_host_is_left_as_it_is(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        theirs = cluster.nodes[1]
        await theirs.start("theirs", ["redis-server", "--bind", theirs.address, "--protected-mode", "no", "--save", ""])

        async def answers() -> bool:
            done = await theirs.exec(["redis-cli", "-h", theirs.address, "set", "k0", "theirs"])
            return done.text == "OK"

        await wait_until(answers, seconds=90, what="their Redis")
        code, said = await command(folder, "run", "redis", "--on", "ssh", "--time", "3", *arguments(options))
        assert code == 4
        assert f"port 6379 of n2 ({theirs.address}) is used by redis-server (process" in said
        assert (await theirs.exec(["redis-cli", "-h", theirs.address, "get", "k0"])).text == "theirs"
        assert (await theirs.exec(["redis-cli", "-h", theirs.address, "dbsize"])).text == "1"
        for node in cluster.nodes:
            assert await traces(node) == ""


async def a_port_that_is_taken_during_a_run_ends_it(cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        run = asyncio.create_task(command(folder, *RUN, "--recovery", "5", *arguments(options)))
        victim = cluster.nodes[0]

        async def struck() -> bool:
            history = list(Path(folder).glob("r/*/history.jsonl"))
            if not history or '"ok"' not in history[0].read_text():
                return False
            return (await victim.exec(["sh", "-c", "kill -9 $(pgrep -f [t]argets.reference.server)"])).code == 0

        await wait_until(struck, seconds=60, what="a server to be killed")
        listener = ["python3", "-c", LISTEN, "AF_INET", victim.address, str(CLIENT_PORT)]
        await victim.start("thief", listener)
        code, said = await run
        assert code == 4, said
        assert f"port {CLIENT_PORT} of n1 is used by python" in said
        assert (await victim.running())["thief"]


SCENARIOS: list[tuple[str, Callable[[Cluster], Any], int, tuple[str, ...]]] = [
    ("local", no_port_of_a_target_may_be_in_use, 2, ("local",)),
    ("local", what_is_passed_on_to_elsewhere_answers_too, 1, ("local",)),
    ("local", a_server_and_its_port_are_watched, 3, ("local",)),
    ("local", servers_that_end_by_themselves_are_noted, 2, ("local",)),
    ("docker", a_server_and_its_port_are_watched, 3, ("docker",)),
    ("docker", another_cluster_at_the_same_place_is_told_from_ours, 1, ("docker",)),
    ("local", another_cluster_at_the_same_place_is_told_from_ours, 1, ("local", "etcd")),
    ("local", anothers_redis_on_a_host_is_left_as_it_is, 3, ("ssh", "redis")),
    ("local", a_port_that_is_taken_during_a_run_ends_it, 3, ("ssh",)),
]


@pytest.mark.parametrize(
    ("environment", "scenario", "nodes"),
    [
        pytest.param(environment, scenario, nodes, marks=pytest.mark.needs(*needs))
        for environment, scenario, nodes, needs in SCENARIOS
    ],
)
def test_a_run_tests_its_own_store(environment: str, scenario: Any, nodes: int) -> None:
    on(environment, scenario, nodes=nodes)
