"""What a stranger has to know first: the verdict in one sentence, and which run it is about."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.beginning import began_of
from harness.periods import turns_of
from harness.report.acknowledged import lost_of
from harness.report.story import Story
from harness.summary import anomaly_count, unknown_lines
from harness.verdict import Verdict
from harness.words import all_of, count, duration, named, printable

_VERSION: Final = re.compile(r"\d+(?:\.\d+)+[\w.+-]*")
_KINDS: Final = 3
"""How many kinds of anomalies are named beside what a checker says."""
_SIDES: Final = 3
"""Of how many primaries the first sentence tells what they lost."""


@dataclass(frozen=True)
class Headline:
    """The verdict in words, the first of them a sentence by itself, and the facts of the run: names and values."""

    validity: str
    sentence: str
    more: list[str]
    facts: list[tuple[str, str]]


def headline(story: Story) -> Headline:
    """The head of the report."""
    first, *more = sentences(story.verdict)
    return Headline(story.verdict.validity, first, more, _facts(story))


def sentences(verdict: Verdict) -> list[str]:
    """What a verdict comes to, the most telling first."""
    told = [printable(line) for line in _told(verdict)]
    if verdict.total:
        shown = "" if len(verdict.anomalies) == verdict.total else f"; the first {len(verdict.anomalies)} are explained"
        told.append(f"{anomaly_count(verdict)}{shown}")
    told += map(printable, unknown_lines(verdict))
    return [_sentence(line) for line in told]


def _told(verdict: Verdict) -> list[str]:
    """Clauses: what is wrong with the store as a whole says more than one of its traces."""
    if verdict.validity == "valid":
        operations = verdict.evidence.get("operations")
        where = "" if operations is None else f" in {count(operations, 'operation')}"
        return [f"No anomaly was found{where}{_under(verdict)}"]
    if verdict.validity == "unknown":
        return ["Nobody knows whether the store kept its promises", *_reasons(verdict, "unknown")]
    split_brains, others = list(_split_brains(verdict.evidence)), list(_reasons(verdict, "invalid"))
    if split_brains and others and not any(map(_lost_in, _guilty(verdict.evidence))):
        # What it cost is what clients saw.
        split_brains[0] += f"; {others.pop(0)}"
    return [*split_brains, *others]


def _under(verdict: Verdict) -> str:
    """Under which faults, and that they were proved: a pass means no more than that."""
    proved = [name for name, turns in turns_of(verdict.evidence).items() if turns.proved]
    if not proved:
        return ", without any fault"
    return f" under {all_of(proved)}{', which was proved' if len(proved) == 1 else ', each of them proved'}"


def _reasons(verdict: Verdict, validity: str) -> Iterator[str]:
    """What each checker says that has decided so, but for split brain, which is told from its evidence."""
    parts = verdict.parts or {"": verdict}
    told = False
    for name, part in parts.items():
        if part.validity != validity or (name == "split-brain" and validity == "invalid"):
            continue
        kinds = Counter(anomaly.kind for anomaly in part.anomalies).most_common(_KINDS)
        examples = f" ({', '.join(kind for kind, _ in kinds)})" if kinds else ""
        if part.reason.startswith("not "):
            yield f"the transactions are {part.reason}"
        else:
            yield f"{name}: {part.reason}{examples}" if validity == "unknown" else f"{part.reason}{examples}"
        told = True
    if not told and verdict.reason and not verdict.evidence.get("episodes"):
        yield verdict.reason


def _split_brains(evidence: Mapping[str, Any]) -> Iterator[str]:
    """Who was primary at once, for how long, and what it cost; then the facts that no such store can show."""
    guilty = _guilty(evidence)
    for number, episode in enumerate(guilty):
        nodes = [named(node) for node in episode["nodes"]]
        names = all_of(nodes)
        who = f"{names} were both primary" if len(nodes) == 2 else f"two or more of {names} were primary at once"
        more = f" (and {count(len(guilty) - 1, 'time')} more)" if number == 0 and len(guilty) > 1 else ""
        yield f"Split brain: for {duration(episode['shared'])} {who}{more}; {_cost(episode)}"
    for conflict in evidence.get("term_conflicts", ()):
        yield f"Split brain: {'; '.join(conflict['facts'])}"
    for episode in guilty[:1]:
        yield from episode["facts"]


def _guilty(evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The episodes that no store with one primary can show, the costliest first."""
    guilty = [episode for episode in evidence.get("episodes", ()) if episode["facts"]]
    return sorted(guilty, key=_lost_in, reverse=True)


def _lost_in(episode: Mapping[str, Any]) -> int:
    return sum(map(lost_of, episode["sides"]))


def _cost(episode: Mapping[str, Any]) -> str:
    """What became of what they acknowledged."""
    losers = [(named(side["node"]), lost_of(side)) for side in episode["sides"] if lost_of(side)]
    if len(losers) == 1:
        ((node, lost),) = losers
        return f"{count(lost, 'write')} that {node} had acknowledged {'is' if lost == 1 else 'are'} gone"
    if losers:
        by = " and ".join(f"{lost:,} of {node}'s" for node, lost in losers[:_SIDES])
        return f"{_lost_in(episode):,} acknowledged writes are gone: {by}"
    both = sum(side["acknowledged"] for side in episode["sides"])
    return f"between them they acknowledged {count(both, 'write')} meanwhile"


def _sentence(clause: str) -> str:
    """A clause with a capital, unless it begins with a name such as n1 or that of a checker, and with a full stop."""
    word = clause.partition(" ")[0]
    begun = clause[:1].upper() + clause[1:] if word.rstrip(",").isalpha() else clause
    return begun if begun.endswith(".") else f"{begun}."


def _facts(story: Story) -> list[tuple[str, str]]:
    experiment, began = story.experiment, began_of(story.history)
    facts = [
        ("store", f"{experiment.target} on {count(experiment.nodes, 'node')}"),
        ("environment", experiment.environment + (f", {experiment.image}" if experiment.image else "")),
        ("workload", experiment.workload),
        ("faults", ", ".join(experiment.nemeses) or "none"),
        ("seed", str(experiment.seed)),
        ("lasted", f"{duration(story.end)}, {count(len(story.operations), 'operation')}"),
    ]
    if began is not None:
        facts += [
            ("date", began.date),
            ("versions", ", ".join(f"{name} {_number(told)}" for name, told in began.versions.items())),
            ("host", f"{began.host}, {began.system}"),
        ]
    return [(name, printable(value)) for name, value in facts]


def _number(told: str) -> str:
    """The number in what a program says of its version; all of it where there is none."""
    number = _VERSION.search(told)
    return number.group() if number else told
