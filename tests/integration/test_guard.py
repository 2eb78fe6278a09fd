"""Other users of a run's hosts, and other machines, do not reach its store; everything else goes on as before."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.ssh import SshEnvironment, SshNode
from harness.environments.tools import ask
from harness.faults import guard, network
from harness.faults.guard import CHAINS
from harness.faults.network import Peer
from harness.targets.reference.server import CLIENT_PORT
from harness.targets.reference.target import Reference
from tests.conftest import SPLITBRAIN
from tests.integration import hosts
from tests.integration.inside import on
from tests.integration.test_ssh import arguments, traces
from tests.integration.test_ssh_attacks import NOBODY, shell

OTHER = 7000
"""A port of somebody else's server."""
KNOCK = """
import concurrent.futures, json, socket, sys

def answers(place):
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except ConnectionRefusedError:
        raise
    except OSError:
        return False
    return True

places = sys.argv[1:]
with concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
    print(json.dumps([place for place, there in zip(places, pool.map(answers, places)) if there]))
"""
"""Prints at which of these places somebody answers; fails where nobody is there who could have."""
LISTEN = """
import os, socket, sys, time
os.setsid()
if os.fork():
    sys.exit()
servers = [socket.create_server((sys.argv[1], int(port))) for port in sys.argv[2:]]
os.dup2(os.open(os.devnull, os.O_RDWR), 1)
os.dup2(1, 2)
while True:
    time.sleep(1000)
"""


async def reached(node: Node, places: list[str], *, user: int = 0) -> list[str]:
    """The places to which a user of a machine can connect."""
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    done = await node.exec([*become, "python3", "-c", KNOCK, *places], timeout=120)
    assert done.code == 0, done.text
    found: list[str] = json.loads(done.out)
    return found


@contextlib.asynccontextmanager
async def machines(cluster: Cluster, names: list[str]) -> AsyncIterator[tuple[SshEnvironment, Cluster]]:
    """Nodes on so many of these machines."""
    with tempfile.TemporaryDirectory() as folder:
        async with run(await hosts.prepare(Path(folder), cluster.nodes), names) as started:
            yield started


@contextlib.asynccontextmanager
async def run(options: SshEnvironment.Options, names: list[str]) -> AsyncIterator[tuple[SshEnvironment, Cluster]]:
    """The same on machines that are prepared."""
    environment = SshEnvironment(options=options)
    try:
        nodes = await environment.start(names, Path(options.key).parent, "guard", Reference.ships)
        yield environment, Cluster(environment, nodes, 0, dict.fromkeys(names, "a"))
    finally:
        await environment.stop()


async def only_the_run_reaches_its_store(cluster: Cluster) -> None:
    first, second, other = cluster.nodes
    await shell(first, 'python3 -c "$1" "$2" "$3"', LISTEN, first.address, str(OTHER))
    async with machines(cluster, ["n1", "n2"]) as (environment, used):
        assert await environment.guard(Reference.ports) is None
        store = Reference(Reference.Options())
        for node in used.nodes:
            await store.start(used, node)
        await wait_until(lambda: store.ready(used), seconds=90, what="the store")
        places = [f"{node.address}:{port}" for node in (first, second) for port in Reference.ports]
        theirs = f"{first.address}:{OTHER}"

        async def nobody_else_is_let_in() -> None:
            for who in (first, other):
                assert await reached(who, [*places, theirs], user=NOBODY) == [theirs]
            assert await reached(other, [*places, theirs]) == [theirs]

        await nobody_else_is_let_in()
        assert await reached(first, places) == places
        # A cut and its heal leave it as it is, and the other way round.
        peer: Peer = {"addresses": [second.address], "direction": "in"}
        await run_tool(used.nodes[0], ask(network.cut, peers=[peer], how="reset"))
        assert "SPLITBRAIN-IN" in await traces(first)
        await nobody_else_is_let_in()
        await run_tool(used.nodes[0], ask(network.heal))
        assert "SPLITBRAIN-IN" not in await traces(first)
        await nobody_else_is_let_in()
        assert await reached(first, places) == places
        await wait_until(lambda: store.ready(used), seconds=90, what="the store")
    assert [await traces(node) for node in cluster.nodes] == [""] * 3


