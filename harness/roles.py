"""Who said when what it is, read back from a history.

An answer was true at some moment between the question and the answer. One that a node gave again and again without a
longer pause stands in the history twice: the first time and, with ``since``, the last time. A node that does not answer
is unknown, not gone.
"""

from __future__ import annotations

from typing import Final

import msgspec

from harness.history import MONITOR_PROCESS, History, observed
from harness.operation import LEADERSHIP, ROLE

PRIMARY: Final = "primary"


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


def leadership(history: History) -> str:
    """Whether the store claims to have one primary, as ``harness.target`` has it; "none" where nobody told."""
    claims = (event.value for event in history.special(MONITOR_PROCESS) if event.f == LEADERSHIP)
    return str(next(claims, "none"))
