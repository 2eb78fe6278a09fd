"""Which faults a run will have, and when: dealt like cards, not thrown like dice.

Every nemesis that was asked for has its turn before any has a second one, and every shape of its faults comes before
any comes again. The seed decides the rest, and nothing else does: the same seed deals the same on every environment.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from harness.nemesis import PRIMARY, Nemesis, Plan, Zones
from harness.timetable import Fault

_QUIET: Final = 0.75
"""The time between two faults, in intervals, while there is one at a time."""
_LEAST_QUIET: Final = 0.5
"""Seconds between two faults where the time is too short for more."""
_ROUNDING: Final = 1e-6
LEAST_SECONDS: Final = 2.0
"""A fault shorter than this leaves too little time for its proof."""


class Dealer:
    """Deals the faults of one nemesis."""

    def __init__(self, nemesis: Nemesis, zones: Zones, seed: str, *, telling_first: bool) -> None:
        self._nemesis = nemesis
        self._zones = zones
        self._rng = random.Random(seed)
        self._telling_first = telling_first
        self._left: dict[str, list[str]] = {}

    def deal(self) -> tuple[Plan, bool]:
        """The next fault's plan, and whether it aims at the primary."""
        dealt = {}
        for question, answers in self._nemesis.decks(self._zones).items():
            left = self._left.get(question)
            if not left:
                left = self._shuffled(answers)
                if self._telling_first and question not in self._left:
                    first = next(iter(answers))
                    left.remove(first)
                    left.insert(0, first)
                self._left[question] = left
            dealt[question] = left.pop(0)
        return self._nemesis.plan(self._rng, self._zones, dealt), PRIMARY in dealt.values()

    def _shuffled(self, answers: Mapping[str, float]) -> list[str]:
        """An order in which heavier answers tend to come earlier (Efraimidis and Spirakis, 2006)."""
        drawn = {answer: self._rng.random() ** (1 / weight) for answer, weight in answers.items()}
        return sorted(drawn, key=lambda answer: -drawn[answer])


class _Turn:
    """A fault before its time is known: how long it wants to last, and how long it must."""

    def __init__(self, name: str, dealer: Dealer, rng: random.Random, interval: float, failover: float) -> None:
        plan, at_primary = dealer.deal()
        self.name = name
        self.plan = plan
        self._more = failover if at_primary else 0.0
        self.least = LEAST_SECONDS + self._more
        self.lasts = max(interval * rng.uniform(0.7, 1.3), LEAST_SECONDS) + self._more

    def hurry(self) -> None:
        """Do without the time that a failover takes: to have a turn at all is better than to have none."""
        self.least -= self._more
        self.lasts -= self._more
        self._more = 0.0

    def fault(self, start: float, stop: float) -> Fault:
        return Fault(self.name, round(start, 6), round(stop, 6), self.plan)


def deal(
    nemeses: Mapping[str, Nemesis],
    zones: Zones,
    *,
    seed: int,
    time: float,
    interval: float,
    failover: float,
    overlapping: bool = False,
) -> tuple[Fault, ...]:
    """The faults of a run of ``time`` seconds, in the order of their start.

    One at a time: it is quiet for about ``interval`` seconds, then a fault is active for about as long, and so on; the
    first of each family is its most telling. What aims at the primary lasts for ``failover`` seconds more. If there
    would not be time for a turn of each, faults are shorter and closer together, and at last shorter than a failover;
    who still has none is missing.
    ``overlapping``: every nemesis goes by itself, with quiet periods so long that on average two are active at once.
    """
    if not nemeses:
        return ()
    dealers = {
        name: Dealer(nemesis, zones, f"{seed}/{name}", telling_first=not overlapping)
        for name, nemesis in sorted(nemeses.items())
    }
    if overlapping:
        lanes = (
            _lane(name, dealer, random.Random(f"{seed}/{name}/time"), time, interval, failover, len(nemeses))
            for name, dealer in dealers.items()
        )
        faults: Iterable[Fault] = (fault for lane in lanes for fault in lane)
    else:
        faults = _one_at_a_time(dealers, random.Random(f"{seed}/nemesis"), time, interval, failover)
    return tuple(sorted(faults, key=lambda fault: (fault.start, fault.name)))


def _one_at_a_time(
    dealers: Mapping[str, Dealer], rng: random.Random, time: float, interval: float, failover: float
) -> Iterator[Fault]:
    now, first = 0.0, True
    while True:
        names = list(dealers)
        rng.shuffle(names)
        turns = [_Turn(name, dealers[name], rng, interval, failover) for name in names]
        quiet = [interval * _QUIET * rng.uniform(0.67, 1.33) for _ in turns]
        if first:
            quiet = _fit(turns, quiet, time)
        for turn, pause in zip(turns, quiet, strict=True):
            start = now + pause
            stop = min(start + turn.lasts, time)
            if stop - start > turn.least - _ROUNDING:
                yield turn.fault(start, stop)
                now = stop
            elif not first:
                return
        first = False


def _fit(turns: Sequence[_Turn], quiet: Sequence[float], time: float) -> list[float]:
    """Shorten turns, and the quiet before each, evenly towards the least, as far as it takes to fit into ``time``."""
    shortest = [min(pause, _LEAST_QUIET) for pause in quiet]
    if sum(turn.least for turn in turns) + sum(shortest) > time:
        for turn in turns:
            turn.hurry()
    wanted = sum(turn.lasts for turn in turns) + sum(quiet)
    least = sum(turn.least for turn in turns) + sum(shortest)
    share = 1.0 if wanted <= time else max(0.0, time - least) / max(wanted - least, _ROUNDING)
    for turn in turns:
        turn.lasts = turn.least + share * (turn.lasts - turn.least)
    return [low + share * (pause - low) for low, pause in zip(shortest, quiet, strict=True)]


def _lane(
    name: str, dealer: Dealer, rng: random.Random, time: float, interval: float, failover: float, lanes: int
) -> Iterator[Fault]:
    quiet = interval * lanes / 2
    turn = _Turn(name, dealer, rng, interval, failover)
    if turn.least > time:
        turn.hurry()
    # The first quiet period has begun at some time before the run, and ends early enough for a whole turn.
    start = rng.random() * max(min(quiet, time - turn.lasts), 0.0)
    while True:
        stop = min(start + turn.lasts, time)
        if stop - start < turn.least - _ROUNDING:
            return
        yield turn.fault(start, stop)
        start = stop + quiet * rng.uniform(0.67, 1.33)
        turn = _Turn(name, dealer, rng, interval, failover)


def no_time_for(nemeses: Iterable[str], faults: Sequence[Fault], failover: float) -> list[str]:
    """What does not fit into the time of a run: a turn of a nemesis, or a failover while one hits the primary."""
    dealt = {fault.name for fault in faults}
    hasty = {one.name for one in faults if PRIMARY in one.plan.values() and one.stop - one.start < failover}
    return [
        *(f"a turn of {name}" for name in nemeses if name not in dealt),
        *(f"a failover while {name} hits the primary" for name in sorted(hasty)),
    ]
