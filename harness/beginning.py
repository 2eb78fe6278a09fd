"""When and where a run in real time began, and of which versions it was."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Final

import msgspec

import harness
from harness.cluster import Cluster
from harness.errors import SplitbrainError
from harness.history import History, observed
from harness.operation import BEGAN
from harness.target import Target

_SECONDS: Final = 10.0
_LONGEST: Final = 200


class Began(msgspec.Struct, frozen=True):
    """What the monitor records first of all.

    ``wall`` is the clock on the wall of the machine that drives the clients, at the time 0 of the run, in nanoseconds
    since 1970, ``zone`` how many seconds its local time is ahead of UTC. ``host`` and ``system`` name that machine.
    ``versions`` is what programs say that they are, by name: the store's own, Python, splitbrain.
    """

    wall: int
    zone: int
    host: str = ""
    system: str = ""
    versions: dict[str, str] = {}

    @property
    def date(self) -> str:
        """When it was, as people write it; empty where that is no date."""
        try:
            zone = timezone(timedelta(seconds=self.zone))
            return datetime.fromtimestamp(self.wall / 1e9, zone).strftime("%Y-%m-%d %H:%M:%S %z")
        except (ValueError, OverflowError, OSError):
            return ""


def began_now(since: int, versions: Mapping[str, str]) -> Began:
    """That a run began here ``since`` nanoseconds ago."""
    own = {"python": platform.python_version(), "splitbrain": harness.__version__}
    return Began(
        time.time_ns() - since,
        time.localtime().tm_gmtoff,
        platform.node(),
        f"{platform.system()} {platform.release()}",
        {**versions, **own},
    )


def began_of(history: History) -> Began | None:
    """When the run of a history began; None where it does not say, as those of simulations."""
    return next((began for _, began in observed(history, BEGAN, Began)), None)


async def versions_of(target: Target, cluster: Cluster) -> dict[str, str]:
    """What the programs of a store say that they are, on its first node; nothing of those that do not say it."""
    told: dict[str, str] = {}
    for program in target.programs:
        with contextlib.suppress(SplitbrainError, TimeoutError):
            result = await cluster.nodes[0].exec([program, "--version"], timeout=_SECONDS)
            if result.code == 0 and (line := result.text.strip().partition("\n")[0]):
                told[program.rpartition("/")[2]] = line[:_LONGEST]
    return told
