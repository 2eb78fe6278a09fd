"""Let nobody but a run's own machines connect to the ports of its store on the host that this runs on.

Other machines are not heard. Users of this host are refused, at its own ports and at those of the run's other hosts,
which nobody reaches through this one either; root is not kept out, nor is whoever drives the clients from here. Rules
see only how TCP connections to these ports begin: what is connected stays so, and nothing else is touched. They stand
in chains of their own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator, Sequence

from harness.faults.network import bring_into_force, families, family, iptables, remove

CHAINS = {"INPUT": "SPLITBRAIN-GUARD-IN", "OUTPUT": "SPLITBRAIN-GUARD-OUT", "FORWARD": "SPLITBRAIN-GUARD-BY"}
_OPENS = ("-p", "tcp", "--syn")
_REFUSAL = {"iptables": "icmp-admin-prohibited", "ip6tables": "icmp6-adm-prohibited"}
"""Which is told from a port that nobody listens on."""
_ANSWER_SECONDS = 3.0


def _programs() -> list[str]:
    """What makes rules for each family of addresses that this host has, loopback's too."""
    with contextlib.suppress(OSError), open("/proc/net/if_inet6") as table:
        if table.read().strip():
            return ["iptables", "ip6tables"]
    return ["iptables"]


def rules(program: str, ports: Sequence[int], hosts: Sequence[str], clients: Sequence[str], user: int) -> Iterator[str]:
    """What is appended to our chains. ``user`` drives clients from here."""
    heard, refused, passed = CHAINS.values()
    ours = [host for host in hosts if family(host) == program]
    yield f"-A {heard} -i lo -j RETURN"
    for address in dict.fromkeys([*hosts, *clients]):
        if family(address) == program:
            yield f"-A {heard} -s {address} -j RETURN"
            yield f"-A {passed} -s {address} -j RETURN"
    for uid in sorted({os.geteuid(), user}):
        yield f"-A {refused} -m owner --uid-owner {uid} -j RETURN"
    for port in ports:
        yield f"-A {heard} -p tcp --dport {port} -j DROP"
        for host in ours:
            yield f"-A {passed} -d {host} -p tcp --dport {port} -j DROP"
        for where in ("-o lo", *(f"-d {host}" for host in ours)):
            yield f"-A {refused} {where} -p tcp --dport {port} -j REJECT --reject-with {_REFUSAL[program]}"


def put_up(ports: Sequence[int], hosts: Sequence[str], clients: Sequence[str], user: int) -> list[str]:
    """Make the rules, in place of those that an earlier run has left; why that was not possible."""
    failed = []
    for program in _programs():
        if shutil.which(program) is None:
            failed.append(f"the command {program} is not there")
            continue
        try:
            there = iptables("-S", program=program)
            made = [f":{chain} - [0:0]" for chain in CHAINS.values()]
            made += [
                " ".join(["-I", hook, *_OPENS, "-j", chain])
                for hook, chain in CHAINS.items()
                if f"-j {chain}\n" not in there
            ]
            made += rules(program, ports, hosts, clients, user)
            bring_into_force(made, program)
        except (SystemExit, OSError) as error:
            failed.append(str(error))
    return failed


def take_down() -> None:
    """Remove every rule of ours. Raises ``SystemExit`` where one stays."""
    for program in filter(shutil.which, _programs()):  # what is not there has made none
        # For loopback's sake alone rules may be impossible, and then there are none.
        there = iptables("-S", check=program in families(), program=program)
        if not any(chain in there for chain in CHAINS.values()):
            continue
        for hook, chain in CHAINS.items():
            remove(hook, chain, program, _OPENS)
        if any(chain in iptables("-S", program=program) for chain in CHAINS.values()):
            raise SystemExit("the rules that keep others from the store could not be removed")


def knock(addresses: Sequence[str], ports: Sequence[int]) -> list[str]:
    """Those of these machines on none of whose ports, where nobody need listen, anything answers us here."""
    return [address for address in addresses if not any(_answers(address, port) for port in ports)]


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)
    return True


VERBS = (put_up, take_down, knock)
