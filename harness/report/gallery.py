"""All runs and hunts below a folder: found, told in a line each, and followed over time."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from harness.availability import percent
from harness.campaign import SeedResult
from harness.experiment import Experiment
from harness.plain_files import read_plain
from harness.report.picture import COLOURS, SCHEMA, Picture
from harness.report.sheet import sheet
from harness.report.story import DAMAGED
from harness.run_directory import RunDirectory
from harness.words import duration, printable

_DEPTH: Final = 5
"""How many folders below the one that was named are looked into."""
_MOST: Final = 1000
"""How many runs are listed, the latest ones; all are counted."""
_MEANS: Final = {"valid": "ok", "unknown": "unknown", "invalid": "invalid"}


class _Total(msgspec.Struct):
    operations: int = 0
    served: int = 0
    latency: dict[str, int] | None = None


class _Availability(msgspec.Struct):
    total: _Total = msgspec.field(default_factory=_Total)


class _Evidence(msgspec.Struct):
    availability: _Availability | None = None


class _Brief(msgspec.Struct):
    """As much of a verdict as a list needs: the rest of a large one is passed over."""

    validity: str
    reason: str = ""
    found: int = 0
    evidence: _Evidence = msgspec.field(default_factory=_Evidence)


@dataclass(frozen=True)
class Entry:
    """A run: where it is below the folder, what it was, what came of it, how it was served. A hunt has the same."""

    where: str
    experiment: Experiment
    validity: str
    reason: str
    anomalies: int
    moment: float
    served: str = ""
    p99: str = ""
    hunt: bool = False

    @property
    def date(self) -> str:
        """When it was judged."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.moment))

    @property
    def title(self) -> str:
        """What store it was about, and by which workload."""
        return printable(f"{self.experiment.target}, {self.experiment.workload}")


def entries(folder: Path) -> list[Entry]:
    """The runs and hunts below a folder, the latest first. What cannot be read is none; links are not followed."""
    found = [entry for path in _directories(folder) if (entry := _entry(folder, path)) is not None]
    return sorted(found, key=lambda entry: -entry.moment)


def _directories(folder: Path) -> Iterator[Path]:
    for path, below, files in os.walk(folder):
        inside = Path(path)
        depth = len(inside.relative_to(folder).parts)
        below[:] = sorted(name for name in below if not name.startswith(".")) if depth < _DEPTH else []
        if "experiment.json" in files:
            yield inside
            # Nothing of a run is another one, and those of a hunt are told of by the hunt.
            below.clear()


def _entry(folder: Path, path: Path) -> Entry | None:
    try:
        return _told(path.relative_to(folder).as_posix(), RunDirectory(path))
    except (OSError, *DAMAGED):
        return None


def _told(where: str, run: RunDirectory) -> Entry:
    where.encode()  # a folder whose name is no text has no address
    experiment = msgspec.json.decode(read_plain(run.experiment), type=Experiment)
    results = run.path / "results.jsonl"
    if results.exists():
        return _hunt(where, experiment, results)
    brief = msgspec.json.decode(read_plain(run.verdict), type=_Brief)
    total = brief.evidence.availability.total if brief.evidence.availability else _Total()
    served = percent({"served": total.served, "operations": total.operations}) if total.operations else ""
    p99 = duration(total.latency["p99"]) if total.latency and "p99" in total.latency else ""
    moment = run.verdict.stat().st_mtime
    return Entry(where, experiment, brief.validity, brief.reason, brief.found, moment, served, p99)


def _hunt(where: str, experiment: Experiment, results: Path) -> Entry:
    outcomes = [msgspec.json.decode(line, type=SeedResult) for line in read_plain(results).splitlines()]
    tally = Counter({outcome.seed: outcome.validity for outcome in outcomes}.values())
    validity = "invalid" if tally["invalid"] else "unknown" if tally["unknown"] or not tally else "valid"
    reason = f"{tally['invalid']} of {tally.total()} seeds failed, {tally['unknown']} unknown"
    return Entry(where, experiment, validity, reason, tally["invalid"], results.stat().st_mtime, hunt=True)


def gallery(folder: Path, chosen: dict[str, str], address: Callable[[str], str]) -> str:
    """The page over all of them; ``chosen`` says which: target, workload, environment, validity; all where empty.

    ``address`` gives where the files of a run are served, by where it is below the folder.
    """
    known = entries(folder)
    shown = [entry for entry in known if _is(entry, chosen)]
    return sheet(
        "gallery.html.j2",
        styles=("page.css", "gallery.css"),
        scripts=("pictures.js",),
        address=address,
        chosen=chosen,
        choices=_choices(known),
        entries=shown[:_MOST],
        shown=len(shown),
        known=len(known),
        trend=trend([entry for entry in shown if not entry.hunt]),
    )


_FIELDS: Final = ("target", "workload", "environment", "validity")


def _value(entry: Entry, name: str) -> str:
    return entry.validity if name == "validity" else str(getattr(entry.experiment, name))


def _is(entry: Entry, chosen: dict[str, str]) -> bool:
    return all(not chosen.get(name) or _value(entry, name) == chosen[name] for name in _FIELDS)


def _choices(known: Sequence[Entry]) -> dict[str, list[str]]:
    return {name: sorted({_value(entry, name) for entry in known}) for name in _FIELDS}


def trend(shown: Sequence[Entry]) -> Picture | None:
    """How the runs of each store went over time: verdict and latency, a row for each store and workload."""
    if len(shown) < 2:
        return None
    values = [
        {
            "at": entry.moment * 1000,
            "store": entry.title,
            "verdict": printable(entry.validity),
            "anomalies": entry.anomalies,
            "p99": entry.p99,
            "served": entry.served,
            "seed": entry.experiment.seed,
        }
        for entry in reversed(shown)
    ]
    told = ("store", "verdict", "anomalies", "p99", "served", "seed")
    rows = sorted({str(value["store"]) for value in values})
    specification = {
        "$schema": SCHEMA,
        "width": "container",
        "height": 28 * len(rows),
        "data": {"values": values},
        "mark": {"type": "point", "filled": True, "opacity": 0.9, "size": 90},
        "encoding": {
            "x": {"field": "at", "type": "temporal", "axis": {"title": None, "grid": False, "tickCount": 6}},
            "y": {"field": "store", "type": "nominal", "sort": rows, "axis": {"title": None, "grid": True}},
            "color": {
                "field": "verdict",
                "type": "nominal",
                "scale": {"domain": list(_MEANS), "range": [COLOURS[colour] for colour in _MEANS.values()]},
            },
            "shape": {
                "field": "verdict",
                "type": "nominal",
                "scale": {"domain": list(_MEANS), "range": ["circle", "diamond", "cross"]},
            },
            "tooltip": [{"field": name, "type": "nominal"} for name in told],
        },
    }
    words = f"{len(shown):,} runs of {len(rows):,} kinds over time: passed a circle, unknown a diamond, failed a cross."
    return Picture("trend", "Over time", words, specification)
