"""Judging what is there already: the directory of a run, or a history of any tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from harness.assembly import assemble_workload
from harness.conduct import Outcome, report
from harness.errors import HistoryError, UsageError
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

CAS_REGISTER = "cas-register"
"""What a history is checked against where nobody says anything else."""


def is_run(path: Path) -> bool:
    """Whether a path is the directory of a run."""
    return RunDirectory(path).experiment.is_file()


def judge_again(
    path: Path,
    budget: Budget,
    checkers: Sequence[AnyChecker] = (),
    workload: AnyWorkload | None = None,
    *,
    write: bool = False,
    trust: bool = False,
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
    return report(Outcome(experiment, verdict, history, path, directory.unsaved))


@dataclass(frozen=True)
class Judged:
    """The verdict on a history, and what has to be said of how it was read."""

    verdict: Verdict
    notes: Sequence[str]


def judge_history(
    given: Path | History,
    model: Any,
    budget: Budget,
    *,
    initial: Any = None,
    independent: bool = False,
    executor: str | None = None,
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
    history = given if isinstance(given, History) else read_history(find_history(given), independent=independent)
    try:
        if executor is None:
            made = checker.against(chosen, None, initial)
            verdict = made.check(history, budget)
        else:
            from harness.executors import connect

            with connect(executor) as pool:
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


def judge_by(
    given: Path | History, checkers: Sequence[AnyChecker], budget: Budget, *, independent: bool = False
) -> Judged:
    """Judge a history that is no run, or the file of one, by ``checkers`` alone."""
    named, own = adopt(Experiment(""), checkers=list(checkers))
    judges = load_checkers(named.checkers, own)
    history = given if isinstance(given, History) else read_history(find_history(given), independent=independent)
    return _noted(judge(history, judges, budget), history)


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
