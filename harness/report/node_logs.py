"""What the nodes' own logs say around faults and anomalies.

Each server stamps its lines by the clock on its wall. What the run has recorded of that clock makes them times of the
run; a fault that shifts a node's clock shifts its lines as well. A line without a stamp belongs to the one before it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from harness.beginning import Began, began_of
from harness.periods import describe
from harness.words import printable

if TYPE_CHECKING:  # which asks for the logs
    from harness.report.story import Story

_MOST: Final = 300
"""How many lines of a node are shown."""
_ENDS: Final = 4 << 20
"""How much of a log is read, at either end of it."""
_LONGEST: Final = 400
"""How much of a line is shown."""
_MOMENTS: Final = 60
_SECOND: Final = 10**9
_FIRST: Final = 100
"""How many lines are shown of the beginning, where no line can be told from the others."""

_STAMPS: Final = (
    # As etcd, PostgreSQL and most others write it, and as Redis does.
    re.compile(
        r"(?P<year>\d{4})[-/](?P<month>\d\d)[-/](?P<day>\d\d)[T ](?P<clock>\d\d:\d\d:\d\d)(?:[.,](?P<part>\d{1,9}))?"
        r" ?(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?\b"
    ),
    re.compile(
        r"(?P<day>\d\d) (?P<month>[A-Z][a-z]{2}) (?P<year>\d{4}) (?P<clock>\d\d:\d\d:\d\d)(?:\.(?P<part>\d{3}))?"
        r"(?P<zone>)\b"
    ),
)
_CHANGING: Final = re.compile(r"[\d.:]+")
_OFTEN: Final = 50
"""A line that differs from so many others by its numbers alone is left out first."""
_STAMPED: Final = 80
"""A stamp begins within so many characters of its line."""
_NAMES: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Line:
    """A line of a log: when it was written (ns since the run began, None if nobody knows), its server, and its text."""

    time: int | None
    server: str
    text: str
    anchor: str = ""


@dataclass(frozen=True)
class Moment:
    """Something that happened between the lines: when (ns), in words, and where in the page it is told of."""

    time: int
    words: str
    link: str = ""


@dataclass(frozen=True)
class Gap:
    """So many lines are left out here."""

    lines: int


@dataclass(frozen=True)
class NodeLog:
    """What is shown of one node's logs, of ``total`` lines. ``files`` are the paths of the whole ones in the run."""

    node: str
    anchor: str
    files: list[str]
    total: int
    shown: list[Line | Moment | Gap]
    stamped: bool
    times: list[int] = field(default_factory=list)
    anchors: list[str] = field(default_factory=list)
    """When the shown lines that have a time were written, in order, and what they are called in the page."""


@dataclass(frozen=True)
class Logs:
    """The logs of all nodes that have any."""

    nodes: list[NodeLog]

    def near(self, node: str, time: int) -> str | None:
        """What the line is called in the page that a node wrote last before a time (ns), or else first after it.

        The node's log itself where no line has a time; None where there is no log of it.
        """
        for log in self.nodes:
            if log.node == node:
                at = bisect_right(log.times, time) - 1
                return log.anchors[max(at, 0)] if log.anchors else log.anchor
        return None


def node_logs(story: Story) -> Logs:
    """The nodes' logs, around the run's faults and its anomalies."""
    began = began_of(story.history)
    moments = _moments(story)
    folder = story.directory.logs
    nodes = (
        [path.name for path in folder.iterdir() if path.is_dir() and not path.is_symlink()] if folder.is_dir() else []
    )
    order = {name: place for place, name in enumerate(story.nodes)}
    nodes.sort(key=lambda name: (order.get(name, len(order)), name))
    logs = (_node_log(story.directory.path, folder / node, began, moments) for node in nodes)
    return Logs([log for log in logs if log.total])


def _moments(story: Story) -> list[Moment]:
    """What is worth a look at the logs, in order; of more than can be shown, some from all over the run."""
    moments = [Moment(period.start, f"{describe(period)} begins") for period in story.periods]
    moments += [Moment(period.end, f"{period.name} has ended") for period in story.periods]
    starts = sorted(
        (min(operation.call for operation in anomaly.operations), number, anomaly.kind)
        for number, anomaly in enumerate(story.verdict.anomalies, 1)
        if anomaly.operations
    )
    while starts:
        first = starts[0]
        together = [one for one in starts if one[0] < first[0] + _SECOND]
        starts = starts[len(together) :]
        kinds = ", ".join(sorted({kind for _, _, kind in together}))
        which = f"anomaly {first[1]} begins" if len(together) == 1 else f"{len(together):,} anomalies begin"
        moments.append(Moment(first[0], f"{which}: {kinds}", f"anomaly-{first[1]}"))
    moments.sort(key=lambda moment: moment.time)
    return [moments[at] for at in _spread(len(moments), _MOMENTS)]


