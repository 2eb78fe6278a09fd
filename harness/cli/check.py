"""``splitbrain check`` and ``convert``: histories from files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import HistoryError, UsageError
from harness.interop import read_history
from harness.plugins import load, load_file
from harness.store import find_history
from harness.verdict import Budget, Verdict


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
    chosen: Any = load_file(model)() if ".py:" in model else model
    checker = load("checkers", "linearizable")
    if isinstance(chosen, str) and chosen not in checker.models():
        raise UsageError(f"there is no model named {model!r}: there are {', '.join(checker.models())}")
    first = None if initial is None else _json(initial)
    history = read_history(file, independent=independent)
    try:
        if executor is None:
            verdict: Verdict = checker(chosen, initial=first).check(history, budget)
        else:
            from harness.executors import connect

            with connect(executor) as pool:
                verdict = checker(chosen, pool, first).check(history, budget)
    except HistoryError as error:
        raise HistoryError(error.message, line=error.line, path=str(file)) from None
    if as_json:
        print(msgspec.json.encode(verdict).decode())
    else:
        from harness.console.verdict import print_verdict

        if history.torn:
            print("(the last line of the history is torn and was left out)")
        print_verdict(verdict)
    return verdict.exit_code


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise UsageError(f"--initial is a value as JSON, not {text!r}") from None


def convert(path: Path, to: Path, *, independent: bool) -> None:
    """Write a history as EDN to a file, or to standard output for ``-``."""
    from harness.interop.jepsen import to_edn

    history = read_history(find_history(path), independent=independent)
    if str(to) == "-":
        to_edn(history, sys.stdout.write)
        return
    try:
        with to.open("w") as file:
            to_edn(history, file.write)
    except OSError as error:
        raise UsageError(f"{to} cannot be written: {error.strerror}") from None
