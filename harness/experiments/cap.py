"""The experiment ``cap``: every mode through the same cuts, each a simulated run of the one plan."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Final

import msgspec

from harness import session
from harness.errors import SplitbrainError
from harness.executors import connect
from harness.experiment import Experiment
from harness.experiments.beside import beside_their_nodes
from harness.experiments.measure import Figures, figures
from harness.experiments.models import DIVERGENT, EVENTUAL, Strongest, strongest
from harness.experiments.modes import MODES, STORE, Mode
from harness.experiments.plan import FULL, TIMEOUT, Scale, plan
from harness.plugins import load

RUNS: Final = "runs"
"""The folder below that of the experiment in which the run of each mode is kept."""


class Row(msgspec.Struct, frozen=True):
    """What came of one mode; ``run`` is the directory of its run."""

    mode: str
    title: str
    lesson: str
    figures: Figures
    run: str


def rows(seed: int, directory: Path, modes: Sequence[Mode] = MODES, scale: Scale = FULL) -> Generator[Row, None, None]:
    """Run all modes, on all cores, and give each row as it is known, in any order. Raises ``SplitbrainError``."""
    with connect(f"processes:{min(os.cpu_count() or 1, len(modes))}") as executor:
        futures = [executor.submit(row, mode, seed, directory, scale) for mode in modes]
        for future in as_completed(futures):
            yield future.result()


def row(mode: Mode, seed: int, directory: Path, scale: Scale = FULL) -> Row:
    """Run one mode below ``directory`` and measure it. Raises ``SplitbrainError``."""
    found, run = measured(mode, seed, directory / RUNS, scale)
    kept = directory / RUNS / mode.name
    shutil.rmtree(kept, ignore_errors=True)  # an earlier one of ours
    run.rename(kept)  # without the time of day, so that the same seed gives the same page
    return Row(mode.name, mode.title, mode.lesson, found, str(kept))


def measured(mode: Mode, seed: int, runs: Path, scale: Scale) -> tuple[Figures, Path]:
    """Run the plan on a mode below the folder ``runs``: its figures, and the directory of the run.

    Raises ``SplitbrainError``, also where the history proves too little to measure anything.
    """
    place = mode.place
    planned = plan(seed, place, scale)
    experiment = Experiment(
        target=STORE,
        workload="converge",
        environment="simulation",
        nodes=mode.nodes,
        time=scale.end + 0.5,
        rate=0,
        concurrency=scale.workers * mode.nodes,
        timeout=TIMEOUT,
        seed=seed,
        timetable=planned.timetable,
        zones=place.zones,
        options={**mode.options, "causal": "false"},
    )
    outcome = session.run(experiment, target=beside_their_nodes(load("targets", STORE)), runs=runs)
    parts = outcome.verdict.parts
    if lacking := [parts[name].reason for name in ("evidence", "completeness") if parts[name].validity != "valid"]:
        raise SplitbrainError(f"{mode.title}: the run proves nothing: {'; '.join(lacking)}")
    convergent = parts["convergence"].validity == "valid"
    model = Strongest(EVENTUAL if convergent else DIVERGENT, "a read may find several values", "")
    if mode.registers:
        events = (event for event in outcome.history.events() if isinstance(event.process, int))
        model = strongest(events, convergent=convergent)
    return figures(outcome.history, planned, place, scale, model), outcome.directory