def _node_log(run: Path, folder: Path, began: Began | None, moments: Sequence[Moment]) -> NodeLog:
    name = "log-" + re.sub(r"[^\w.-]", "-", folder.name)
    files = [path for path in sorted(folder.glob("*.log")) if path.is_file() and not path.is_symlink()]
    lines = [line for path in files for line in _read(path, began)]
    stamped = any(line.time is not None for line in lines)
    if stamped:
        lines.sort(key=lambda line: -1 if line.time is None else line.time)
    kept = _around(lines, moments) if stamped else _ends(len(lines))
    shown: list[Line | Moment | Gap] = []
    before, ahead = -1, list(reversed(moments)) if stamped else []
    for at in [*kept, len(lines)]:
        time = lines[at].time if at < len(lines) else None
        if at > before + 1:
            shown.append(Gap(at - before - 1))
        while ahead and (at == len(lines) or (time is not None and ahead[-1].time <= time)):
            shown.append(ahead.pop())
        if at < len(lines):
            shown.append(replace(lines[at], anchor=f"{name}-{at + 1}"))
        before = at
    timed = [(one.time, one.anchor) for one in shown if isinstance(one, Line) and one.time is not None]
    return NodeLog(
        node=folder.name,
        anchor=name,
        files=[str(path.relative_to(run)) for path in files],
        total=len(lines),
        shown=shown,
        stamped=stamped,
        times=[time for time, _ in timed],
        anchors=[anchor for _, anchor in timed],
    )


def _read(path: Path, began: Began | None) -> list[Line]:
    """The lines of a log, in its order."""
    texts = [text for text in _text(path).splitlines() if text.strip()]
    stamps = [_stamp(text) for text in texts] if began else [None] * len(texts)
    # Local time is that of the node: what brings the first line nearer to the run is taken for its zone.
    first = next((stamp.wall for stamp in stamps if stamp and stamp.local), None)
    ahead = 0
    if began and first is not None:
        ahead = min(0, began.zone * _SECOND, key=lambda zone: abs(first - zone - began.wall))
    lines = []
    time: int | None = None
    for text, stamp in zip(texts, stamps, strict=True):
        if began and stamp:
            told = stamp.wall - began.wall - (ahead if stamp.local else 0)
            # What tells whole seconds was written after what stands before it.
            time = time if time is not None and stamp.coarse and told <= time < told + _SECOND else told
        lines.append(Line(time, path.stem, printable(text[:_LONGEST])))
    return lines


def _text(path: Path) -> str:
    """The beginning and the end of a log; that it cannot be read where that is so."""
    try:
        with path.open("rb") as file:
            head = file.read(_ENDS)
            size = path.stat().st_size
            if size > 2 * _ENDS:
                file.seek(size - _ENDS)
                head += b"\n[a part in between is not read here: see the file]\n"
            return (head + file.read(_ENDS)).decode(errors="replace")
    except OSError as error:
        return f"[{path.name} cannot be read: {error.strerror}]"


class _Stamp(NamedTuple):
    """When a line was written (ns since 1970, in local time as if that were UTC); ``coarse`` if to the second only."""

    wall: int
    local: bool
    coarse: bool


def _stamp(text: str) -> _Stamp | None:
    """When a line was written; None where it does not say."""
    found = next(filter(None, (stamp.search(text, 0, _STAMPED) for stamp in _STAMPS)), None)
    if found is None:
        return None
    year, month, day, clock, part, zone = found.group("year", "month", "day", "clock", "part", "zone")
    hour, minute, second = map(int, clock.split(":"))
    try:
        number = int(month) if month.isdecimal() else _NAMES.index(month) + 1
        moment = datetime(int(year), number, int(day), hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    wall = int(moment.timestamp()) * _SECOND + int((part or "0").ljust(9, "0"))
    if zone and zone[0] in "+-":
        wall -= (int(zone[:3]) * 3600 + int(zone[0] + zone[-2:]) * 60) * _SECOND
    return _Stamp(wall, not zone, part is None)


def _around(lines: Sequence[Line], moments: Sequence[Moment]) -> list[int]:
    """Which lines are shown: those of the run, or of these what is rare and nearest to the moments."""
    # How the servers started is of no interest, but where they have said nothing else.
    rare = [at for at, line in enumerate(lines) if line.time is not None and line.time >= 0] or list(range(len(lines)))
    if len(rare) > _MOST:
        # A server that says one thing all the time would hide what else it said.
        shapes = {at: _CHANGING.sub("", lines[at].text) for at in rare}
        often = Counter(shapes.values())
        rare = [at for at in rare if often[shapes[at]] <= _OFTEN] or rare
    if len(rare) <= _MOST:
        return rare
    if not moments:
        return [rare[place] for place in _ends(len(rare))]
    times = [-1 if (time := lines[at].time) is None else time for at in rare]
    places = [bisect_right(times, moment.time) for moment in moments]
    kept: set[int] = set()
    for distance in range(_MOST):
        near = {place + step for place in places for step in (distance, -distance - 1)}
        near = {rare[place] for place in near if 0 <= place < len(rare)}
        if len(kept | near) > _MOST:
            break
        kept |= near
    return sorted(kept)


def _ends(lines: int) -> list[int]:
    """The first lines of so many, and the last."""
    return [*range(min(lines, _FIRST)), *range(max(_FIRST, lines - _MOST + _FIRST), lines)]


def _spread(number: int, most: int) -> list[int]:
    """At most so many places, as far from each other as can be."""
    return list(range(number)) if number <= most else [at * (number - 1) // (most - 1) for at in range(most)]
