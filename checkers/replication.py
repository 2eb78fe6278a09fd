"""How far were replicas behind the primary, and do all nodes hold the same once the faults are over?

That is evidence, and never an anomaly: what a store promises of it differs, and other checkers judge that.

A node is *behind* by the time that has passed since the primary was first seen to be further than the node is now. That
is a lower bound: nodes are asked twice a second, and a primary's lead counts from when it was first seen to be that.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from harness.history import History
from harness.periods import healed_at
from harness.replication import OwnStates, Progress, own_states_of, progress_of
from harness.roles import PRIMARY
from harness.verdict import Budget, Checker, Verdict

_POINTS: Final = 1000
"""How many moments of each node are in the evidence, at most."""


class Lag(msgspec.Struct):
    """Of one node: for how long (ns), and by how much in the store's own unit, it was behind at the worst.

    ``silent_ns`` is the longest time in which it told nothing: what it lacked meanwhile nobody knows.
    ``series`` holds ``[when it was asked, for how long it was behind]`` (ns), in the order of time.
    """

    behind_ns: int
    behind: int
    silent_ns: int
    series: list[tuple[int, int]]


class Replicated(msgspec.Struct):
    """All of it; ``behind_after_heal_ns`` is how long after the heal of all faults some node was still behind."""

    nodes: dict[str, Lag]
    behind_after_heal_ns: int
    own_states: OwnStates | None


class Replication(Checker):
    """Valid, with what nodes said of their positions and of what they hold in the evidence."""

    def check(self, history: History, budget: Budget) -> Verdict:
        progress = progress_of(history)
        reigns = _Reigns(progress)
        healed = healed_at(history)
        late = 0
        nodes: dict[str, Lag] = {}
        for name, of_node in progress.items():
            lag = Lag(0, 0, max((b.asked - a.answered for a, b in pairwise(of_node)), default=0), [])
            for report in of_node:
                since, by = reigns.behind(report)
                if since and report.asked - since <= healed:  # later a store is behind as it always is
                    late = max(late, report.asked - healed)
                lag.behind_ns = max(lag.behind_ns, since)
                lag.behind = max(lag.behind, by)
                lag.series.append((report.asked, since))
            step = -(-len(lag.series) // _POINTS)
            worst = (max(lag.series[at : at + step], key=lambda point: point[1]) for at in range(0, len(of_node), step))
            lag.series = list(worst)
            nodes[name] = lag
        own = own_states_of(history)
        if not nodes and own is None:
            return Verdict("valid")
        replicated = Replicated(nodes, late, own)
        return Verdict("valid", evidence={"replication": msgspec.to_builtins(replicated)})


class _Reigns:
    """The primaries' positions over time: those of the highest term that was seen, from when it was seen first.

    Where terms are not told, another node that is primary begins another reign.
    """

    def __init__(self, seen: Mapping[str, Sequence[Progress]]) -> None:
        self._answered: list[int] = []
        self._position: list[int] = []
        """The furthest of the reign until then."""
        self._began: list[int] = []
        """Where in the lists the reign began."""
        self._term: list[int] = []
        reign = -1, ""
        leading = [
            (one.answered, name, one) for name, reports in seen.items() for one in reports if one.role == PRIMARY
        ]
        for _, name, report in sorted(leading, key=lambda led: led[:2]):
            if (own := _term(report)) < reign[0]:
                continue
            new = (own, name) != reign
            reign = own, name
            furthest = report.position if new else max(report.position, self._position[-1])
            self._began.append(len(self._answered) if new else self._began[-1])
            self._answered.append(report.answered)
            self._position.append(furthest)
            self._term.append(own)

    def behind(self, report: Progress) -> tuple[int, int]:
        """For how long (ns), and by how much, a node was certainly behind when it was asked."""
        last = bisect_right(self._answered, report.asked) - 1
        if last < 0 or self._position[last] <= report.position:
            return 0, 0
        if report.role == PRIMARY and _term(report) >= self._term[last]:
            return 0, 0  # it leads by now, and what its predecessor had beyond it is lost
        first = bisect_right(self._position, report.position, self._began[last], last + 1)
        return report.asked - self._answered[first], self._position[last] - report.position


def _term(report: Progress) -> int:
    return -1 if report.term is None else report.term
