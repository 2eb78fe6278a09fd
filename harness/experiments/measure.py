"""From a run of the plan to its figures: each is counted from the history, and from nothing else."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import msgspec

from harness.columns import hashable
from harness.errors import SplitbrainError
from harness.experiments.models import Strongest
from harness.experiments.plan import TIMEOUT, Place, Plan, Scale
from harness.history import History
from harness.periods import Period, fault_periods

READ: Final = "read"
WRITE: Final = "write"
LOCAL: Final = "read-local"
_ALONE: Final = 0.9
"""The share of acknowledged writes from which on the node that acknowledged them is the primary."""


class Share(msgspec.Struct, frozen=True):
    """So many of so many."""

    part: int = 0
    whole: int = 0

    @property
    def percent(self) -> float | None:
        """From 0 to 100; None of nothing."""
        return 100 * self.part / self.whole if self.whole else None


class Served(msgspec.Struct, frozen=True):
    """Which share of reads, and of writes, succeeded on one side of a cut."""

    read: Share
    write: Share


class Latency(msgspec.Struct, frozen=True):
    """Exact quantiles in ms (nearest rank) of what succeeded; None where nothing did."""

    p50: float | None
    p99: float | None


class Times(msgspec.Struct, frozen=True):
    """How long reads, and writes, took the clients of one region."""

    read: Latency
    write: Latency


class Cut(msgspec.Struct, frozen=True):
    """One cut: who was alone, what was served on each side, and when the majority's side wrote again.

    ``writes_after`` is in seconds from the cut to the first acknowledged write of the majority's side that was invoked
    since; None where there was none before the heal.
    """

    alone: tuple[str, ...]
    majority: Served
    minority: Served
    writes_after: float | None


class Figures(msgspec.Struct, frozen=True):
    """All that is measured of a mode."""

    model: str
    why_not_stronger: str
    unknown: str
    far_cut: Cut
    primary_cut: Cut
    near: Times
    far: Times
    stale: Share
    """Reads that were answered with what had been overwritten before they began."""
    stalest_ms: float
    lost: Share
    """Acknowledged writes of pairs that are gone."""
    unclear: int
    """Those that are gone where the other write of their pair, of unknown outcome, may have overwritten them."""
    converged_after: float | None
    """Seconds from the last heal on until all nodes answered the same for good; None where they never did."""

    @property
    def majority(self) -> Served:
        """What was served on the majority's side, in both cuts."""
        return _together(self.far_cut.majority, self.primary_cut.majority)

    @property
    def minority(self) -> Served:
        """What was served on the minority's side, in both cuts."""
        return _together(self.far_cut.minority, self.primary_cut.minority)


def _together(one: Served, other: Served) -> Served:
    def both(a: Share, b: Share) -> Share:
        return Share(a.part + b.part, a.whole + b.whole)

    return Served(both(one.read, other.read), both(one.write, other.write))


@dataclass(frozen=True)
class Done:
    """An operation of a client. Times are in ns; ``ret`` is None where nobody knows when, or whether, it was done."""

    f: str
    key: Any
    node: str
    call: int
    ret: int | None
    type: str
    value: Any
    client: int = 0
    """The number of the client among those of its node."""

    @property
    def is_ok(self) -> bool:
        """Whether it was done."""
        return self.type == "ok"


def operations(history: History, workers: int = 1, nodes: int = 1) -> list[Done]:
    """The operations of clients, in the order of their invocations; each of so many nodes has so many ``workers``."""
    placed: list[Done] = []
    under_way: dict[int, int] = {}
    for event in history.events():
        if not isinstance(event.process, int):
            continue
        if event.type == "invoke":
            under_way[event.process] = len(placed)
            client = event.process % (workers * nodes) // nodes
            placed.append(Done(event.f, event.key, str(event.node), event.time, None, "info", event.value, client))
            continue
        at = under_way.pop(event.process)
        if event.type != "info":
            value = placed[at].value if event.f == WRITE else event.value
            placed[at] = replace(placed[at], ret=event.time, type=event.type, value=value)
    return placed


