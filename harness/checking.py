"""Judging what is there already: the directory of a run, or a history of any tool."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from harness.assembly import assemble_workload
from harness.conduct import Outcome
from harness.conduct import report as report_on
from harness.errors import HistoryError, UsageError, field
from harness.executors import connect
from harness.experiment import Experiment
from harness.history import History
from harness.interop import KEYED, read_history
from harness.judging import judge, judge_run, load_checkers, nothing_in, unless_blind
from harness.own import AnyChecker, AnyWorkload, adopt
from harness.plugins import is_file, load, load_file
from harness.recording import read_jsonl
from harness.run_directory import RunDirectory, find_history
from harness.seal import Integrity
from harness.trust import code_of_judges, refuse_code
from harness.verdict import Budget, HasModels, Verdict, combine


def is_run(path: Path) -> bool:
    """Whether a path is the directory of a run."""
    return RunDirectory(path).experiment.is_file()


@dataclass(frozen=True)
class Judged:
    """The verdict on a history, and what has to be said of how it was read."""

    verdict: Verdict
    notes: Sequence[str]


def judge_what_is_there(
    given: Path | History,
    model: Any,
    checkers: Sequence[AnyChecker],
    budget: Budget,
    *,
    workload: AnyWorkload | None = None,
    initial: Any,
    independent: bool,
    executor: str | None,
    report: bool,
    trust: bool,
) -> Outcome | Judged:
    """Judge a run as the run itself did, unless there is a model, and anything else by checkers alone or by a model.

    ``initial`` is ``UNSET`` where nobody says what the model begins with. Raises ``UsageError`` for what does not go
    together.
    """
    if isinstance(given, Path) and model is None and is_run(given):
        if executor or initial is not msgspec.UNSET or independent:
            raise UsageError(
                f"a run is judged as the run itself did; {field('executor')}, {field('initial')}, "
                f"{field('independent')}: with {field('model')}"
            )
        return _judge_again(given, budget, checkers, workload, write=report, trust=trust)
    if workload is not None or report or trust:
        of_runs = (*([field("workload")] if workload is not None else []), field("report"))
        raise UsageError(
            f"{', '.join(of_runs)} and {field('trust')} are for the directory of a run, without {field('model')}"
        )
    if checkers:
        if model is not None or executor or initial is not msgspec.UNSET:
            raise UsageError(
                f"{field('model')}, {field('executor')} and {field('initial')} are of linearizability: leave them out "
                f"with {field('checkers')}"
            )
        return _judge_by(given, checkers, budget, independent=independent)
    begins = None if initial is msgspec.UNSET else initial
    return _judge_history(given, model or "cas-register", budget, begins, independent=independent, executor=executor)


def _judge_again(
    path: Path,
    budget: Budget,
    checkers: Sequence[AnyChecker],
    workload: AnyWorkload | None,
    *,
    write: bool,
    trust: bool,
) -> Outcome:
    """Judge a run as the run itself did, and by ``checkers`` beside; ``write`` its verdict and report again.

    Raises ``UsageError`` for a run that names code, which may be somebody else's, without ``trust``.
    """
    directory = RunDirectory(path)
    written = directory.load_experiment()
    named = [*checkers, *([written.workload] if workload is not None else [])]
    refuse_code(str(path), [name for name in code_of_judges(written) if name not in named], trust=trust)
    history = read_jsonl(find_history(path))
    experiment, own = adopt(written, workload=workload, checkers=list(checkers))
    unnamed = dict.fromkeys((*(written.unnamed or ()), *(experiment.unnamed or ())))
    experiment = replace(experiment, unnamed=tuple(unnamed) or msgspec.UNSET)
    verdict = judge_run(
        directory,
        experiment,
        assemble_workload(experiment, own),
        history=history,
        budget=budget,
        asked=load_checkers(experiment.checkers, own),
    )
    if not write:
        return Outcome(experiment, verdict, history, path)
    directory.write_verdict(verdict, experiment, history.seconds)
    return report_on(Outcome(experiment, verdict, history, path, directory.unsaved))


def _judge_history(
    given: Path | History, model: Any, budget: Budget, initial: Any, *, independent: bool, executor: str | None
) -> Judged:
    """Check a history, or the file of one, against a model: a name, FILE.py:Class, or a class or an instance."""
    file = None if isinstance(given, History) else find_history(given)
    chosen = _made(load_file(model), model, initial) if isinstance(model, str) and is_file(model) else model
    if isinstance(chosen, type):
        chosen = _made(chosen, chosen.__qualname__, initial)
    checker = load("checkers", "linearizable")
    assert issubclass(checker, HasModels)
    if isinstance(chosen, str) and chosen not in checker.models():
        raise UsageError(f"there is no model named {model!r}: there are {', '.join(checker.models())}")
    history = _read(given, independent=independent)
    try:
        with contextlib.nullcontext() if executor is None else connect(executor) as pool:
            made = checker.against(chosen, pool, initial)
            verdict = made.check(history, budget)
    except HistoryError as error:
        hint = f"; {KEYED}" if KEYED in history.notes else ""
        raise HistoryError(error.message + hint, line=error.line, path=None if file is None else str(file)) from None
    if verdict.validity == "valid" and (why := nothing_in(history)):
        verdict = replace(verdict, validity="unknown", reason=why)
    if isinstance(given, Path) and is_run(given) and verdict.validity == "valid":
        run = RunDirectory(given)
        whole = load("checkers", "completeness").of_run((), run.load_experiment().time)
        verdict = combine(
            {
                "linearizable": unless_blind(made, history, verdict),
                "completeness": whole.check(history, budget),
                "integrity": Integrity(run).check(history, budget),
            }
        )
    return _noted(verdict, history)


def _judge_by(given: Path | History, checkers: Sequence[AnyChecker], budget: Budget, *, independent: bool) -> Judged:
    """Judge a history that is no run, or the file of one, by ``checkers`` alone."""
    named, own = adopt(Experiment(""), checkers=list(checkers))
    judges = load_checkers(named.checkers, own)
    history = _read(given, independent=independent)
    return _noted(judge(history, judges, budget), history)


def _read(given: Path | History, *, independent: bool) -> History:
    return given if isinstance(given, History) else read_history(find_history(given), independent=independent)


def _noted(verdict: Verdict, history: History) -> Judged:
    notes = [*history.notes, *(["the last line of the history is torn and was left out"] if history.torn else [])]
    if notes:
        verdict.evidence |= {"notes": notes}
    return Judged(verdict, notes)


def _made(model: type, name: str, initial: Any) -> Any:
    if initial is None:
        return model()
    try:
        return model(initial)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the model {name} cannot begin with {initial!r}: {error}") from None
