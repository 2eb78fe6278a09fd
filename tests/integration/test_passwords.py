"""Nobody but the run itself is let in by the stores, which know passwords or certificates."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from harness.cluster import Cluster, leader, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.errors import NothingToDo
from harness.faults import process
from harness.targets import etcd
from harness.targets.certificates import Authority
from harness.targets.etcd import Etcd
from harness.targets.redis import PORT, SENTINEL_PORT, Redis
from harness.targets.reference.peers import PEER_PORT
from harness.targets.reference.server import CLIENT_PORT
from harness.targets.reference.target import Reference
from tests.integration.inside import on


def real(*needs: str) -> list[Any]:
    """The environments on which files of nodes are nobody else's."""
    return [pytest.param(name, marks=pytest.mark.needs(name, *needs)) for name in ("local", "ssh")]


SAY = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as said:
    said.sendall(sys.argv[3].encode())
    try:
        sys.stdout.write(said.recv(1000).decode())
    except ConnectionResetError:
        pass
"""
"""Says something to a server, and prints what it answers; nothing where it hangs up."""
ASK = """
import ssl, sys, urllib.request
url, own = sys.argv[1:]
known = ssl.create_default_context()
known.check_hostname, known.verify_mode = False, ssl.CERT_NONE
if own:
    known.load_cert_chain(own)
try:
    print(urllib.request.urlopen(urllib.request.Request(url), timeout=30, context=known).read())
except OSError as error:
    print("refused", error)
