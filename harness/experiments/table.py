"""Tables of figures: for a terminal, as CSV, and for a page, all of the same cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from harness.experiments.measure import Cut, Figures, Latency, Served, Share, Times

R = TypeVar("R")
_NOTHING = "-"


@dataclass(frozen=True)
class Column(Generic[R]):
    """A column: its head, what stands in it, and what the head means."""

    head: str
    cell: Callable[[R], str]
    about: str
    number: bool = True


def lines(columns: Sequence[Column[R]], rows: Sequence[R]) -> list[str]:
    """The table for a terminal."""
    cells = [[column.head for column in columns], *([column.cell(row) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = [">" if column.number else "<" for column in columns]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, aligned, widths, strict=True)).rstrip()
        for line in cells
    ]


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each row, under the names of the first; what is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def flat(figures: Figures) -> dict[str, Any]:
    """All figures by names of their own: shares as counts, times in ms or s as their names say."""
    found: dict[str, Any] = {"model": figures.model}
    cuts = (("far", figures.far_cut), ("primary", figures.primary_cut))
    for name, cut in cuts:
        found |= _flat_cut(f"{name}_cut", cut)
    for name, times in (("near", figures.near), ("far", figures.far)):
        for f, latency in (("read", times.read), ("write", times.write)):
            found |= {f"{name}_{f}_p50_ms": _rounded(latency.p50), f"{name}_{f}_p99_ms": _rounded(latency.p99)}
    found |= {"reads_answered": figures.stale.whole, "reads_stale": figures.stale.part}
    found |= {"stalest_ms": _rounded(figures.stalest_ms)}
    found |= {"pair_writes_acknowledged": figures.lost.whole, "pair_writes_lost": figures.lost.part}
    found |= {"pair_writes_unclear": figures.unclear, "converged_after_s": _rounded(figures.converged_after)}
    return found | {"why_not_stronger": figures.why_not_stronger, "undecided": figures.unknown}


def _flat_cut(name: str, cut: Cut) -> dict[str, Any]:
    found: dict[str, Any] = {f"{name}_alone": " ".join(cut.alone)}
    for side, served in (("majority", cut.majority), ("minority", cut.minority)):
        for f, share in (("reads", served.read), ("writes", served.write)):
            found |= {f"{name}_{side}_{f}_served": share.part, f"{name}_{side}_{f}": share.whole}
    return found | {f"{name}_majority_writes_after_s": _rounded(cut.writes_after)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


# Cells


def percent(share: Share) -> str:
    """A share: 0 and 100 are none and all of it."""
    if share.percent is None:
        return _NOTHING
    return f"{share.percent:.0f}" if share.part in (0, share.whole) else f"{min(max(share.percent, 1), 99):.0f}"


def served(figures: Served) -> str:
    """Reads and writes, in percent."""
    return f"{percent(figures.read)} / {percent(figures.write)}"


def latency(figures: Latency) -> str:
    """The median and the 99th percentile, in ms."""
    return f"{_ms(figures.p50)} / {_ms(figures.p99)}"


def median(times: Times) -> str:
    """The medians of reads and of writes, in ms."""
    return f"{_ms(times.read.p50)} / {_ms(times.write.p50)}"


def _ms(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def of(share: Share) -> str:
    """So many of so many; nothing of none."""
    return _NOTHING if share.whole == 0 else f"{share.part} of {share.whole}"


def seconds(value: float | None) -> str:
    """A time in seconds, to a tenth."""
    return "never" if value is None else "at once" if value == 0 else f"{value:.1f} s"
