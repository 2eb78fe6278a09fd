"""How available was the store? What was served, how fast, and how long it took until all was well again.

That is evidence, and never an anomaly: no store promises to answer while most of its nodes are cut off.

An operation is *served* when it succeeded, or when the store declined it for what the data held (``Declined``). It
belongs to the moment of its invocation. Latencies are those of served operations; their quantiles are exact (nearest
rank). The store is in *full service* at a moment when, of the operations invoked within the second that begins there,
at least 90 % of that share were served that was before the first fault.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.columns import Ints
from harness.history import FAIL, MONITOR_PROCESS, NEVER, OK, History, Operations
from harness.operation import DECLINED
from harness.periods import Period, describe, fault_periods, healed_at
from harness.verdict import Budget, Checker, Verdict
from harness.words import duration
from harness.writes import writing

_WINDOW: Final = 1_000_000_000
_QUANTILES: Final = (0.5, 0.9, 0.99, 0.999, 1.0)
_FAULTS: Final = 100
"""How many faults are in the evidence; all are counted."""
_NAMES: Final = 1000
"""How many functions and nodes are, at most."""
_REASONS: Final = 10
"""How many reasons of failures are."""
_VARIES: Final = re.compile(r"\d+")


class Latency(msgspec.Struct):
    """Exact quantiles, in ns."""

    p50: int
    p90: int
    p99: int
    p999: int = msgspec.field(name="p99.9")
    max: int


class Service(msgspec.Struct):
    """Some operations: how many were served, and how fast."""

    operations: int
    served: int
    latency: Latency | None = None


class Return(msgspec.Struct):
    """The ns from a moment on: to the first operation that was invoked since and served, and to full service again.

    0 stands for service that never was less than full, None for what did not happen: in the history at all, or, of full
    service, before the fault ended or the next one began. Unless it is ``known``, there was no whole second until then
    in which anything was asked, or nothing before the first fault to compare it with. ``first_write`` is the same as
    ``first_served`` for operations that change something, where there are such and others.
    """

    first_served: int | None
    full_service: int | None
    known: bool = True
    first_write: int | msgspec.UnsetType | None = msgspec.UNSET


class Part(msgspec.Struct):
    """One function, or the clients of one node, in a fault: how many operations there were meanwhile and how many of
    them were served, and the ns from its start, and from its end, to the first that was invoked since and served.
    """

    operations: int
    served: int
    after_fault: int | None
    after_heal: int | None


class _First:
    """When the first of some operations was served, of those that were invoked from a moment on."""

    def __init__(self, call: Ints, ret: Ints, served: NDArray[np.bool_]) -> None:
        done = np.where(served, ret, NEVER)
        self._call, self._served = call, np.concatenate([[0], np.cumsum(served)])
        self._first = np.append(np.minimum.accumulate(done[::-1])[::-1], NEVER)

    def after(self, moment: int) -> int | None:
        """The ns until then; None where it never was."""
        first = int(self._first[int(np.searchsorted(self._call, moment))])
        return None if first == NEVER else first - moment

    def between(self, start: int, end: int) -> tuple[int, int]:
        """How many there were from one moment on and before another, and how many of them were served."""
        first, last = np.searchsorted(self._call, [start, end])
        return int(last - first), int(self._served[last] - self._served[first])


class Fault(msgspec.Struct):
    """One fault, from ``start`` to ``end`` (ns).

    ``before`` are the operations since any fault began or ended before it, ``after`` those until the next one does.
    """

    name: str
    what: str
    start: int
    end: int
    before: Service
    during: Service
    after: Service
    from_fault: Return
    from_heal: Return
    functions: dict[str, Part]
    nodes: dict[str, Part]
    """By the node whose clients asked: another one may have served them."""


class Reason(msgspec.Struct):
    """Why operations were not served: ``fail`` did nothing, of ``info`` nobody knows. # stands for any number."""

    type: str
    error: str
    operations: int


class Available(msgspec.Struct):
    """All of it. ``before`` the first fault, ``during`` any and ``after``, while there was none."""

    total: Service
    before: Service
    during: Service
    after: Service
    functions: dict[str, Service]
    nodes: dict[str, Service]
    faults_found: int
    faults: list[Fault]
    worst: dict[str, tuple[int, Return, Return]]
    """By nemesis: how many faults it had, and the longest returns from a fault and from a heal."""
    reasons: list[Reason]
    clauses: list[str]
    """How long writes failed, and when the store was back, a clause each."""


class Availability(Checker):
    """Valid, with everything in the evidence; unknown only where there was no operation."""

    def check(self, history: History, budget: Budget) -> Verdict:
        operations = history.operations()
        if not len(operations):
            return Verdict("unknown", "there was no operation that the store could have served")
        return Verdict("valid", evidence={"availability": msgspec.to_builtins(_Measured(history, operations).all())})


