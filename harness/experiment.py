"""The experiment: everything needed to run it again, from one seed."""

from __future__ import annotations

import shlex
import string

import msgspec

from harness.errors import UsageError
from harness.timetable import Timetable


class Experiment(msgspec.Struct, frozen=True):
    """A target on an environment, driven by a workload, disturbed by nemeses. Times are in seconds."""

    target: str
    workload: str = "register"
    nemeses: tuple[str, ...] = ()
    environment: str = "local"
    image: str | None = None
    nodes: int = 3
    time: float = 30.0
    rate: float = 200.0
    """Operations a second of all clients together; 0 is as many as they can."""
    concurrency: int = 10
    timeout: float = 1.0
    interval: float = 5.0
    recovery: float = 60.0
    seed: int = 0
    overlap: bool = False
    """Whether every nemesis goes by itself, so that several faults may be active at once."""
    timetable: Timetable | None = None
    """Explicit faults and operations in place of those that the seed draws."""
    zones: str = "3"
    """The zone of each node, with commas; or a number of zones over which the nodes are spread in turn: a, b, ..."""
    options: dict[str, str] = {}

    def __post_init__(self) -> None:
        limits = {
            "nodes": (self.nodes >= 1, "at least 1"),
            "time": (self.time > 0, "more than 0 seconds"),
            "rate": (self.rate >= 0, "0 (no limit) or more"),
            "concurrency": (self.concurrency >= 1, "at least 1"),
            "timeout": (self.timeout > 0, "more than 0 seconds"),
            "interval": (self.interval > 0, "more than 0 seconds"),
            "recovery": (self.recovery > 0, "more than 0 seconds"),
        }
        for name, (holds, wanted) in limits.items():
            if not holds:
                raise UsageError(f"--{name} is {getattr(self, name):g}, but it must be {wanted}")

        if self.zones.isdigit() and not 1 <= int(self.zones) <= len(string.ascii_lowercase):
            raise UsageError(f"--zones is {self.zones}, but it must be from 1 to {len(string.ascii_lowercase)}")
        if not self.zones.isdigit() and (count := len(self.zones.split(","))) != self.nodes:
            raise UsageError(f"--zones names the zones of {count} nodes, but there are {self.nodes}")

    @property
    def node_names(self) -> list[str]:
        """n1, n2, ..."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    @property
    def zone_of(self) -> dict[str, str]:
        """The zone of each node by name."""
        labels = self.zones.split(",")
        if self.zones.isdigit():
            labels = [string.ascii_lowercase[number % int(self.zones)] for number in range(self.nodes)]
        return dict(zip(self.node_names, labels, strict=True))

    def command(self, timetable: str = "timetable.json") -> str:
        """The command line that runs this experiment again; an explicit timetable is in the file of that name."""
        words = ["splitbrain", "run", self.target, "--on", self.environment]
        given = {
            "--image": self.image,
            "--nodes": self.nodes,
            "--workload": self.workload,
            "--nemesis": ",".join(self.nemeses) if self.nemeses and self.timetable is None else None,
            "--time": f"{self.time:g}",
            "--rate": f"{self.rate:g}",
            "--concurrency": self.concurrency,
            "--timeout": f"{self.timeout:g}",
            "--interval": f"{self.interval:g}",
            "--recovery": f"{self.recovery:g}",
            "--zones": self.zones if self.zones != "3" else None,
            "--seed": self.seed,
        }
        for name, value in given.items():
            if value is not None:
                words += [name, str(value)]
        if self.timetable is not None:
            words += ["--timetable", timetable]
        if self.overlap:
            words.append("--overlap")
        for name, text in self.options.items():
            words += ["--option", f"{name}={text}"]
        return shlex.join(words)
