"""What was put to the test: each claim with its verdict and evidence, and what became of each nemesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.availability import availability_lines
from harness.periods import Turns
from harness.replication import replication_lines
from harness.report.story import Story
from harness.summary import evidence_lines


@dataclass(frozen=True)
class Claim:
    """What one checker was asked, and what it decided."""

    checker: str
    validity: str
    reason: str
    anomalies: int


@dataclass(frozen=True)
class Tested:
    """The claims, what became of each nemesis, and the evidence in lines."""

    claims: Sequence[Claim]
    nemeses: dict[str, Turns]
    evidence: Sequence[str]
    measured: Sequence[str]


def tested(story: Story) -> Tested:
    """What the verdict of a run rests on."""
    evidence: dict[str, Any] = dict(story.evidence)
    return Tested(
        [Claim(name, part.validity, part.reason, part.total) for name, part in story.verdict.parts.items()],
        story.turns,
        evidence_lines({**evidence, "faults": {}}),
        [*availability_lines(evidence), *replication_lines(evidence)],
    )
