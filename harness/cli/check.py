"""``splitbrain check`` and ``convert``: histories from files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from harness.cli.assemble import assemble_workload
from harness.errors import HistoryError, SplitbrainError, UsageError
from harness.interop import KEYED, read_history
from harness.judging import judge_run, nothing_in, unless_blind
from harness.plugins import is_file, load, load_file
from harness.recording import read_jsonl
from harness.seal import Integrity
from harness.store import RunDirectory, find_history
from harness.trust import code_of_judges, refuse_code
from harness.verdict import Budget, HasModels, combine
from harness.words import printable


def is_run(path: Path) -> bool:
    """Whether a path is the directory of a run."""
    return RunDirectory(path).experiment.is_file()


def check_run(
    path: Path, budget: Budget, checkers: tuple[str, ...], *, report: bool, trust: bool, as_json: bool
) -> int:
    """Judge a run as the run itself did, and by ``checkers`` beside; return the exit code of the verdict.

    Raises ``UsageError`` for a run that names code, which may be somebody else's, without ``trust``.
    """
    from harness.console.verdict import json_line, print_judged

    directory = RunDirectory(path)
    experiment = directory.load_experiment()
    refuse_code(str(path), [name for name in code_of_judges(experiment) if name not in checkers], trust=trust)
    history = read_jsonl(find_history(path))
    experiment = msgspec.structs.replace(experiment, checkers=tuple(dict.fromkeys((*experiment.checkers, *checkers))))
    verdict = judge_run(directory, experiment, assemble_workload(experiment), history=history, budget=budget)
    if report:
        from harness.report import write_report

        directory.write_verdict(verdict, experiment, float(history.time[-1]) / 1e9 if len(history) else 0.0)
        write_report(directory, experiment, verdict, history)
    if as_json:
        print(json_line(verdict))
    else:
        print_judged(verdict)
        if report and directory.report.exists():
            print(f"  report: {directory.report}")
    if directory.unsaved:
        raise SplitbrainError(directory.unsaved)
    return verdict.exit_code


def check(
    path: Path,
    model: str,
    budget: Budget,
    executor: str | None,
    initial: str | None,
    *,
    independent: bool,
    as_json: bool,
) -> int:
    """Check a history against a model and return the exit code of the verdict."""
    file = find_history(path)
    first = None if initial is None else _json(initial)
    chosen: Any = _own_model(model, first) if is_file(model) else model
    checker = load("checkers", "linearizable")
    assert issubclass(checker, HasModels)
    if isinstance(chosen, str) and chosen not in checker.models():
        raise UsageError(f"there is no model named {model!r}: there are {', '.join(checker.models())}")
    history = read_history(file, independent=independent)
    try:
        if executor is None:
            made = checker.against(chosen, None, first)
            verdict = made.check(history, budget)
        else:
            from harness.executors import connect

            with connect(executor) as pool:
                made = checker.against(chosen, pool, first)
                verdict = made.check(history, budget)
    except HistoryError as error:
        hint = f"; {KEYED}" if KEYED in history.notes else ""
        raise HistoryError(error.message + hint, line=error.line, path=str(file)) from None
    if verdict.validity == "valid" and (why := nothing_in(history)):
        verdict = msgspec.structs.replace(verdict, validity="unknown", reason=why)
    if is_run(path) and verdict.validity == "valid":
        run = RunDirectory(path)
        whole = load("checkers", "completeness").of_run((), run.load_experiment().time)
        verdict = combine(
            {
                "linearizable": unless_blind(made, history, verdict),
                "completeness": whole.check(history, budget),
                "integrity": Integrity(run).check(history, budget),
            }
        )
    from harness.console.verdict import json_line, print_verdict

    notes = [*history.notes, *(["the last line of the history is torn and was left out"] if history.torn else [])]
    if as_json:
        verdict.evidence |= {"notes": notes} if notes else {}
        print(json_line(verdict))
    else:
        if notes:
            print("\n".join(printable(f"note: {note}") for note in notes))
        if KEYED in notes:
            verdict.anomalies.clear()  # they would be about values that nobody wrote
        print_verdict(verdict)
    return verdict.exit_code


def _own_model(name: str, initial: Any) -> Any:
    made = load_file(name)
    if initial is None:
        return made()
    try:
        return made(initial)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the model {name} cannot begin with {initial!r}: {error}") from None


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise UsageError(f"--initial is a value as JSON, not {text!r}") from None


def _stat(source: Path) -> os.stat_result:
    return os.fstat(sys.stdin.fileno()) if str(source) == "-" else source.stat()


def convert(path: Path, to: Path, *, independent: bool) -> None:
    """Write a history as EDN to a file, or to standard output for ``-``; never over the history itself."""
    from harness.interop.jepsen import to_edn

    source = find_history(path)
    if str(to) != "-" and to.exists() and os.path.samestat(to.stat(), _stat(source)):
        raise UsageError(f"{to} is the history that is to be converted: write to another file")
    history = read_history(source, independent=independent)
    if str(to) == "-":
        to_edn(history, sys.stdout.write)
        return
    try:
        with to.open("w") as file:
            to_edn(history, file.write)
    except OSError as error:
        raise UsageError(f"{to} cannot be written: {error.strerror}") from None
