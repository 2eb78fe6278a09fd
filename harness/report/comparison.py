"""Two runs side by side: what was asked for, what was decided, and how each was served."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness.availability import PHASES, QUANTILES, percent
from harness.experiment import Experiment
from harness.periods import turns_of
from harness.report.headline import sentences
from harness.report.sheet import sheet
from harness.run_directory import RunDirectory
from harness.verdict import Verdict
from harness.words import duration


@dataclass(frozen=True)
class Row:
    """One thing of both runs, in words; whether it differs."""

    name: str
    left: str
    right: str

    @property
    def differs(self) -> bool:
        return self.left != self.right


def comparison(folder: Path, left: str, right: str, address: Callable[[str], str]) -> str:
    """The page of two runs below a folder; ``address`` as in ``gallery``.

    Raises ``UsageError`` where one of them has no verdict that can be read.
    """
    runs = [RunDirectory(folder / name) for name in (left, right)]
    experiments = [run.load_experiment() for run in runs]
    verdicts = [run.load_verdict() for run in runs]
    tables = {
        "Experiment": _rows(map(_asked, experiments)),
        "Verdict": _rows(map(_decided, verdicts)),
        "Faults": _rows(map(_faults, verdicts)),
        "Service": _rows(map(_served, verdicts)),
    }
    return sheet(
        "comparison.html.j2",
        styles=("page.css", "gallery.css"),
        names=(left, right),
        address=address,
        heads=[(verdict.validity, sentences(verdict)[0]) for verdict in verdicts],
        tables={name: rows for name, rows in tables.items() if rows},
    )


def _rows(runs: Iterable[Iterable[tuple[str, str]]]) -> list[Row]:
    """What two runs tell, side by side, by its name."""
    left, right = map(dict, runs)
    return [Row(name, left.get(name, ""), right.get(name, "")) for name in dict.fromkeys([*left, *right])]


def _asked(experiment: Experiment) -> Iterator[tuple[str, str]]:
    for name, value in msgspec.to_builtins(experiment).items():
        if isinstance(value, dict):
            yield from ((f"{name}: {option}", str(given)) for option, given in value.items())
        elif value not in (None, [], ()):
            yield name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _decided(verdict: Verdict) -> Iterator[tuple[str, str]]:
    for name, part in verdict.parts.items():
        found = f" ({part.total:,})" if part.total else ""
        yield name, f"{part.validity}{found}{f': {part.reason}' if part.reason else ''}"


def _faults(verdict: Verdict) -> Iterator[tuple[str, str]]:
    for name, turns in turns_of(verdict.evidence).items():
        yield name, turns.in_words()


def _served(verdict: Verdict) -> Iterator[tuple[str, str]]:
    measured = verdict.evidence.get("availability", {})
    for name in ("total", *PHASES):
        group = measured.get(name)
        if group and group["operations"]:
            yield f"{name}: served", percent(group)
            latency = group["latency"] or {}
            for quantile in QUANTILES:
                if quantile in latency:
                    yield f"{name}: {quantile}", duration(latency[quantile])
