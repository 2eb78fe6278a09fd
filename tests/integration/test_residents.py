"""Tools that stay in a node: whoever is not of their own user, or talks nonsense, neither ends nor deceives them."""

from __future__ import annotations

from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node, run_tool
from harness.environments.tools import ask
from harness.errors import FaultError
from harness.faults import network
from harness.faults.network import Peer
from tests.integration.inside import on

AS_NOBODY = """
import json, os, socket, sys
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
"""
SAY = """
import socket, sys
with socket.socket(socket.AF_UNIX) as asking:
    asking.settimeout(10)
    asking.connect("\\0splitbrain-flapping")
    try:
        asking.sendall(sys.argv[1].encode("latin-1"))
        if len(sys.argv) < 3:
            asking.shutdown(socket.SHUT_WR)
            print(asking.recv(1000))
    except (BrokenPipeError, ConnectionResetError):
        print(b"")
"""
HOLD = """
import json, socket
with socket.socket(socket.AF_UNIX) as holder:
    holder.bind("\\0splitbrain-flapping")
    holder.listen()
    print("held", flush=True)
    while True:
        with holder.accept()[0] as asked:
            asked.sendall(json.dumps({"said": None}).encode())
"""


def peer(cluster: Cluster) -> Peer:
    """The second node, as one that the first is cut from."""
    return {"addresses": [cluster.nodes[1].address], "direction": "in"}


async def flap(cluster: Cluster) -> Node:
    node = cluster.nodes[0]
    peers = [peer(cluster)]
    await run_tool(node, ask(network.cut, peers=peers, flap=0.2))
    return node


async def is_there(node: Node) -> bool:
    return "@splitbrain-flapping" in (await node.exec(["cat", "/proc/net/unix"])).text


async def nonsense_ends_nothing(cluster: Cluster) -> None:
    node = await flap(cluster)
    for words in ("", "\xff\xfe\x01", "[1, 2]", "{}", '"stop"', '{"ask":', "7"):
        done = await node.exec([node.python, "-c", SAY, words])
        assert done.code == 0, done.text
        assert await is_there(node), words
    done = await node.exec([node.python, "-c", SAY, "end", "and say no more"])
    assert done.code == 0, done.text
    assert await is_there(node)
    await run_tool(node, ask(network.heal))
    assert not await is_there(node)


async def another_user_is_not_listened_to(cluster: Cluster) -> None:
    node = await flap(cluster)
    done = await node.exec([node.python, "-c", AS_NOBODY + SAY, '"end"'])
    assert (done.code, done.text) == (0, "b''"), done.text
    assert await is_there(node)
    await run_tool(node, ask(network.heal))


async def another_user_who_holds_the_name_is_named(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    # Not a server: those have no right to become somebody else.
    argv = [node.python, "-c", AS_NOBODY + HOLD]
    await node.exec(["sh", "-c", 'setsid "$@" >/dev/null 2>&1 </dev/null &', "sh", *argv])
    await wait_until(lambda: is_there(node), seconds=60, what="somebody holding the name")
    with pytest.raises(FaultError, match="user 65534 holds the name of the resident flapping"):
        await run_tool(node, ask(network.heal))


@pytest.mark.needs("ssh")  # which says that we are root, and can become somebody else
@pytest.mark.parametrize(
    "scenario",
    [nonsense_ends_nothing, another_user_is_not_listened_to, another_user_who_holds_the_name_is_named],
)
def test_residents(scenario: Any) -> None:
    on("local", scenario, nodes=2)
