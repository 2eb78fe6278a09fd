"""``splitbrain check`` and ``convert``: histories from files."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.checking import Judged, judge_again, judge_by, judge_history
from harness.cli.wording import as_options, worded
from harness.console.verdict import json_line, print_judged, print_verdict
from harness.errors import SplitbrainError, UsageError
from harness.interop import KEYED, read_history
from harness.run_directory import RunDirectory, find_history
from harness.verdict import Budget
from harness.words import printable


def check_run(path: Path, budget: Budget, checkers: Sequence[str], *, report: bool, trust: bool, as_json: bool) -> int:
    """Judge a run as the run itself did, and by ``checkers`` beside; return the exit code of the verdict."""
    outcome = judge_again(path, budget, checkers, write=report, trust=trust)
    if as_json:
        print(json_line(outcome.verdict))
    else:
        print_judged(worded(outcome.verdict))
        if report and RunDirectory(path).report.exists():
            print(f"  report: {RunDirectory(path).report}")
    if outcome.unsaved:
        raise SplitbrainError(outcome.unsaved)
    return outcome.verdict.exit_code


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
    first = None if initial is None else _json(initial)
    return _print(
        judge_history(path, model, budget, initial=first, independent=independent, executor=executor), as_json=as_json
    )


def check_by(path: Path, budget: Budget, checkers: Sequence[str], *, independent: bool, as_json: bool) -> int:
    """Judge a history that is no run by ``checkers`` alone; return the exit code of the verdict."""
    return _print(judge_by(path, checkers, budget, independent=independent), as_json=as_json)


def _print(judged: Judged, *, as_json: bool) -> int:
    """Print the verdict on a history, and what was noted when it was read; its exit code."""
    verdict = judged.verdict
    if as_json:
        print(json_line(verdict))
        return verdict.exit_code
    if judged.notes:
        print("\n".join(printable(as_options(f"note: {note}")) for note in judged.notes))
    if KEYED in judged.notes:
        verdict.anomalies.clear()  # they would be about values that nobody wrote
    print_verdict(worded(verdict))
    return verdict.exit_code


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
