"""Compile the loops over transactions and keep them on disk: ``python -m harness.checkers.transactions.warm``."""

from __future__ import annotations

from typing import Any


def warm() -> None:
    """Judge write skew of lists and of registers; what is compiled already is only loaded."""
    from harness.checkers.transactions import Transactional
    from harness.history import from_events
    from harness.operation import Event
    from harness.verdict import Budget

    for write, nothing in (("append", []), ("w", None)):
        values: list[list[Any]] = [[["r", "x", nothing], [write, "y", 1]], [["r", "y", nothing], [write, "x", 1]]]
        values += [[["r", "x", [1]], ["r", "y", [1]]]] if write == "append" else [[["r", "x", 1], ["r", "y", 1]]]
        calls = [Event(at, at, at, "invoke", "txn", value=value) for at, value in enumerate(values)]
        done = [Event(at + 3, at + 3, at, "ok", "txn", value=value) for at, value in enumerate(values)]
        for model in ("strict-serializable", "causal"):
            Transactional(models=[model]).check(from_events([*calls, *done]), Budget())


if __name__ == "__main__":
    import os

    os.nice(19)
    warm()
