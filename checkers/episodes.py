"""What is told of a split brain: an episode, and terms that conflict, as data and in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from harness.checkers.terms import Spell
from harness.periods import Period
from harness.words import all_of, count, duration, named

CLAIMED_TWICE: Final = "term claimed twice"
OLDER_TERM: Final = "older term"
"""The kinds of conflicts."""


class Side(msgspec.Struct):
    """One of the primaries of an episode: what it acknowledged meanwhile, by what became of it.

    ``lost_before`` counts the writes that it had acknowledged earlier in the same reign, and that are lost as well;
    ``lost_after`` those that it acknowledged later in it.
    """

    node: str
    terms: list[int]
    acknowledged: int
    fates: dict[str, int]
    lost_before: int
    lost_after: int


class Acknowledged(msgspec.Struct, omit_defaults=True):
    """A write, who acknowledged it, and its fate. Times in ns; ``index`` is the number of its invocation's event.

    ``outside`` is "before" or "after" for a lost write of a reign that was no part of the overlap.
    """

    node: str
    fate: str
    f: str
    call: int
    ret: int
    index: int
    key: Any = None
    value: Any = None
    term: int | None = None
    outside: str = ""


class Account(msgspec.Struct):
    """What happened from ``start`` to ``end`` (ns); ``facts`` are what no store with one primary can show.

    ``writes`` are listed where there is room in the evidence, and ``writes_left_out`` counts those that are not.
    """

    start: int
    end: int
    nodes: list[str]
    sides: list[Side]
    faults: list[str]
    facts: list[str] = []
    forks: list[str] = []
    writes: list[Acknowledged] = []
    writes_left_out: int = 0


class Episode(Account):
    """A time in which two or more nodes were primary at once: as ``Meeting`` has it."""

    shared: int = 0
    all_at_once: bool = True


class Conflict(Account):
    """Terms that contradict one another, of nodes that were not certainly primary at once; a side for each spell."""

    kind: str = CLAIMED_TWICE
    spells: list[Spell] = []


def when(start: int, end: int) -> str:
    """When something was (ns), as a phrase."""
    first, last = f"{start / 1e9:.2f} s", f"{end / 1e9:.2f} s"
    return f"at {first}" if first == last else f"from {first} to {last}"


def headline(episode: Episode, periods: Sequence[Period]) -> str:
    """An episode in one line; ``periods`` are those of all faults."""
    at = f"{episode.start / 1e9:.2f} s to {episode.end / 1e9:.2f} s"
    faults = f", during {'; '.join(episode.faults)}" if episode.faults else ""
    ends = [period.end for period in periods if period.start <= episode.end and period.end >= episode.start]
    if ends and (beyond := episode.end - max(ends)) > 0:
        faults += f", and for {duration(beyond)} after that"
    at_once = f"{duration(episode.shared)}{'' if episode.shared == episode.end - episode.start else ' in all'}"
    who = all_of([*map(named, episode.nodes)])
    if len(episode.nodes) == 2:
        return f"{who} were both primary for {at_once} ({at}{faults})"
    return f"{'' if episode.all_at_once else 'two or more of '}{who} were primary at once for {at_once} ({at}{faults})"


def conflict_headline(conflict: Conflict) -> str:
    """A conflict of terms in one line."""
    faults = f" (during {'; '.join(conflict.faults)})" if conflict.faults else ""
    return f"{conflict.facts[0]}{faults}"


def side_line(side: Side) -> str:
    """What one of the primaries acknowledged, and what became of it, as a clause."""
    terms = f" (term {', '.join(map(str, side.terms))})" if side.terms else ""
    more = [(side.lost_before, "before that"), (side.lost_after, "after that")]
    outside = " and ".join(f"{number:,} {when}" for number, when in more if number)
    if not side.acknowledged:
        lost_ones = f" (but {outside}, lost now)" if outside else ""
        return f"{named(side.node)}{terms} acknowledged no write{lost_ones}"
    by_fate = {fate: number for fate, number in side.fates.items() if number}
    if len(by_fate) == 1:
        ((fate, _),) = by_fate.items()
        fates = f"all {_FATE_WORDS.get(fate, fate)}" if side.acknowledged > 1 else _FATE_WORDS.get(fate, fate)
    else:
        fates = ", ".join(f"{number} {_FATE_WORDS.get(fate, fate)}" for fate, number in by_fate.items())
    lost_too = f" (and {outside}, lost as well)" if outside else ""
    return f"{named(side.node)}{terms} acknowledged {count(side.acknowledged, 'write')}: {fates}{lost_too}"


_FATE_WORDS: Final = {"unknown": "of unknown fate", "overwritten": "overwritten by its own"}