GUEST = """
unshare -n sleep 1000 >/dev/null 2>&1 &
guest=$!
until [ "$(readlink /proc/$guest/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link add guest type veth peer name eth0 netns $guest
ip address add 10.77.0.1/24 dev guest && ip link set guest up
nsenter -t $guest -n ip address add 10.77.0.2/24 dev eth0
nsenter -t $guest -n ip link set eth0 up
nsenter -t $guest -n ip route add default via 10.77.0.1
echo 1 >/proc/sys/net/ipv4/ip_forward
iptables -t nat -A POSTROUTING -s 10.77.0.0/24 -j MASQUERADE
echo $guest
"""
"""Gives a host a container, as it were, that reaches other machines by the host's address."""


async def guests_of_a_host_are_not_let_in(cluster: Cluster) -> None:
    first, second, _ = cluster.nodes
    guest = await shell(first, GUEST)

    async def seen() -> list[str]:
        argv = ["nsenter", "-t", guest, "-n", "python3", "-c", KNOCK, *places]
        return list(json.loads((await first.exec(argv, timeout=120)).out))

    ports = [str(OTHER), str(OTHER + 1)]
    for node in (first, second):
        await shell(node, 'python3 -c "$@"', LISTEN, node.address, *ports)
    places = [f"{node.address}:{port}" for node in (first, second) for port in ports]
    assert await seen() == places
    async with machines(cluster, ["n1", "n2"]) as (environment, _):
        assert await environment.guard([OTHER]) is None
        assert await seen() == [places[1], places[3]]
    assert await seen() == places


HELD = """
import fcntl, os, socket, struct, sys, termios, time
held = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
open(sys.argv[3], "w").close()
while os.path.exists(sys.argv[3]):
    time.sleep(0.05)
held.sendall(b"still here")
while struct.unpack("i", fcntl.ioctl(held, termios.TIOCOUTQ, bytes(4)))[0]:
    time.sleep(0.05)
"""
"""Connects and says so by a file, then waits until that is gone, and until what it says is acknowledged."""


async def what_is_connected_stays_so(cluster: Cluster) -> None:
    host, _, other = cluster.nodes
    await shell(host, 'python3 -c "$@"', LISTEN, host.address, str(OTHER))
    mark = f"{other.directory}/held"
    holding = asyncio.create_task(
        other.exec(["python3", "-c", HELD, host.address, str(OTHER), mark], timeout=300),
    )

    async def held() -> bool:
        assert not holding.done(), holding.result().text
        return (await other.exec(["test", "-e", mark])).code == 0

    await wait_until(held, seconds=90, what="a connection")
    async with machines(cluster, ["n1"]) as (environment, _):
        assert await environment.guard([OTHER]) is None
        assert await reached(other, [f"{host.address}:{OTHER}"]) == []
        await shell(other, 'rm "$1"', mark)
        assert (await holding).code == 0


async def clients_on_a_host_are_let_in_by_their_user(cluster: Cluster) -> None:
    host = cluster.nodes[0]
    await shell(host, 'python3 -c "$@"', LISTEN, host.address, str(OTHER))
    async with machines(cluster, ["n1"]) as (_, used):
        put_up = ask(guard.put_up, ports=[OTHER], hosts=[host.address], clients=[], user=NOBODY)
        assert await run_tool(used.nodes[0], put_up) == []
        places = [f"{host.address}:{OTHER}"]
        assert await reached(host, places) == await reached(host, places, user=NOBODY) == places
        assert await reached(host, places, user=NOBODY - 1) == []


