"""What was put to the test: each claim with its verdict and evidence, and what became of each nemesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.availability import availability_lines
from harness.periods import Turns
from harness.plugins import load, names
from harness.replication import replication_lines
from harness.report.story import Story
from harness.summary import evidence_lines


@dataclass(frozen=True)
class Claim:
    """What one checker looks at, and what it decided."""

    checker: str
    about: str
    validity: str
    reason: str
    anomalies: int


@dataclass(frozen=True)
class Tested:
    """What the store promises, the claims, what became of each nemesis, and the evidence in lines."""

    promise: str
    claims: Sequence[Claim]
    nemeses: dict[str, Turns]
    evidence: Sequence[str]
    columns: Sequence[str]
    """Those lines that stand below one another, as in a terminal."""


def tested(story: Story) -> Tested:
    """What the verdict of a run rests on."""
    evidence: dict[str, Any] = dict(story.evidence)
    measured = [*availability_lines(evidence), *replication_lines(evidence)]
    return Tested(
        _promise(story.experiment.target),
        [
            Claim(name, _about(name), part.validity, part.reason, part.total)
            for name, part in story.verdict.parts.items()
        ],
        story.turns,
        [*evidence_lines({**evidence, "faults": {}}), *(line for line in measured if not _is_row(line))],
        [line for line in measured if _is_row(line)],
    )


def _is_row(line: str) -> bool:
    """Whether a line is of a table."""
    return "  " in line


def _promise(target: str) -> str:
    """What a store promises, in the words of its target; nothing of one that would have to be loaded from a file."""
    return str(load("targets", target).claims) if target in names("targets") else ""


def _about(checker: str) -> str:
    """What a checker that comes along does, in the first line of its words."""
    if checker not in names("checkers"):
        return ""
    return (load("checkers", checker).__doc__ or "").strip().partition("\n")[0]
