"""The engine of splitbrain: it knows no particular store, workload, fault or model.

What a program needs that uses it, or that brings a store, a workload, a nemesis or a checker of its own, is here to be
imported. A name brings its module along when it is asked for, and not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.conduct import Outcome
    from harness.errors import SplitbrainError, UsageError
    from harness.experiment import Experiment
    from harness.history import History
    from harness.nemesis import Nemesis
    from harness.operation import Declined, Failed, Operation
    from harness.session import check, hunt, replay, run, run_all, shrink
    from harness.target import Client, Target
    from harness.verdict import Anomaly, Budget, Checker, Verdict
    from harness.workload import Workload

__version__ = "0.1.0"

__all__ = [
    "Anomaly", "Budget", "Checker", "Client", "Declined", "Experiment", "Failed", "History", "Nemesis", "Operation",
    "Outcome", "SplitbrainError", "Target", "UsageError", "Verdict", "Workload", "check", "hunt", "replay", "run",
    "run_all", "shrink",
]  # fmt: skip

_MODULES = {
    "conduct": ("Outcome",),
    "errors": ("SplitbrainError", "UsageError"),
    "experiment": ("Experiment",),
    "history": ("History",),
    "nemesis": ("Nemesis",),
    "operation": ("Declined", "Failed", "Operation"),
    "session": ("check", "hunt", "replay", "run", "run_all", "shrink"),
    "target": ("Client", "Target"),
    "verdict": ("Anomaly", "Budget", "Checker", "Verdict"),
    "workload": ("Workload",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
