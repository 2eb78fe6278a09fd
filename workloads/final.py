"""Final reads that ask every node by itself what it holds."""

from __future__ import annotations

from collections.abc import Sequence

from harness.generator import Generator, each_process, limit, repeat, sleep, then, until_ok
from harness.operation import Operation

_TRIES = 5


def every_node_reads(function: str, keys: Sequence[str], settle: float) -> Generator:
    """After ``settle`` seconds without any operation every process reads every key from its own node."""

    def reads() -> Generator:
        return then(*(until_ok(limit(_TRIES, repeat(Operation(function, key)))) for key in keys))

    return then(sleep(settle), each_process(reads))
