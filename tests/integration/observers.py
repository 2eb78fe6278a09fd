"""Watches the network from outside: processes in the nodes that send to one another every 40 ms, and note what comes.

Written for the tests, of the standard library, and no part of what makes or proves faults. All nodes of a test share
one kernel, and so its monotonic clock.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from harness.cluster import Cluster, wait_until
from harness.environments.base import Node
from tests.integration.test_faults import up

Link = tuple[str, str]
PORT = 7801
_numbers = itertools.count()

# UDP over IPv4 and over the link-local addresses of IPv6, and one TCP connection between any two, open all the time.
# Who is asked for the latest answers when what it heard last of each was sent: by protocol and peer.
OBSERVE = """
import contextlib, errno, json, os, select, socket, sys, time
me, addresses, port, file = json.loads(sys.argv[1])
def link_local():
    with contextlib.suppress(OSError), open("/proc/net/if_inet6") as table:
        for line in table:
            address, *_, device = line.split()
            if device != "lo" and address.startswith("fe80"):
                return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(address)), socket.if_nametoindex(device)
    return None
heard, latest, errors, broken, sixes, streams, buffers = [], {}, {}, {}, {}, {}, {}
own = link_local()
four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); four.bind(("0.0.0.0", port)); four.setblocking(False)
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1); six.setblocking(False)
if own: six.bind(("::", port))
listener = socket.create_server(("0.0.0.0", port)); listener.setblocking(False)
for peer, address in addresses.items():
    while peer > me:  # the others come to us
        with contextlib.suppress(OSError):
            streams[peer] = socket.create_connection((address, port), timeout=2)
            streams[peer].sendall(me.encode() + b"\\n"); streams[peer].setblocking(False)
            break
        time.sleep(0.02)
strangers, due, alone = [], 0.0, True
def hear(kind, peer, sent, now):
    heard.append([peer, kind, sent, now]); latest[f"{kind} {peer}"] = max(sent, latest.get(f"{kind} {peer}", 0))
def lose(peer, error):
    broken.setdefault(peer, [errno.errorcode.get(error.errno, "end"), time.monotonic()]); streams.pop(peer).close()
while True:
    if alone and streams.keys() == addresses.keys(): alone = False; print("up")
    now = time.monotonic()
    if now >= due:
        due = now + 0.04
        for peer, address in addresses.items():
            said = f"{me} {now} {own[0] if own else '-'}".encode()
            for kind, line, where in (("udp", four, (address, port)), ("udp6", six, sixes.get(peer))):
                if where:
                    try: line.sendto(said, where)
                    except OSError as error:
                        if error.errno != errno.EADDRNOTAVAIL:  # an address of IPv6 is not used for a second or two
                            errors.setdefault(peer, []).append(errno.errorcode[error.errno])
            if peer in streams:
                try: streams[peer].send(f"{now}\\n".encode())
                except BlockingIOError: pass
                except OSError as error: lose(peer, error)
    waiting = [four, listener, *([six] if own else []), *strangers, *streams.values()]
    for ready in select.select(waiting, [], [], max(due - time.monotonic(), 0))[0]:
        now = time.monotonic()
        if ready is listener:
            strangers.append(ready.accept()[0])
        elif ready in strangers:
            name = b""
            while not name.endswith(b"\\n"): name += ready.recv(1)
            strangers.remove(ready); ready.setblocking(False); streams[name.decode().strip()] = ready
        elif ready in (four, six):
            try: data, asker = ready.recvfrom(2000); words = data.split()
            except OSError as error: continue
            if words == [b"latest"]: ready.sendto(json.dumps([bool(own), latest]).encode(), asker); continue
            if words == [b"stop"]:
                four.close(); six.close(); listener.close()  # whoever observes next needs the port
                seen = {"heard": heard, "errors": errors, "broken": broken}
                with open(file + ".new", "w") as out: json.dump(seen, out)
                os.rename(file + ".new", file)
                sys.exit()
            if own and words[2] != b"-": sixes[words[0].decode()] = (words[2].decode(), port, 0, own[1])
            hear("udp" if ready is four else "udp6", words[0].decode(), float(words[1]), now)
        else:
            peer = next((name for name, stream in streams.items() if stream is ready), None)
            try: data = ready.recv(65536) if peer else b"-"
            except OSError as error: lose(peer, error); continue
            if not data: lose(peer, OSError(0, "end")); continue
            buffers[peer] = buffers.get(peer, b"") + data
            *lines, buffers[peer] = buffers[peer].split(b"\\n")
            for line in filter(None, lines): hear("tcp", peer, float(line), now)
