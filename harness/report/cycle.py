"""A cycle of transactions as a graph, and each of its edges in words.

Two stand side by side; more stand one below the other, no wider than a telephone, with the last edge leading up again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from harness.drawing import edge_label, shown_edges
from harness.scene import in_words
from harness.verdict import Anomaly, Edge
from harness.words import printable, shortened

_WIDTH: Final = 340
_ROW: Final = 78
"""From one transaction down to the next."""
_BOX: Final = (46, 34)
"""The width and height of what stands for a transaction."""
_LEFT: Final = 74.0
"""Where the middles of those are that stand one below the other."""
_LETTERS: Final = 34
"""The most letters of what a transaction did."""
_KINDS: Final = ("ww", "wr", "rw")
"""The kinds of edges that have colours of their own."""


@dataclass(frozen=True)
class Node:
    """A transaction: the middle of its box (pixels), its name, and what it did, if there is room for that."""

    x: float
    y: float
    name: str
    did: str = ""


@dataclass(frozen=True)
class Arrow:
    """An edge: the path of its arrow, its label, which begins, ends or has its middle at ``x``, and its kind."""

    path: str
    label: str
    kind: str
    x: float
    y: float
    anchor: str


@dataclass(frozen=True)
class Cycle:
    """A drawing of this size (pixels), and all edges, each with its label, to be told in words."""

    width: int
    height: int
    nodes: Sequence[Node]
    arrows: Sequence[Arrow]
    edges: Sequence[tuple[Edge, str]]


def cycle(anomaly: Anomaly) -> Cycle | None:
    """The cycle of an anomaly; None if it has none."""
    edges = [(edge, edge_label(edge)) for edge in anomaly.edges]
    if not edges:
        return None
    if len(edges) == 2:
        return _side_by_side(edges)
    did = {op.index: shortened(printable(in_words(op)), _LETTERS) for op in anomaly.operations}
    return _below_each_other(edges, did)


def _kind(edge: Edge) -> str:
    return edge.kind if edge.kind in _KINDS else "other"


def _side_by_side(edges: Sequence[tuple[Edge, str]]) -> Cycle:
    (there, over), (back, under) = edges
    left, right, y = 50.0, _WIDTH - 50.0, 64.0
    begin, end = left + _BOX[0] / 2 + 2, right - _BOX[0] / 2 - 2
    bend, far = 60, 46
    upper = f"M{begin},{y - 10} C{begin + bend},{y - far} {end - bend},{y - far} {end},{y - 10}"
    lower = f"M{end},{y + 10} C{end - bend},{y + far} {begin + bend},{y + far} {begin},{y + 10}"
    return Cycle(
        _WIDTH,
        128,
        [Node(left, y, f"T{there.source}"), Node(right, y, f"T{back.source}")],
        [
            Arrow(upper, over, _kind(there), _WIDTH / 2, y - 44, "middle"),
            Arrow(lower, under, _kind(back), _WIDTH / 2, y + 56, "middle"),
        ],
        edges,
    )


def _below_each_other(edges: Sequence[tuple[Edge, str]], did: dict[int | None, str]) -> Cycle:
    shown = shown_edges([edge for edge, _ in edges])
    top, half_box = 24.0, _BOX[1] / 2
    nodes, arrows = [], []
    for row, edge in enumerate(shown):
        y = top + row * _ROW
        if edge is None:
            nodes.append(Node(_LEFT, y, "…", f"{len(edges) - len(shown) + 1} more"))
        else:
            nodes.append(Node(_LEFT, y, f"T{edge.source}", did.get(edge.source, "")))
        label, kind = ("", "other") if edge is None else (edge_label(edge), _kind(edge))
        if row + 1 < len(shown):
            path = f"M{_LEFT},{y + half_box + 1} L{_LEFT},{y + _ROW - half_box - 3}"
            arrows.append(Arrow(path, label, kind, _LEFT + 10, y + _ROW / 2 + 5, "start"))
        else:
            side, out = _LEFT - _BOX[0] / 2, 10
            path = f"M{side - 1},{y} C{out},{y - 10} {out},{top + 10} {side - 3},{top + 2}"
            arrows.append(Arrow(path, label, kind, 8, y + half_box + 18, "start"))
    return Cycle(_WIDTH, int(top + (len(shown) - 1) * _ROW + half_box + 26), nodes, arrows, edges)
