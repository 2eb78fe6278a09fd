"""Judging a history: every checker by itself, so that one that breaks takes nothing along."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from harness.errors import HistoryError, UsageError, field
from harness.experiment import Experiment
from harness.history import OK, History
from harness.own import Own
from harness.packed import TRANSACTION
from harness.plugins import load, names
from harness.recording import read_jsonl
from harness.run_directory import RunDirectory
from harness.seal import Integrity
from harness.verdict import Budget, Checker, Verdict, combine
from harness.workload import Workload

NOBODY: Final = "nobody"
"""Who stands in a verdict in place of checkers."""
NO_OPERATION: Final = "there is no operation of a client in the history"
NO_SUCCESS: Final = "no operation of a client succeeded"


def judge(history: History, checkers: Mapping[str, Checker], budget: Budget) -> Verdict:
    """The verdict of all checkers together. What proves nothing, since nothing succeeded, is never a pass.

    Raises ``HistoryError`` for a history whose invocations and completions do not fit together.
    """
    nothing = nothing_in(history)
    judges = checkers or {NOBODY: Nobody()}
    verdict = combine({name: check(name, checker, history, budget) for name, checker in judges.items()})
    return replace(verdict, validity="unknown", reason=nothing) if nothing and verdict.validity == "valid" else verdict


def nothing_in(history: History) -> str:
    """Why a history proves nothing, whoever looks at it; empty where it may."""
    of_transactions = history.client_functions() == {TRANSACTION}
    operations = history.operations_or_completions() if of_transactions else history.operations()
    if not len(operations):
        return NO_OPERATION
    return "" if (operations.type == OK).any() else NO_SUCCESS


def check(name: str, checker: Checker, history: History, budget: Budget) -> Verdict:
    """The verdict of one checker; unknown when it raises, or answers with something that is no verdict."""
    try:
        # What cannot be written and read again would be lost later, and everybody else's verdict with it.
        verdict = unless_blind(checker, history, checker.check(history, budget))
        msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict)
    except HistoryError as error:
        return Verdict("unknown", f"this is no history for the checker {name}: {error}")
    except (Exception, SystemExit) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raised = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return Verdict("unknown", f"checker {name} raised {raised} ({where.filename}, line {where.lineno})")
    if not isinstance(verdict, Verdict):
        return Verdict("unknown", f"checker {name} answered with a {type(verdict).__name__}, which is no verdict")
    if verdict.validity == "valid" and (
        verdict.anomalies or any(p.validity != "valid" for p in verdict.parts.values())
    ):
        return replace(verdict, validity="unknown", reason=f"checker {name} contradicts itself: {verdict.reason}")
    return verdict


def unless_blind(checker: Checker, history: History, verdict: Verdict) -> Verdict:
    """A checker's verdict; unknown in place of valid where it says that nothing could have been wrong."""
    if verdict.validity == "valid" and (why := checker.blind(history)):
        return replace(verdict, validity="unknown", reason=why)
    return verdict


def load_checkers(names: Sequence[str], own: Own | None = None) -> dict[str, Checker]:
    """The checkers of these names, or ``FILE.py:Class``, by what they are called in a verdict.

    Raises ``UsageError`` for one that does not exist, or that cannot be made without arguments.
    """
    checkers: dict[str, Checker] = {}
    for name in names:
        made = load("checkers", name) if own is None else own.load("checkers", name)
        title = name.rpartition(":")[2]
        if title in checkers:
            raise UsageError(
                f"{field('checkers')} has two classes that are called {title}: give one of them another name"
            )
        try:
            checkers[title] = made() if isinstance(made, type) else made
        except (Exception, SystemExit) as error:
            raise UsageError(f"the checker {name} cannot be made: {type(error).__name__}: {error}") from error
    return checkers


def checkers_of(
    experiment: Experiment,
    workload: Workload,
    directory: RunDirectory | None = None,
    asked: Mapping[str, Checker] | None = None,
) -> dict[str, Checker]:
    """Who judges a run: its workload's checkers, those that were asked for, the evidence, and whether it was whole.

    With the run's ``directory``, also whether the files in there are those that it wrote. ``asked`` are those that were
    asked for, where they are made already.
    """
    asked_for = _asked_for(experiment)
    always: dict[str, Checker] = {
        name: load("checkers", name).of_run(asked_for, experiment.time)
        for name in ("evidence", "completeness", "availability", "replication", "crashes")
    }
    if directory is not None:
        always["integrity"] = Integrity(directory)
    if not workload.checkers() and not experiment.checkers:
        always[NOBODY] = Nobody(f": the workload {workload.name} has no checkers, and {field('checkers')} names none")
    own = {**workload.checkers(), **always}
    asked = load_checkers(experiment.checkers) if asked is None else asked
    return {**{f"{name} (asked for)" if name in own else name: checker for name, checker in asked.items()}, **own}


def _asked_for(experiment: Experiment) -> list[str]:
    """The nemeses that an experiment asks for by name, and whose names are known without loading anything."""
    if experiment.timetable is not None:
        return list(experiment.timetable.names)
    return [load("nemeses", name).name for name in experiment.nemeses if name in names("nemeses")]


class Nobody(Checker):
    """In place of checkers: what nobody looks at is no pass. ``why`` goes on after what it says."""

    def __init__(self, why: str = "") -> None:
        self._why = why

    def check(self, history: History, budget: Budget) -> Verdict:
        return Verdict("unknown", f"nothing was checked{self._why}")


def judge_run(
    directory: RunDirectory,
    experiment: Experiment,
    workload: Workload,
    *,
    history: History | None = None,
    budget: Budget | None = None,
    asked: Mapping[str, Checker] | None = None,
) -> Verdict:
    """The verdict on a run, from its history as it was written, or from the one that is given."""
    if history is None:
        history = read_jsonl(directory.history)
    verdict = judge(history, checkers_of(experiment, workload, directory, asked), budget or Budget())
    if shortened := directory.shortened_logs():
        verdict.evidence["shortened_logs"] = shortened
    return verdict
