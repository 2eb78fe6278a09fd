"""The experiment ``quorum``: stale reads and latency for every N, R and W, in the same time without faults and cuts.

Each key is held by all N nodes. Nodes answer as they hold it, without reads that write back, so that R and W alone
decide what is read. Almost half of the nodes are in the far region.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Final

import msgspec

from harness.executors import connect
from harness.experiments.cap import measured
from harness.experiments.measure import Figures
from harness.experiments.modes import Mode
from harness.experiments.plan import REGULAR, Scale

SIZES: Final = (2, 3, 5)
"""The numbers of nodes that are compared."""


class Point(msgspec.Struct, frozen=True):
    """One setting, and what came of it."""

    n: int
    r: int
    w: int
    figures: Figures

    @property
    def meets(self) -> bool:
        """Whether every read quorum has a node in common with every write quorum."""
        return self.r + self.w > self.n


def settings(sizes: Sequence[int] = SIZES) -> list[tuple[int, int, int]]:
    """Every N, R and W."""
    return [(n, r, w) for n in sizes for r in range(1, n + 1) for w in range(1, n + 1)]


def points(seed: int, sizes: Sequence[int] = SIZES, scale: Scale = REGULAR) -> Generator[Point, None, None]:
    """Run all settings, on all cores, and give each as it is known. Raises ``SplitbrainError``."""
    every = settings(sizes)
    with connect(f"processes:{min(os.cpu_count() or 1, len(every))}") as executor:
        futures = [executor.submit(point, *one, seed, scale) for one in every]
        for future in as_completed(futures):
            yield future.result()


def point(n: int, r: int, w: int, seed: int, scale: Scale = REGULAR) -> Point:
    """Run one setting and measure it. Raises ``SplitbrainError``."""
    options = {"replication": "quorum", "n": str(n), "r": str(r), "w": str(w), "write_back": "false"}
    mode = Mode(f"n{n}r{r}w{w}", f"N={n} R={r} W={w}", options, "", n, n // 2, registers=False)
    with tempfile.TemporaryDirectory(prefix="splitbrain-quorum-") as folder:
        figures, _ = measured(mode, seed, Path(folder), scale)
    return Point(n, r, w, figures)
