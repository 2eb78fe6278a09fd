"""Lists that have forked, as trees: what all histories have in common, and how each of them goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from harness.report.picture import COLOURS, SCHEMA, Picture, Specification, from_top, own_colour
from harness.report.story import Story
from harness.words import count, named, printable, shortened, show

Tree = Mapping[str, Any]
"""A tree as the checker of branches has it in its evidence."""

_ROW: Final = 62
_TOP: Final = 36
"""Pixels between branches, and above the first one."""
_LAST: Final = 2
_FIRST: Final = 4
"""How many elements are drawn: of what is in common the last ones, of a branch the first ones."""
_DEEPEST: Final = 3
"""How many forks behind one another are drawn."""
_ROWS: Final = 8
"""How many branches are drawn."""
_NARROW: Final = 8
"""How many columns fit on a narrow screen."""
_LISTED: Final = 8
"""How many elements of a branch are told in words."""
_LABEL: Final = 4
"""The most characters in a dot."""


class _Dot(NamedTuple):
    """An element with its label; ``whole`` is empty for one that stands for several others."""

    label: str
    whole: str
    lost: bool


@dataclass
class _Drawing:
    """What is on the picture, in columns and pixels; ``rows`` are taken from the top."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    dots: list[dict[str, Any]] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)
    strikes: list[dict[str, Any]] = field(default_factory=list)
    ends: list[dict[str, Any]] = field(default_factory=list)
    labels: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 1
    columns: float = 0.0

    def grow(self, tree: Tree, column: float, row: int, depth: int = 0) -> None:
        """Draw a tree, from a column on; its first branch goes on in the same row."""
        fate = _fate(tree) if depth else "common"
        y, colour = _y(row), _COLOUR_OF[fate]
        branches = sorted(tree.get("branches", ()), key=lambda branch: not branch.get("survived"))
        forks = bool(branches) and depth < _DEEPEST and self.rows < _ROWS
        again = ", and forks again" if branches and not forks else ""
        self.labels.append({"x": column - 0.15, "y": y - 24, "label": _label(tree, depth) + again, "colour": colour})
        last = first = column
        for last, dot in enumerate(_shown(tree, depth, forks), round(column)):
            self._dot(dot, last, y, "lost" if dot.lost else fate)
        self.columns = max(self.columns, last)
        self._line((first, y), (last if forks else last + 0.4, y), fate)
        if not forks:
            shape = CROSS if fate in _NOT_THERE else "triangle-right"
            self.ends.append({"x": last + 0.4, "y": y, "shape": shape, "colour": colour})
            return
        for number, branch in enumerate(branches):
            if number and self.rows >= _ROWS:
                more = count(len(branches) - number, "more branch", "more branches")
                grey = _COLOUR_OF["common"]
                self.labels.append({"x": last + 0.75, "y": _y(self.rows) - 24, "label": more, "colour": grey})
                break
            below = self.rows if number else row
            self.rows += bool(number)
            self._line((last, y), (last + 1, _y(below)), _fate(branch))
            self.grow(branch, last + 1, below, depth + 1)

    def _dot(self, dot: _Dot, column: float, y: float, fate: str) -> None:
        place = {"x": column, "y": y, "label": dot.label, "colour": _COLOUR_OF[fate], "ink": _INK_ON[fate]}
        if not dot.whole:
            self.gaps.append(place)
            return
        self.dots.append({**place, "say": f"{dot.whole}: {_FATES[fate]}"})
        if dot.lost:
            self.strikes.append(place)

    def _line(self, start: tuple[float, float], end: tuple[float, float], fate: str) -> None:
        self.lines.append({"x": start[0], "y": start[1], "x2": end[0], "y2": end[1], "colour": _COLOUR_OF[fate]})


_COLOUR_OF: Final = {
    "common": COLOURS["backup"],
    "kept": COLOURS["kept"],
    "lost": COLOURS["lost"],
    "gone": COLOURS["lost"],
    "seen": COLOURS["unknown"],
}
_INK_ON: Final = {"common": "#0b0d10", "kept": "#fff", "lost": "#fff", "gone": "#fff", "seen": "#0b0d10"}
"""The letters in dots, which are as bright on light as on dark paper."""
_NOT_THERE: Final = ("lost", "gone")
CROSS: Final = "M-1,-.6L-.6,-1L0,-.4L.6,-1L1,-.6L.4,0L1,.6L.6,1L0,.4L-.6,1L-1,.6L-.4,0Z"
"""The shape of what is lost, as a path."""
_FATES: Final = {
    "common": "in all histories",
    "kept": "kept",
    "lost": "lost",
    "gone": "gone",
    "seen": "read, and nobody knows whether it was kept",
}


@dataclass(frozen=True)
class Fork:
    """A list that has forked; ``wide`` if its picture needs more than a narrow screen."""

    picture: Picture
    wide: bool


def forks(story: Story) -> list[Fork]:
    """Each list that has forked, those of which most is lost first."""
    trees: Mapping[str, Tree] = story.evidence.get("trees", {})
    in_order = sorted(trees, key=lambda key: -_lost(trees[key]))
    return [_fork(number, key, trees[key]) for number, key in enumerate(in_order, 1)]


