"""Cycles of operations as small drawings: lines of text for a terminal, SVG for the report."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from harness.verdict import Edge
from harness.words import key_named, printable

_LABEL: Final = 24
"""The most characters of a label."""
_DRAWN: Final = 12
"""The most operations of a cycle that are drawn; of longer ones the first and the last."""
_SIZE: Final = 16
"""The size of letters in the SVG, in its units."""


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


def as_svg(edges: Sequence[Edge]) -> str:
    """The same as an SVG element: operations on a circle, an arrow for each edge, whose sentence is its title."""
    if not edges:
        return ""
    shown = list(edges)
    if len(edges) > _DRAWN:
        half = _DRAWN // 2
        more = len(edges) - _DRAWN + 1
        gap = replace(edges[half - 1], kind=f"{more} edges", key=None, text=f"{more} edges that are not drawn")
        shown = [*edges[: half - 1], gap, *edges[-half:]]
    radius = max(90.0, 26.0 * len(shown))
    width, height = 2 * radius + 300, 2 * radius + 60
    places = [
        (
            width / 2 + radius * math.sin(2 * math.pi * number / len(shown)),
            height / 2 - radius * math.cos(2 * math.pi * number / len(shown)),
        )
        for number in range(len(shown))
    ]
    drawn = [
        f'<svg class="cycle" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'style="width: {width:.0f}px; max-width: 100%" aria-label="a cycle of {len(edges)} transactions" '
        f'font-size="{_SIZE}" font-family="sans-serif">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="currentColor"/></marker></defs>'
    ]
    for number, edge in enumerate(shown):
        drawn.append(_arrow(edge, places[number], places[(number + 1) % len(places)], bent=len(shown) == 2))
    for edge, (x, y) in zip(shown, places, strict=True):
        drawn.append(
            f'<g><circle cx="{x:.1f}" cy="{y:.1f}" r="22" style="fill: var(--paper, white)" stroke="currentColor"/>'
            f'<text x="{x:.1f}" y="{y + _SIZE / 3:.1f}" text-anchor="middle" fill="currentColor">'
            f"T{edge.source}</text></g>"
        )
    return "".join([*drawn, "</svg>"])


def _arrow(edge: Edge, start: tuple[float, float], end: tuple[float, float], *, bent: bool) -> str:
    """An edge between the rims of two circles; ``bent`` where another one leads back."""
    (x1, y1), (x2, y2) = start, end
    length = math.hypot(x2 - x1, y2 - y1) or 1.0
    dx, dy = (x2 - x1) / length, (y2 - y1) / length
    bend = 0.35 * length if bent else 0.0
    mx, my = (x1 + x2) / 2 - dy * bend, (y1 + y2) / 2 + dx * bend
    a, b = (_toward((x1, y1), (mx, my)), _toward((x2, y2), (mx, my)))
    # The middle of the curve, a little outside of it.
    lx, ly = (a[0] + 2 * mx + b[0]) / 4 - dy * 6, (a[1] + 2 * my + b[1]) / 4 + dx * 6
    anchor = "middle" if abs(dy) < 0.3 else "start" if -dy > 0 else "end"
    return (
        f'<g><title>{html.escape(printable(edge.text))}</title><path d="M{a[0]:.1f},{a[1]:.1f} Q{mx:.1f},{my:.1f} '
        f'{b[0]:.1f},{b[1]:.1f}" fill="none" stroke="currentColor" stroke-width="1.5" marker-end="url(#tip)"/>'
        f'<text x="{lx:.1f}" y="{ly:.1f}" text-anchor="{anchor}" fill="currentColor">'
        f"{html.escape(_label(edge))}</text></g>"
    )


def _toward(circle: tuple[float, float], point: tuple[float, float], radius: float = 24.0) -> tuple[float, float]:
    """The place on the rim of a circle in the direction of a point."""
    length = math.hypot(point[0] - circle[0], point[1] - circle[1]) or 1.0
    return circle[0] + radius * (point[0] - circle[0]) / length, circle[1] + radius * (point[1] - circle[1]) / length