"""
STOP = """
import socket, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"stop", ("127.0.0.1", int(sys.argv[1])))
"""
LATEST = """
import socket, sys
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); line.settimeout(5)
line.sendto(b"latest", ("127.0.0.1", int(sys.argv[1]))); print(line.recv(65536).decode())
"""


@dataclass
class Observed:
    """What came over each link: when it was sent, and when it arrived; by ``udp``, ``udp6`` or ``tcp``."""

    nodes: Sequence[Node]
    arrived: dict[tuple[str, Link], list[tuple[float, float]]] = field(default_factory=dict)
    errors: dict[Link, set[str]] = field(default_factory=dict)
    """What senders of datagrams were told."""
    broken: dict[Link, str] = field(default_factory=dict)
    """How connections ended, as the first of each pair saw it."""

    async def heard(self, links: Set[Link], since: float, kinds: Sequence[str] = ("udp", "udp6")) -> None:
        """Wait until something came over each of these links that was sent since then: an observer may stand still.

        By each of these protocols; by IPv6 only where nodes have it.
        """

        async def latest(node: Node) -> bool:
            asked = await node.exec([node.python, "-c", LATEST, str(PORT)])
            if asked.code != 0:
                return False
            has_six, sent = json.loads(asked.out)
            used = [kind for kind in kinds if has_six or kind != "udp6"]
            peers = [peer for peer, own in links if own == node.name]
            return all(sent.get(f"{kind} {peer}", 0.0) >= since for kind in used for peer in peers)

        async def all_heard() -> bool:
            return all(await asyncio.gather(*map(latest, self.nodes)))

        await wait_until(all_heard, seconds=90, what=f"hearing something over {sorted(links)}")

    def open(self, kind: str, start: float, end: float) -> set[Link]:
        """The links over which something came that was sent in this time."""
        return {
            link
            for (found, link), times in self.arrived.items()
            if found == kind and any(start <= sent <= end and came <= end for sent, came in times)
        }


@asynccontextmanager
async def observed(cluster: Cluster, names: Sequence[str] = ()) -> AsyncIterator[Observed]:
    """Observe the links between nodes for as long as this lasts; what was seen is there at its end."""
    nodes = [node for node in cluster.nodes if not names or node.name in names]
    seen, number = Observed(nodes), next(_numbers)
    name = f"observer{number}"  # each has a log of its own

    def file(node: Node) -> str:
        return f"{node.directory}/observed-{number}.json"

    for node in nodes:
        addresses = {other.name: other.address for other in nodes if other is not node}
        given = json.dumps([node.name, addresses, PORT, file(node)])
        await node.start(name, [node.python, "-u", "-c", OBSERVE, given])
    for node in nodes:
        await up(node, name)  # it has its connections with all others
    yield seen
    over = now()
    for node in nodes:
        await node.exec([node.python, "-c", STOP, str(PORT)])

        async def written(node: Node = node) -> bool:
            return (await node.exec(["test", "-s", file(node)])).code == 0

        await wait_until(written, seconds=90, what=f"the observer of {node.name} ending: {await node.log(name)}")
        said: dict[str, Any] = json.loads((await node.exec(["cat", file(node)])).out)
        for peer, kind, sent, came in said["heard"]:
            seen.arrived.setdefault((kind, (peer, node.name)), []).append((sent, came))
        for peer, errors in said["errors"].items():
            seen.errors[node.name, peer] = set(errors)
        for peer, (error, when) in said["broken"].items():
            if when < over:
                seen.broken[node.name, peer] = error


def now() -> float:
    """The clock of the observers."""
    return time.monotonic()
