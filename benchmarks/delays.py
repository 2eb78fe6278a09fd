"""What one TCP stream carries over a link that the nemesis `netem` delays, against what the delay alone allows.

That is the most that a sender keeps on its way in each round trip: half of this machine's largest send buffer, since
the kernel counts as much overhead.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from harness.cluster import Cluster, wait_until
from harness.environments import namespaces
from harness.environments.local import LocalEnvironment
from harness.nemeses.netem import Netem
from harness.targets.reference.target import Reference

SECONDS = 4
DELAYS = (0.0, 0.001, 0.01, 0.1)
SERVE = """
import socket, time
listener = socket.create_server(("", 7900))
while True:
    stream, _ = listener.accept(); began, size = time.monotonic(), 0
    while data := stream.recv(1 << 20): size += len(data)
    print(size / (time.monotonic() - began), flush=True)
"""
SEND = f"""
import socket, sys, time
stream = socket.create_connection((sys.argv[1], 7900)); end = time.monotonic() + {SECONDS}
while time.monotonic() < end: stream.send(bytes(1 << 20))
"""


async def measure() -> None:
    """Send through each delay and print what arrives."""
    buffer = int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2]) / 2
    environment = LocalEnvironment()
    with tempfile.TemporaryDirectory() as folder:
        try:
            nodes = await environment.start(["n1", "n2"], Path(folder), "delays")
            cluster = Cluster(environment, nodes, 0)
            await nodes[1].start("serve", [nodes[1].python, "-u", "-c", SERVE])
            await asyncio.sleep(1.0)
            for number, delay in enumerate(DELAYS, 1):
                await stream(
                    cluster, delay, number, f"at most {buffer / delay / 1e6:,.0f} MB/s" if delay else "no limit"
                )
        finally:
            await environment.stop()


async def stream(cluster: Cluster, delay: float, number: int, allowed: str) -> None:
    """One stream through one delay: the ``number``-th that the server tells of."""
    near, far = cluster.nodes
    netem, target = Netem(Netem.Options()), Reference(Reference.Options())
    if delay:
        plan = {"aim": "n1", "order": ["n1", "n2"], "quality": {"delay": delay}, "direction": "out", "seed": "1"}
        await netem.inject(cluster, target, plan)
    await near.exec([near.python, "-c", SEND, far.address])

    async def told() -> bool:
        return len((await far.log("serve")).split()) >= number

    await wait_until(told, seconds=30, what="the end of a stream")
    rate = float((await far.log("serve")).split()[-1])
    print(f"{delay * 1000:5g} ms: {rate / 1e6:8,.1f} MB/s ({allowed})", flush=True)
    await netem.heal(cluster, target)


if __name__ == "__main__":
    if namespaces.inside():
        asyncio.run(measure())
    else:
        sys.exit(namespaces.reexecute([sys.executable, "-m", "benchmarks.delays"], os.environ))
