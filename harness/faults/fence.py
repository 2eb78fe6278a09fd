"""Let the node that this runs in be reached from its own network alone, and not lead to the machine that holds it.

The rules stand in the node's own network namespace, where the servers of an image have no right to change them.
"""

from __future__ import annotations

from harness.faults.network import bring_into_force
from harness.faults.nfqueue import MARK as SENT_AGAIN
from harness.faults.probe import MARK as MEASURES


def rules(subnet: str, gateway: str, *, clients_at_gateway: bool) -> list[str]:
    """What iptables is to append.

    ``clients_at_gateway``: clients come from the gateway, with everybody else on that machine. Then it may be answered,
    and what measures may send to it; nothing else may begin to talk to it.
    """
    lines = [f"-A INPUT ! -i lo ! -s {subnet} -j DROP", f"-A OUTPUT ! -o lo ! -d {subnet} -j DROP"]
    if not clients_at_gateway:
        return [*lines, f"-A INPUT -s {gateway} -j DROP", f"-A OUTPUT -d {gateway} -j DROP"]
    for allowed in (f"-m mark --mark {MEASURES}", f"-m mark --mark {SENT_AGAIN}", "-p tcp ! --syn", "-p icmp"):
        lines.append(f"-A OUTPUT -d {gateway} {allowed} -j ACCEPT")
    return [*lines, f"-A OUTPUT -d {gateway} -j REJECT"]


def shut(subnet: str, gateway: str, clients_at_gateway: bool) -> None:
    """Make the rules; see ``rules``."""
    bring_into_force(rules(subnet, gateway, clients_at_gateway=clients_at_gateway))


VERBS = (shut,)
