"""The register of planted bugs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Bug:
    """A bug, and what exposes it: with these settings a campaign finds it, and ``checker`` is what refutes it.

    ``timetable`` is a file in this folder with faults and operations that chance would hardly bring together.
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

    def arguments(self) -> list[str]:
        """The arguments of ``splitbrain run`` and ``splitbrain hunt`` that expose it."""
        timetable = str(Path(__file__).parent / self.timetable)
        words = ["reference", "--bug", self.name, "--workload", self.workload]
        words += ["--timetable", timetable] if self.timetable else ["--nemesis", self.nemesis]
        words += ["--nodes", str(self.nodes), "--interval", "2"]
        words += ["--concurrency", str(self.clients)] if self.clients != 10 else []
        if self.overlap:
            words.append("--overlap")
        for name, value in {"replication": self.replication, **self.options}.items():
            words += ["-o", f"{name}={value}"]
        return words


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
    """The replica with bugs, whose names are separated by commas."""
    mixins = [BUGS[name].mixin for name in bugs.split(",") if name]
    return type(replica.__name__, (*mixins, replica), {}) if mixins else replica
