"""``splitbrain check``: a verdict on a history from a file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from harness.errors import HistoryError, UsageError
from harness.history import read_jsonl
from harness.plugins import load
from harness.store import find_history
from harness.verdict import Budget, Verdict

MODELS = ("register", "cas-register")


def check(path: Path, model: str, *, as_json: bool) -> int:
    """Check a history against a model and return the exit code of the verdict."""
    if model not in MODELS:
        raise UsageError(f"there is no model named {model!r}: there are {', '.join(MODELS)}")
    file = find_history(path)
    history = read_jsonl(file)
    try:
        verdict: Verdict = load("checkers", "linearizable")().check(history, Budget())
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
