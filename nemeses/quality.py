"""How bad a link is: the qualities that are dealt, and what has to be seen of each for it to be there."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Annotated, Any

import msgspec

from harness.errors import FaultError
from harness.nemeses.links import Link, Watched
from harness.options import Number, Seconds, Share

PACKETS = Share(0.001, 1, zero="none")
SHARES = ("loss", "duplicate", "reorder", "corrupt")
STRENGTHS: dict[str, tuple[float, ...]] = {
    "loss": (0.1, 0.3),
    "delay": (0.05, 0.2),
    "jitter": (0.05, 0.2),
    "duplicate": (0.1, 0.3),
    "reorder": (0.1, 0.3),
    "corrupt": (0.05, 0.1),
    "rate": (50_000.0, 200_000.0),
}
"""How strong each quality is when it is dealt: seconds, shares of the packets, bytes a second."""
MIX = "mix"
KINDS = (*STRENGTHS, MIX)
"""What a deck of qualities deals."""
_SILENT = 0.95
"""The share of packets lost from which on a link may look cut."""

Quality = dict[str, float]
"""By name how strong a link has each quality; what is not there is 0."""


class Limits(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the quality in a plan may be: ``rate`` is in bytes a second."""

    delay: Annotated[float, Seconds(0.0001, 60, zero="none")] = 0.0
    jitter: Annotated[float, Seconds(0.0001, 60, zero="none")] = 0.0
    loss: Annotated[float, PACKETS] = 0.0
    duplicate: Annotated[float, PACKETS] = 0.0
    reorder: Annotated[float, PACKETS] = 0.0
    corrupt: Annotated[float, PACKETS] = 0.0
    rate: Annotated[float, Number(1000, 10_000_000_000, zero="no limit")] = 0.0

    def __post_init__(self) -> None:
        if not any(getattr(self, name) for name in self.__struct_fields__):
            raise ValueError("its quality is perfect: that would do nothing")


def draw(rng: random.Random, kind: str) -> Quality:
    """One quality, or of a mix several."""
    names = sorted(rng.sample(sorted(STRENGTHS), rng.randint(2, 4))) if kind == MIX else [kind]
    return {name: rng.choice(STRENGTHS[name]) for name in names}


def lost(quality: Quality) -> float:
    """The share of packets that are lost, or thrown away since they are corrupt."""
    return 1 - (1 - quality.get("loss", 0.0)) * (1 - quality.get("corrupt", 0.0))


def measured(watched: Watched, links: Collection[Link]) -> dict[str, Any]:
    """What was seen of some links together: shares of the datagrams, seconds there and back, bytes a second of each."""
    seen = [watched.links[link] for link in sorted(links)]
    heard = sum(traffic.heard for traffic in seen)
    missed = sum(traffic.missed for traffic in seen)
    trips = [traffic.round_trips for traffic in seen if traffic.round_trips]
    rates = [traffic.rate for traffic in seen if traffic.rate]
    damaged = [watched.damaged.get(to) for to in {to for _, to in links}]
    return {
        "heard": heard,
        "lost": round(missed / (heard + missed), 4) if heard else 1.0,
        "duplicate": round(sum(traffic.doubled for traffic in seen) / heard, 4) if heard else 0.0,
        "reorder": round(sum(traffic.overtaken for traffic in seen) / heard, 4) if heard else 0.0,
        "delay": round(min(shortest for shortest, _, _ in trips), 5) if trips else None,
        "jitter": round(max(late - soon for _, soon, late in trips), 5) if trips else None,
        "rate": round(max(rates)) if rates else None,
        "corrupt": None if None in damaged else sum(count or 0 for count in damaged),
    }


def usable(before: Watched, during: Watched, quality: Quality, cut: Collection[Link]) -> set[Link]:
    """The links by which a quality can be judged. Raises ``FaultError`` if there is none.

    Nothing, or not all, comes over a link that was ``cut`` by another fault while it was measured, as if it were lost;
    and nothing comes back where the way back was.
    """
    links = before.open if lost(quality) >= _SILENT or _hides(quality) else before.open & during.open
    links = {(start, to) for start, to in links if (start, to) not in cut and (to, start) not in cut}
    if not links:
        raise FaultError("nothing came over any of the links: another fault cuts them")
    return links


def _hides(quality: Quality) -> bool:
    """Whether what is sent may come after the end of a measurement."""
    return quality.get("delay", 0.0) + quality.get("jitter", 0.0) > 0.5


def holds(quality: Quality, before: Mapping[str, Any], during: Mapping[str, Any], listened: float) -> bool:
    """Whether each quality that was asked for was seen, and was not there before.

    ``listened`` are the seconds in which every datagram could have come back. Shares count from less than half of what
    was asked for on, since few packets may be sent in a short time; delays are never shorter.
    """
    asked = {name: value for name, value in quality.items() if value > 0}
    gone = lost(quality)
    wanted: list[bool] = []
    if gone > 0:
        wanted.append(during["lost"] >= max(0.4 * gone, before["lost"] + 0.2 * gone))
    if gone >= _SILENT:  # then nothing else can be seen
        return all(wanted)
    if "corrupt" in asked and during["corrupt"] is not None:
        wanted.append(during["corrupt"] > before["corrupt"])
    for name in ("duplicate", "reorder"):
        if name in asked:
            wanted.append(during[name] >= max(0.3 * asked[name], before[name] + 0.2 * asked[name]))
    late = quality.get("delay", 0.0) + quality.get("jitter", 0.0)
    if late > 0 and during["delay"] is None:
        wanted.append(late > listened)
    elif late > 0 and before["delay"] is not None:
        if "delay" in asked:
            wanted.append(during["delay"] >= before["delay"] + 0.9 * asked["delay"])
        if "jitter" in asked:
            spread = min(asked["jitter"], listened)
            wanted.append(during["jitter"] >= max(0.4 * spread, before["jitter"] + 0.2 * spread))
    elif late > 0:
        wanted.append(False)
    if "rate" in asked:
        fast, slow = before["rate"] or 0.0, during["rate"] or 0.0
        wanted.append(fast >= 1.5 * asked["rate"] and slow <= 1.3 * asked["rate"])
    return bool(wanted) and all(wanted)
