"""A run's directory that was damaged or changed afterwards is no pass, and the sentence says what does not fit."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.assembly import assemble
from harness.conduct import simulate
from harness.experiment import Experiment
from harness.judging import judge_run
from harness.run_directory import RunDirectory
from harness.verdict import Verdict

Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment = Experiment("reference", environment="simulation", time=4.0)
    outcome = simulate(experiment, tmp_path_factory.mktemp("runs"))
    assert outcome.verdict.validity == "valid", outcome.verdict.reason
    assert outcome.verdict.parts["integrity"] == Verdict("valid")
    return outcome.directory


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> RunDirectory:
    return RunDirectory(Path(shutil.copytree(whole, tmp_path / "run")))


def judged(run: RunDirectory) -> Verdict:
    experiment = run.load_experiment()
    return judge_run(run, experiment, assemble(experiment).workload)


def change(run: RunDirectory, how: Callable[[Lines], Lines], *, seal: bool = False, number: bool = False) -> None:
    """Write another history; with ``number`` its events are numbered anew, with ``seal`` its digest is right."""
    events = how([json.loads(line) for line in run.history.read_bytes().splitlines()])
    for place, event in enumerate(events):
        event["index"] = place if number else event["index"]
    lines = [msgspec.json.encode(event) + b"\n" for event in events]
    if seal:
        events[-1]["value"]["history"] = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
        lines[-1] = msgspec.json.encode(events[-1]) + b"\n"
    run.history.write_bytes(b"".join(lines))


def one_operation(events: Lines) -> tuple[int, int]:
    """The places of the invocation and of the completion of one read, which nobody misses, in mid-history."""
    reads = (at for at, event in enumerate(events) if (event["type"], event["f"]) == ("invoke", "read"))
    start = next(at for at in reads if at > 50)
    return start, next(
        at for at, event in enumerate(events) if at > start and event["process"] == events[start]["process"]
    )


def without_an_operation(events: Lines) -> Lines:
    return [event for at, event in enumerate(events) if at not in one_operation(events)]


def without_a_completion(events: Lines) -> Lines:
    """Of the last operation, a read: its process invokes nothing more."""
    last = max(at for at, event in enumerate(events) if isinstance(event["process"], int))
    assert (events[last]["type"], events[last]["f"]) == ("ok", "read")
    return [event for at, event in enumerate(events) if at != last]


def without_an_invocation(events: Lines) -> Lines:
    start, end = one_operation(events)
    events[end]["type"] = "info"
    return [event for at, event in enumerate(events) if at != start]


def counted(how: Callable[[Lines], Lines]) -> Callable[[Lines], Lines]:
    """The change, with the counts of the last event made to fit."""

    def changed(events: Lines) -> Lines:
        events = how(events)
        clients = [event["type"] for event in events if isinstance(event["process"], int)]
        events[-1]["value"]["events"] = {kind: clients.count(kind) for kind in set(clients)}
        return events

    return changed


def with_another_value(events: Lines) -> Lines:
    start, _ = one_operation(events)
    events[start]["node"] = "n9"
    return events


def without_a_seal(events: Lines) -> Lines:
    del events[-1]["value"]
    return events


def with_more_behind(events: Lines) -> Lines:
    return [*events, {**events[-1], "f": "roles", "value": []}]


@pytest.mark.parametrize(
    ("how", "number", "seal", "said"),
    [
        (without_an_operation, False, False, " has the index "),
        (without_an_operation, True, False, " of the type invoke of clients, and the run wrote "),
        (counted(without_a_completion), True, True, "nothing completes the operation of line "),
        (counted(without_an_invocation), True, True, "nothing invokes what line "),
        (counted(without_an_operation), True, False, "history.jsonl was changed afterwards"),
        (with_another_value, False, False, "history.jsonl was changed afterwards"),
        (without_a_seal, False, False, "does not say what was recorded before"),
        (with_more_behind, True, False, "the history goes on after line "),
    ],
)
def test_a_history_that_was_changed_is_no_pass(
    run: RunDirectory, how: Callable[[Lines], Lines], number: bool, seal: bool, said: str
) -> None:
    change(run, how, number=number, seal=seal)
    verdict = judged(run)
    assert verdict.validity == "unknown"
    assert said in verdict.reason
    assert "these are not the files that the run wrote" in verdict.reason


@pytest.mark.parametrize("field", ["time", "rate", "seed"])
def test_an_experiment_that_was_changed_is_no_pass(run: RunDirectory, field: str) -> None:
    experiment = json.loads(run.experiment.read_text())
    experiment[field] += 1
    run.experiment.write_bytes(msgspec.json.format(msgspec.json.encode(experiment)) + b"\n")
    verdict = judged(run)
    assert verdict.validity == "unknown"
    assert "experiment.json was changed afterwards" in verdict.reason


def test_a_history_that_lost_its_end_is_for_completeness_to_tell(run: RunDirectory) -> None:
    change(run, lambda events: events[:-1])
    verdict = judged(run)
    assert verdict.validity == "unknown"
    assert verdict.parts["integrity"].validity == "valid"
    assert verdict.parts["completeness"].validity == "unknown"


def test_a_model_that_is_asked_for_gives_a_changed_run_no_pass_either(
    run: RunDirectory, splitbrain: Callable[..., Any]
) -> None:
    assert splitbrain("check", str(run.path), "--model", "cas-register").returncode == 0
    change(run, counted(without_an_operation), number=True)
    done = splitbrain("check", str(run.path), "--model", "cas-register")
    assert done.returncode == 3
    assert "history.jsonl was changed afterwards" in done.stdout


def test_nor_one_that_lost_its_end(run: RunDirectory, splitbrain: Callable[..., Any]) -> None:
    change(run, lambda events: events[:-30])
    done = splitbrain("check", str(run.path), "--model", "cas-register")
    assert done.returncode == 3
    assert "the history ends" in done.stdout