class Window(NamedTuple):
    """A cut as it was: the nodes of the side that was alone, and from when to when (ns) it was certainly there."""

    alone: frozenset[str]
    start: int
    end: int

    def side(self, node: str) -> bool:
        """Whether a node is on the side that was alone."""
        return node in self.alone


def windows(history: History, scale: Scale) -> tuple[Window, Window]:
    """The two cuts. Raises ``SplitbrainError`` where one was not measured to be there."""
    periods = [period for period in fault_periods(history) if period.name == "partition"]
    wrong = [period for period in fault_periods(history) if not period.proved or period.in_place is None]
    if len(periods) != 3 or wrong:
        raise SplitbrainError(f"the plan's faults were not all there: {len(periods)} cuts, {len(wrong)} unproved")
    first, second = (
        Window(_alone(period), period.in_place or 0, round(end * 1e9))
        for period, (_, end) in zip(periods[1:], scale.cuts, strict=True)
    )
    return first, second


def _alone(period: Period) -> frozenset[str]:
    """The side of a cut that stands first in its plan."""
    cut: Mapping[str, Mapping[str, str]] = period.what["cut"]
    first = next(iter(cut))
    return frozenset(node for node in cut if node == first or node not in cut[first])


def figures(history: History, plan: Plan, place: Place, scale: Scale, model: Strongest) -> Figures:
    """All figures of a run of the plan."""
    done = operations(history, scale.workers, len(place.nodes))
    cuts = windows(history, scale)
    near = _near(history, place, scale)
    # Litmus tests and hasty pairs are crowded where something has just happened: they would count too much.
    regular = [one for one in done if one.client < scale.clients and one.f in (READ, WRITE)]
    calm = [one for one in regular if scale.arranged * 1e9 <= one.call < (scale.cuts[0][0] - TIMEOUT) * 1e9]
    stale, stalest = staleness(regular)
    lost, unclear = losses(done, plan.pairs, cuts)
    far_cut, primary_cut = (_cut(regular, window) for window in cuts)
    return Figures(
        model=model.model,
        why_not_stronger=model.why_not_stronger,
        unknown=model.unknown,
        far_cut=far_cut,
        primary_cut=primary_cut,
        near=_times(calm, near),
        far=_times(calm, set(place.nodes) - near),
        stale=stale,
        stalest_ms=stalest,
        lost=lost,
        unclear=unclear,
        converged_after=converged_after(done, round(scale.healed * 1e9)),
    )


# Availability and latency


def _cut(done: Sequence[Done], window: Window) -> Cut:
    within = [one for one in done if window.start <= one.call < window.end - round(TIMEOUT * 1e9)]
    majority = [one for one in within if not window.side(one.node)]
    minority = [one for one in within if window.side(one.node)]
    first = next((one.ret for one in _by_return(majority) if one.f == WRITE), None)
    after = None if first is None else (first - window.start) / 1e9
    return Cut(tuple(sorted(window.alone)), _served(majority), _served(minority), after)


def _near(history: History, place: Place, scale: Scale) -> frozenset[str]:
    """The nodes of the region that the primary is in while nothing is cut; without one, of the first node's."""
    begin, end = scale.arranged * 1e9, scale.cuts[0][0] * 1e9
    served = Counter(
        event.served_by.node
        for event in history.events()
        if event.f == WRITE and event.served_by is not None and begin <= event.time < end
    )
    (first, writes), *_ = served.most_common(1) or [(place.nodes[0], 0)]
    lone = first if writes > _ALONE * served.total() else place.nodes[0]
    return frozenset(node for node in place.nodes if (node in place.far) == (lone in place.far))


def _by_return(done: Iterable[Done]) -> list[Done]:
    return sorted((one for one in done if one.is_ok), key=lambda one: one.ret or 0)


def _served(done: Sequence[Done]) -> Served:
    def share(f: str) -> Share:
        of = [one for one in done if one.f == f]
        return Share(sum(one.is_ok for one in of), len(of))

    return Served(share(READ), share(WRITE))


