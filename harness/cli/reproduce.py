"""``splitbrain reproduce``: a finding's experiment and its control, and whether both come out as known."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any, Final

from harness.catalogue import Finding, Reproduction, Role, Trial, find, reproduce
from harness.cli.stopping import go_on
from harness.cli.wording import as_options
from harness.console.verdict import json_line
from harness.experiment import Experiment
from harness.words import count, printable

_SAID: Final = {True: "as known", False: "not as known", None: "not conclusive"}
_ENDS: Final = {True: "reproduced", False: "not reproduced", None: "not conclusive"}


def show(name: str, runs: int, directory: Path, *, trust: bool, as_json: bool) -> int:
    """Run them, say what came of each, and return the exit code."""
    finding = find(name)
    if not as_json:
        source = finding.source
        told = f"{source.author}, {source.title} ({source.year}), {source.address}"
        print(printable(f"{finding.name}: {finding.sentence}\n  {told}"), flush=True)

    def begins(role: Role, experiment: Experiment) -> None:
        go_on()
        if not as_json:
            print(printable(f"splitbrain: {role}: {experiment.command()}"), file=sys.stderr, flush=True)

    def seen(trial: Trial) -> None:
        if not as_json:
            print(printable(_line(finding, trial)), flush=True)

    # What code of others prints must not stand where a script reads what came of it.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        came = reproduce(finding, runs, directory, trust=trust, begins=begins, seen=seen)
    print(json_line(_for_scripts(came)) if as_json else _summary(came))
    return came.exit_code


def _line(finding: Finding, trial: Trial) -> str:
    """What came of one run, and where it is."""
    role = f"control ({finding.difference})" if trial.role == "control" else trial.role
    where = f"\n  {trial.report or trial.directory}" if trial.directory else ""
    return f"{role}, seed {trial.seed}: {_SAID[trial.as_known]}: {as_options(trial.what)}{where}"


def _summary(came: Reproduction) -> str:
    """In a line, whether it came out as known."""
    shown, passed = came.count("experiment", True), came.count("control", True)
    runs = sum(trial.role == "experiment" for trial in came.trials)
    return (
        f"{_ENDS[came.as_known]}: shown by {shown} of {count(runs, 'run')}, passed by {passed} of "
        f"{count(runs, 'control')}"
    )


def _for_scripts(came: Reproduction) -> dict[str, Any]:
    """The same as a script wants it; null where it is not conclusive."""
    finding = came.finding
    both: dict[str, Any] = {
        role: {
            "as_known": as_known,
            "count": came.count(role, True),
            "runs": [
                {
                    name: getattr(trial, name)
                    for name in ("seed", "as_known", "what", "validity", "directory", "report", "again")
                }
                for trial in came.trials
                if trial.role == role
            ],
        }
        for role, as_known in (("experiment", came.experiment), ("control", came.control))
    }
    both["control"]["difference"] = finding.difference
    return {"finding": finding.name, "sentence": finding.sentence, "reproduced": came.as_known, **both}
