"""What came of one experiment with several workloads: a table of checkers and workloads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console

from harness.conduct import Outcome
from harness.console.verdict import for_scripts, json_line, print_verdict
from harness.errors import SplitbrainError
from harness.verdict import EXIT_CODES, Verdict
from harness.words import count, printable

_WORST_FIRST: Final = (EXIT_CODES["invalid"], SplitbrainError.exit_code, EXIT_CODES["unknown"], EXIT_CODES["valid"])
_NEITHER: Final = "-"


@dataclass
class Series:
    """The runs of an experiment, one for each of its ``workloads``, as far as they were run."""

    workloads: tuple[str, ...]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    """Of runs that the harness or the environment has failed, why."""

    @property
    def done(self) -> list[str]:
        """The workloads that were run, or broke."""
        return [name for name in self.workloads if name in self.outcomes or name in self.broken]

    @property
    def exit_code(self) -> int:
        """That of the worst: anomalies, then a run that broke, then one that is unknown or was never begun."""
        codes = {outcome.exit_code for outcome in self.outcomes.values()}
        codes |= {SplitbrainError.exit_code} if self.broken else set()
        codes |= {EXIT_CODES["unknown"]} if len(self.done) < len(self.workloads) else set()
        return next(code for code in _WORST_FIRST if code in codes)

    def table(self) -> list[str]:
        """A line for each checker, a column for each workload that was run."""
        parts = {name: outcome.verdict.parts for name, outcome in self.outcomes.items()}
        checkers = dict.fromkeys(checker for verdicts in parts.values() for checker in verdicts)
        shared = [checker for checker in checkers if all(checker in verdicts for verdicts in parts.values())]
        rows = [["", *parts]]
        for checker in [*(one for one in checkers if one not in shared), *shared]:
            cells = [verdicts[checker].validity if checker in verdicts else _NEITHER for verdicts in parts.values()]
            rows.append([checker, *cells])
        rows.append(["verdict", *(outcome.verdict.validity for outcome in self.outcomes.values())])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def print_series(series: Series, worded: Callable[[Verdict], Verdict], *, as_json: bool) -> None:
    """What was not valid in short, the table, and where everything is; ``worded`` as for ``print_run``."""
    if as_json:
        runs = [{"workload": name, **for_scripts(outcome)} for name, outcome in series.outcomes.items()]
        left = [name for name in series.workloads if name not in series.done]
        print(json_line({"runs": runs, "broken": series.broken, "not_run": left}))
        return
    console = Console(highlight=False)
    for name, outcome in series.outcomes.items():
        if outcome.verdict.validity != "valid":
            _line(console, f"{name}: ", end="")
            print_verdict(worded(outcome.verdict), console)
            _line(console, "")
    for line in series.table() if series.outcomes else ():
        _line(console, line)
    _line(console, "")
    for name, outcome in series.outcomes.items():
        unsaved = f" ({outcome.unsaved})" if outcome.unsaved else ""
        _line(console, f"  {name}: {outcome.directory}{unsaved}")
    for name, why in series.broken.items():
        _line(console, f"  {name}: broken: {why}")
    if fewer := len(series.workloads) - len(series.done):
        _line(console, f"stopped: {count(fewer, 'workload')} of {len(series.workloads)} not run")


def _line(console: Console, text: str, end: str = "\n") -> None:
    """Other people's words are neither markup nor orders to the terminal."""
    console.print(printable(text), markup=False, soft_wrap=True, end=end)