async def loopback_and_the_newer_protocol_are_shut_too(cluster: Cluster) -> None:
    host = cluster.nodes[0]
    await shell(host, "ip -6 address add fd00:66::1/64 dev eth0 nodad")
    await shell(cluster.nodes[2], "ip -6 address add fd00:66::3/64 dev eth0 nodad")
    listen = LISTEN.replace(
        "(sys.argv[1], int(port))", "('::', int(port)), family=socket.AF_INET6, dualstack_ipv6=True"
    )
    async with machines(cluster, ["n1"]) as (environment, _):
        assert await environment.guard([OTHER]) is None
        await shell(host, 'python3 -c "$1" "" "$2"', listen, str(OTHER))
        places = [f"{address}:{OTHER}" for address in (host.address, "127.0.0.1", "::1", "fd00:66::1")]
        assert await reached(host, places) == places
        assert await reached(host, places, user=NOBODY) == []
        assert await reached(cluster.nodes[2], [places[0], places[3]]) == []
    assert await reached(host, places, user=NOBODY) == places
    assert await reached(cluster.nodes[2], [places[0], places[3]]) == [places[0], places[3]]


async def what_an_earlier_run_left_is_replaced(cluster: Cluster) -> None:
    host = cluster.nodes[0]
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        async with run(options, ["n1"]) as (environment, _):
            assert await environment.guard([OTHER]) is None
            left = await shell(host, "iptables-save -t filter")
        assert "SPLITBRAIN" not in await traces(host)
        await shell(host, 'echo "$1" | iptables-restore', left)
        assert f"--dport {OTHER} " in await traces(host)
        async with run(options, ["n1"]) as (environment, _):
            assert await environment.guard([OTHER + 1]) is None
            found = await traces(host)
            assert [found.count(f"-j {chain}") for chain in CHAINS.values()] == [1, 1, 1]
            assert f"--dport {OTHER} " not in found
        assert "SPLITBRAIN" not in await traces(host)


async def a_host_without_a_firewall_is_named_and_used(cluster: Cluster) -> None:
    first, second, other = cluster.nodes
    await shell(first, 'mount --bind /dev/null "$(readlink -f "$(command -v iptables)")"')
    with tempfile.TemporaryDirectory() as folder:
        options = await hosts.prepare(Path(folder), cluster.nodes)
        command = [SPLITBRAIN, "run", "reference", "--on", "ssh", "--nodes", "3", "--time", "15", *arguments(options)]
        done = asyncio.create_task(asyncio.to_thread(subprocess.run, command, cwd=folder, capture_output=True))

        async def serves() -> bool:
            assert not done.done(), done.result().stderr
            with contextlib.suppress(AssertionError):  # nobody is there yet
                return bool(await reached(first, [f"{first.address}:{CLIENT_PORT}"], user=NOBODY))
            return False

        await wait_until(serves, seconds=90, what="the store's being open to others where there is no firewall")
        assert await reached(other, [f"{second.address}:{CLIENT_PORT}"], user=NOBODY) == []
        run = await done
        said = run.stderr.decode()
        assert run.returncode == 0, said
        assert "others who can reach these machines can connect to reference too: n1: the command iptables is" in said
        assert "n2: " not in said
        assert "Traceback" not in said


async def who_would_not_be_heard_is_not_shut_out(cluster: Cluster) -> None:
    async def elsewhere(_: SshNode) -> list[str]:
        return ["192.0.2.1"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SshNode, "clients", elsewhere)
        async with machines(cluster, ["n1"]) as (environment, _):
            said = await environment.guard([OTHER])
            assert said == f"{cluster.nodes[0].address} would not hear the clients"
            assert "SPLITBRAIN" not in await traces(cluster.nodes[0])


@pytest.mark.needs("ssh")
@pytest.mark.parametrize(
    "scenario",
    [
        only_the_run_reaches_its_store,
        guests_of_a_host_are_not_let_in,
        what_is_connected_stays_so,
        clients_on_a_host_are_let_in_by_their_user,
        loopback_and_the_newer_protocol_are_shut_too,
        what_an_earlier_run_left_is_replaced,
        a_host_without_a_firewall_is_named_and_used,
        who_would_not_be_heard_is_not_shut_out,
    ],
)
def test_over_ssh(scenario: Any) -> None:
    on("local", scenario)
