"""Leases: one is there for as long as it was granted or renewed for, and not longer.

By intervals: a lease that was granted or renewed for T begins anew somewhere between the invocation and the completion
of that. So it is there at least until T after the invocation, and at most until T after the completion; a renewal of
unknown outcome may have made it T longer still. Once it is gone, only a grant brings it back.

Servers measure that time by their own clocks: while one of them was made wrong, nobody can tell how long a lease is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.checkers.findings import Findings
from harness.checkers.timeline import Timeline, begins, ends, select
from harness.columns import LARGEST, Ints
from harness.errors import HistoryError
from harness.history import FAIL, INFO, MONITOR_PROCESS, NEVER, OK, History, Operations
from harness.operation import PROLONGS_LEASES
from harness.periods import Period, fault_periods
from harness.roles import PRIMARY, sightings
from harness.verdict import Budget, Checker, Verdict
from harness.words import count, named

_LOOKS: Final = ("look", "read")
_FOR_GOOD: Final = 10**18
"""What is granted for so many ns, or more, is there for good: no history is that long."""
_TICK: Final = 10_000_000
"""How much too early, in ns, a lease may be gone: stores count in milliseconds, on a clock that they look at rarely."""


class Lease(Checker):
    """Judges leases: ``grant`` and ``renew`` of a number of seconds, ``look`` or ``read``, and ``revoke``.

    Each lease is a key. An answer to ``grant`` or ``renew`` that is a number says for how many seconds it is in truth;
    ``renew`` and ``look`` are answered with false or nothing when the lease is gone. ``slack`` is for how many seconds
    beyond its time a lease may still be there that nobody revoked; in a store that says that it prolongs leases
    (``harness.target``), for any time once a fault was active, or another primary took over, since it was granted.
    """

    def __init__(self, slack: float = 0.0) -> None:
        self._slack = int(slack * 1e9)

    def blind(self, history: History) -> str:
        """Why nothing could have been wrong; empty where something could."""
        operations: Operations = history.operations()
        granted = operations.type[select(operations, "grant")] == OK
        seen = operations.type[select(operations, *_LOOKS, "renew")] == OK
        return "" if granted.any() and seen.any() else "no lease was granted and looked at"

    def check(self, history: History, budget: Budget) -> Verdict:
        operations: Operations = history.operations()
        findings = Findings(operations)
        leases = _Leases(operations, findings)
        evidence = {
            "leases": len(np.unique(operations.key[leases.grants])),
            "lease_looks": len(leases.there) + len(leases.gone),
        }
        if history.steps_back():
            return Verdict("unknown", "the recorded time steps back, and leases are judged by it", evidence=evidence)
        leases.gone_early()
        leases.outlived(self._slack)
        leases.came_back()
        if leases.prolonged:
            evidence["lease_looks_prolonged"] = leases.prolonged
        if leases.untimed:
            evidence["lease_looks_by_wrong_clocks"] = leases.untimed
        looks = count(leases.untimed, "look")
        unknown = f"{looks} found a lease too short or too long while a clock was wrong" if leases.untimed else ""
        return findings.verdict("violation", evidence, unknown)


class _Leases:
    """All leases of a history; ``there`` and ``gone`` are the looks at one that found it, or did not."""

    def __init__(self, operations: Operations, findings: Findings) -> None:
        self._operations, self._findings = operations, findings
        periods = fault_periods(operations.history)
        self._wrong_clocks = [(period.start, period.end) for period in periods if period.name == "clock"]
        self._prolonging = _prolonging(operations.history, periods)
        self.untimed = 0
        """How many looks would have been wrong if all clocks had been right."""
        self.prolonged = 0
        """How many found a lease after its time that the store may have prolonged."""
        self._span = len(operations.history)
        grants, renewals, revokes = (select(operations, name) for name in ("grant", "renew", "revoke"))
        reads = select(operations, *_LOOKS)
        kind = operations.type
        self.grants = grants[kind[grants] != FAIL]
        self._revokes = revokes[kind[revokes] != FAIL]
        looks = np.sort(np.concatenate([reads, renewals]))
        looks = looks[kind[looks] == OK]
        value = operations.history.value
        answers = [value[event] for event in operations.completed[looks].tolist()]
        is_there = np.array([answer is not None and answer is not False for answer in answers], dtype=bool)
        self.there, self.gone = looks[is_there], looks[~is_there]
        self._renewed = self.there[np.isin(self.there, renewals)]
        self._maybe = renewals[kind[renewals] == INFO]
        self._time = np.zeros(len(operations), dtype=np.int64)
        """For how long, in ns, each grant and renewal is; a renewal that does not say is for as long as the grant."""
        granted: dict[int, int] = {}
        begun = np.concatenate([grants, renewals])
        for row, key in zip(begun.tolist(), operations.key[begun].tolist(), strict=True):
            self._time[row] = nanoseconds = self._seconds(row, granted.get(key))
            granted.setdefault(key, nanoseconds)

    def _seconds(self, row: int, granted: int | None) -> int:
        """What was granted, as the store says or else as it was asked for. Raises ``HistoryError`` if nothing says."""
        operations = self._operations
        answer = operations.result(row) if operations.type[row] == OK else None
        for seconds in (answer, operations.argument(row)):
            if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds >= 0:
                return int(min(seconds, _FOR_GOOD / 1e9) * 1e9)
        if granted is None:
            line = operations.history.line_of(int(operations.invoked[row]))
            raise HistoryError(
                "a lease is granted for a number of seconds, and this one does not say how many", line=line
            )
        return granted

    def gone_early(self) -> None:
        """Nobody may miss a lease before its time, if it was not revoked."""
        operations, gone = self._operations, self.gone
        began = np.concatenate([self.grants, self._renewed])
        began = began[operations.type[began] == OK]
        key = operations.key[gone]
        shortest = np.full(len(operations.history.keys), NEVER, dtype=np.int64)
        asked = np.concatenate([self.grants, self._renewed, self._maybe])
        np.minimum.at(shortest, operations.key[asked], self._time[asked])  # a shorter one may have cut it short
        least = operations.call[began] + shortest[operations.key[began]]
        line = Timeline(operations.key[began], ends(operations, began), self._span)
        best = line.greatest(least, key, begins(operations, gone))
        revoked = Timeline(operations.key[self._revokes], begins(operations, self._revokes), self._span)
        kept = revoked.count(key, ends(operations, gone)) == 0
        early = (best >= 0) & kept
        early[early] = operations.ret[gone[early]] + _TICK < least[best[early]]
        for at in np.flatnonzero(early).tolist():
            if _meets(self._wrong_clocks, int(operations.call[began[best[at]]]), int(operations.ret[gone[at]])):
                self.untimed += 1
                continue
            if self._findings.enough("gone early"):
                continue
            beginning, look = int(began[best[at]]), int(gone[at])
            did, between = self._findings.did, self._findings.clock.between
            rest = between(int(operations.ret[look]), int(least[best[at]]))
            time = int(self._time[beginning])
            for_time = "for good" if time >= _FOR_GOOD else f"for {between(0, time)}"
            text = (
                f"{did(beginning)}, {for_time}. Yet {did(look)}, {rest} or more before its time, and nobody had "
                "revoked it."
            )
            self._add("gone early", text, [beginning, look])

    def outlived(self, slack: int) -> None:
        """Nobody may find a lease after its time, after it was revoked, or before it was granted."""
        operations, there = self._operations, self.there
        latest, revoked = self._latest()
        late = operations.call[there] - latest
        over = revoked | ((latest != NEVER) & ((late > slack) | (latest < 0)))
        granted = np.full(len(operations.history.keys), NEVER, dtype=np.int64)
        np.minimum.at(granted, operations.key[self.grants], operations.call[self.grants])
        for at in np.flatnonzero(over).tolist():
            since, until = int(granted[operations.key[there[at]]]), int(operations.ret[there[at]])
            if latest[at] >= 0 and not revoked[at]:
                if _meets(self._prolonging, since, until):
                    self.prolonged += 1
                    continue
                if _meets(self._wrong_clocks, since, until):
                    self.untimed += 1
                    continue
            if self._findings.enough("outlived"):
                continue
            look, clock = int(there[at]), self._findings.clock
            key = operations.key == operations.key[look]
            before = np.flatnonzero(key & (operations.call < operations.call[look]))
            shown = before[np.isin(before, np.concatenate([self.grants, self._renewed, self._maybe, self._revokes]))]
            rows = [*shown[-3:].tolist(), look]
            if latest[at] < 0:
                text = f"{self._findings.did(look)}. Yet nobody had granted it."
            else:
                text = (
                    f"{'; '.join(map(self._findings.did, rows[:-1]))}. Yet {self._findings.did(look)}, "
                    f"{clock.between(0, int(late[at]))} after the last moment at which it can have been there."
                )
            self._add("outlived", text, rows)

    def came_back(self) -> None:
        """Nobody may find a lease after somebody missed it, if no grant was open then, or began later."""
        operations, there = self._operations, self.there
        key, moment = operations.key[there], begins(operations, there)
        before = Timeline(operations.key[self.gone], ends(operations, self.gone), self._span)
        # Of all that missed it before, the one that was invoked last: the fewest grants can have come after it.
        last = before.greatest(begins(operations, self.gone), key, moment)
        missed = np.where(last >= 0, operations.invoked[self.gone[last]], 0) if len(self.gone) else np.zeros_like(last)
        over = Timeline(operations.key[self.grants], ends(operations, self.grants), self._span)
        begun = Timeline(operations.key[self.grants], begins(operations, self.grants), self._span)
        none = begun.count(key, ends(operations, there)) == over.count(key, missed)
        granted = begun.count(key, ends(operations, there)) > 0
        for at in np.flatnonzero((last >= 0) & none & granted).tolist():
            if self._findings.enough("came back"):
                continue
            earlier, look = int(self.gone[last[at]]), int(there[at])
            text = (
                f"{self._findings.did(earlier)}. Later {self._findings.did(look)}, though nobody had granted it again."
            )
            self._add("came back", text, [earlier, look])

    def _latest(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """For each look that found a lease the last moment at which it can have been there; never, if that is open.

        And whether it had certainly been revoked by then.
        """
        operations, there = self._operations, self.there
        key, call, ret = operations.key[there], begins(operations, there), ends(operations, there)
        known = operations.type[self.grants] == OK
        latest = np.full(len(there), -1, dtype=np.int64)
        # A renewal that begins after the look did would have come too late; a grant may begin a lease anew.
        for rows, moment in ((self.grants[known], ret), (self._renewed, call)):
            until = operations.ret[rows] + self._time[rows]
            best = Timeline(operations.key[rows], begins(operations, rows), self._span).greatest(until, key, moment)
            if len(rows):
                latest = np.where(best >= 0, np.maximum(latest, until[best]), latest)
        latest = np.where(latest >= 0, latest + self._perhaps_longer(key, call), latest)
        unsure = self.grants[~known]
        may_begin = Timeline(operations.key[unsure], begins(operations, unsure), self._span).count(key, ret) > 0
        return self._cut(np.where(may_begin, NEVER, latest))

    def _perhaps_longer(self, key: NDArray[np.int32], moment: Ints) -> Ints:
        """For how many ns more a lease may be there at each moment, by the renewals of unknown outcome before it.

        No more than a quarter of 2**63, so that a moment and a lease can be added to it.
        """
        rows = self._maybe
        maybe = Timeline(self._operations.key[rows], begins(self._operations, rows), self._span)
        longer = self._time[rows]
        if longer.sum(dtype=float) < LARGEST // 2:
            whole: Ints = maybe.total(longer, key, moment)
            return whole
        most: Ints = np.minimum(maybe.total(longer.astype(object), key, moment), LARGEST // 2).astype(np.int64)
        return most

    def _cut(self, latest: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The same, but not after a lease was revoked whose grants were all over by then."""
        operations, there = self._operations, self.there
        sure = self._revokes[operations.type[self._revokes] == OK]
        if not len(sure) or not len(there):
            return latest, np.zeros(len(there), dtype=bool)
        by_end = Timeline(operations.key[sure], ends(operations, sure), self._span)
        # Of the revocations before a look the one that was invoked last: the grants must be over by then.
        call, key = begins(operations, there), operations.key[there]
        last = by_end.greatest(operations.invoked[sure].astype(np.int64), key, call)
        invoked = np.where(last >= 0, operations.invoked[sure[last]], 0)
        granted = Timeline(operations.key[self.grants], ends(operations, self.grants), self._span)
        begun = Timeline(operations.key[self.grants], begins(operations, self.grants), self._span)
        over = begun.count(key, ends(operations, there)) == granted.count(key, invoked)
        revoked = (last >= 0) & over & (latest >= 0)
        return np.where(revoked, np.minimum(latest, operations.ret[sure[last]]), latest), revoked

    def _add(self, kind: str, text: str, rows: list[int]) -> None:
        key = self._operations.key_name(rows[-1])
        self._findings.add(kind, f"Lease {named(key)}: {text}", rows)


def _prolonging(history: History, periods: Sequence[Period]) -> list[tuple[int, int]]:
    """The times (ns) in which leases may have become longer, in a store that says so.

    They are those of every fault, and from each primary's last moment to the first one of the next term's.
    """
    if all(event.f != PROLONGS_LEASES for event in history.special(MONITOR_PROCESS)):
        return []
    times = [(period.start, period.end) for period in periods]
    primary = sorted(
        (sighting for sighting in sightings(history) if sighting.role == PRIMARY), key=lambda sighting: sighting.start
    )
    for earlier, later in pairwise(primary):
        if (earlier.node, earlier.term) != (later.node, later.term):
            times.append((min(earlier.end, later.start), max(earlier.end, later.start)))
    return times


def _meets(times: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    """Whether one of some times has a moment in common with another time."""
    return any(one_start <= end and one_end >= start for one_start, one_end in times)
