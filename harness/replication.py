"""How far each node was with the store's changes, and whether all hold the same in the end.

``harness.watching`` and ``harness.comparing`` ask; this reads back from a history what was said, and puts it in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import msgspec

from harness.history import History, observed
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
    for node, progress in observed(history, PROGRESS, Progress):
        if node is not None:
            by_node.setdefault(node, []).append(progress)
    return by_node


def own_states_of(history: History) -> OwnStates | None:
    """What the nodes held in the end; None where they were not compared."""
    return next((states for _, states in observed(history, OWN_STATES, OwnStates)), None)


def replication_lines(evidence: Mapping[str, Any]) -> list[str]:
    """What the checker ``replication`` has measured, in one line at most."""
    measured = evidence.get("replication", {})
    told = []
    nodes = measured.get("nodes", {})
    behind, late = _worst(nodes, "behind_ns")
    if behind:
        told.append(f"{late} was up to {duration(behind)} behind the primary")
        if measured["behind_after_heal_ns"]:
            told.append(f"nodes were behind until {duration(measured['behind_after_heal_ns'])} after the heal")
    silence, silent = _worst(nodes, "silent_ns")
    if silence >= _SILENCE:
        told.append(f"{silent} told nothing for {duration(silence)}")
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


def _worst(nodes: Mapping[str, Any], what: str) -> tuple[int, str]:
    """The longest time (ns) of all nodes, and whose it was: of several the first."""
    worst = max(nodes, key=lambda name: nodes[name][what], default=None)
    return (0, "") if worst is None else (nodes[worst][what], printable(worst))


def replication_properties(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values for machines: times in seconds."""
    measured = evidence.get("replication", {})
    for name, node in measured.get("nodes", {}).items():
        yield f"replication.{name}.behind", f"{node['behind_ns'] / 1e9:.9f}"
    if (own := measured.get("own_states")) is not None and not own["why"]:
        yield "replication.keys", str(own["keys"])
        yield "replication.keys_that_differ", str(own["differing"])
