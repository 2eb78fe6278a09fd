"""Campaigns from inside: what they leave in memory."""

from __future__ import annotations

import gc

from msgspec.structs import replace

from harness.campaign import run_one
from harness.cli.run import run_directly
from harness.experiment import Experiment

SHORT = Experiment("reference", nemeses=("partition",), environment="simulation", time=3.0, rate=50.0)


def living_objects() -> int:
    """How many objects the collector knows, those included that it was told never to look at again."""
    gc.collect()
    return len(gc.get_objects()) + gc.get_freeze_count()


def test_a_worker_of_a_hunt_keeps_nothing_of_the_seeds_that_are_done() -> None:
    counts = []
    for seed in range(9):
        run_one(run_directly, replace(SHORT, seed=seed), None)
        if seed % 4 == 0:
            counts.append(living_objects())
    _first, second, third = counts
    assert third - second < 200, counts
