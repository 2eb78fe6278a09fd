"""Cuts of every shape and bad lines, as observers in the nodes see them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node
from harness.errors import FaultError
from harness.nemeses.links import CLIENTS
from harness.nemeses.netem import Netem
from harness.nemeses.partition import KINDS, Partition, links_of
from harness.nemesis import Plan, Proof
from harness.options import options_of
from tests.conftest import SPLITBRAIN
from tests.integration.inside import on
from tests.integration.observers import Link, now, observed
from tests.integration.test_faults import ENVIRONMENTS, connect, listening, reference, up

NAMES = ["n1", "n2", "n3", "n4", "n5"]
LOCAL = [pytest.param("local", marks=pytest.mark.needs("local"))]


def apart(*groups: str) -> set[Link]:
    """The links between nodes of different groups, which are written as their numbers."""
    return {(f"n{a}", f"n{b}") for x in groups for y in groups if x != y for a in x for b in y}


EVERY = apart(*"12345")
SHAPES: dict[str, set[Link]] = {
    "primary": apart("1", "2345"),
    "primary-minority": apart("12", "345"),
    "one": apart("1", "2345"),
    "halves": apart("12", "345"),
    "third": apart("1", "2345"),
    "zone": apart("14", "235"),
    "majority": apart("12", "345"),
    "ring": apart("1", "3") | apart("1", "4") | apart("2", "4") | apart("2", "5") | apart("3", "5"),
    "bridge": apart("23", "45"),
    "one-way": {link for link in apart("12", "345") if link[0] in ("n1", "n2")},
    "links": {("n1", "n2"), ("n5", "n3")},
    CLIENTS: set(),
}
"""What each kind cuts of five nodes, of which the first is the primary, in zones a, b, c, a, b."""


async def proof_of(nemesis: Partition | Netem, cluster: Cluster, done: Plan) -> Proof:
    """What a nemesis measures of its fault; in more time where this machine was too busy to measure anything.

    Whether anything comes over a link shows sooner than how good the link is.
    """
    for seconds in (3.0, 6.0, 12.0) if isinstance(nemesis, Netem) else (1.5, 6.0, 12.0):
        try:
            return await nemesis.prove(cluster, reference(), done, seconds)
        except FaultError as error:
            if "could not be measured" not in str(error):
                raise
    raise AssertionError("this machine is too slow to measure anything")


async def every_kind_cuts_exactly_what_it_says(cluster: Cluster) -> None:
    assert set(SHAPES) == set(KINDS)
    partition = Partition(Partition.Options())
    plan = {"order": NAMES, "minority": 2, "senders": 2, "how": "drop", "links": [["n1", "n2"], ["n5", "n3"]]}
    windows: dict[str, list[float]] = {}
    async with observed(cluster) as seen:
        for kind in SHAPES:
            calm = now()
            await seen.heard(EVERY, since=calm)  # the first time also until the addresses of IPv6 are in use
            done = await partition.inject(cluster, reference(), {**plan, "kind": kind})
            cut = now() + 0.05
            proof = await proof_of(partition, cluster, done)
            assert proof.holds, (kind, proof)
            await seen.heard(EVERY - SHAPES[kind], since=cut)
            windows[kind] = [calm, cut, now()]
            await partition.heal(cluster, reference())
    for kind, (calm, cut, over) in windows.items():
        for protocol in ("udp", "udp6") if seen.open("udp6", 0, over) else ("udp",):
            assert seen.open(protocol, calm, cut) == EVERY, (kind, protocol, "before")
            found = seen.open(protocol, cut, over)
            assert found == EVERY - SHAPES[kind], (kind, protocol, found ^ (EVERY - SHAPES[kind]))
    assert seen.errors == {}, "what is dropped is dropped where it arrives: its sender sees nothing"
    assert seen.broken == {}, "connections stall, and go on"


async def come_to(node: Node, others: list[Node], wanted: list[str]) -> None:
    """Connect until it comes to this: the kernel limits how often it tells that there is no way, and is silent else."""

    async def has() -> bool:
        return await connect(node, 7777, *others) == wanted

    await wait_until(has, seconds=90, what=f"connections of {node.name} coming to {' and '.join(wanted)}")


async def cuts_reject_or_reset_if_they_are_told_to(cluster: Cluster) -> None:
    await listening(cluster)
    a, b, c = cluster.nodes
    plan = {"kind": "one", "order": NAMES[:3], "minority": 1, "senders": 1}
    told = {"drop": set[str](), "reject": {"EHOSTUNREACH"}, "reset": set[str]()}
    ended = {"drop": "", "reject": "", "reset": "ECONNRESET"}
    new = {"drop": "TimeoutError", "reject": "OSError", "reset": "ConnectionRefusedError"}
    for how in ("drop", "reject", "reset"):
        partition = Partition(Partition.Options())
        done = await partition.inject(cluster, reference(), {**plan, "how": how})
        # Without observers, since the kernel tells each of its peers only a few times a second that there is no way.
        await come_to(a, [b, c], [new[how]] * 2)
        await come_to(b, [a, c], [new[how], "open"])
        await partition.heal(cluster, reference())
        async with observed(cluster) as seen:
            done = await partition.inject(cluster, reference(), {**plan, "how": how})
            cut = now() + 0.05
            assert (await proof_of(partition, cluster, done)).holds
            await seen.heard(apart("2", "3"), since=cut, kinds=("udp", "tcp"))
            over = now()
            await partition.heal(cluster, reference())
        assert seen.open("udp", cut, over) == seen.open("tcp", cut, over) == apart("2", "3")
        across = apart("1", "23")
        # A datagram socket that is not connected is not told of every refusal.
        assert set().union(*seen.errors.values()) <= told[how], (how, seen.errors)
        assert seen.broken == (dict.fromkeys(across, ended[how]) if ended[how] else {}), (how, seen.broken)
        assert await connect(a, 7777, b, c) == ["open", "open"]
        for node in cluster.nodes:
            for program in ("iptables", "ip6tables"):
                assert "SPLITBRAIN" not in (await node.exec([program, "-S"])).text


# Standard library only, and not the tool that the nemesis proves itself with: echoes over UDP, numbered.
ECHO = """
import socket, sys
six = len(sys.argv) > 1
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
if six: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
s.bind(("::" if six else "", 7779))
print("up", flush=True)
while True:
    data, peer = s.recvfrom(2000); s.sendto(data, peer)
