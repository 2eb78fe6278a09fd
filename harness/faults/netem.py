"""Make the network of the node that this runs in worse: what it sends to its peers is late, lost, doubled, spoiled.

By the kernel's own queueing discipline netem where there is one, else by a queue in userspace (see ``nfqueue``).
``quality`` is described there. Rules stand in a chain of our own, so that mending removes exactly what was added.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import statistics
import subprocess
import time
from typing import Any

from harness.faults import resident
from harness.faults.network import PROBED_PORT, iptables
from harness.faults.nfqueue import MARK, Degrade

RESIDENT = "netem"
CHAIN = "SPLITBRAIN-NETEM"
QUEUE = 5211
_BURST = 200
"""Packets that are sent to see whether some are lost: all of 200 arrive once in 30,000 times if 5% are to be lost."""
_CLONE_NEWNET = 0x40000000


def mechanism() -> str:
    """How it can be done here: ``netem`` or ``nfqueue``. Raises ``SystemExit`` with the reason if neither is there.

    Tried in a network namespace of its own, which nothing else uses.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
                raise SystemExit("this node may not make a network namespace to try it in")
            found = "netem" if _has_netem() else _has_queue()
        except (SystemExit, OSError) as error:
            found = f"!{error}"
        os.write(writing, found.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        found = pipe.read()
    os.waitpid(pid, 0)
    if found.startswith("!"):
        raise SystemExit(found[1:])
    return found


def _has_netem() -> bool:
    try:
        return tc("qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms", check=False).returncode == 0
    except FileNotFoundError:
        return False


def _has_queue() -> str:
    iptables("-t", "mangle", "-A", "OUTPUT", "-j", "NFQUEUE", "--queue-num", str(QUEUE), "--queue-bypass")
    Degrade(QUEUE, {}, "").end()
    return "nfqueue"


def tc(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run tc in this network namespace."""
    done = subprocess.run(["tc", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise SystemExit(f"tc {' '.join(arguments)}: {done.stderr.strip()}")
    return done


def degrade(how: str, peers: list[str], quality: dict[str, float], seed: str) -> None:
    """From now on, what is sent to these addresses has this quality."""
    mend()
    if how == "netem":
        device = _device(peers[0])
        tc("qdisc", "add", "dev", device, "root", "handle", "1:", "prio", "bands", "4")
        tc("qdisc", "add", "dev", device, "parent", "1:4", "handle", "40:", "netem", *_arguments(quality))
        for peer in peers:
            match = ("match", "ip", "dst", f"{peer}/32", "flowid", "1:4")
            tc("filter", "add", "dev", device, "parent", "1:", "protocol", "ip", "u32", *match)
        return
    resident.start(RESIDENT, lambda: Degrade(QUEUE, quality, seed))
    iptables("-t", "mangle", "-N", CHAIN)
    for peer in peers:
        target = ("-j", "NFQUEUE", "--queue-num", str(QUEUE), "--queue-bypass")
        iptables("-t", "mangle", "-A", CHAIN, "-d", peer, "-m", "mark", "!", "--mark", hex(MARK), *target)
    iptables("-t", "mangle", "-A", "POSTROUTING", "-j", CHAIN)


def _arguments(quality: dict[str, float]) -> list[str]:
    """The same quality in netem's words: its jitter goes both ways, and it overtakes only what is delayed."""
    delay, jitter = quality.get("delay", 0.0), quality.get("jitter", 0.0)
    words = []
    if quality.get("reorder") and not delay:
        delay = 0.01
    if delay or jitter:
        words += ["delay", f"{(delay + jitter / 2) * 1e6:.0f}us", f"{jitter / 2 * 1e6:.0f}us"]
    for name in ("loss", "duplicate", "reorder", "corrupt"):
        if share := quality.get(name, 0.0):
            words += [name, f"{share * 100:g}%"]
    if rate := quality.get("rate", 0.0):
        words += ["rate", f"{rate * 8:.0f}bit"]
    return words


def _device(peer: str) -> str:
    """The interface through which a peer is reached."""
    words = subprocess.run(["ip", "route", "get", peer], capture_output=True, text=True, check=True).stdout.split()
    return words[words.index("dev") + 1]


def mend() -> dict[str, int]:
    """Send as before; what became of the packets meanwhile. Raises ``SystemExit`` if something stays."""
    iptables("-t", "mangle", "-D", "POSTROUTING", "-j", CHAIN, check=False)
    iptables("-t", "mangle", "-F", CHAIN, check=False)
    iptables("-t", "mangle", "-X", CHAIN, check=False)
    seen: dict[str, int] = resident.stop(RESIDENT) or {}
    if CHAIN in iptables("-t", "mangle", "-S"):
        raise SystemExit("the rules of the packet queue could not be removed")
    for name in os.listdir("/sys/class/net"):
        if b" netem " in _qdiscs(name):
            tc("qdisc", "del", "dev", name, "root")
    return seen


def _qdiscs(device: str) -> bytes:
    try:
        return subprocess.run(["tc", "qdisc", "show", "dev", device], capture_output=True, check=False).stdout
    except FileNotFoundError:
        return b""


def round_trip(peer: str, tries: int = 5, patience: float = 3.0) -> float | None:
    """Seconds until the peer's kernel refuses a TCP connection, the median; None if it mostly does not answer."""
    took = []
    for _ in range(tries):
        began = time.monotonic()
        try:
            socket.create_connection((peer, PROBED_PORT), timeout=patience).close()
        except ConnectionRefusedError:
            pass
        except OSError:
            continue
        took.append(time.monotonic() - began)
    return statistics.median(took) if len(took) > tries // 2 else None


def burst(peer: str, count: int = _BURST) -> int:
    """Send small packets to a peer; how many were sent, and not refused because another fault has cut the link here."""
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for number in range(count):
            with contextlib.suppress(PermissionError):
                out.sendto(b"%07d" % number, (peer, PROBED_PORT))
                sent += 1
            if number % 20 == 19:
                time.sleep(0.005)
    return sent


def prove(how: str, peer: str, quality: dict[str, float]) -> dict[str, Any]:
    """See whether the network to a peer is as bad as it was made. Raises ``SystemExit`` if it is not."""
    took = round_trip(peer)
    least = quality.get("delay", 0.0)
    if least and took is not None and took < 0.9 * least:
        raise SystemExit(f"packets to {peer} were to take {least:g} s, but came back after {took:.4f} s")
    sent = burst(peer)
    time.sleep(0.05)
    seen = resident.ask(RESIDENT) if how == "nfqueue" else _counters(peer)
    if seen["packets"] < sent:
        raise SystemExit(f"{sent} packets were sent to {peer}, but only {seen['packets']} were made worse")
    for name, counted in (("loss", "lost"), ("duplicate", "duplicated"), ("corrupt", "corrupted")):
        if sent == _BURST and quality.get(name, 0.0) >= 0.05 and not seen.get(counted, 1):
            raise SystemExit(f"of {seen['packets']} packets to {peer} none was {counted}")
    return {"how": how, "round_trip": took, "seen": seen}


def _counters(peer: str) -> dict[str, int]:
    """What netem has counted: packets, and those that were lost."""
    words = tc("-s", "qdisc", "show", "dev", _device(peer)).stdout.partition("netem")[2].split()
    lost = int(words[words.index("(dropped") + 1].rstrip(","))
    return {"packets": int(words[words.index("pkt") - 1]) + lost, "lost": lost}


def main(request: dict[str, Any]) -> Any:
    """Do what ``request["do"]`` says: degrade or mend. To degrade links that are all cut has no effect: None."""
    if request["do"] == "degrade":
        how = mechanism()
        degrade(how, request["peers"], request["quality"], request["seed"])
        peer = next((peer for peer in request["peers"] if burst(peer, 1)), None)
        return None if peer is None else prove(how, peer, request["quality"])
    if request["do"] == "mend":
        return mend()
    raise SystemExit(f"unknown action {request['do']!r}")
