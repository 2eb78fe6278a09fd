"""Who said when what it is, read back from a history.

An answer was true at some moment between the question and the answer. One that a node gave again and again without a
longer pause stands in the history twice: the first time and, with ``since``, the last time. A node that does not answer
is unknown, not gone. Certain is thus what it was from the first of equal answers to the question of the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from harness.history import MONITOR_PROCESS, History, observed
from harness.operation import LEADERSHIP, ROLE

PRIMARY: Final = "primary"
LARGEST_GAP: Final = 1_000_000_000
"""Nanoseconds without a sign of what a node is after which nobody knows whether it was that all the time."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node answered: its role, None where it did not answer at all, and its term where it told one.

    ``asked`` and ``answered`` are nanoseconds since the run began. With ``since``, the same was answered from that
    moment on.
    """

    role: str | None
    asked: int
    answered: int
    term: int | None = None
    since: int | None = None


class Sighting(msgspec.Struct, frozen=True):
    """A node was of this role at some moment from ``start`` to ``end``; throughout that time if it is ``lasting``."""

    node: str
    role: str | None
    term: int | None
    start: int
    end: int
    lasting: bool


def sightings(history: History) -> list[Sighting]:
    """What the nodes said, in the order in which it was recorded."""
    seen = []
    for node, answer in observed(history, ROLE, Answer):
        if node is None:
            continue
        lasting = answer.since is not None and answer.since <= answer.asked
        start, end = (
            (answer.since, answer.asked) if lasting and answer.since is not None else (answer.asked, answer.answered)
        )
        seen.append(Sighting(node, answer.role, answer.term, start, end, lasting))
    return seen


class Span(NamedTuple):
    """A node was certainly of this role from ``start`` to ``end`` (ns), in ``term`` if it told one.

    Or it did not answer: then ``role`` is None.
    """

    node: str
    role: str | None
    term: int | None
    start: int
    end: int

    @property
    def leads(self) -> bool:
        """Whether it was primary."""
        return self.role == PRIMARY


def spans(seen: Sequence[Sighting]) -> list[Span]:
    """What all nodes certainly were, in the order of their start.

    A span ends with another role, another term, or a gap. Who tells no term is in that which it told before or
    afterwards. Those of one node do not overlap.
    """
    of_nodes: dict[str, list[Sighting]] = {}
    for sighting in seen:
        of_nodes.setdefault(sighting.node, []).append(sighting)
    together = [span for own in of_nodes.values() for span in _of_node(own)]
    return sorted(together, key=lambda span: span.start)


def _of_node(own: Sequence[Sighting]) -> list[Span]:
    # Each span with its last sighting.
    joined: list[tuple[Span, Sighting]] = []
    for sighting in sorted(own, key=lambda sighting: sighting.end):
        # Before its first answer a node may have been another thing, and after the last question.
        first, last = (sighting.start, sighting.end) if sighting.lasting else (sighting.end, sighting.start)
        # Who did not answer for a moment, and then answers as before, was that all the time.
        if len(joined) > 1 and joined[-1][0].role is None and _goes_on(*joined[-2], sighting):
            joined.pop()
        if joined and _goes_on(*joined[-1], sighting):
            span = joined[-1][0]
            term = sighting.term if span.term is None else span.term
            joined[-1] = span._replace(term=term, end=max(span.end, last)), sighting
        else:
            joined.append((Span(sighting.node, sighting.role, sighting.term, first, last), sighting))
    return [span for span, _ in joined if span.start <= span.end]


def _goes_on(span: Span, latest: Sighting, sighting: Sighting) -> bool:
    """Whether the node is still what it was at ``latest``, the last sighting of a span."""
    same_term = span.term is None or sighting.term is None or span.term == sighting.term
    return span.role == sighting.role and same_term and sighting.start - latest.end <= LARGEST_GAP


def leadership(history: History) -> str:
    """Whether the store claims to have one primary, as ``harness.target`` has it; "none" where nobody told."""
    claims = (event.value for event in history.special(MONITOR_PROCESS) if event.f == LEADERSHIP)
    return str(next(claims, "none"))
