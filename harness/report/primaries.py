"""The split-brain picture: nodes as rows over time, who of them was primary, what hit them, which writes are lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.report import primaries_layers as layer
from harness.report.acknowledged import Account, Writes, accounts_of, writes_of
from harness.report.forks import Fork, forks
from harness.report.hits import hits
from harness.report.picture import PRIMARIES, WINDOW, Picture, Specification, specification
from harness.report.primaries_rows import lay_out
from harness.report.primaries_words import reign_of, title_of, words_of
from harness.report.story import Story
from harness.roles import Span, spans
from harness.words import named, printable

_NODES: Final = 24
"""How many rows there are at most."""
_CANVAS: Final = 1500
"""How many marks the page's own elements can carry."""
_CONFIG: Final[Specification] = {
    "view": {"stroke": None},
    "axisY": {"domain": False, "ticks": False, "labelFontSize": 13, "labelFontWeight": 600},
    "legend": {
        "orient": "top",
        "title": None,
        "labelFontSize": 12,
        "layout": {"top": {"direction": {"signal": "width < 600 ? 'vertical' : 'horizontal'"}, "anchor": "start"}},
    },
}


@dataclass(frozen=True)
class Primaries:
    """The picture, when its window ends (s), and the lists that have forked as trees."""

    picture: Picture
    end: float
    forks: list[Fork]


def primaries(story: Story) -> Primaries | None:
    """The section; None where nobody told which node did anything."""
    known = spans(story.sightings)
    accounts = accounts_of(story.evidence)
    writes = writes_of(story)
    if not known and not writes.drawn:
        return None
    nodes = _rows(story, known, accounts, writes)
    writes = writes.of(nodes)
    leading = [span for span in known if span.leads]
    words = words_of(story.evidence, accounts, leading, writes)
    if len(nodes) < len(story.nodes):
        words.append(f"Nodes drawn: {len(nodes)} of {len(story.nodes):,}.")
    picture = Picture(
        "primaries",
        title_of(story.evidence, accounts, leading),
        " ".join(words),
        _specification(story, nodes, [span for span in known if span.node in nodes], accounts, writes),
        WINDOW,
        canvas=len(writes.drawn) + len(known) + len(story.periods) > _CANVAS,
    )
    return Primaries(picture, story.end / 1e9, forks(story))


def _rows(story: Story, known: Sequence[Span], accounts: Sequence[Account], writes: Writes) -> list[str]:
    """The nodes that are drawn: of too many those that something is told of, and of these the guilty ones."""
    of_accounts = {node for account in accounts for node in account["nodes"]}
    guilty = {node for account in accounts if account["facts"] for node in account["nodes"]}
    active = of_accounts | {span.node for span in known} | {write.node for write in writes.drawn}

    def rank(node: str) -> tuple[bool, ...]:
        return node not in guilty, node not in of_accounts, node not in active

    drawn = sorted(story.nodes, key=rank)[:_NODES]
    return sorted(drawn, key=lambda node: (node not in active, story.nodes.index(node)))


def _specification(
    story: Story, nodes: Sequence[str], known: Sequence[Span], accounts: Sequence[Account], writes: Writes
) -> Specification:
    hit = hits(story.periods, nodes)
    layout = lay_out(nodes, hit, banner=bool(accounts))
    leading = [span for span in known if span.leads]
    layers = [
        *layer.episodes(accounts, layout, story.end),
        *layer.lives(known, layout),
        *layer.faults(hit, layout),
        *layer.reigns(leading, layout, _colours(leading)),
        *layer.marks(writes.drawn, layout),
        layer.losses(writes, layout, story.end),
    ]
    independent = {"scale": {"color": "independent", "shape": "independent"}}
    drawn = specification(layers, 0.0, story.end / 1e9, height=layout.height, resolve=independent, config=_CONFIG)
    # Names are data, not a part of an expression.
    names: list[dict[str, Any]] = [
        {"name": "nodes", "value": [printable(named(node)) for node in nodes]},
        {"name": "closer", "expr": f"clamp(sqrt({story.end / 1e9} / (to - from)), 1, 5)"},
    ]
    return {**drawn, "params": [*drawn["params"], *names]}


def _colours(leading: Sequence[Span]) -> dict[str, str]:
    """By primary in words, "n1 in term 0", its colour: that of its term, or of the node where there is none."""
    keys = [span.node if span.term is None else span.term for span in leading]
    distinct = list(dict.fromkeys(keys))
    return {
        reign_of(span): PRIMARIES[distinct.index(key) % len(PRIMARIES)] for span, key in zip(leading, keys, strict=True)
    }
