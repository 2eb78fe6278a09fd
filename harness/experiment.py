"""The experiment: everything needed to run it again, from one seed."""

from __future__ import annotations

import functools
import re
import shlex
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from harness.errors import UsageError, field
from harness.options import Number, Option, Rate, Seconds, Text, check, options_of, plain
from harness.timetable import Timetable

_SHOWN: Final = 60
_ALLOWED: Final = {
    **dict.fromkeys(("nemeses", "checkers"), "a tuple of names"),
    **dict.fromkeys(("target", "workload", "environment"), "a name"),
    "overlap": "True or False",
    "timetable": "a Timetable",
    "options": "a dict of text by name, as {'replication': 'quorum'}",
}
"""What fields take that no option of the command line describes."""


class Experiment(msgspec.Struct, frozen=True):
    """A target on an environment, driven by a workload, disturbed by nemeses. Times are in seconds."""

    target: str
    workload: str = "register"
    nemeses: tuple[str, ...] = ()
    environment: str = "local"
    image: Annotated[str | None, Text("the name of an image", r"\S+")] = None
    nodes: Annotated[int, Number(1, 1000), "How many nodes:"] = 3
    time: Annotated[float, Seconds(0.01, 7 * 86400), "How long operations go on:"] = 30.0
    rate: Annotated[
        float, Rate(0.001, 1_000_000, zero="as many as they can"), "Operations of all clients together:"
    ] = 200.0
    concurrency: Annotated[int, Number(1, 1000), "Clients, spread over the nodes:"] = 10
    timeout: Annotated[float, Seconds(0.001, 3600), "After how long an operation is given up:"] = 1.0
    interval: Annotated[float, Seconds(0.01, 86400), "Between faults, on average:"] = 5.0
    recovery: Annotated[float, Seconds(0.01, 86400), "What the store may take to recover at the end:"] = 60.0
    seed: Annotated[int, Number(0, 2**63 - 1), "What operations and faults are drawn from:"] = 0
    overlap: bool = False
    """Whether every nemesis goes by itself, so that several faults may be active at once."""
    timetable: Timetable | None = None
    """Explicit faults and operations in place of those that the seed draws."""
    zones: str = "3"
    """The zone of each node, with commas; or a number of zones over which the nodes are spread in turn: a, b, ..."""
    checkers: tuple[str, ...] = ()
    """Who judges beside the workload's own checkers: names, or FILE.py:Class."""
    options: dict[str, str] = {}
    image_digest: str | msgspec.UnsetType = msgspec.UNSET
    """Which image the servers were of, as found by the run: a name may come to mean another one."""
    unnamed: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """The parts that were objects of a program and have no name by which another process could load them: why not."""

    def __post_init__(self) -> None:
        self._hold_to_types()
        check(field, self)
        if any(not name.strip() for name in self.nemeses):
            raise UsageError(f"{field('nemeses')} has an empty name")
        zones = field("zones")
        if self._spread is not None:
            # The default is for any number of nodes.
            most = max(3, min(self.nodes, len(string.ascii_lowercase)))
            if not 1 <= self._spread <= most:
                raise UsageError(f"{zones} is {self._spread}, but {self.nodes} nodes can be in 1 to {most} zones")
            return
        labels = self.zones.split(",")
        if len(labels) != self.nodes:
            raise UsageError(f"{zones} names the zones of {len(labels)} nodes, but there are {self.nodes}")
        for label in labels:
            if re.fullmatch(r"[\w.-]+", label) is None:
                raise UsageError(f"{zones} has the zone {label!r}, but a zone is named with letters and digits")

    def _hold_to_types(self) -> None:
        """What is read again must be what was given: nothing is taken for another type, but a list for a tuple."""
        for name, option in _fields().items():
            value = getattr(self, name)
            if value is msgspec.UNSET and option.default is msgspec.UNSET:
                continue
            try:
                typed = msgspec.convert(value, option.type)
            except msgspec.ValidationError:
                allowed = _ALLOWED.get(name) or f"{'a number, ' if option.kind is float else ''}{option.allowed()}"
                hint = f": write ({value!r},)" if isinstance(value, str) and name in ("nemeses", "checkers") else ""
                shown = repr(value)
                shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
                raise UsageError(f"{field(name)} is {shown}, but it must be {allowed}{hint}") from None
            msgspec.structs.force_setattr(self, name, typed)

    @property
    def _spread(self) -> int | None:
        """Over how many zones the nodes are spread in turn, unless each was given its own."""
        return int(self.zones) if re.fullmatch(r"-?[0-9]{1,9}", self.zones) else None

    @property
    def node_names(self) -> list[str]:
        """The names of the nodes, from n1 on, in the order in which everything counts them."""
        return [f"n{place}" for place in range(1, self.nodes + 1)]

    @property
    def zone_of(self) -> dict[str, str]:
        """The zone of each node by name."""
        labels = self.zones.split(",")
        if self._spread is not None:
            labels = [string.ascii_lowercase[node % self._spread] for node in range(self.nodes)]
        return dict(zip(self.node_names, labels, strict=True))

    @property
    def title(self) -> str:
        """What folders are called after: target and workload, those in files by the names of their files."""
        names = (Path(name.rpartition(".py:")[0] or name).name for name in (self.target, self.workload))
        return "-".join(re.sub(r"[^\w.-]+", "-", name).strip("-.") for name in names)

    def again(self, timetable: str = "timetable.json") -> str:
        """The command that runs this experiment again, or a sentence that says why there is none."""
        if self.unnamed:
            return f"no command can: {'; '.join(self.unnamed)}"
        return self.command(timetable)

    def command(self, timetable: str = "timetable.json") -> str:
        """The command line that runs this experiment again; an explicit timetable is in the file of that name."""
        words = ["splitbrain", "run", self.target, "--on", self.environment]
        given = {
            "--image": self.image,
            "--nodes": self.nodes,
            "--workload": self.workload,
            "--nemesis": ",".join(self.nemeses) if self.nemeses else None,
            "--time": plain(self.time),
            "--rate": plain(self.rate),
            "--concurrency": self.concurrency,
            "--timeout": plain(self.timeout),
            "--interval": plain(self.interval),
            "--recovery": plain(self.recovery),
            "--zones": self.zones if self.zones != _fields()["zones"].default else None,
            "--seed": self.seed,
        }
        for name, value in given.items():
            if value is not None:
                words += [name, str(value)]
        if self.timetable is not None:
            words += ["--timetable", timetable]
        if self.overlap:
            words.append("--overlap")
        for name in self.checkers:
            words += ["--checker", name]
        for name, text in self.options.items():
            words += ["--option", f"{name}={text}"]
        return shlex.join(words)


@functools.cache
def _fields() -> Mapping[str, Option]:
    return options_of(Experiment)
