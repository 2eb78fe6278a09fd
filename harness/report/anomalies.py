"""The anomalies one by one: what was seen, in words, as a picture, as a cycle, and as orders that were tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from harness.report.anomaly_picture import anomaly_picture
from harness.report.cycle import Cycle, cycle
from harness.report.picture import Picture
from harness.report.story import Story
from harness.scene import Act, Scene, Scenes, found_instead
from harness.verdict import Anomaly, Order
from harness.words import key_named, named

_FEW: Final = 5
"""So many anomalies need no index, and are open to begin with."""
_OTHERS: Final = 300
"""The most other operations of one picture."""
_OF_ALL: Final = 6_000
"""The most of all pictures together, so that a page of many anomalies stays small."""


@dataclass(frozen=True)
class Told:
    """One anomaly, by its number from 1 on. ``start`` and ``end`` are of its window of time: places on its axis."""

    number: int
    anomaly: Anomaly
    about: str
    when: str
    instead: str
    picture: Picture | None
    acts: Sequence[Act]
    cycle: Cycle | None
    orders: Sequence[Order]
    open: bool

    @property
    def events(self) -> str:
        """The numbers of its operations in the history, as the page's script reads them."""
        return ",".join(str(act.link) for act in self.acts if act.link is not None)


@dataclass(frozen=True)
class Group:
    """The anomalies of one kind on one key."""

    kind: str
    about: str
    first: str
    numbers: Sequence[int]


@dataclass(frozen=True)
class Anomalies:
    """All of them; ``in_all`` is how many there are, explained here or not. ``groups`` is empty where there are few."""

    told: Sequence[Told]
    groups: Sequence[Group]
    in_all: int


def anomaly_section(story: Story) -> Anomalies | None:
    """The anomalies of a run; None if there is none."""
    anomalies = story.verdict.anomalies
    if not anomalies:
        return None
    most = max(min(_OTHERS, _OF_ALL // len(anomalies)), 20)
    scenes = Scenes(story.operations, story.periods, story.sightings)
    few = len(anomalies) <= _FEW
    told = [
        _told(number, anomaly, scenes.scene(anomaly, most), opened=few or number == 1)
        for number, anomaly in enumerate(anomalies, 1)
    ]
    return Anomalies(told, [] if few else _groups(told), story.verdict.total)


def anomaly_drawing(story: Story, number: int) -> Picture | None:
    """The picture of one anomaly by its number from 1 on; None if it rests on no operations."""
    scene = Scenes(story.operations, story.periods, story.sightings).scene(story.verdict.anomalies[number - 1])
    return None if scene is None else anomaly_picture(scene, number)


def _told(number: int, anomaly: Anomaly, scene: Scene | None, *, opened: bool) -> Told:
    return Told(
        number,
        anomaly,
        _about(anomaly),
        "" if scene is None else f"{min(act.op.call for act in scene.acts) / 1e9:.3f} s",
        found_instead(anomaly),
        None if scene is None else anomaly_picture(scene, number),
        [] if scene is None else scene.acts,
        cycle(anomaly),
        anomaly.orders,
        opened,
    )


def _about(anomaly: Anomaly) -> str:
    """The key that it is on, or the keys of its cycle."""
    if anomaly.key is not None:
        return key_named(anomaly.key)
    keys = sorted({named(edge.key) for edge in anomaly.edges if edge.key is not None})
    return f"{'key' if len(keys) == 1 else 'keys'} {', '.join(keys)}" if keys else ""


def _groups(told: Sequence[Told]) -> list[Group]:
    """By kind and key, in the order in which each kind came first."""
    grouped: dict[tuple[str, str], list[Told]] = {}
    for entry in told:
        grouped.setdefault((entry.anomaly.kind, entry.about), []).append(entry)
    kinds = list(dict.fromkeys(entry.anomaly.kind for entry in told))
    groups = [
        Group(kind, about, entries[0].when, [entry.number for entry in entries])
        for (kind, about), entries in grouped.items()
    ]
    return sorted(groups, key=lambda group: kinds.index(group.kind))
