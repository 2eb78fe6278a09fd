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
from harness.verdict import Budget, Checker, HasLevels, HasModels, Verdict, combine


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
    anomalies: Sequence[str] = (),
    versions: Sequence[str] = (),
    initial: Any,
    independent: bool,
    executor: str | None,
    report: bool,
    trust: bool,
) -> Outcome | Judged:
    """Judge a run as the run itself did, unless there is a model, and anything else by checkers alone or by a model.

    Models that are levels of isolation, ``anomalies`` and ``versions`` are of transactions, and so is any history that
    has nothing else, where nobody says how to judge it. ``initial`` is ``UNSET`` where nobody says what the model
    begins with. Raises ``UsageError`` for what does not go together.
    """
    levels = _levels(model)
    of_isolation = bool(levels or anomalies or versions)
    if isinstance(given, Path) and model is None and not of_isolation and is_run(given):
        if executor or initial is not msgspec.UNSET or independent:
            raise UsageError(
                f"a run is judged as the run itself did; {field('executor')}, {field('initial')}, "
                f"{field('independent')}: with {field('model')}"
            )
        return _judge_again(given, budget, checkers, workload, write=report, trust=trust)
    other = model is not None and not levels
    if report or trust or (workload is not None and (checkers or other)):
        of_runs = (*([field("workload")] if workload is not None else []), field("report"))
        raise UsageError(
            f"{', '.join(of_runs)} and {field('trust')} are for the directory of a run, without {field('model')}"
        )
    if of_isolation and (checkers or other):
        raise UsageError(
            f"{field('anomalies')}, {field('versions')} and levels of isolation are of transactions: leave "
            f"{field('checkers')} and other models out with them"
        )
    if checkers:
        if model is not None or executor or initial is not msgspec.UNSET:
            raise UsageError(
                f"{field('model')}, {field('executor')} and {field('initial')} are of linearizability: leave them out "
                f"with {field('checkers')}"
            )
        return _judge_by(given, checkers, budget, independent=independent)
    asked = Isolation(workload, levels, anomalies, versions, alone=executor is None and initial is msgspec.UNSET)
    begins = None if initial is msgspec.UNSET else initial
    return _judge_history(given, model, budget, begins, asked, independent=independent, executor=executor)


@dataclass(frozen=True)
class Isolation:
    """What somebody asks of transactions; ``alone``: and nothing that is of linearizability."""

    workload: AnyWorkload | None
    levels: Sequence[str]
    anomalies: Sequence[str]
    versions: Sequence[str]
    alone: bool

    def __bool__(self) -> bool:
        return bool(self.workload is not None or self.levels or self.anomalies or self.versions)

    def checker(self) -> Checker:
        """Who judges that. Raises ``UsageError`` for what does not exist."""
        if not self.alone:
            raise UsageError(
                f"{field('executor')} and {field('initial')} are of linearizability: leave them out with levels of "
                "isolation"
            )
        if self.workload is not None and not isinstance(self.workload, str):
            raise UsageError(f"for a history of transactions, {field('workload')} is a name")
        return _of_transactions().asked(self.workload, self.levels, self.anomalies, self.versions)


def _of_transactions() -> type[HasLevels]:
    checker = load("checkers", "transactions")
    assert issubclass(checker, HasLevels)
    return checker


def _levels(model: Any) -> list[str]:
    """The levels of isolation that a model names, with commas; none if it is something else.

    Raises ``UsageError`` if only some of its names are levels.
    """
    if not isinstance(model, str) or is_file(model):
        return []
    named = [name.strip() for name in model.split(",")]
    checker = _of_transactions()
    known = [name for name in named if checker.knows(name)]
    if known and len(known) < len(named):
        wrong = next(name for name in named if name not in known)
        raise UsageError(
            f"there is no level of isolation named {wrong!r}, as {known[0]} is one: there are "
            f"{', '.join(checker.levels())}"
        )
    return known


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
    given: Path | History,
    model: Any,
    budget: Budget,
    initial: Any,
    asked: Isolation,
    *,
    independent: bool,
    executor: str | None,
) -> Judged:
    """Check a history, or the file of one, against levels of isolation or a model.

    A model is a name, FILE.py:Class, or a class or an instance.
    """
    file = None if isinstance(given, History) else find_history(given)
    judge_of_isolation = asked.checker() if asked else None
    chosen = None if judge_of_isolation else _chosen(model, initial)
    history = _read(given, independent=independent)
    if judge_of_isolation is None and model is None and asked.alone and _of_transactions().fits(history):
        judge_of_isolation = asked.checker()
    try:
        if judge_of_isolation is not None:
            name, made = "transactions", judge_of_isolation
            verdict = made.check(history, budget)
        else:
            name = "linearizable"
            with contextlib.nullcontext() if executor is None else connect(executor) as pool:
                made = _of_models().against(chosen, pool, initial)
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
                name: unless_blind(made, history, verdict),
                "completeness": whole.check(history, budget),
                "integrity": Integrity(run).check(history, budget),
            }
        )
    return _noted(verdict, history)


def _of_models() -> type[HasModels]:
    checker = load("checkers", "linearizable")
    assert issubclass(checker, HasModels)
    return checker


def _chosen(model: Any, initial: Any) -> Any:
    """The model that is meant: a name, or one that is made. Raises ``UsageError`` for what is none."""
    model = model or "cas-register"
    chosen = _made(load_file(model), model, initial) if isinstance(model, str) and is_file(model) else model
    if isinstance(chosen, type):
        chosen = _made(chosen, chosen.__qualname__, initial)
    known = _of_models().models()
    if isinstance(chosen, str) and chosen not in known:
        raise UsageError(
            f"there is no model named {model!r}: there are {', '.join(known)}; and for transactions "
            f"{', '.join(_of_transactions().levels())}"
        )
    return chosen


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
