"""What each node said that it is, as stretches of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.roles import PRIMARY, Sighting


class Span(NamedTuple):
    """A node answered the same from ``start`` to ``end`` (ns) whenever it was asked; ``role`` is None for no answer."""

    node: str
    role: str | None
    term: int | None
    start: int
    end: int

    @property
    def leads(self) -> bool:
        """Whether it said that it is primary."""
        return self.role == PRIMARY


def spans(seen: Sequence[Sighting]) -> list[Span]:
    """The answers of all nodes, in the order of their start.

    A primary that tells no term is in that which it told before or afterwards.
    """
    found: list[Span] = []
    for node in dict.fromkeys(sighting.node for sighting in seen):
        found += _of_one(node, [sighting for sighting in seen if sighting.node == node])
    return sorted(found, key=lambda span: span.start)


def _of_one(node: str, seen: Sequence[Sighting]) -> list[Span]:
    joined: list[Span] = []
    for sighting in sorted(seen, key=lambda sighting: (sighting.start, sighting.end)):
        # What was answered once was true at some moment between the question and the answer.
        start, end = (sighting.start, sighting.end) if sighting.lasting else (sighting.end, sighting.end)
        last = joined[-1] if joined else None
        if last and last.role == sighting.role and _fits(last.term, sighting.term):
            term = sighting.term if last.term is None else last.term
            joined[-1] = last._replace(term=term, end=max(last.end, end))
        else:
            joined.append(Span(node, sighting.role, sighting.term, start, end))
    return joined


def _fits(one: int | None, other: int | None) -> bool:
    return one is None or other is None or one == other