def _fork(number: int, key: str, tree: Tree) -> Fork:
    drawing = _Drawing()
    drawing.grow(tree, 0, 0)
    after = f"after {show(tree['elements'][-1])}" if tree["elements"] else "at its beginning"
    title = printable(f"The list {named(key)} forked {after}")
    picture = Picture(f"fork-{number}", title, printable(_words(tree)), _specification(drawing))
    return Fork(picture, drawing.columns > _NARROW)


def _specification(drawing: _Drawing) -> Specification:
    height = max(mark["y"] for mark in [*drawing.dots, *drawing.gaps, *drawing.labels]) + 26
    scale = {"domain": [-0.6, drawing.columns + 0.6], "nice": False, "zero": False}
    x = {"field": "x", "type": "quantitative", "scale": scale, "axis": None}
    y = from_top(height)
    colour = own_colour()
    text = {"field": "label"}
    stretch = {"x": x, "y": y, "x2": {"field": "x2"}, "y2": {"field": "y2"}, "color": colour}
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": height,
        "config": {"view": {"stroke": None}},
        "layer": [
            {"data": {"values": drawing.lines}, "mark": {"type": "rule", "strokeWidth": 4}, "encoding": stretch},
            {
                "data": {"values": drawing.dots},
                "mark": {"type": "point", "filled": True, "size": 1000, "opacity": 1},
                "encoding": {"x": x, "y": y, "color": colour, "tooltip": {"field": "say"}},
            },
            {
                "data": {"values": drawing.dots},
                "mark": {"type": "text", "fontSize": 11, "fontWeight": 600},
                "encoding": {
                    "x": x,
                    "y": y,
                    "text": text,
                    "color": own_colour("ink"),
                    "tooltip": {"field": "say"},
                },
            },
            {
                "data": {"values": drawing.strikes},
                "mark": {"type": "point", "shape": "stroke", "size": 1000, "strokeWidth": 2, "opacity": 0.9},
                "encoding": {"x": x, "y": y, "color": own_colour("ink")},
            },
            {
                "data": {"values": drawing.ends},
                "mark": {"type": "point", "filled": True, "size": 150, "opacity": 1},
                "encoding": {"x": x, "y": y, "color": colour, "shape": {"field": "shape", "scale": None}},
            },
            {
                "data": {"values": drawing.gaps},
                "mark": {"type": "text", "fontSize": 12, "dy": -11},
                "encoding": {"x": x, "y": y, "text": text},
            },
            {
                "data": {"values": drawing.labels},
                "mark": {"type": "text", "align": "left", "baseline": "bottom", "fontSize": 12.5, "fontWeight": 600},
                "encoding": {"x": x, "y": y, "text": text, "color": colour},
            },
        ],
    }


def _shown(tree: Tree, depth: int, forks: bool) -> list[_Dot]:
    """The elements that are drawn, in their order; of the others only how many there are."""
    elements, lost = tree["elements"], tree.get("lost", ())
    room = _LAST if not depth or forks else _FIRST
    if len(elements) <= room + 1:
        return [_dot(element, lost) for element in elements]
    left = _Dot(f"{len(elements) - room:,} more", "", False)
    if depth:
        return [*(_dot(element, lost) for element in elements[:room]), left]
    return [left, *(_dot(element, lost) for element in elements[-room:])]


def _dot(element: Any, lost: Sequence[Any]) -> _Dot:
    whole = printable(show(element))
    return _Dot(shortened(whole, _LABEL), whole, element in lost)


def _y(row: int) -> int:
    return _TOP + row * _ROW


def _fate(tree: Tree) -> str:
    """What became of a branch as a whole."""
    survived = tree.get("survived")
    if survived is None:
        return "seen"
    return "kept" if survived else "lost" if tree.get("lost") else "gone"


def _lost(tree: Tree) -> int:
    """How many elements of a tree are lost."""
    return len(tree.get("lost", ())) + sum(map(_lost, tree.get("branches", ())))


def _label(tree: Tree, depth: int) -> str:
    """What is said of a branch: "n1: 38 appends, all lost"."""
    number, lost = len(tree["elements"]), len(tree.get("lost", ()))
    if not depth:
        return f"{number:,} in common" if number else "nothing in common"
    who = f"{', '.join(map(named, tree.get('by', ())))}: " if tree.get("by") else ""
    fate = {"kept": ", kept", "gone": ", gone", "seen": ""}.get(_fate(tree), "")
    if lost:
        fate = (", all lost" if number > 1 else ", lost") if lost == number else f", {lost:,} lost"
    return printable(f"{who}{count(number, 'append')}{fate}")


def _words(tree: Tree) -> str:
    """A tree as a sentence or two."""
    branches = tree.get("branches", ())
    clauses = []
    for branch in branches[:_ROWS]:
        elements = " ".join(map(show, branch["elements"][:_LISTED]))
        clauses.append(f"{_label(branch, 1)} ({elements}{' …' if len(branch['elements']) > _LISTED else ''})")
    more = f"; {len(branches) - _ROWS} more" if len(branches) > _ROWS else ""
    return f"{_label(tree, 0)}, then: {'; '.join(clauses)}{more}. A store with one order of appends has one branch."
