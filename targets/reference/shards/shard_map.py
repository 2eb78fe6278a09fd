"""The map of all shards: which of them owns which part of the line, since which epoch, and what is on its way.

Group 0 replicates it, so that every node has one, if perhaps an old one. Nobody depends on its being new: a shard
itself knows what it owns, and refuses the rest. A move is planned here first, and ends here last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.targets.reference.placement import END, PLACEMENTS, Piece, moved, owner
from harness.targets.reference.raft import Raft
from harness.targets.reference.replica import Site
from harness.targets.reference.state import Answer, DeclinedError, State

MAP_GROUP = 0
"""The group that holds the map; shards are numbered from 1."""


class Move(NamedTuple):
    """All from ``low`` to ``high``, which is not in it, goes from one shard to another; ``number`` is its epoch."""

    number: int
    low: str
    high: str
    source: int
    target: int


class MapState(State):
    """The map as a group replicates it."""

    def __init__(self, dump: Any, pieces: Sequence[Piece], shards: int) -> None:
        super().__init__(dump)
        self._shards = shards
        kept = (dump or {}).get("map", {"epoch": 1, "pieces": pieces, "move": None, "planned": None})
        self.epoch: int = kept["epoch"]
        self.pieces = tuple(Piece(*piece) for piece in kept["pieces"])
        self.move = Move(*kept["move"]) if kept["move"] else None
        """What is on its way. There is one move at a time."""
        self.planned = Move(*kept["planned"]) if kept["planned"] else None
        """The latest move, on its way or arrived."""

    def dump(self) -> Any:
        kept = {"epoch": self.epoch, "pieces": self.pieces, "move": self.move, "planned": self.planned}
        return {**super().dump(), "map": kept}

    def contents(self) -> dict[str, str]:
        """Nothing of clients."""
        return {}

    def _change(self, name: str, key: str, *arguments: str) -> Answer:
        """``PLAN low high shard`` begins a move, ``FINISHED number`` ends it; each opens an epoch."""
        if name == "PLAN":
            self._plan(key, arguments[0], int(arguments[1]))
        elif self.move is not None and self.move.number == int(key):
            self.pieces = moved(self.pieces, self.move.low, self.move.high, self.move.target)
            self.move = None
            self.epoch += 1
        return self.epoch

    def _plan(self, low: str, high: str, target: int) -> None:
        if self.move is not None:
            raise DeclinedError("another move is going on")
        if not low < high <= END:
            raise DeclinedError("a range begins before its end")
        owners = {owner(self.pieces, low), *(piece.shard for piece in self.pieces if low <= piece.start < high)}
        if len(owners) > 1 or target in owners or not 1 <= target <= self._shards:
            raise DeclinedError("a range of one shard goes to another one")
        self.epoch += 1
        self.move = self.planned = Move(self.epoch, low, high, owners.pop(), target)


class MapGroup(Raft):
    """One node's part in the group that holds the map."""

    state: MapState

    def __init__(self, site: Site) -> None:
        self._pieces = initial_pieces(site)
        super().__init__(site)

    def _open_state(self, dump: Any) -> MapState:  # type: ignore[override]
        return MapState(dump, self._pieces, self.options.shards)


def initial_pieces(site: Site) -> tuple[Piece, ...]:
    """What each shard owns at first."""
    shards = range(1, site.options.shards + 1)
    return PLACEMENTS[site.options.placement].pieces(shards)
