"""``splitbrain check`` and ``convert``: histories from files."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.checking import Judged, judge_what_is_there
from harness.cli.wording import as_options, worded
from harness.conduct import Outcome
from harness.console.verdict import json_line, print_judged, print_verdict
from harness.errors import SplitbrainError, UsageError
from harness.interop import KEYED, read_history
from harness.run_directory import RunDirectory, find_history
from harness.verdict import Budget
from harness.words import printable


def check(
    path: Path,
    model: str | None,
    checkers: Sequence[str],
    budget: Budget,
    *,
    workload: str | None,
    anomalies: Sequence[str],
    versions: Sequence[str],
    executor: str | None,
    initial: str | None,
    independent: bool,
    report: bool,
    trust: bool,
    as_json: bool,
) -> int:
    """Judge a run's directory or a history, print the verdict, and return its exit code."""
    judged = judge_what_is_there(
        path,
        model,
        checkers,
        budget,
        workload=workload,
        anomalies=anomalies,
        versions=versions,
        initial=msgspec.UNSET if initial is None else _json(initial),
        independent=independent,
        executor=executor,
        report=report,
        trust=trust,
    )
    if as_json:
        print(json_line(judged.verdict))
    elif isinstance(judged, Judged):
        _print(judged)
    else:
        print_judged(worded(judged.verdict))
        if report and RunDirectory(path).report.exists():
            print(f"  report: {RunDirectory(path).report}")
    if isinstance(judged, Outcome) and judged.unsaved:
        raise SplitbrainError(judged.unsaved)
    return judged.verdict.exit_code


def _print(judged: Judged) -> None:
    """Print the verdict on a history, and what was noted when it was read."""
    if judged.notes:
        print("\n".join(printable(as_options(f"note: {note}")) for note in judged.notes))
    if KEYED in judged.notes:
        judged.verdict.anomalies.clear()  # they would be about values that nobody wrote
    print_verdict(worded(judged.verdict))


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
