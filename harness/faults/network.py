"""Cut and restore the network of the node that this runs in, and measure what it can still reach.

Rules live in chains of their own, so that a heal removes exactly what was added. A cut drops packets by the peer's
address; established connections stall, as on a real network. With ``how: "reject"`` the sender is told at once that
the host cannot be reached.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import subprocess
import time
from typing import Any

from harness.faults import resident

CHAINS = {"in": ("INPUT", "SPLITBRAIN-IN", "-s"), "out": ("OUTPUT", "SPLITBRAIN-OUT", "-d")}
FLAPPING = "flapping"
PROBED_PORT = 9
"""Nothing listens on the discard port: a reachable peer refuses the connection at once."""
_ANSWERED = (0, errno.ECONNREFUSED)
_AGAIN_SECONDS = 0.25


def iptables(*arguments: str, check: bool = True) -> str:
    """Run iptables in this network namespace."""
    command = ["iptables", "-w", "10", *arguments]
    environment = {**os.environ, "XTABLES_LOCKFILE": "/tmp/splitbrain-xtables.lock"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def cut(peers: list[dict[str, Any]], how: str) -> None:
    """Cut this node from each peer: ``{"address": A, "direction": "in"|"out"|"both"}``.

    With ``spare``, TCP connections to that port of this node go on: the one over which this tool is controlled.
    """
    # Not a TCP reset: a peer that refuses a connection by itself must be told apart from the cut.
    target = ["DROP"] if how == "drop" else ["REJECT", "--reject-with", "icmp-host-prohibited"]
    for hook, chain, _ in CHAINS.values():
        iptables("-N", chain, check=False)
        if f"-A {hook} -j {chain}" not in iptables("-S", hook):
            iptables("-I", hook, "-j", chain)
    for peer in peers:
        for direction, (_, chain, flag) in CHAINS.items():
            if peer.get("direction", "both") in (direction, "both"):
                which: list[list[str]] = [[]]
                if "spare" in peer:
                    port = {"in": "--dport", "out": "--sport"}[direction]
                    which = [["-p", "tcp", "!", port, str(peer["spare"])], ["!", "-p", "tcp"]]
                for packets in which:
                    iptables("-A", chain, flag, peer["address"], *packets, "-j", *target)


class Flap(resident.Work):
    """Lets the cuts come and go, each for ``period`` seconds; all nodes of one machine do so at once."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._on = True

    def step(self) -> float:
        phase, passed = divmod(time.monotonic(), self._period)
        if (on := int(phase) % 2 == 0) != self._on:
            for hook, chain, _ in CHAINS.values():
                iptables("-I" if on else "-D", hook, "-j", chain)
            self._on = on
        return self._period - passed


def heal() -> dict[str, int]:
    """Remove every rule of ours; returns how many packets each rule's peer lost to them."""
    resident.stop(FLAPPING)
    lost: dict[str, int] = {}
    for hook, chain, flag in CHAINS.values():
        for line in iptables("-L", chain, "-v", "-n", "-x", check=False).splitlines()[2:]:
            packets, *_, source, destination = line.split()[:9]
            peer = destination if flag == "-d" else source
            lost[peer] = lost.get(peer, 0) + int(packets)
        iptables("-D", hook, "-j", chain, check=False)
        iptables("-F", chain, check=False)
        iptables("-X", chain, check=False)
    left = [line for line in iptables("-S").splitlines() if "SPLITBRAIN" in line]
    if left:
        raise SystemExit(f"these rules could not be removed: {left}")
    return lost


def reach(peers: list[str], patience: float) -> dict[str, bool]:
    """Try to open TCP connections to each peer: True where the peer's kernel answered within ``patience`` seconds.

    One attempt after the other is begun, since another fault may lose packets on the way.
    """
    answer = dict.fromkeys(peers, False)
    waiting: dict[int, tuple[socket.socket, str]] = {}
    poll = select.poll()
    now = time.monotonic()
    deadline, due = now + patience, now
    with contextlib.ExitStack() as attempts:
        while not all(answer.values()) and now < deadline:
            if now >= due:
                for peer in (peer for peer, answered in answer.items() if not answered):
                    attempt = attempts.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                    attempt.setblocking(False)
                    code = attempt.connect_ex((peer, PROBED_PORT))
                    answer[peer] = code in _ANSWERED
                    if code == errno.EINPROGRESS:
                        waiting[attempt.fileno()] = (attempt, peer)
                        poll.register(attempt, select.POLLOUT)
                due = now + _AGAIN_SECONDS
            for descriptor, _ in poll.poll(max(min(due, deadline) - now, 0) * 1000):
                attempt, peer = waiting.pop(descriptor)
                poll.unregister(descriptor)
                answer[peer] |= attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in _ANSWERED
            now = time.monotonic()
    return answer


def main(request: dict[str, Any]) -> Any:
    """Do what ``request["do"]`` says: cut, heal or reach."""
    if request["do"] == "cut":
        cut(request["peers"], request.get("how", "drop"))
        if request.get("flap"):
            resident.start(FLAPPING, lambda: Flap(request["flap"]))
        return None
    if request["do"] == "heal":
        return heal()
    if request["do"] == "reach":
        return reach(request["peers"], request["patience"])
    raise SystemExit(f"unknown action {request['do']!r}")
