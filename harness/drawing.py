"""Cycles of operations: what stands at their edges, and small drawings of text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.verdict import Edge
from harness.words import key_named, printable, shortened

_LABEL: Final = 24
"""The most characters of a label."""
_DRAWN: Final = 12
"""The most operations of a cycle that are drawn; of longer ones the first and the last."""


def edge_label(edge: Edge) -> str:
    """What stands at an edge: its kind, and the key that it is about."""
    label = edge.kind if edge.key is None else f"{edge.kind} {key_named(edge.key)}"
    return shortened(printable(label), _LABEL)


def shown_edges(edges: Sequence[Edge]) -> list[Edge | None]:
    """The edges of a cycle that are drawn; None stands for those that are left out."""
    half = _DRAWN // 2
    return [*edges] if len(edges) <= _DRAWN else [*edges[:half], None, *edges[-half:]]


def as_lines(edges: Sequence[Edge], width: int) -> list[str]:
    """A cycle as lines of at most ``width`` characters, if that can be; its operations are called T and their index.

    A short one lies in one row, with its last edge below, and a long one stands upright.
    """
    if not edges:
        return []
    shown = shown_edges(edges)
    more = f"{len(edges) - len(shown) + 1} more"
    steps = [("...", more) if edge is None else (f"T{edge.source}", edge_label(edge)) for edge in shown]
    row = "".join(f"{name} ──{label}──▶ " for name, label in steps[:-1]) + steps[-1][0]
    label = steps[-1][1]
    inside = len(row) - len(steps[-1][0]) // 2 - 2
    if len(row) <= width and len(label) + 4 <= inside:
        return [row, f"▲{' ' * inside}│", f"╰{label.center(inside + 2, ' ').strip().center(inside, '─')}╯"]
    lines = []
    for number, (name, text) in enumerate(steps):
        lines.append(f"{'│ ' if number else '╭▶'} {name}")
        lines.append(f"│   │ {text}" if number < len(steps) - 1 else f"╰── {text}")
    return lines
