"""Peer-to-peer gossip: a write is on the disk of one node, and spreads like a rumour.

Whoever hears something new tells a few random peers; whoever hears nothing new tells nobody. A rumour can die before
everybody has heard it, so each node also compares everything with a random peer now and then.
Demers et al., "Epidemic Algorithms for Replicated Database Maintenance" (1987).
"""

from __future__ import annotations

from typing import Final

from harness.targets.reference.cells import dump, load
from harness.targets.reference.leaderless import Leaderless
from harness.targets.reference.peers import Message

FANOUT: Final = 2
"""How many peers each new rumour is told to."""


class Gossip(Leaderless):
    """A node that takes writes by itself, and spreads them as rumours."""

    HANDLERS = Leaderless.HANDLERS | {"rumour": "_on_rumour"}

    def _spread(self, keys: list[str]) -> None:
        cells = [[key, dump(self.cells[key])] for key in keys]
        if cells:
            for peer in self.host.rng.sample(self.peers, min(FANOUT, len(self.peers))):
                self._post(peer, {"kind": "rumour", "cells": cells})

    def _on_rumour(self, _sender: str, message: Message) -> None:
        self._spread([key for key, dumped in message["cells"] if self._take(key, load(dumped))])
