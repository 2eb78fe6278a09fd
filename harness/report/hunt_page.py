"""The report of a hunt: what came of each seed, and the failures grouped by what was found."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from harness.campaign import SeedResult
from harness.report.sheet import sheet
from harness.run_directory import RunDirectory
from harness.words import count

if TYPE_CHECKING:  # which writes this page
    from harness.hunting import Hunt

_LETTERS: Final = {"valid": "·", "unknown": "?", "invalid": "x"}
"""What stands for an outcome beside its colour."""


@dataclass(frozen=True)
class Square:
    """One seed: its outcome as a letter and in words, and where its report is; empty where there is none."""

    seed: int
    validity: str
    letter: str
    words: str
    link: str


@dataclass(frozen=True)
class Group:
    """Seeds that showed the same: what it was, in how many, and the first of them."""

    what: str
    validity: str
    reason: str
    seeds: Sequence[Square]


def hunt_page(hunt: Hunt) -> str:
    """The page of a hunt, to stand in its directory."""
    outcomes, directory = hunt.outcomes, hunt.directory
    tally = Counter(outcome.validity for outcome in outcomes)
    whole = len(outcomes) == len(hunt.seeds)
    ran = "" if whole else f"{len(outcomes):,} of {count(len(hunt.seeds), 'seed')} were run: "
    told = f"{ran}{count(tally['invalid'], 'seed')} of {len(outcomes):,} failed, {tally['unknown']:,} unknown"
    squares = {outcome.seed: _square(outcome, directory) for outcome in outcomes}
    return sheet(
        "hunt.html.j2",
        styles=("page.css", "hunt.css"),
        experiment=hunt.experiment,
        again=replace(hunt.experiment, seed=hunt.groups[0][0].seed if hunt.groups else 0),
        validity=hunt.validity,
        sentence=f"{told}, {tally['valid']:,} passed.",
        squares=[squares[seed] for seed in sorted(squares)],
        groups=[
            Group(
                "; ".join(group[0].signatures) or group[0].validity,
                group[0].validity,
                group[0].reason,
                [squares[outcome.seed] for outcome in group],
            )
            for group in hunt.groups
        ],
    )


def _square(outcome: SeedResult, directory: Path) -> Square:
    words = f"seed {outcome.seed}: {outcome.validity}"
    if outcome.signatures or outcome.reason:
        words += f", {'; '.join(outcome.signatures) or outcome.reason}"
    report = RunDirectory(Path(outcome.directory)).report if outcome.directory else None
    link = os.path.relpath(report, directory) if report is not None and report.is_file() else ""
    return Square(outcome.seed, outcome.validity, _LETTERS.get(outcome.validity, "?"), words, link)