def _times(done: Sequence[Done], nodes: Collection[str]) -> Times:
    def latency(f: str) -> Latency:
        took = sorted((one.ret - one.call) / 1e6 for one in done
                      if one.is_ok and one.ret is not None and one.f == f and one.node in nodes)  # fmt: skip
        return Latency(quantile(took, 0.5), quantile(took, 0.99))

    return Times(latency(READ), latency(WRITE))


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that so large a share of all does not exceed; None of nothing."""
    return ordered[max(-int(-share * len(ordered) // 1), 1) - 1] if ordered else None


# Stale reads


def staleness(done: Sequence[Done]) -> tuple[Share, float]:
    """How many reads were stale, of those that were answered, and by how many ms at most.

    A read is stale if a write had been acknowledged before the read began, and was itself invoked after the write that
    the read tells of had returned. Values are unique, so that a read tells who wrote what it found.
    """
    writes: dict[Any, list[Done]] = defaultdict(list)
    for one in done:
        if one.f == WRITE and one.type != "fail":
            writes[one.key].append(one)
    answered, stale, most = 0, 0, 0
    for one in done:
        if one.f != READ or not one.is_ok or isinstance(one.value, list):
            continue
        answered += 1
        of_key = writes[one.key]
        seen = next((write for write in of_key if write.value == one.value), None)
        if one.value is not None and (seen is None or seen.ret is None):
            continue
        since = -1 if seen is None or seen.ret is None else seen.ret
        newer = [w.ret for w in of_key if w.is_ok and w.ret is not None and w.call > since and w.ret < one.call]
        if newer:
            stale += 1
            most = max(most, one.call - min(newer))
    return Share(stale, answered), most / 1e6


# Lost writes


def losses(done: Sequence[Done], pairs: Mapping[str, tuple[str, str]], cuts: Sequence[Window]) -> tuple[Share, int]:
    """Of the acknowledged writes of pairs how many are gone, and of how many that is unclear.

    Gone is what no node holds in the end. It is lost where the other write of the pair failed, or was acknowledged on
    the other side of the cut, so that it cannot have known of what it replaced. It is unclear where the other write's
    outcome is unknown, and no loss where both were on one side.
    """
    written: dict[str, list[Done]] = defaultdict(list)
    held: dict[str, dict[str, Any]] = defaultdict(dict)
    for one in done:
        if one.key in pairs:
            if one.f == WRITE:
                written[one.key].append(one)
            elif one.f == LOCAL and one.is_ok:
                held[one.key][one.node] = one.value
    lost = unclear = acknowledged = 0
    for key, both in written.items():
        window = next((cut for cut in cuts if all(cut.start <= one.call < cut.end for one in both)), None)
        if window is None or len(both) != 2 or key not in held:
            continue
        left = {hashable(v) for value in held[key].values() for v in (value if isinstance(value, list) else [value])}
        apart = window.side(both[0].node) != window.side(both[1].node)
        for one, other in (both, both[::-1]):
            acknowledged += one.is_ok
            if one.is_ok and one.value not in left:
                unclear += other.type == "info"
                lost += other.type == "fail" or (other.is_ok and apart)
    return Share(lost, acknowledged), unclear


# Convergence


def converged_after(done: Sequence[Done], healed: int) -> float | None:
    """The seconds from the heal until all nodes that hold a key answered the same of it for good.

    Nodes are asked in rounds; that moment is the end of the first round from which on all agree.
    """
    rounds: dict[Any, dict[str, list[Done]]] = defaultdict(lambda: defaultdict(list))
    for one in done:
        if one.f == LOCAL and one.call >= healed:
            rounds[one.key][one.node].append(one)
    latest = healed
    for by_node in rounds.values():
        answers = [each for each in by_node.values() if any(one.is_ok for one in each)]
        together = list(zip(*answers, strict=False))
        agreed = len(together)
        while agreed and _agree(together[agreed - 1]):
            agreed -= 1
        if agreed == len(together):
            return None
        latest = max(latest, *(one.ret or 0 for one in together[agreed])) if agreed else latest
    return (latest - healed) / 1e9


def _agree(answers: Sequence[Done]) -> bool:
    return all(one.is_ok for one in answers) and len({hashable(one.value) for one in answers}) == 1
