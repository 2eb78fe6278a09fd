"""The register of planted bugs."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Bug:
    """A bug, and what exposes it: with these settings a campaign finds it, and ``checker`` is what refutes it.

    ``timetable`` is a file of this package with faults and operations that chance would hardly bring together.
    """

    name: str
    replication: str
    checker: str
    workload: str
    nemesis: str
    mixin: type
    options: Mapping[str, str] = field(default_factory=dict)
    nodes: int = 5
    clients: int = 10
    overlap: bool = False
    timetable: str = ""

    @property
    def breaks(self) -> str:
        """What it breaks, in one paragraph."""
        return " ".join((inspect.getdoc(self.mixin) or "").split())

    @property
    def broken(self) -> type:
        """The correct class that it breaks."""
        package = __package__ or ""
        return next(one for one in self.mixin.__mro__ if not one.__module__.startswith(package))

    @property
    def sharded(self) -> bool:
        """Whether it is of a store whose keys are split."""
        return "shards" in self.options

    @property
    def what(self) -> str:
        """Which replication it is of, and what it breaks there."""
        return f"{self.replication}: {self.breaks}"

    @property
    def seeds(self) -> int:
        """Within how many seeds a campaign finds it, as ``make bench-bugs`` has measured."""
        return _measured().get(self.name, MOST_SEEDS)

    @property
    def command(self) -> str:
        """The command that finds it, from any folder."""
        return shlex.join(["splitbrain", "hunt", *self.arguments(), "--seeds", str(self.seeds)])

    def arguments(self) -> list[str]:
        """The arguments of ``splitbrain run`` and ``splitbrain hunt`` that expose it."""
        words = ["reference", "--bug", self.name, "--workload", self.workload]
        words += ["--timetable", f"{__package__}:{self.timetable}"] if self.timetable else ["--nemesis", self.nemesis]
        words += ["--nodes", str(self.nodes), "--interval", "2"]
        words += ["--concurrency", str(self.clients)] if self.clients != 10 else []
        if self.overlap:
            words.append("--overlap")
        for name, value in {"replication": self.replication, **self.options}.items():
            words += ["-o", f"{name}={value}"]
        return words


MOST_SEEDS: Final = 200
"""How many seeds a campaign may need to find a bug."""
SEEDS_FILE: Final = Path(__file__).with_name("seeds.json")
"""For each bug by name, within how many seeds it is found; written by ``benchmarks/bugs.py``."""


@cache
def _measured() -> dict[str, int]:
    seeds: dict[str, int] = json.loads(SEEDS_FILE.read_text())
    return seeds


BUGS: dict[str, Bug] = {}
"""All planted bugs by name."""


def bug(*, replication: str, checker: str, workload: str, nemesis: str, **more: Any) -> Callable[[type[T]], type[T]]:
    """Register a class as a bug; its name in words is the class's name."""

    def register(mixin: type[T]) -> type[T]:
        name = re.sub(r"(?<!^)(?=[A-Z])", "-", mixin.__name__).lower()
        BUGS[name] = Bug(name, replication, checker, workload, nemesis, mixin, **more)
        return mixin

    return register


def plant(replica: type[T], bugs: str) -> type[T]:
    """The replica, or another part of a node, with those of the bugs, separated by commas, that are of it."""
    mixins = [BUGS[name].mixin for name in bugs.split(",") if name and issubclass(replica, BUGS[name].broken)]
    return type(replica.__name__, (*mixins, replica), {}) if mixins else replica
