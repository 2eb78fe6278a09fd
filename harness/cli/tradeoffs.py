"""``splitbrain experiment``: ways of replicating and of sharding, compared; a table, a page and a CSV file."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from harness.cli.stopping import go_on
from harness.errors import UsageError
from harness.experiments import cap as of_cap
from harness.experiments import quorum as of_quorum
from harness.experiments import report, sharding_report, table
from harness.experiments import sharding as of_sharding
from harness.experiments.modes import MODES
from harness.experiments.plan import FULL, REDUCED
from harness.plain_files import write_whole
from harness.words import printable

R = TypeVar("R")
_SIZES: Final = tuple("234567")
"""What ``--sizes`` takes."""


def cap(directory: Path, seed: int, only: Sequence[str], *, quick: bool, as_json: bool) -> int:
    """Run every mode, or those that are named, print the table, and write it; the exit code."""
    known = [mode.name for mode in MODES]
    if unknown := [name for name in only if name not in known]:
        raise UsageError(f"--only has {unknown[0]!r}, which is no mode: there are {', '.join(known)}")
    modes = [mode for mode in MODES if not only or mode.name in only]
    of_cap.refuse_what_is_not_ours(directory, modes)
    _make(directory)
    rows = _all(of_cap.rows(seed, directory, modes, REDUCED if quick else FULL), len(modes), quiet=as_json)
    rows.sort(key=lambda row: known.index(row.mode))
    command = _command("cap", seed, directory, only, quick=quick)
    _write(directory, report.cap_csv(rows), report.cap_page(rows, seed, command, directory))
    _print(table.lines(report.CAP, rows), rows, directory, as_json=as_json)
    return 0


def quorum(directory: Path, seed: int, given: Sequence[str], *, as_json: bool) -> int:
    """Run every R and W of these numbers of nodes, print the table, and write it; the exit code."""
    if wrong := [text for text in given if text not in _SIZES]:
        raise UsageError(f"--sizes has {wrong[0]!r}, but it must be numbers of nodes from {_SIZES[0]} to {_SIZES[-1]}")
    sizes = [int(text) for text in given] or of_quorum.SIZES
    _make(directory)
    every = of_quorum.settings(sizes)
    points = _all(of_quorum.points(seed, sizes), len(every), quiet=as_json)
    points.sort(key=lambda point: (point.n, point.r, point.w))
    command = _command("quorum", seed, directory, [str(size) for size in sizes])
    _write(directory, report.quorum_csv(points), report.quorum_page(points, seed, command))
    lines = [*table.lines(report.QUORUM, points), "", report.quorum_sentence(points)]
    _print(lines, points, directory, as_json=as_json)
    return 0


def sharding(directory: Path, seed: int, *, as_json: bool) -> int:
    """Compare all placements, print the table, and write it; the exit code."""
    _make(directory)
    rows = list(of_sharding.spreads(seed))
    page = sharding_report.sharding_page(rows, seed, _command("sharding", seed, directory, ()))
    _write(directory, sharding_report.sharding_csv(rows), page)
    lines = [*table.lines(sharding_report.SHARDING, rows), "", sharding_report.sharding_sentence(rows)]
    _print(lines, rows, directory, as_json=as_json)
    return 0


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--directory {directory} cannot be made: {error.strerror}") from None


def _all(results: Generator[R, None, None], count: int, *, quiet: bool) -> list[R]:
    """All results, and how far it is on the way, for a person who waits."""
    go_on()
    found: list[R] = []
    with closing(results):
        for result in results:
            found.append(result)
            if not quiet:
                end = "\r" if sys.stderr.isatty() and len(found) < count else "\n"
                if sys.stderr.isatty() or len(found) == count:
                    print(f"splitbrain: {len(found)} of {count} measured", end=end, file=sys.stderr, flush=True)
    return found


def _write(directory: Path, lines: str, page: str) -> None:
    try:
        write_whole(directory / "table.csv", lines.encode())
        write_whole(directory / "report.html", page.encode())
    except OSError as error:
        raise UsageError(f"--directory {directory} cannot be written to: {error.strerror}") from None


def _print(lines: Sequence[str], rows: Sequence[msgspec.Struct], directory: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"directory": str(directory), "rows": msgspec.to_builtins(list(rows))}))
        return
    for line in lines:
        print(printable(line))
    print(printable(f"\npage: {directory / 'report.html'}\ntable: {directory / 'table.csv'}"))


def _command(name: str, seed: int, directory: Path, only: Sequence[str], *, quick: bool = False) -> str:
    words = ["splitbrain", "experiment", name, "--seed", str(seed), "--directory", str(directory)]
    if only:
        words += ["--only" if name == "cap" else "--sizes", ",".join(only)]
    return shlex.join([*words, *(["--quick"] if quick else [])])