class _Measured:
    """The columns that everything is read from, in the order of invocations."""

    def __init__(self, history: History, operations: Operations) -> None:
        self.history = history
        self.operations = operations
        self.call = operations.call
        self.served = served(operations)
        self.latency = np.where(self.served, operations.ret - self.call, 0)
        self.periods = fault_periods(history)
        self.bounds = np.array(
            sorted({t for period in self.periods for t in (period.start, period.end)}), dtype=np.int64
        )
        self.starts = np.array([period.start for period in self.periods], dtype=np.int64)
        self.first = self._first(np.ones(len(operations), dtype=bool))
        writes = writing(operations)
        self.first_write = self._first(writes) if writes.any() and not writes.all() else None
        functions = self._rows_by(operations.f, history.functions)
        nodes = self._rows_by(history.node[operations.invoked], history.nodes)
        self.functions = {name: self._first(rows) for name, rows in functions.items()}
        self.nodes = {name: self._first(rows) for name, rows in nodes.items()}
        self.services = {name: self.of(rows) for name, rows in functions.items()}
        self.node_services = {name: self.of(rows) for name, rows in nodes.items()}
        self.full = self._full()

    def _full(self) -> NDArray[np.bool_] | None:
        """Whether the store was in full service when each was invoked; None where nothing was served before faults."""
        until = int(np.searchsorted(self.call, self.starts[0])) if len(self.starts) else len(self.call)
        if not self.served[:until].any():
            return None
        sums = np.concatenate([[0], np.cumsum(self.served)])
        here = np.arange(len(self.call))
        over = np.searchsorted(self.call, self.call + _WINDOW)
        # In whole numbers, since a share that is just enough must not depend on how it is rounded.
        good: NDArray[np.bool_] = 10 * (sums[over] - sums[here]) * until >= 9 * int(sums[until]) * (over - here)
        return good

    def _first(self, rows: Ints | NDArray[np.bool_]) -> _First:
        return _First(self.call[rows], self.operations.ret[rows], self.served[rows])

    def of(self, chosen: Ints | NDArray[np.bool_] | slice) -> Service:
        """Those of a slice, a mask, or some rows."""
        was_served = self.served[chosen]
        return Service(len(was_served), int(was_served.sum()), quantiles(self.latency[chosen][was_served]))

    def between(self, start: int, end: int) -> Service:
        """Those that were invoked from one moment on and before another."""
        first, last = np.searchsorted(self.call, [start, end])
        return self.of(slice(first, last))

    def all(self) -> Available:
        ends = np.sort(np.array([period.end for period in self.periods], dtype=np.int64))
        begun = np.searchsorted(self.starts, self.call, side="right")
        hurt = begun > np.searchsorted(ends, self.call, side="left")
        returns = [self._returns(period) for period in self.periods]
        listed = zip(self.periods[:_FAULTS], returns[:_FAULTS], strict=True)
        return Available(
            self.of(slice(None)),
            self.of(begun == 0),
            self.of(hurt),
            self.of(~hurt & (begun > 0)),
            self.services,
            self.node_services,
            len(self.periods),
            [self._fault(period, *both) for period, both in listed],
            self._worst(returns),
            reasons(self.operations, self.served),
            service_clauses(self.history, self.operations),
        )

    def _rows_by(self, code: NDArray[np.int32], names: Sequence[str | None]) -> dict[str, Ints]:
        """The rows of each name, in their order."""
        order = np.argsort(code, kind="stable")
        codes, first = np.unique(code[order], return_index=True)
        last = np.append(first[1:], len(code))
        parts = list(zip(codes.tolist(), first.tolist(), last.tolist(), strict=True))[:_NAMES]
        return {str(names[number]): order[a:b] for number, a, b in parts if names[number] is not None}

    def _parts(self, period: Period, by_name: dict[str, _First]) -> dict[str, Part]:
        return {
            name: Part(*first.between(period.start, period.end + 1), first.after(period.start), first.after(period.end))
            for name, first in by_name.items()
        }

    def _next(self, moment: int) -> int:
        """When the next fault begins or ends."""
        at = int(np.searchsorted(self.bounds, moment, side="right"))
        return int(self.bounds[at]) if at < len(self.bounds) else NEVER

    def _fault(self, period: Period, from_fault: Return, from_heal: Return) -> Fault:
        at = int(np.searchsorted(self.bounds, period.start))
        since = int(self.bounds[at - 1]) if at else 0
        return Fault(
            period.name,
            describe(period),
            period.start,
            period.end,
            self.between(since, period.start),
            self.between(period.start, period.end + 1),
            self.between(period.end + 1, self._next(period.end)),
            from_fault,
            from_heal,
            self._parts(period, self.functions),
            self._parts(period, self.nodes),
        )

    def _returns(self, period: Period) -> tuple[Return, Return]:
        at = int(np.searchsorted(self.starts, period.end, side="right"))
        following = int(self.starts[at]) if at < len(self.starts) else NEVER
        return self._return(period.start, period.end + 1), self._return(period.end, following)

    def _return(self, moment: int, until: int) -> Return:
        row, over = (int(place) for place in np.searchsorted(self.call, [moment, until - _WINDOW]))
        served = self.first.after(moment)
        write = msgspec.UNSET if self.first_write is None else self.first_write.after(moment)
        if self.full is None or row >= over:
            return Return(served, None, known=False, first_write=write)
        here = self.full[row:over]
        worse = int(np.argmin(here))
        if here[worse]:
            return Return(served, 0, first_write=write)
        again = worse + int(np.argmax(here[worse:]))
        full = int(self.call[row + again]) - moment if here[again] else None
        return Return(served, full, first_write=write)

    def _worst(self, returns: list[tuple[Return, Return]]) -> dict[str, tuple[int, Return, Return]]:
        by_name: dict[str, list[tuple[Return, Return]]] = {}
        for period, both in zip(self.periods, returns, strict=True):
            by_name.setdefault(period.name, []).append(both)
        return {
            name: (
                len(pairs),
                _longest([from_fault for from_fault, _ in pairs]),
                _longest([from_heal for _, from_heal in pairs]),
            )
            for name, pairs in by_name.items()
        }


