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
from harness.errors import SplitbrainError, UsageError
from harness.executors import connect
from harness.experiment import Experiment
from harness.experiments.beside import BESIDE, beside_their_nodes
from harness.experiments.measure import Figures, figures
from harness.experiments.models import UNASKED, Strongest, strongest
from harness.experiments.modes import MODES, STORE, Mode
from harness.experiments.plan import FULL, TIMEOUT, Plan, Scale, plan
from harness.plugins import load
from harness.run_directory import RunDirectory

WORKLOAD: Final = "converge"
RUNS: Final = "runs"
"""The folder below that of the experiment in which the run of each mode is kept."""


class Row(msgspec.Struct, frozen=True):
    """What came of one mode; ``run`` is the directory of its run."""

    mode: str
    title: str
    lesson: str
    figures: Figures
    run: str


def refuse_what_is_not_ours(directory: Path, modes: Sequence[Mode] = MODES) -> None:
    """Raise ``UsageError`` if the run of a mode would take the place of anything but an earlier run of that mode."""
    for mode in modes:
        kept = directory / RUNS / mode.name
        if (kept.is_symlink() or kept.exists()) and not _is_ours(kept, mode):
            raise UsageError(
                f"{kept} is no run of this experiment, and is not replaced: move it away, or choose another directory"
            )


def _is_ours(kept: Path, mode: Mode) -> bool:
    if kept.is_symlink() or not kept.is_dir():
        return False
    try:
        run = RunDirectory(kept).load_experiment()
    except SplitbrainError:
        return False
    ours = (BESIDE, WORKLOAD, "simulation", mode.place.zones)
    of_mode = mode.options.items() <= run.options.items()
    return of_mode and (run.target, run.workload, run.environment, run.zones) == ours


def rows(seed: int, directory: Path, modes: Sequence[Mode] = MODES, scale: Scale = FULL) -> Generator[Row, None, None]:
    """Run all modes, on all cores, and give each row as it is known, in any order.

    The runs of earlier ones below the same directory are replaced. Raises ``SplitbrainError``; ``UsageError`` before
    anything is run where something else stands in their place.
    """
    refuse_what_is_not_ours(directory, modes)
    with connect(f"processes:{min(os.cpu_count() or 1, len(modes))}") as executor:
        futures = [executor.submit(row, mode, seed, directory, scale) for mode in modes]
        for future in as_completed(futures):
            yield future.result()


def row(mode: Mode, seed: int, directory: Path, scale: Scale = FULL) -> Row:
    """Run one mode below ``directory`` and measure it. Raises ``SplitbrainError``."""
    found, run = measured(mode, seed, directory / RUNS, scale)
    kept = directory / RUNS / mode.name
    refuse_what_is_not_ours(directory, [mode])  # it may have come meanwhile
    if kept.exists():
        shutil.rmtree(kept)
    run.rename(kept)  # without the time of day, so that the same seed gives the same page
    return Row(mode.name, mode.title, mode.lesson, found, str(kept))


def experiment_of(mode: Mode, planned: Plan, seed: int, scale: Scale) -> Experiment:
    """The experiment that puts a mode through a plan."""
    return Experiment(
        target=STORE,
        workload=WORKLOAD,
        environment="simulation",
        nodes=mode.nodes,
        time=scale.end + 0.5,
        rate=0,
        concurrency=scale.workers * mode.nodes,
        timeout=TIMEOUT,
        seed=seed,
        timetable=planned.timetable,
        zones=mode.place.zones,
        options={**mode.options, "causal": "false"},
    )


def measured(mode: Mode, seed: int, runs: Path, scale: Scale) -> tuple[Figures, Path]:
    """Run the plan on a mode below the folder ``runs``: its figures, and the directory of the run.

    Raises ``SplitbrainError``, also where the history proves too little to measure anything.
    """
    place = mode.place
    planned = plan(seed, place, scale)
    experiment = experiment_of(mode, planned, seed, scale)
    outcome = session.run(experiment, target=beside_their_nodes(load("targets", STORE)), runs=runs)
    parts = outcome.verdict.parts
    if lacking := [parts[name].reason for name in ("evidence", "completeness") if parts[name].validity != "valid"]:
        raise SplitbrainError(f"{mode.title}: the run proves nothing: {'; '.join(lacking)}")
    model = Strongest(UNASKED, "", "")
    if mode.registers:
        convergent = parts["convergence"].validity == "valid"
        events = (event for event in outcome.history.events() if isinstance(event.process, int))
        model = strongest(events, experiment.concurrency, convergent=convergent)
    return figures(outcome.history, planned, place, scale, model), outcome.directory
