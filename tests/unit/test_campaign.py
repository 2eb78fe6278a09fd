"""Campaigns: what they keep, how they go on, and what one bad seed does to them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from harness.campaign import Campaign, RunSeed, SeedResult
from harness.errors import HistoryError, MissingError, NodeError, UsageError
from harness.executors import connect
from harness.experiment import Experiment
from harness.verdict import Anomaly, Verdict

EXPERIMENT = Experiment("reference", environment="simulation")
STALE = Verdict("invalid", "1 violation", [Anomaly("stale read", "...")])


def passes(experiment: Experiment, below: Path) -> tuple[Verdict, Path]:
    (directory := below / "run-of-this-second").mkdir()
    (directory / "history.jsonl").write_text(f"of seed {experiment.seed}")
    return Verdict("valid"), directory


def fails(experiment: Experiment, below: Path) -> tuple[Verdict, Path]:
    _, directory = passes(experiment, below)
    return Verdict("invalid", "1 violation", parts={"linearizable": STALE}), directory


def breaks_at_1(error: str, experiment: Experiment, below: Path) -> tuple[Verdict, Path]:
    verdict, directory = passes(experiment, below)
    if experiment.seed == 1:
        if error == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        errors: dict[str, BaseException] = {
            "never ready": NodeError(f"it was never ready; the run's directory is {directory}"),
            "a bug of the store's": KeyError("n1"),
            "what it wrote": HistoryError("this is not an event", line=3),
            "its exit": SystemExit(0),
            "wrong options": UsageError("wrong options"),
            "no server": MissingError("no server"),
        }
        raise errors[error]
    return verdict, directory


def hunt(campaign: Campaign, seeds: int, run: RunSeed, where: str = "threads:1") -> list[SeedResult]:
    @contextmanager
    def executor() -> Iterator[Executor]:
        with connect(where) as found:
            yield found

    return sorted(campaign.run(range(seeds), run, executor, 2), key=lambda outcome: outcome.seed)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("never ready", "it was never ready"),
        ("a bug of the store's", "KeyError: 'n1'"),
        ("what it wrote", "line 3: this is not an event"),
        ("its exit", "SystemExit: 0"),
        ("killed", "the process that ran it died"),
    ],
)
def test_a_seed_that_breaks_is_an_outcome_and_the_hunt_goes_on(tmp_path: Path, error: str, reason: str) -> None:
    campaign = Campaign(EXPERIMENT, tmp_path / "c")
    where = "processes:2" if error == "killed" else "threads:1"
    outcomes = hunt(campaign, 12, partial(breaks_at_1, error), where)
    assert [(one.seed, one.validity) for one in outcomes if one.validity != "valid"] == [(1, "unknown")]
    assert [one.seed for one in outcomes] == list(range(12))
    assert outcomes[1].reason == reason
    assert (Path(outcomes[1].directory) / "history.jsonl").read_text() == "of seed 1"
    again = Campaign(EXPERIMENT, tmp_path / "c")
    assert [one.seed for one in hunt(again, 13, passes)] == [12]
    assert again.outcomes[1] == outcomes[1]


@pytest.mark.parametrize(("error", "kind"), [("wrong options", UsageError), ("no server", MissingError)])
def test_what_every_seed_would_meet_ends_the_hunt(tmp_path: Path, error: str, kind: type[Exception]) -> None:
    campaign = Campaign(EXPERIMENT, tmp_path / "c")
    with pytest.raises(kind):
        hunt(campaign, 3, partial(breaks_at_1, error))
    assert 1 not in campaign.outcomes


def test_threads_do_not_begin_what_nobody_waits_for_any_more(tmp_path: Path) -> None:
    ran: list[int] = []

    def slowly(experiment: Experiment, below: Path) -> tuple[Verdict, Path]:
        ran.append(experiment.seed)
        time.sleep(0.02)
        return passes(experiment, below)

    results = Campaign(EXPERIMENT, tmp_path).run(range(64), slowly, lambda: connect("threads:1"), 16)
    next(results)
    results.close()
    assert len(ran) < 64


def test_outcomes_of_other_code_do_not_count_and_are_replaced(tmp_path: Path) -> None:
    before = hunt(Campaign(EXPERIMENT, tmp_path / "c", "old"), 3, fails)
    assert all(Path(one.directory).is_dir() for one in before)
    campaign = Campaign(EXPERIMENT, tmp_path / "c", "new")
    assert (sorted(campaign.outdated), campaign.outcomes) == ([0, 1, 2], {})
    assert [one.validity for one in hunt(campaign, 2, passes)] == ["valid", "valid"]
    assert sorted(path.name for path in campaign.directory.glob("seed-*")) == ["seed-2"]
    again = Campaign(EXPERIMENT, tmp_path / "c", "new")
    assert (sorted(again.outcomes), sorted(again.outdated)) == ([0, 1], [2])


def test_another_experiment_needs_another_directory(tmp_path: Path) -> None:
    Campaign(replace(EXPERIMENT, seed=7), tmp_path / "c")
    Campaign(EXPERIMENT, tmp_path / "c")
    with pytest.raises(UsageError, match="another experiment"):
        Campaign(replace(EXPERIMENT, nodes=5), tmp_path / "c")


def test_outcomes_that_are_alike_are_together(tmp_path: Path) -> None:
    campaign = Campaign(EXPERIMENT, tmp_path / "c")
    stale = ("linearizable: stale read",)
    for outcome in (
        SeedResult(0, "unknown", "it was not ready within 90 s"),
        SeedResult(1, "valid"),
        SeedResult(2, "invalid", "3 violations", stale),
        SeedResult(3, "unknown", "12 of 40 operations succeeded"),
        SeedResult(4, "invalid", "1 violation", stale),
        SeedResult(5, "unknown", "9.5 of 40 operations succeeded"),
        SeedResult(6, "invalid", "1 violation", stale),
    ):
        campaign.outcomes[outcome.seed] = outcome
    assert [[one.seed for one in group] for group in campaign.groups(range(6))] == [[2, 4], [3, 5], [0]]


@pytest.mark.parametrize(
    ("target", "workload", "name"),
    [
        ("redis", "register", "redis-register"),
        ("./my_store.py:MyStore", "register", "my_store-register"),
        ("/srv/a.b/my store.py:MyStore", "../w/bank.py:Bank", "my-store-bank"),
        ("redis", "./v1.2.py:Bank", "redis-v1.2"),
    ],
)
def test_directories_are_named_plainly(tmp_path: Path, target: str, workload: str, name: str) -> None:
    from harness.run_directory import RunDirectory

    experiment = Experiment(target, workload)
    assert RunDirectory.create(tmp_path, experiment).path.name.rpartition("-")[0] == name
    assert Campaign.name(experiment).rpartition("-")[0] == name
    assert Campaign.name(experiment) == Campaign.name(replace(experiment, seed=3))
    assert Campaign.name(experiment) != Campaign.name(replace(experiment, nodes=5))
