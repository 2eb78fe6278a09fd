"""Say by which addresses of IPv6 the node that this runs in can be reached."""

from __future__ import annotations

import ipaddress


def further() -> list[str]:
    """Those by which peers can reach this network namespace, besides the address of IPv4 that is known."""
    try:
        with open("/proc/net/if_inet6") as table:
            lines = [line.split() for line in table]
    except FileNotFoundError:
        return []
    return sorted(str(ipaddress.IPv6Address(int(words[0], 16))) for words in lines if words[-1] != "lo")


VERBS = (further,)
