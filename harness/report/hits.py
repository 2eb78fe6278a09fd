"""Which nodes a fault hit, and how, in a few words that can stand beside a node's name.

What a nemesis recorded is read as far as it is understood. Of faults that are unknown here, as those of plug-ins, all
nodes that are named in it are taken for hit, or else every node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from harness.periods import Period, deed_of
from harness.words import named, printable

_VICTIMS: Final[Mapping[str, tuple[str, ...]]] = {
    "partition": ("cut",),
    "kill": ("killed",),
    "pause": ("paused",),
    "restart": ("terminated",),
    "clock": ("ahead",),
    "disk": ("spoiled", "before"),
    "storage": ("lost", "before"),
    "squeeze": ("left",),
    "membership": ("leaving",),
}
"""Where each nemesis has recorded the nodes that it hit: the first that is there."""
_DEEDS: Final[Mapping[str, str]] = {
    "kill": "killed",
    "pause": "paused",
    "restart": "restarted",
    "squeeze": "short of CPU or memory",
}
_CUTS: Final[Mapping[str, str]] = {"both": "cut from", "in": "deaf to", "out": "unheard by"}
"""What becomes of packets between a node and others, by the direction in which they are dropped."""
_BAD: Final[Mapping[str, str]] = {"both": "to and from", "out": "to", "in": "from"}
"""Which of its packets go over bad links."""


class Hit(NamedTuple):
    """A fault hit a node from ``start``, when it was in place, to ``end`` (ns); ``proved`` if that was measured."""

    node: str
    fault: str
    start: int
    end: int
    words: str
    proved: bool


def hits(periods: Sequence[Period], nodes: Sequence[str]) -> list[Hit]:
    """Each fault at each of ``nodes`` that it hit, in the order of their start."""
    return [
        Hit(node, period.name, start, period.end, printable(words), period.proved)
        for period in periods
        for start in [period.start if period.in_place is None else period.in_place]
        for node, words in _of(period, nodes).items()
    ]


def _of(period: Period, nodes: Sequence[str]) -> dict[str, str]:
    """What a fault did to each node that it hit."""
    what = period.what if isinstance(period.what, dict) else {}
    name = period.name
    if name == "partition" and isinstance(cuts := what.get("cut"), dict):
        flaps = ", off and on" if what.get("flap") else ""
        return {node: f"{words}{flaps}" for node in nodes if (words := "; ".join(_with_whom(cuts.get(node), _CUTS)))}
    if name == "netem" and isinstance(links := what.get("links"), list):
        return _bad_links(links, what.get("quality"), nodes)
    if name == "membership" and isinstance(members := what.get("members"), list):
        return {node: "left the cluster" for node in _named_in(what.get("leaving"), nodes) if node not in members}
    places = [what[place] for place in _VICTIMS.get(name, tuple(what)) if what.get(place)]
    victims = next(filter(None, (_named_in(place, nodes) for place in places)), list(nodes))
    return {node: _deed(period, what, node) for node in victims}


def _named_in(place: Any, nodes: Sequence[str]) -> list[str]:
    """The nodes that a list names, or a table has something of."""
    if isinstance(place, dict):
        return [node for node in nodes if place.get(node) not in (None, {}, [])]
    return [node for node in nodes if node in place] if isinstance(place, list) else []


def _with_whom(ways: Any, words_of: Mapping[str, str]) -> list[str]:
    """What is between a node and others, of which a table says in which direction: "cut from n2, n3"."""
    if not isinstance(ways, dict):
        return []
    peers_of = {words: [named(peer) for peer, way in ways.items() if way == told] for told, words in words_of.items()}
    return [f"{words} {', '.join(peers)}" for words, peers in peers_of.items() if peers]


def _bad_links(links: list[Any], quality: Any, nodes: Sequence[str]) -> dict[str, str]:
    """What happens to packets between a node and others, or clients: "loss 0.3 to n2, n3"."""
    bad = " ".join(f"{name} {value:g}" for name, value in _numbers(quality).items() if value) or "bad links"
    ways: dict[str, dict[str, str]] = {}
    for link in links:
        if isinstance(link, list) and len(link) == 2:
            sender, receiver = map(str, link)
            for node, peer, way in ((sender, receiver, "out"), (receiver, sender, "in")):
                known = ways.setdefault(node, {}).setdefault(peer, way)
                ways[node][peer] = way if known == way else "both"
    return {node: f"{bad} {', '.join(_with_whom(ways[node], _BAD))}" for node in nodes if node in ways}


def _deed(period: Period, what: Mapping[str, Any], node: str) -> str:
    """What any other fault did to a node."""
    if period.name == "clock" and isinstance(seconds := _numbers(what.get("ahead")).get(node), float):
        asked = _numbers(what.get("asked"))
        swings = ", to and fro" if asked.get("period") else ""
        drifts = f", rate {asked['rate']:g}" if asked.get("rate", 1.0) != 1.0 else ""
        return f"clock {seconds:+.3g} s{swings}{drifts}"
    if period.name in ("disk", "storage"):
        return f"{period.name} {what.get('kind', '')}".rstrip()
    return _DEEDS.get(period.name) or (f"{period.name} ({deed})" if (deed := deed_of(period.what)) else period.name)


def _numbers(table: Any) -> dict[str, float]:
    """The numbers of a table that may be none."""
    if not isinstance(table, dict):
        return {}
    return {name: float(value) for name, value in table.items() if isinstance(value, int | float)}
