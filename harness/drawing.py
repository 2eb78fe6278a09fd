"""Cycles of operations as small drawings of text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.verdict import Edge
from harness.words import key_named, printable

_LABEL: Final = 24
"""The most characters of a label."""
_DRAWN: Final = 12
"""The most operations of a cycle that are drawn; of longer ones the first and the last."""


def _label(edge: Edge) -> str:
    """What stands at an edge: its kind, and the key that it is about."""
    label = edge.kind if edge.key is None else f"{edge.kind} {key_named(edge.key)}"
    return printable(label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…")


def _shortened(edges: Sequence[Edge]) -> list[tuple[str, str]]:
    """The operations of a cycle, each with what stands at the edge behind it."""
    steps = [(f"T{edge.source}", _label(edge)) for edge in edges]
    if len(steps) <= _DRAWN:
        return steps
    half = _DRAWN // 2
    return [*steps[:half], ("...", f"{len(steps) - _DRAWN} more"), *steps[-half:]]


def as_lines(edges: Sequence[Edge], width: int) -> list[str]:
    """A cycle as lines of at most ``width`` characters, if that can be; its operations are called T and their index.

    A short one lies in one row, with its last edge below, and a long one stands upright.
    """
    if not edges:
        return []
    steps = _shortened(edges)
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
