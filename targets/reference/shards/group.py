"""One node's part in the Raft group of one shard."""

from __future__ import annotations

from typing import Any, ClassVar

from harness.targets.reference.placement import PLACEMENTS
from harness.targets.reference.raft import Raft
from harness.targets.reference.replica import Site
from harness.targets.reference.shards.prepared import PreparedState
from harness.targets.reference.shards.shard_map import initial_pieces


class Shard(Raft):
    """A replica of one shard; a planted bug may give it another state."""

    STATE: ClassVar[type[PreparedState]] = PreparedState
    state: PreparedState

    def __init__(self, site: Site, number: int) -> None:
        self._number = number
        self._pieces = initial_pieces(site)
        super().__init__(site)

    def _open_state(self, dump: Any) -> PreparedState:
        return self.STATE(dump, self._number, PLACEMENTS[self.options.placement].point, self._pieces)
