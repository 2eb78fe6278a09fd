"""Cut and restore the network of the node that this runs in.

What a peer sends is lost where it arrives, so that its sender sees nothing: established connections stall, as on a real
network. With ``how: "reject"`` the sender is told that the host cannot be reached; with ``how: "reset"`` TCP
connections, open ones too, are reset as soon as something is sent over them, and everything else is lost. Rules live
in chains of their own, for IPv4 and IPv6, so that a heal removes exactly what was added.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Literal, TypedDict

from harness.faults import resident
from harness.faults.addresses import further
from harness.faults.process import HOME_MARK

How = Literal["drop", "reject", "reset"]
Direction = Literal["in", "out", "both"]
CHAINS = {"in": ("INPUT", "SPLITBRAIN-IN", "-s"), "out": ("OUTPUT", "SPLITBRAIN-OUT", "-d")}
FLAPPING = "flapping"
_NOWHERE = 5210
"""A queue of the firewall that nobody reads: unlike DROP, it does not tell the sender that its packet was lost."""
_IPV4, _IPV6 = "iptables", "ip6tables"
_REFUSAL = {
    _IPV4: (["-p", "icmp", "--icmp-type", "host-prohibited"], "icmp-host-prohibited"),
    _IPV6: (["-p", "ipv6-icmp", "--icmpv6-type", "communication-prohibited"], "icmp6-adm-prohibited"),
}
_NEIGHBOURS = ("neighbour-solicitation", "neighbour-advertisement")
"""What IPv6 has in place of ARP, which is not cut either: without it a sender would be told that there is no way."""
_RESET = ["-p", "tcp", "--tcp-flags", "RST", "RST"]


def iptables(*arguments: str, check: bool = True, program: str = _IPV4, given: str | None = None) -> str:
    """Run iptables, or a program of its family, in this network namespace."""
    command = [program, "-w", "10", *arguments]
    # On a host the lock is everybody's who makes rules there. On a node of our own that one may be root's, and rules
    # belong to the network namespace: its own file can be locked like any other.
    own = {} if HOME_MARK in os.environ else {"XTABLES_LOCKFILE": "/proc/self/ns/net"}
    environment = {**os.environ, **own}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, input=given)
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def family(address: str) -> str:
    """The program that makes rules about an address."""
    return _IPV4 if ipaddress.ip_address(address).version == 4 else _IPV6


def families() -> list[str]:
    """The programs that are needed here: without addresses of IPv6 its rules may be impossible, and are for nothing."""
    return [_IPV4, _IPV6] if further() else [_IPV4]


def rulers() -> list[str]:
    """Those of them that are there: what is not there has made no rules."""
    return [program for program in families() if shutil.which(program)]


def bring_into_force(rules: Sequence[str], program: str = _IPV4, table: str = "filter") -> None:
    """Add rules of a family to those that are there, all of them at once."""
    iptables("--noflush", program=f"{program}-restore", given="\n".join([f"*{table}", *rules, "COMMIT", ""]))


def remove(hook: str, chain: str, program: str, match: Sequence[str] = (), table: str = "filter") -> None:
    """Remove a chain of ours, and the rule with this match that leads to it, as far as they are there."""
    for words in (("-D", hook, *match, "-j", chain), ("-F", chain), ("-X", chain)):
        iptables("-t", table, *words, check=False, program=program)


class Machine(TypedDict, total=False):
    """Another machine: its addresses. TCP connections to the port to ``spare`` of this node, over which it is
    controlled, stay as they are.
    """

    addresses: list[str]
    spare: int


class Peer(Machine):
    """A machine with which links are changed, and which: what comes ``in`` from there, goes ``out``, or ``both``."""

    direction: Direction


def cut(peers: list[Peer], how: How = "drop", flap: float = 0.0) -> None:
    """Cut this node from each peer; with ``flap`` the cut comes and goes, each for so many seconds.

    All rules of a family come into force at once.
    """
    own = further()
    for program in families():
        rules, there = [], iptables("-S", program=program)
        for direction, (hook, chain, flag) in CHAINS.items():
            if f"-A {hook} -j {chain}" not in there:
                rules += [f":{chain} - [0:0]", f"-I {hook} -j {chain}"]
            for peer in peers:
                if peer["direction"] not in (direction, "both"):
                    continue
                for address in peer["addresses"]:
                    if family(address) == program and address not in own:
                        endings = _rules(program, direction, how, peer.get("spare"))
                        rules += [" ".join(["-A", chain, flag, address, *words]) for words in endings]
        bring_into_force(rules, program)
    if flap:
        resident.start(FLAPPING, lambda: Flap(flap))


def _rules(program: str, direction: str, how: str, spare: int | None) -> Iterator[Sequence[str]]:
    """What is done, in this order, with the packets of a peer that is cut off."""
    lost = ["-j", "DROP"] if direction == "in" else ["-j", "NFQUEUE", "--queue-num", str(_NOWHERE)]
    refused, refusal = _REFUSAL[program]
    if program == _IPV6:
        for kind in _NEIGHBOURS:
            yield ["-p", "ipv6-icmp", "--icmpv6-type", kind, "-j", "RETURN"]
    if spare is not None:
        yield ["-p", "tcp", {"in": "--dport", "out": "--sport"}[direction], str(spare), "-j", "RETURN"]
    if how == "reject":
        # The refusals of the other end have to arrive.
        yield [*refused, "-j", "RETURN"]
        yield ["-j", "REJECT", "--reject-with", refusal]
    elif how == "reset":
        yield [*_RESET, "-j", "RETURN"]
        yield ["-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"]
        yield lost
    else:
        yield lost


class Flap(resident.Work):
    """Lets the cuts come and go, each for ``period`` seconds, from now on."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._began = time.monotonic()
        self._programs = families()
        self._on = True

    def step(self) -> float:
        phase, passed = divmod(time.monotonic() - self._began, self._period)
        if (on := int(phase) % 2 == 0) != self._on:
            for program in self._programs:
                for hook, chain, _ in CHAINS.values():
                    iptables("-I" if on else "-D", hook, "-j", chain, program=program)
            self._on = on
        return self._period - passed


def heal() -> dict[str, int]:
    """Remove every rule of ours; how many packets of each peer they caught."""
    resident.stop(FLAPPING)
    lost: dict[str, int] = {}
    for program in rulers():
        if not _rules_here(program):
            continue
        for hook, chain, flag in CHAINS.values():
            for line in iptables("-L", chain, "-v", "-n", "-x", check=False, program=program).splitlines()[2:]:
                words = line.split()
                if words[2] == "RETURN":
                    continue
                # Where there is one, the column of the fragments is empty in IPv6.
                source, destination = [word for word in words[3:] if "." in word or ":" in word][:2]
                peer = (destination if flag == "-d" else source).removesuffix("/128")
                lost[peer] = lost.get(peer, 0) + int(words[0])
            remove(hook, chain, program)
        if left := _rules_here(program):
            raise SystemExit(f"these rules could not be removed: {left}")
    return lost


def _rules_here(program: str) -> list[str]:
    """Those of these chains, among the rules that others have made here."""
    chains = {chain for _, chain, _ in CHAINS.values()}
    return [line for line in iptables("-S", program=program).splitlines() if chains & {*line.split()}]


VERBS = (cut, heal)