"""
PING = """
import json, select, socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
where = socket.getaddrinfo(sys.argv[1], 7779, family, socket.SOCK_DGRAM)[0][4]
s = socket.socket(family, socket.SOCK_DGRAM); s.connect(where)
count, size, least, began, took, order = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), {}, {}, []
def hear(seconds):
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and select.select([s], [], [], left)[0]:
        number = int(s.recv(2000)[:8]); order.append(number)
        took.setdefault(number, time.monotonic() - began[number])
for number in range(count):
    began[number] = time.monotonic(); s.send(b"%08d" % number + b"x" * size); hear(0.002)
hear(1.0)
end = time.monotonic() + 30
while len(order) < least and time.monotonic() < end: hear(0.1)
print(json.dumps({"took": sorted(took.values()), "order": order}))
"""


Felt = tuple[list[float], list[int]]


async def ping(node: Node, address: str, count: int = 150, size: int = 10, least: int | None = None) -> Felt:
    """The round trips of the datagrams that came back, and in which order all did.

    So many are waited for, at most 30 s, since who answers may stand still for a while; all, where none may be lost.
    """
    numbers = [str(number) for number in (count, size, count if least is None else least)]
    result = await node.exec([node.python, "-c", PING, address, *numbers], timeout=90)
    assert result.code == 0, result.text
    answer = json.loads(result.out)
    return answer["took"], answer["order"]


def middle(values: list[float]) -> float:
    return values[len(values) // 2]


async def link_local(node: Node) -> str | None:
    """The node's address of IPv6, as others write it."""
    for line in (await node.exec(["cat", "/proc/net/if_inet6"])).text.splitlines():
        address, *_, device = line.split()
        if device != "lo" and address.startswith("fe80"):
            return ":".join(address[i : i + 4] for i in range(0, 32, 4)) + f"%{device}"
    return None


