"""Two runs side by side: what was asked for, what was decided, and how each was served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.report.headline import headline
from harness.report.sheet import sheet
from harness.report.story import Story
from harness.words import duration, printable

_QUANTILES: Final = ("p50", "p90", "p99", "p99.9", "max")


@dataclass(frozen=True)
class Row:
    """One thing of both runs, in words; whether it differs."""

    name: str
    left: str
    right: str

    @property
    def differs(self) -> bool:
        return self.left != self.right


def comparison(folder: Path, left: str, right: str) -> str:
    """The page of two runs below a folder. Raises ``UsageError`` where one of them cannot be read."""
    stories = (Story.of_run(folder / left), Story.of_run(folder / right))
    tables = {
        "Experiment": list(_both(stories, _asked)),
        "Verdict": list(_both(stories, _decided)),
        "Faults": list(_both(stories, _faults)),
        "Service": list(_both(stories, _served)),
    }
    page = sheet(
        "comparison.html.j2",
        styles=("page.css", "gallery.css"),
        names=(left, right),
        heads=[headline(story) for story in stories],
        tables={name: rows for name, rows in tables.items() if rows},
    )
    return printable(page)


def _both(stories: tuple[Story, Story], tell: Any) -> Iterator[Row]:
    left, right = (dict[str, str](tell(story)) for story in stories)
    for name in dict.fromkeys([*left, *right]):
        yield Row(name, left.get(name, ""), right.get(name, ""))


def _asked(story: Story) -> Iterator[tuple[str, str]]:
    for name, value in msgspec.to_builtins(story.experiment).items():
        if value not in (None, [], (), {}):
            yield name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _decided(story: Story) -> Iterator[tuple[str, str]]:
    for name, part in story.verdict.parts.items():
        found = f" ({part.total:,})" if part.total else ""
        yield name, f"{part.validity}{found}{f': {part.reason}' if part.reason else ''}"


def _faults(story: Story) -> Iterator[tuple[str, str]]:
    for name, mine in story.turns.items():
        yield name, mine.in_words()


def _served(story: Story) -> Iterator[tuple[str, str]]:
    measured = story.evidence.get("availability")
    if measured is None:
        return
    for name in ("total", "before", "during", "after"):
        group = measured[name]
        if group["operations"]:
            yield f"{name}: served", f"{group['served'] * 1000 // group['operations'] / 10:.1f} %"
            latency = group["latency"] or {}
            for quantile in _QUANTILES:
                if quantile in latency:
                    yield f"{name}: {quantile}", duration(latency[quantile])
