"""Compares what the nodes hold, each by itself, once the store has recovered; ``harness.replication`` reads it back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.cluster import Cluster, holds_within
from harness.plugins import whose
from harness.replication import OwnStates
from harness.target import ReadsOwnState

_PATIENCE: Final = 10.0
"""Seconds after recovery in which nodes may come to hold the same."""
_KEYS: Final = 20
"""How many keys on which nodes differ are shown."""
_TEXT: Final = 200


async def compare(cluster: Cluster, target: ReadsOwnState) -> OwnStates | None:
    """What the nodes of a store that has recovered hold, once they agree, or patience ends; None for fewer than two."""
    seen: OwnStates | None = OwnStates((), 0, why=f"no answer of all nodes within {_PATIENCE:g} s")

    async def same() -> bool:
        nonlocal seen
        names = [node.name for node in cluster.nodes]
        try:
            answers = await cluster.on_each(names, lambda node: target.own_state(cluster, node))
            seen = _compared({name: dict(answer) for name, answer in answers.items() if answer is not None})
        except Exception as error:  # of the target's making; it may be just coming back
            seen = OwnStates((), 0, why=f"{whose(target, 'own_state')}: {type(error).__name__}: {error}")
            return False
        return seen is None or not seen.differing

    await holds_within(same, _PATIENCE, every=0.5)
    return seen


def _compared(held: Mapping[str, Mapping[str, str]]) -> OwnStates | None:
    if len(held) < 2:
        return None
    keys = sorted(set[str]().union(*held.values()))
    differing = [key for key in keys if len({state.get(key) for state in held.values()}) > 1]
    shown = {key: {name: _short(state.get(key)) for name, state in held.items()} for key in differing[:_KEYS]}
    return OwnStates(tuple(held), len(keys), len(differing), shown)


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= _TEXT else f"{text[:_TEXT]}..."