"""
"""Asks etcd something over whatever it takes."""
TEMPORARY = re.compile(r"(redis|sentinel)\.conf\.\w{6}")
"""As what Redis writes its file anew, before it gives it its name."""


async def assert_closed(store: Redis, node: Node) -> None:
    """Another user of the machine gets nothing, neither by asking nor from process tables or files."""
    for port, *words in ((PORT, "get", "k0"), (PORT, "info"), (SENTINEL_PORT, "sentinel", "masters")):
        said = (await node.exec(["redis-cli", "-h", node.address, "-p", str(port), *words])).text
        assert said.startswith("NOAUTH"), said
    await assert_hidden(node, store.password, {"redis.conf", "sentinel.conf"}, "redis-server")


async def assert_hidden(node: Node, secret: str, files: set[str], server: str) -> None:
    """It stands in these files only, which their owner alone may read, and in no table of processes."""
    shown = await node.exec(["sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ"])
    assert secret.encode() not in shown.out
    assert server.encode() in shown.out
    found = (await node.exec(["grep", "-rlF", "-e", secret, node.directory])).out.decode().split()
    # A temporary file may be there as well, and be gone when it is looked at; as long as it is there it is as secret.
    listed = await node.exec(["stat", "-c", "%a %n", *found])
    modes = [line.split() for line in listed.out.decode().splitlines()]
    names = [file.rpartition("/")[2] for _, file in modes]
    assert sorted(name for name in names if not TEMPORARY.fullmatch(name)) == sorted(files)
    assert {mode for mode, _ in modes} == {"600"}


async def whoever_leads(cluster: Cluster, store: Redis | Reference) -> str:
    """The primary; waits for one, as there may be none for a moment."""
    first = ""

    async def led() -> bool:
        nonlocal first
        first = leader(await store.roles(cluster)) or ""
        return first != ""

    await wait_until(led, seconds=90, what="a primary")
    return first


async def redis_and_its_sentinels_let_nobody_else_in(cluster: Cluster) -> None:
    store = Redis(Redis.Options(down_after_ms=1000))

    async def whole() -> None:
        await wait_until(lambda: store.ready(cluster), seconds=90, what="Redis being whole")
        for node in cluster.nodes:
            await assert_closed(store, node)

    for node in cluster.nodes:
        await store.start(cluster, node)
    await whole()
    # A failover makes servers and sentinels write their files anew.
    first = await whoever_leads(cluster, store)
    await run_tool(cluster.node(first), ask(process.kill))

    async def another() -> bool:
        return leader(await store.roles(cluster)) not in (None, first)

    await wait_until(another, seconds=60, what="another primary")
    await store.start(cluster, cluster.node(first))
    await whole()
    # A node that joins again has an empty disk.
    leaving = random.choice(cluster.nodes).name
    await as_soon_as_possible(lambda: store.leave(cluster, [leaving]))
    await as_soon_as_possible(lambda: store.join(cluster, [leaving]))
    await whole()


async def as_soon_as_possible(change: Callable[[], Awaitable[object]]) -> None:
    """A change of members waits for a store that may be busy with its last failover."""

    async def done() -> bool:
        with contextlib.suppress(NothingToDo):
            await change()
            return True
        return False

    await wait_until(done, seconds=180, what="a change of members")


@pytest.mark.parametrize("environment", real("redis"))
def test_redis_and_its_sentinels_let_nobody_else_in(environment: str) -> None:
    on(environment, redis_and_its_sentinels_let_nobody_else_in)


async def says(node: Node, port: int, words: str) -> str:
    """What a server answers to a process on its node."""
    done = await node.exec([node.python, "-c", SAY, node.address, str(port), words])
    assert done.code == 0, done.text
    return done.out.decode()


async def leaves_and_joins(cluster: Cluster, store: Reference | Etcd) -> None:
    """The last node leaves the store and joins it again, each as soon as that can be had."""
    name = cluster.nodes[-1].name

    async def changed(change: Callable[..., Awaitable[Sequence[str]]], *, member: bool) -> bool:
        with contextlib.suppress(NothingToDo):
            return (name in await change(cluster, [name])) == member
        return False

    await wait_until(lambda: changed(store.leave, member=False), seconds=90, what="a member leaving")
    await wait_until(lambda: changed(store.join, member=True), seconds=90, what="it joining again")


async def the_reference_store_lets_nobody_else_in(cluster: Cluster) -> None:
    store = Reference(Reference.Options())
    for node in cluster.nodes:
        await store.start(cluster, node)

    async def closed_to_others() -> None:
        await wait_until(lambda: store.ready(cluster), seconds=90, what="the store being whole")
        for node in cluster.nodes:
            for words in ("GET k", "INFO", "MEMBERS REMOVE n1", "ONCE me 1 SET k 1", "PEEK GET k"):
                assert (await says(node, CLIENT_PORT, f"{words}\r\n")).startswith("-NOAUTH"), words
            assert (await says(node, CLIENT_PORT, "AUTH guess\r\nGET k\r\n")).startswith("-WRONGPASS")
            for words in ('{"kind": "vote", "term": 1000000}\n' * 9, "x" * (len(store.secret) + 1), "\n" * 99):
                assert await says(node, PEER_PORT, words) == ""
            assert await says(node, CLIENT_PORT, f"AUTH {store.secret}\r\n") == "+OK\r\n"
            await assert_hidden(node, store.secret, {".splitbrain-secret"}, "harness.targets.reference.server")
        assert max(role.term or 0 for role in await store.roles(cluster)) < 1000

    await closed_to_others()
    first = await whoever_leads(cluster, store)
    await run_tool(cluster.node(first), ask(process.kill))
    await store.start(cluster, cluster.node(first))
    await closed_to_others()
    await leaves_and_joins(cluster, store)
    await closed_to_others()


@pytest.mark.parametrize("environment", real())
def test_the_reference_store_lets_nobody_else_in(environment: str) -> None:
    on(environment, the_reference_store_lets_nobody_else_in)


async def etcd_lets_nobody_else_in(cluster: Cluster) -> None:
    store, stranger = Etcd(Etcd.Options()), Authority().issue("client")
    for node in cluster.nodes:
        await store.start(cluster, node)
        await node.write(f"{node.directory}/stranger.pem", stranger.certificate + stranger.key)

    async def closed_to_others() -> None:
        await wait_until(lambda: store.ready(cluster), seconds=90, what="etcd being whole")
        for node in cluster.nodes:
            for place in (f"{etcd.CLIENT_PORT}/health", f"{etcd.PEER_PORT}/members", f"{etcd.PEER_PORT}/version"):
                for scheme, own in (("http", ""), ("https", ""), ("https", f"{node.directory}/stranger.pem")):
                    ask = [node.python, "-c", ASK, f"{scheme}://{node.address}:{place}", own]
                    assert (await node.exec(ask)).out.startswith(b"refused"), (scheme, place, own)
            key = (await node.exec(["cat", f"{node.directory}/{etcd.KEYS}/member.key"])).out.decode()
            await assert_hidden(node, key.splitlines()[1], {"member.key"}, "etcd")
            # With the right certificate the same way leads in.
            both = f'cat "$1"/{etcd.KEYS}/member.pem "$1"/{etcd.KEYS}/member.key >"$1"/both.pem'
            assert (await node.exec(["sh", "-c", both, "sh", node.directory])).code == 0
            url = f"https://{node.address}:{etcd.CLIENT_PORT}/health"
            right = [node.python, "-c", ASK, url, f"{node.directory}/both.pem"]

            async def let_in(node: Node = node, right: Sequence[str] = right) -> bool:
                return "true" in (await node.exec(right)).text

            # Whoever is let in may hear for a moment that there is no leader.
            await wait_until(let_in, seconds=90, what="the right certificate leading in")
            await node.exec(["rm", f"{node.directory}/both.pem"])

    await closed_to_others()
    await leaves_and_joins(cluster, store)
    await closed_to_others()


@pytest.mark.parametrize("environment", real("etcd"))
def test_etcd_lets_nobody_else_in(environment: str) -> None:
    on(environment, etcd_lets_nobody_else_in)


def test_secrets_are_drawn_for_each_run() -> None:
    random.seed(1)
    first = Redis(Redis.Options()).password, Reference(Reference.Options()).secret, Authority().certificate
    random.seed(1)
    second = Redis(Redis.Options()).password, Reference(Reference.Options()).secret, Authority().certificate
    assert not {*first} & {*second}
    assert all(len(one) >= 32 for one in first)