async def every_quality_is_felt_proved_and_gone_after_the_heal(cluster: Cluster) -> None:
    a, b, c = cluster.nodes
    for node in cluster.nodes:
        await node.start("echo", [node.python, "-c", ECHO])
    six = await link_local(b)
    if six:
        await b.start("echo6", [b.python, "-c", ECHO, "6"])
        await up(b, "echo6")
    for node in cluster.nodes:
        await up(node, "echo")
    netem = Netem(Netem.Options())

    async def under(quality: Plan, *felt: Awaitable[Felt]) -> list[Felt]:
        """What is felt while a quality is proved, which takes a while."""
        plan = {"aim": "n1", "order": NAMES[:3], "quality": quality, "direction": "out", "seed": "7"}
        await netem.heal(cluster, reference())
        done = await netem.inject(cluster, reference(), plan)
        proving = asyncio.ensure_future(proof_of(netem, cluster, done))
        proof, found = await asyncio.gather(proving, asyncio.gather(*felt))
        assert proof.holds, (quality, proof)
        return found

    def there(least: int = 150) -> Awaitable[Felt]:
        return ping(a, b.address, least=least)

    def there_over_six(least: int = 150) -> list[Awaitable[Felt]]:
        return [ping(a, six, least=least)] if six else []

    before, order = await there()
    assert (len(before), order) == (150, sorted(order))
    assert min(before) < 0.15  # a busy machine only ever adds to what a line takes
    (took, _), (others, _), *over_six = await under({"delay": 0.3}, there(), ping(b, c.address), *there_over_six())
    assert middle(took) > 0.29
    assert min(others) < 0.15, "a link that nobody meant"
    assert all(middle(took) > 0.29 for took, _ in over_six), "IPv6 is made worse, too"
    ((took, _),) = await under({"jitter": 0.2}, there())
    assert middle(took) > 0.02
    assert took[len(took) * 9 // 10] - took[len(took) // 10] > 0.05
    ((took, _),) = await under({"loss": 0.3}, there(61))
    assert 60 < len(took) < 145
    ((_, order),) = await under({"duplicate": 0.3}, there(161))
    assert len(order) > 160
    ((_, order),) = await under({"reorder": 0.3}, there())
    assert len(set(order)) == 150
    assert order != sorted(order)
    for took, _ in await under({"corrupt": 0.3}, there(0), *there_over_six(0)):
        assert len(took) < 145, "what is corrupt must not arrive"
    await under({"rate": 20_000})
    await asyncio.sleep(1.5)  # until what the proof has sent is through
    took, _ = await ping(a, b.address, 20, 1000)
    assert took[-1] > 0.5, "20 packets of 1 kB through 20 kB a second"
    assert await under({"loss": 1.0}, there(0)) == [([], [])]
    await under({"loss": 0.2, "duplicate": 0.2, "delay": 0.02})
    await netem.heal(cluster, reference())
    after, order = await there()
    assert (len(after), order) == (150, sorted(order))
    assert min([middle(after), *[middle((await there())[0]) for _ in range(2)]]) < 0.15
    for program in ("iptables", "ip6tables"):
        assert "SPLITBRAIN" not in (await a.exec([program, "-t", "mangle", "-S"])).text


async def a_direction_is_the_one_that_was_meant(cluster: Cluster) -> None:
    plan = {"aim": "n1", "order": NAMES[:3], "quality": {"delay": 0.3}, "seed": "7"}
    out, back = {("n1", "n2"), ("n1", "n3")}, {("n2", "n1"), ("n3", "n1")}
    async with observed(cluster) as seen:
        windows = {}
        for direction in ("out", "in", "both"):
            netem = Netem(Netem.Options())
            await netem.inject(cluster, reference(), {**plan, "direction": direction})
            began = now()
            await asyncio.sleep(1.0)
            # Who stood still meanwhile sends on, and what was sent within the window arrives within 0.4 s.
            await seen.heard(out | back | {("n2", "n3"), ("n3", "n2")}, began, ("udp",))
            windows[direction] = began, now() - 0.4
            await netem.heal(cluster, reference())
    for direction, slow in (("out", out), ("in", back), ("both", out | back)):
        began, over = windows[direction]
        quickest = {
            link: min(came - sent for sent, came in times if began <= sent <= over)
            for (kind, link), times in seen.arrived.items()
            if kind == "udp"
        }
        assert {link for link, took in quickest.items() if took > 0.29} == slow


async def the_links_with_clients_can_be_bad(cluster: Cluster) -> None:
    a, b, _ = cluster.nodes
    driver = cluster.environment.driver["address"]
    netem = Netem(Netem.Options(links="clients"))

    async def opening(node: Node) -> float:
        """Seconds until the clients' machine refuses a connection; it has nothing to serve."""
        script = (
            "import socket, sys, time\nbegan = time.monotonic()\n"
            "try: socket.create_connection((sys.argv[1], 9), timeout=5)\n"
            "except ConnectionRefusedError: print(time.monotonic() - began)"
        )
        return float((await node.exec([node.python, "-c", script, driver])).out)

    async def quickest(node: Node) -> float:
        """Of several: a busy machine only ever adds to what a line takes."""
        return min([await opening(node) for _ in range(5)])

    for direction, took in (("out", 0.3), ("in", 0.3), ("both", 0.6)):
        plan = {"aim": "n1", "order": NAMES[:3], "quality": {"delay": 0.3}, "links": "clients", "seed": "7"}
        done = await netem.inject(cluster, reference(), {**plan, "direction": direction})
        assert (await proof_of(netem, cluster, done)).holds
        assert await opening(a) > 0.95 * took
        assert await quickest(b) < took
        await netem.heal(cluster, reference())
    assert await quickest(a) < 0.3


SERVE = """
import socket, time
listener = socket.create_server(("", 7900))
while True:
    stream, _ = listener.accept(); began, size = time.monotonic(), 0
    while data := stream.recv(1 << 20): size += len(data)
    print(size / (time.monotonic() - began), flush=True)
"""
SEND = """
import contextlib, socket, sys, time
stream = None
while stream is None:
    with contextlib.suppress(ConnectionRefusedError): stream = socket.create_connection((sys.argv[1], 7900))
end = time.monotonic() + 3
while time.monotonic() < end: stream.send(bytes(1 << 20))
"""


async def a_delay_limits_no_bandwidth(cluster: Cluster) -> None:
    a, b, _ = cluster.nodes
    await b.start("serve", [b.python, "-u", "-c", SERVE])
    netem = Netem(Netem.Options())
    plan = {"aim": "n1", "order": NAMES[:3], "quality": {"delay": 0.1}, "direction": "out", "seed": "7"}
    await netem.inject(cluster, reference(), plan)
    await a.exec([a.python, "-c", SEND, b.address])

    async def said() -> bool:
        return bool(await b.log("serve"))

    await wait_until(said, seconds=90, what="the end of the stream")
    # A sender's buffer that counts what is on its way lets 1 MB/s through.
    assert float(await b.log("serve")) > 4e6
    await netem.heal(cluster, reference())


async def bad_lines_and_cuts_meet(cluster: Cluster) -> None:
    netem, partition = Netem(Netem.Options()), Partition(Partition.Options())
    bad = {"aim": "all", "order": NAMES[:3], "quality": {"loss": 1.0}, "direction": "out", "seed": "7"}
    one = {"kind": "one", "order": NAMES[:3], "how": "drop"}
    done = await partition.inject(cluster, reference(), one)
    await netem.inject(cluster, reference(), {**bad, "quality": {"loss": 0.3}})
    assert (await proof_of(partition, cluster, done)).holds
    await partition.heal(cluster, reference())
    await netem.heal(cluster, reference())
    await partition.inject(cluster, reference(), one)
    await netem.inject(cluster, reference(), bad)
    # Nothing arrives now that nothing is cut; that is the other fault's doing.
    await partition.heal(cluster, reference())
    await netem.heal(cluster, reference())


async def a_cut_is_proved_whatever_the_servers_do(cluster: Cluster) -> None:
    """Who answers the probes is no server: those may be paused, or dead."""
    for node in cluster.nodes:
        assert await node.running() == {}
    partition = Partition(Partition.Options())
    done = await partition.inject(cluster, reference(), {"kind": "one", "order": NAMES[:3], "how": "drop"})
    assert (await proof_of(partition, cluster, done)).holds
    await partition.heal(cluster, reference())


async def clients_lose_the_nodes_that_they_are_cut_from(cluster: Cluster) -> None:
    await listening(cluster)

    async def reached() -> list[str]:
        found = []
        for node in cluster.nodes:
            try:
                async with asyncio.timeout(0.7):
                    _, writer = await asyncio.open_connection(node.address, 7777)
                writer.close()
                found.append("open")
            except OSError as error:
                found.append(type(error).__name__)
        return found

    for how, seen in (("drop", "TimeoutError"), ("reset", "ConnectionRefusedError")):
        partition = Partition(Partition.Options())
        plan = {"kind": "clients", "order": NAMES[:3], "minority": 1, "senders": 2, "how": how}
        done = await partition.inject(cluster, reference(), plan)
        assert (await proof_of(partition, cluster, done)).holds
        assert await reached() == [seen, seen, "open"]
        # A server that sends datagrams is not told, although its own node loses them.
        said = await cluster.nodes[0].exec(
            [cluster.nodes[0].python, "-c",
             "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', (sys.argv[1], 9))",
             cluster.environment.driver["address"]]
        )  # fmt: skip
        assert said.code == 0, said.text
        await partition.heal(cluster, reference())
        assert await reached() == ["open", "open", "open"]


async def a_flapping_cut_comes_and_goes(cluster: Cluster) -> None:
    await listening(cluster)
    partition = Partition(Partition.Options())
    plan = {"kind": "one", "order": NAMES[:3], "minority": 1, "senders": 1, "how": "drop"}
    for flap in (1.5, 6.0):  # on a busy machine a short silence proves nothing
        done = await partition.inject(cluster, reference(), {**plan, "flap": flap})
        proof = await partition.prove(cluster, reference(), done, 4 * flap)
        if proof.holds:
            break
        await partition.heal(cluster, reference())
    assert proof.holds, proof
    states: list[str] = []

    async def lost_and_regained_twice() -> bool:
        states.extend(await connect(cluster.nodes[0], 7777, cluster.nodes[1]))
        changes = [b for a, b in zip(["", *states], states, strict=False) if a != b]
        return changes.count("open") >= 2 and changes.count("TimeoutError") >= 2

    await wait_until(lost_and_regained_twice, seconds=120, what="a cut that comes and goes")
    await partition.heal(cluster, reference())
    for _ in range(6):
        assert await connect(cluster.nodes[0], 7777, *cluster.nodes[1:]) == ["open", "open"]
    assert "SPLITBRAIN" not in (await cluster.nodes[0].exec(["iptables", "-S"])).text


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize(
    ("scenario", "nodes"),
    [
        (every_quality_is_felt_proved_and_gone_after_the_heal, 3),
        (the_links_with_clients_can_be_bad, 3),
        (every_kind_cuts_exactly_what_it_says, 5),
        (clients_lose_the_nodes_that_they_are_cut_from, 3),
        (a_flapping_cut_comes_and_goes, 3),
    ],
)
def test_on_real_nodes(environment: str, scenario: Any, nodes: int) -> None:
    on(environment, scenario, nodes=nodes)


@pytest.mark.parametrize("environment", LOCAL)
@pytest.mark.parametrize(
    "scenario",
    [
        cuts_reject_or_reset_if_they_are_told_to,
        a_direction_is_the_one_that_was_meant,
        a_delay_limits_no_bandwidth,
        bad_lines_and_cuts_meet,
        a_cut_is_proved_whatever_the_servers_do,
    ],
)
def test_on_local_nodes(environment: str, scenario: Any) -> None:
    on(environment, scenario)


PRETENDS = """
import harness.nemeses.{module} as module

real = module.run_tool

async def pretend(node, request, **more):
    return None if request.do.__name__ in ("cut", "degrade") else await real(node, request, **more)

module.run_tool = pretend
Pretending = module.{name}
"""


@pytest.mark.parametrize("environment", [*LOCAL, "simulation"])
@pytest.mark.parametrize("name", ["Partition", "Netem"])
def test_a_fault_that_does_nothing_is_not_proved(tmp_path: Path, environment: str, name: str) -> None:
    module = name.lower()
    (tmp_path / "pretends.py").write_text(PRETENDS.format(module=module, name=name))
    words = ["reference", "--on", environment, "--time", "8", "--interval", "3", "--seed", "1", "--format", "json"]
    done = subprocess.run(
        [SPLITBRAIN, "run", *words, "--nemesis", "./pretends.py:Pretending", "--runs", "r"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    verdict = json.loads(done.stdout)["verdict"]
    assert verdict["validity"] == "unknown"
    assert f"{module} was asked for, injected and never proved" in json.dumps(verdict)


def test_every_node_of_a_ring_sees_another_majority() -> None:
    for count in (5, 7, 9):
        names = [f"n{number}" for number in range(count)]
        _, cuts = links_of({"kind": "ring"}, names, {})
        sees = {name: frozenset(set(names) - cuts[name].keys()) for name in names}
        assert all(len(seen) > count / 2 for seen in sees.values())
        assert len(set(sees.values())) == count


def test_options_offer_what_the_audit_covers() -> None:
    assert set(options_of(Partition.Options)["cut"].words) == {"drop", "reject", "reset"}
    assert set(options_of(Partition.Options)["partition"].words) == {"any", *KINDS}
