"""How far each node was with the store's changes, and whether all hold the same in the end.

``harness.watching`` and ``harness.comparing`` ask; this reads back from a history what was said, and puts it in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import msgspec

from harness.history import MONITOR_PROCESS, History
from harness.operation import OWN_STATES, PROGRESS
from harness.words import count, duration, printable

_SILENCE: Final = 2_000_000_000
"""How long (ns) a node must have told nothing for that to be said."""
Whole = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a node was at some moment between ``asked`` and ``answered`` (ns), and what it believed to be."""

    position: Whole
    role: str
    asked: Whole
    answered: Whole
    term: int | None = None


class OwnStates(msgspec.Struct, frozen=True):
    """What nodes hold, each by itself: of how many keys, and where they ``differ``, by node.

    ``differing`` counts the keys of which nodes hold different things; only the first ones are shown. ``why`` says why
    they could not be compared.
    """

    nodes: tuple[str, ...]
    keys: Whole
    differing: Whole = 0
    differ: dict[str, dict[str, str | None]] = {}
    why: str = ""


def progress_of(history: History) -> dict[str, list[Progress]]:
    """By node, how far it was, in the order in which it was recorded."""
    by_node: dict[str, list[Progress]] = {}
    for event in history.special(MONITOR_PROCESS):
        if event.f == PROGRESS and event.node is not None:
            try:
                progress = msgspec.convert(event.value, Progress)
            except msgspec.ValidationError:
                continue  # not of our own making
            by_node.setdefault(event.node, []).append(progress)
    return by_node


def own_states_of(history: History) -> OwnStates | None:
    """What the nodes held in the end; None where they were not compared."""
    for event in history.special(MONITOR_PROCESS):
        if event.f == OWN_STATES and event.value is not None:
            try:
                return msgspec.convert(event.value, OwnStates)
            except msgspec.ValidationError:
                continue
    return None


def replication_lines(evidence: Mapping[str, Any]) -> list[str]:
    """What the checker ``replication`` has measured, in one line at most."""
    measured = evidence.get("replication", {})
    told = []
    behind = {name: node for name, node in measured.get("nodes", {}).items() if node["behind_ns"]}
    if behind:
        worst = max(behind, key=lambda name: behind[name]["behind_ns"])
        told.append(f"{printable(worst)} was up to {duration(behind[worst]['behind_ns'])} behind the primary")
        if measured["behind_after_heal_ns"]:
            told.append(f"nodes were behind until {duration(measured['behind_after_heal_ns'])} after the heal")
    silent = {name: node["silent_ns"] for name, node in measured.get("nodes", {}).items()}
    if (longest := max(silent.values(), default=0)) >= _SILENCE:
        name = max(silent, key=lambda name: silent[name])
        told.append(f"{printable(name)} told nothing for {duration(longest)}")
    if (own := measured.get("own_states")) is not None:
        names = " ".join(map(printable, own["nodes"]))
        if own["why"]:
            told.append(f"what the nodes hold could not be compared: {printable(own['why'])}")
        elif own["differing"]:
            keys = ", ".join(map(printable, list(own["differ"])[:3]))
            told.append(f"{names} differ on {own['differing']:,} of {count(own['keys'], 'key')} in the end: {keys}")
        else:
            told.append(f"{names} hold the same {count(own['keys'], 'key')} in the end")
    return [f"replication: {'; '.join(told)}"] if told else []


def replication_properties(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values for machines: times in seconds."""
    measured = evidence.get("replication", {})
    for name, node in measured.get("nodes", {}).items():
        yield f"replication.{name}.behind", f"{node['behind_ns'] / 1e9:.9f}"
    if (own := measured.get("own_states")) is not None and not own["why"]:
        yield "replication.keys", str(own["keys"])
        yield "replication.keys_that_differ", str(own["differing"])
