"""The rows of an anomaly's picture: what is drawn in each, and where, in places of its axis and pixels from the top."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from harness.periods import Period, describe
from harness.report.picture import COLOURS, PRIMARIES, colour_of
from harness.scene import Act, Scene
from harness.verdict import Witness
from harness.words import duration, named, printable, shortened, show, whereabouts

Data = list[dict[str, Any]]

BAR: Final = 14
"""The height of a bar, in pixels."""
LINE: Final = 15
"""The height of a line of text."""
ROW: Final = 37
"""The height of the row of a process with one line of labels."""
LETTER: Final = 6.4
"""The width of a letter."""
_WIDE: Final = 860
"""The width of a drawing for which labels are laid out."""
_LABEL: Final = 46
"""The most letters of a label."""
_TOOLTIP: Final = 120
"""The most letters of what an operation did, where it is told of at its bar."""
_PROCESSES: Final = 14
"""The most rows of processes; others share a row for each node."""


@dataclass
class Layout:
    """Rows from the top down: each with its label and where it is (pixels)."""

    labels: list[tuple[float, str, str]] = field(default_factory=list)
    height: float = 4

    def row(self, height: float, label: str = "", short: str = "") -> float:
        """The top of a new row."""
        top = self.height
        self.height += height
        if label:
            self.labels.append((top + height - BAR / 2 - 3, printable(label), printable(short)))
        return top


def fault_lanes(scene: Scene, layout: Layout) -> Data:
    """A lane for each fault; those of one name that follow one another share theirs."""
    lanes: dict[float, Period] = {}
    data = []
    for period in scene.faults:
        free = (top for top, last in lanes.items() if last.name == period.name and last.end < period.start)
        if (top := next(free, None)) is None:
            top = layout.row(LINE + 3)
        lanes[top] = period
        left, right = scene.axis.place(period.start), scene.axis.place(period.end)
        data.append(
            {
                "x": left,
                "x2": right,
                "y": top,
                "y2": top + LINE,
                "label": printable(describe(period)),
                "when": _when(period.start, period.end),
                "colour": colour_of(period.name),
            }
        )
    return data


def primary_rows(scene: Scene, layout: Layout) -> Data:
    """A row for each node that was primary."""
    nodes = list(dict.fromkeys(reign.node for reign in scene.reigns))
    tops = {node: layout.row(LINE + 2) for node in nodes}
    terms = sorted({reign.term for reign in scene.reigns if reign.term is not None})
    data = []
    for reign in scene.reigns:
        which = terms.index(reign.term) if reign.term is not None else nodes.index(reign.node)
        term = "" if reign.term is None else f", term {reign.term}"
        data.append(
            {
                "x": scene.axis.place(reign.start),
                "x2": scene.axis.place(reign.end),
                "y": tops[reign.node] + 3,
                "label": printable(f"{named(reign.node)} primary{term}"),
                "when": _when(reign.start, reign.end),
                "colour": PRIMARIES[which % len(PRIMARIES)],
            }
        )
    return data


def witness_bars(scene: Scene, layout: Layout) -> tuple[Data, Data, dict[int, float]]:
    """The operations that show the anomaly, their labels, and the tops of the rows of their processes."""
    bars, labels = [], []
    tops: dict[int, float] = {}
    for process, acts in scene.by_process.items():
        mine = [_label(scene, act) for act in acts]
        lines = _stacked(mine)
        nodes = {act.op.node for act in acts} | {a.op.node for a in scene.others if a.op.process == process}
        top = layout.row(lines * LINE + BAR + 8, *_named(process, nodes))
        tops[process] = top + lines * LINE + 2
        for label in mine:
            act = label.pop("act")
            line = label.pop("line")
            labels.append({**label, "y": tops[process] - line * LINE - 8})
            bars.append(_bar(scene, act, tops[process], COLOURS["witness"]))
    bars.sort(key=lambda bar: bar["number"])
    return bars, labels, tops


def _named(process: int, nodes: set[str | None]) -> tuple[str, str]:
    """What the row of a process is called, with its node if it had one only; and in short."""
    only = next(iter(nodes)) if len(nodes) == 1 else None
    return f"process {process}" + (f", {named(only)}" if only else ""), f"p{process}"


def _label(scene: Scene, act: Act) -> dict[str, Any]:
    """The text at a bar, over its beginning or, near the end of the axis, its end."""
    words = act.words + whereabouts(act.op.node, act.op.server)
    if act is scene.acts[-1] and 0 < len(scene.anomaly.possible) <= 2:
        words += f", not {' or '.join(map(show, scene.anomaly.possible))}"
    text = printable(f"{act.mark}: {shortened(words, _LABEL)}")
    left = scene.axis.place(act.op.call)
    right = left if act.op.ret is None else scene.axis.place(act.op.ret)
    ends = left * _WIDE + len(text) * LETTER > _WIDE
    return {
        "act": act,
        "x": right if ends else left,
        "text": text,
        "mark": act.mark,
        "align": "right" if ends else "left",
        "link": act.link,
    }


def _stacked(labels: Data) -> int:
    """Give each label of a row a line where it is not in the way of another; how many lines there are."""
    ends: list[list[tuple[float, float]]] = []
    for label in labels:
        length = len(label["text"]) * LETTER + 10
        start = label["x"] * _WIDE - (length if label["align"] == "right" else 0)
        free = (n for n, taken in enumerate(ends) if all(start > b or start + length < a for a, b in taken))
        line = next(free, len(ends))
        if line == len(ends):
            ends.append([])
        ends[line].append((start, start + length))
        label["line"] = line
    return len(ends)


def other_bars(scene: Scene, layout: Layout, tops: dict[int, float]) -> Data:
    """The operations beside, on the rows of their processes; where there are too many, on one for each node."""
    rest = sorted({act.op.process for act in scene.others} - set(tops))
    row: Callable[[Witness], Any] = lambda op: op.process  # noqa: E731
    if len(rest) + len(tops) > _PROCESSES:
        row = lambda op: op.process if op.process in tops else f"others, {named(op.node or 'no node')}"  # noqa: E731
    places: dict[Any, float] = dict(tops)
    nodes: dict[Any, set[str | None]] = {}
    for act in scene.others:
        nodes.setdefault(row(act.op), set()).add(act.op.node)
    data = []
    for key in sorted(nodes.keys() - places.keys(), key=lambda key: (isinstance(key, str), key)):
        label, short = (key, key.removeprefix("others, ")) if isinstance(key, str) else _named(key, nodes[key])
        places[key] = layout.row(BAR + 6, label, short) + 3
    for act in scene.others:
        data.append(_bar(scene, act, places[row(act.op)], COLOURS.get(act.op.type, COLOURS["unknown"])))
    return data


def _bar(scene: Scene, act: Act, top: float, colour: str) -> dict[str, Any]:
    op = act.op
    where = whereabouts(op.node, op.server)
    left = scene.axis.place(op.call)
    bar = {
        "x": left,
        "x2": min(left + 0.12, 1.0) if op.ret is None else scene.axis.place(op.ret),
        "y": top,
        "y2": top + BAR,
        "what": printable(f"process {op.process}{where}: {shortened(act.words, _TOOLTIP)}"),
        "when": _when(op.call, op.ret) + (" (failed)" if op.type == "fail" else ""),
        "colour": colour,
        "open": op.ret is None,
        "op": act.link,
    }
    if act.mark:
        bar["number"] = next(number for number, own in enumerate(scene.acts) if own is act)
    return bar


def _when(start: int, end: int | None) -> str:
    if end is None:
        return f"from {start / 1e9:.6f} s, without ever learning the outcome"
    return f"{start / 1e9:.6f} s to {end / 1e9:.6f} s ({duration(end - start)})"
