"""Make the network of the node that this runs in worse: what its peers send, or it sends to them, is late, or lost.

What is sent is made worse by the kernel's own queueing discipline netem where there is one; else, and whatever is
received, by a queue in userspace (see ``nfqueue``, where ``quality`` is described). Rules stand in chains of our own,
for IPv4 and IPv6, so that mending removes exactly what was added.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from typing import Any

from harness.faults import resident
from harness.faults.network import Peer, bring_into_force, families, family, iptables, remove, rulers
from harness.faults.nfqueue import MARK, Degrade

RESIDENT = "netem"
CHAINS = {
    "in": ("INPUT", "SPLITBRAIN-NETEM-IN", "-s", "--dport"),
    "out": ("POSTROUTING", "SPLITBRAIN-NETEM-OUT", "-d", "--sport"),
}
QUEUE = 5211
DISCIPLINE = "5b17:"
"""The handle of our own queueing discipline: one with another handle is somebody else's, and stays."""
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
            answer = "netem" if _has_netem() else _has_queue()
        except (SystemExit, OSError) as error:
            answer = f"!{error}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    if answer.startswith("!"):
        raise SystemExit(answer[1:])
    return answer


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


def degrade(how: str, peers: list[Peer], quality: dict[str, float], seed: str) -> None:
    """From now on, the links with these peers have this quality, by the ``mechanism`` that was found."""
    mend()
    if how == "netem":
        if sent := [address for peer in peers if peer["direction"] == "out" for address in peer["addresses"]]:
            _discipline(sent, quality)
        peers = [peer for peer in peers if peer["direction"] == "in"]
    if not peers:
        return
    leaving = any(peer["direction"] == "out" for peer in peers)
    resident.start(RESIDENT, lambda: Degrade(QUEUE, quality, seed, leaving=leaving))
    for program in families():
        rules = []
        for direction, (hook, chain, flag, port) in CHAINS.items():
            rules += [f":{chain} - [0:0]", f"-I {hook} -j {chain}"]
            for peer in (peer for peer in peers if peer["direction"] == direction):
                which = [f"-p tcp ! {port} {peer['spare']}", "! -p tcp"] if "spare" in peer else [""]
                for address in (address for address in peer["addresses"] if family(address) == program):
                    queue = f"-m mark ! --mark {MARK} -j NFQUEUE --queue-num {QUEUE} --queue-bypass"
                    rules += [f"-A {chain} {flag} {address} {packets} {queue}" for packets in which]
        bring_into_force(rules, program, "mangle")


def _discipline(peers: list[str], quality: dict[str, float]) -> None:
    """Let the kernel's netem have what is sent to these addresses."""
    device = _device(peers[0])
    tc("qdisc", "add", "dev", device, "root", "handle", DISCIPLINE, "prio", "bands", "4")
    tc("qdisc", "add", "dev", device, "parent", f"{DISCIPLINE}4", "netem", *_arguments(quality))
    for peer in peers:
        protocol, name, bits = ("ip", "ip", 32) if family(peer) == "iptables" else ("ipv6", "ip6", 128)
        match = ("match", name, "dst", f"{peer}/{bits}", "flowid", f"{DISCIPLINE}4")
        tc("filter", "add", "dev", device, "parent", DISCIPLINE, "protocol", protocol, "u32", *match)


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


def mend() -> dict[str, Any]:
    """Let all packets through as before; what became of them meanwhile. Raises ``SystemExit`` if something stays."""
    ruled = [program for program in rulers() if _has_rules(program)]
    for program in ruled:
        for hook, chain, *_ in CHAINS.values():
            remove(hook, chain, program, table="mangle")
    seen: dict[str, Any] = resident.stop(RESIDENT) or {}
    if any(_has_rules(program) for program in ruled):
        raise SystemExit("the rules of the packet queue could not be removed")
    for line in map(str.split, _disciplines().splitlines()):
        if line[:3] == ["qdisc", "prio", DISCIPLINE]:
            tc("qdisc", "del", "dev", line[line.index("dev") + 1], "root")
    return seen


def _has_rules(program: str) -> bool:
    return "SPLITBRAIN" in iptables("-t", "mangle", "-S", program=program)


def _disciplines() -> str:
    try:
        return tc("qdisc", "show", check=False).stdout
    except FileNotFoundError:
        return ""


VERBS = (degrade, mend, mechanism)
