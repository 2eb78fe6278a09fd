"""``splitbrain check`` and ``convert``: histories from files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import HistoryError, UsageError
from harness.interop import KEYED, read_history
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
        hint = f"; {KEYED}" if KEYED in history.notes else ""
        raise HistoryError(error.message + hint, line=error.line, path=str(file)) from None
    notes = [*history.notes, *(["the last line of the history is torn and was left out"] if history.torn else [])]
    if as_json:
        verdict.evidence |= {"notes": notes} if notes else {}
        print(msgspec.json.encode(verdict).decode())
    else:
        from harness.console.verdict import print_verdict

        if notes:
            print("\n".join(f"note: {note}" for note in notes))
        if KEYED in notes:
            verdict.anomalies.clear()  # they would be about values that nobody wrote
        print_verdict(verdict)
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
