"""What a report tells of: a run, and what is read off its history once for all pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.experiment import Experiment
from harness.history import History, Operations
from harness.periods import Period, Turns, fault_periods, turns_of
from harness.recording import read_jsonl
from harness.report.node_logs import Logs, node_logs
from harness.roles import Sighting, sightings
from harness.run_directory import RunDirectory, find_history
from harness.verdict import Verdict

DAMAGED: Final = (
    AttributeError, IndexError, KeyError, TypeError, ValueError, ArithmeticError, RecursionError, msgspec.MsgspecError
)  # fmt: skip
"""What reading the evidence of a verdict raises that is not as a run writes it, or of another version."""


@dataclass(frozen=True)
class Story:
    """A run: what was asked for, what was decided, and everything that happened."""

    directory: RunDirectory
    experiment: Experiment
    verdict: Verdict
    history: History

    @classmethod
    def of_run(cls, path: Path) -> Story:
        """What is in the directory of a run, judged as it was then. Raises ``UsageError`` where that is not there."""
        directory = RunDirectory(path)
        return cls(directory, directory.load_experiment(), directory.load_verdict(), read_jsonl(find_history(path)))

    @property
    def evidence(self) -> Mapping[str, Any]:
        """What the verdict rests on, of all checkers together."""
        return self.verdict.evidence

    @cached_property
    def operations(self) -> Operations:
        """The clients' operations."""
        return self.history.operations_or_completions()

    @cached_property
    def periods(self) -> list[Period]:
        """When each fault was active."""
        return fault_periods(self.history)

    @cached_property
    def turns(self) -> dict[str, Turns]:
        """What became of the faults of each nemesis."""
        return turns_of(self.evidence)

    @cached_property
    def sightings(self) -> list[Sighting]:
        """What nodes said that they are."""
        return sightings(self.history)

    @cached_property
    def nodes(self) -> list[str]:
        """The nodes that were asked for, and those that the history tells of beside them."""
        told = {name for name in self.history.nodes if name is not None}
        told |= {sighting.node for sighting in self.sightings}
        own = self.experiment.node_names
        return [*own, *sorted(told - set(own))]

    @cached_property
    def logs(self) -> Logs:
        """What the nodes' own logs say around the faults and anomalies."""
        return node_logs(self)

    @cached_property
    def end(self) -> int:
        """When the last event of the history happened (ns)."""
        return max(int(self.history.time.max(initial=0)), 1)
