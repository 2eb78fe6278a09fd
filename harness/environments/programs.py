"""Where programs are looked for on this machine."""

from __future__ import annotations

import os
from typing import Final

_ADMINISTRATORS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def search_path() -> str:
    """The ``PATH`` of this process, with the folders of administrators' programs, which an ordinary user's may lack.

    What faults need, as ``ip`` and ``iptables``, is there on many systems.
    """
    own = [folder for folder in os.environ.get("PATH", os.defpath).split(":") if folder]
    return ":".join(dict.fromkeys([*own, *_ADMINISTRATORS]))
