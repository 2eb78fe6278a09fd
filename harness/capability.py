"""What can be done to nodes and stores, but not everywhere: one closed list for all who need it or lack it.

A nemesis says what it ``needs``, and an environment, or a target, what it ``lacks``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class Capability(enum.StrEnum):
    """Something that an environment may be able to do to its nodes; the last two are the store's."""

    PARTITION = "partition"
    NETEM = "netem"
    KILL = "kill"
    PAUSE = "pause"
    CLOCK = "clock"
    MONOTONIC = "monotonic"
    DISK = "disk"
    STORAGE = "storage"
    SQUEEZE = "squeeze"
    MEMBERSHIP = "membership"
    RESHARD = "reshard"


OF_NODES: Final[Mapping[Capability, str]] = {
    Capability.PARTITION: "cutting the network",
    Capability.NETEM: "making the network worse",
    Capability.KILL: "ending processes",
    Capability.PAUSE: "stopping processes for a while",
    Capability.CLOCK: "changing the time that processes see",
    Capability.MONOTONIC: "changing their monotonic time as well",
    Capability.DISK: "filling a disk, and spoiling files",
    Capability.STORAGE: "a file system of our own under the store: errors, slow syncs, lost writes",
    Capability.SQUEEZE: "taking CPU time and memory away",
}
"""Those that an environment has or lacks, each with what it is."""
OF_STORES: Final = frozenset({Capability.MEMBERSHIP, Capability.RESHARD})
"""Those that a target has or lacks: letting nodes leave its store and join again, moving ranges between its shards."""
ALWAYS: Final = frozenset({Capability.PARTITION, Capability.KILL, Capability.PAUSE, Capability.DISK})
"""Those that every real node lets be done to it; the others depend on the kernel, and are tried."""
