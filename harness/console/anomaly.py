"""An anomaly in the terminal: its words, a picture of characters, and the orders that were tried."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console

from harness.broken_axis import BrokenAxis
from harness.drawing import as_lines
from harness.scene import Act, Scene, found_instead
from harness.verdict import Anomaly, Order
from harness.words import count, duration, key_named, named, printable, shortened, whereabouts

_WIDTH: Final = 80
_LABEL: Final = 15
"""How many columns the names of rows have."""
_WITNESS: Final = "bold red"
_FAULT: Final = "magenta"
_PRIMARY: Final = "blue"

Line = tuple[str, str]
"""A line and its style."""


def print_anomaly(console: Console, anomaly: Anomaly, scene: Scene | None, number: int) -> None:
    """Print one anomaly by its number, in at most 80 columns where its words allow it."""
    width = min(console.width, _WIDTH)
    for text, style in anomaly_lines(anomaly, scene, number, width):
        console.print(printable(text), style=style, markup=False, soft_wrap=True)


def anomaly_lines(anomaly: Anomaly, scene: Scene | None, number: int, width: int = _WIDTH) -> Iterator[Line]:
    """The lines of one anomaly."""
    about = f" on {key_named(anomaly.key)}" if anomaly.key is not None else ""
    yield f"{number}. {anomaly.kind}{about}", "bold"
    for line in anomaly.text.splitlines():
        yield from ((part, "") for part in _wrapped(printable(line), width))
    if anomaly.possible:
        yield from ((part, "") for part in _wrapped(printable(found_instead(anomaly)), width))
    if anomaly.faults:
        yield from ((part, "dim") for part in _wrapped(f"Faults meanwhile: {'; '.join(anomaly.faults)}", width))
    if anomaly.edges:
        yield "", ""
        yield from ((line, _WITNESS) for line in as_lines(anomaly.edges, width))
        for edge in anomaly.edges:
            told = f"T{edge.source} → T{edge.target} ({edge.kind}): {edge.text}"
            yield from ((part, "") for part in _wrapped(told, width, "  "))
    if scene is not None:
        yield "", ""
        yield from _picture(scene, width)
    for at, order in enumerate(anomaly.orders, 1):
        yield "", ""
        yield from _order(order, at, len(anomaly.orders), width)


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False) or [""]


def _picture(scene: Scene, width: int) -> Iterator[Line]:
    """Rows over time: the faults, the primaries, the processes of the anomaly, and all others together."""
    cells = max(width - _LABEL, 20)
    axis = scene.axis
    for name in dict.fromkeys(period.name for period in scene.faults):
        mine = [(period.start, period.end, "", "▒") for period in scene.faults if period.name == name]
        yield _row(name, mine, axis, cells), _FAULT
    for node in dict.fromkeys(reign.node for reign in scene.reigns):
        terms = [("" if reign.term is None else str(reign.term), reign) for reign in scene.reigns if reign.node == node]
        reigns = [(reign.start, reign.end, term, "━") for term, reign in terms]
        yield _row(f"{named(node)} primary", reigns, axis, cells), _PRIMARY
    for process, acts in scene.by_process.items():
        yield _row(f"process {process}", [_bar(act, axis, "█") for act in acts], axis, cells), _WITNESS
    if scene.others:
        yield _row("others", [_bar(act, axis, "░") for act in scene.others], axis, cells), "dim"
    yield from ((line, "") for line in _axis(axis, cells))
    yield "", ""
    for act in scene.acts:
        where = whereabouts(act.op.node, act.op.server)
        until = "unknown" if act.op.ret is None else f"{act.op.ret / 1e9:.4f} s"
        told = f"{act.mark}  process {act.op.process}{where}: {act.words}, {act.op.call / 1e9:.4f} s to {until}"
        yield from ((part, "") for part in _wrapped(told, width, "   "))
    signs = ["█ shows it"]
    if scene.others:
        drawn = "" if len(scene.others) == scene.beside else f", {len(scene.others):,} of {scene.beside:,} drawn"
        if scene.looked_at < scene.meanwhile:
            drawn += f", looked for among the first {scene.looked_at:,} of {scene.meanwhile:,}"
        signs.append(f"░ {scene.others_are}{drawn}")
    signs += ["▒ fault"] if scene.faults else []
    signs += (
        ["━ primary, with its term"]
        if any(reign.term is not None for reign in scene.reigns)
        else ["━ primary"]
        if scene.reigns
        else []
    )
    signs += ["> no known end"] if any(act.op.ret is None for act in scene.acts) else []
    signs += ["┊ time cut short"] if axis.broken else []
    yield from ((part, "dim") for part in _wrapped(", ".join(signs), width))


def _bar(act: Act, axis: BrokenAxis, sign: str) -> tuple[int, int | None, str, str]:
    return act.op.call, act.op.ret, act.mark, sign


def _row(label: str, bars: Sequence[tuple[int, int | None, str, str]], axis: BrokenAxis, cells: int) -> str:
    """One row: bars from one moment (ns) to another, or without an end, with what is written into them."""
    row = [" "] * cells
    for stretch in axis.stretches:
        if stretch.cut:
            for place in (stretch.left, stretch.right):
                row[_cell(place, cells)] = "┊"
    for start, end, text, sign in bars:
        first = _cell(axis.place(start), cells)
        last = min(first + 3, cells - 1) if end is None else _cell(axis.place(end), cells)
        row[first : last + 1] = sign * (last + 1 - first)
        if end is None:
            row[last] = ">"
        begin = min(first, cells - len(text)) if text else first
        row[begin : begin + len(text)] = text
    return f"{shortened(printable(label), _LABEL - 1):<{_LABEL}}{''.join(row).rstrip()}".rstrip()


def _cell(place: float, cells: int) -> int:
    return min(int(place * cells), cells - 1)


def _axis(axis: BrokenAxis, cells: int) -> list[str]:
    """The moments that have room, and how long each cut is."""
    moments = [(tick.place, tick.label) for tick in sorted(axis.ticks(), key=lambda tick: -tick.room)]
    ends = [(tick.place, tick.label) for tick in axis.ticks() if tick.room == 0]
    cuts = [((s.left + s.right) / 2, duration(s.end - s.start)) for s in axis.stretches if s.cut]
    lines = [_written([*ends, *moments], cells)]
    return [*lines, _written(cuts, cells)] if cuts else lines


def _written(texts: Sequence[tuple[float, str]], cells: int) -> str:
    """A line of texts, each around its place if nothing else is there yet."""
    line = [" "] * cells
    for place, text in texts:
        first = min(max(_cell(place, cells) - len(text) // 2, 0), cells - len(text))
        if all(sign == " " for sign in line[max(first - 2, 0) : first + len(text) + 2]):
            line[first : first + len(text)] = text
    return (" " * _LABEL + "".join(line)).rstrip()


def _order(order: Order, number: int, many: int, width: int) -> Iterator[Line]:
    """An order that was tried, a step a line, with what was held after it."""
    which = "The order" if many == 1 else f"Order {number} of {many}"
    skipped = f", after {count(order.skipped, 'other')}" if order.skipped else ""
    yield f"{which} that, of those tried, get{'s' if many == 1 else ''} furthest{skipped}:", "bold"
    steps = [("", order.began), *((step.did, step.held) for step in order.steps)]
    room = min(max(len(did) for did, _ in steps), width // 2)
    for did, held in steps:
        yield shortened(printable(f"  {did:<{room}}  holds {held}"), width), ""
    for step in order.stuck:
        yield shortened(printable(f"  {step.did:<{room}}  cannot come next: it holds {order.held}"), width), _WITNESS