def _longest(returns: list[Return]) -> Return:
    """Of each time the longest; never is longer than any."""

    def longest(times: list[int | None]) -> int | None:
        known = [time for time in times if time is not None]
        return max(known, default=None) if len(known) == len(times) else None

    known = [return_.full_service for return_ in returns if return_.known]
    writes = [return_.first_write for return_ in returns if not isinstance(return_.first_write, msgspec.UnsetType)]
    return Return(
        longest([return_.first_served for return_ in returns]),
        longest(known),
        known=bool(known),
        first_write=longest(writes) if writes else msgspec.UNSET,
    )


def served(operations: Operations) -> NDArray[np.bool_]:
    """Which operations the store has served: those that are ok, or that it has declined."""
    is_served: NDArray[np.bool_] = operations.type == OK
    error = operations.history.error
    for row in np.flatnonzero(operations.type == FAIL).tolist():
        is_served[row] = error.get(int(operations.completed[row]), "").startswith(DECLINED)
    return is_served


def quantiles(values: Ints) -> Latency | None:
    """Exact quantiles by nearest rank: the smallest value that so many of all do not exceed. None of nothing."""
    if not len(values):
        return None
    ranks = [max(int(np.ceil(share * len(values))), 1) - 1 for share in _QUANTILES]
    ordered = np.partition(values, ranks)
    return Latency(*(int(ordered[rank]) for rank in ranks))


def reasons(operations: Operations, answered: NDArray[np.bool_]) -> list[Reason]:
    """Why operations were not served, the most frequent reasons first."""
    history = operations.history
    verbatim: Counter[tuple[str, str]] = Counter()
    for row in np.flatnonzero(~answered).tolist():
        completed = int(operations.completed[row])
        why = "no answer before the end" if completed < 0 else history.error.get(completed, "no reason was told")
        verbatim["fail" if operations.type[row] == FAIL else "info", why] += 1
    counts: Counter[tuple[str, str]] = Counter()
    for (kind, why), number in verbatim.items():
        counts[kind, _VARIES.sub("#", why[:200])] += number
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    listed = [Reason(kind, why, number) for (kind, why), number in ordered[:_REASONS]]
    if rest := sum(number for _, number in ordered[_REASONS:]):
        listed.append(Reason("any", "other reasons", rest))
    return listed


def service_clauses(history: History, operations: Operations) -> list[str]:
    """For how long writes failed, and when the store was back after the heal, as clauses."""
    clauses = []
    if outage := longest_outage(operations):
        clauses.append(f"writes failed for {duration(outage)} at most")
    for event in history.special(MONITOR_PROCESS) if healed_at(history) >= 0 else ():
        if event.f == "recovered" and isinstance(event.value, dict) and event.value.get("seconds", 0) >= 0.05:
            clauses.append(f"all nodes back {event.value['seconds']:.1f} s after the end of all faults")
    return clauses


def longest_outage(operations: Operations) -> int:
    """The longest time (ns) without an acknowledged write in which a write failed or got no answer; 0 without any.

    From one that was acknowledged to the next, or to the last one that failed.
    """
    writes = writing(operations)
    done = np.sort(operations.ret[writes & (operations.type == OK)])
    refused = writes & (operations.type != OK) & (operations.completed >= 0)
    moments = np.sort(operations.history.time[operations.completed[refused]])
    if not len(done) or not len(moments):
        return 0
    done = np.append(done, max(done[-1], moments[-1]))
    before = np.searchsorted(moments, done, side="right")
    between = before[1:] > before[:-1]
    longest: int = np.diff(done)[between].max(initial=0).item()
    return longest
