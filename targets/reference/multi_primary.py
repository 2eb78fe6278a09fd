"""Multi-primary replication: every node acknowledges a write when it is on its own disk, and sends it to all others.

A node remembers for each peer which keys it still owes it, and sends them until the peer has them. After a restart it
owes everything, since it does not know what arrived. All nodes end up with the same; nothing else is promised.
"""

from __future__ import annotations

from typing import Any, Final

from harness.targets.reference.cells import dump
from harness.targets.reference.leaderless import Leaderless
from harness.targets.reference.peers import Message
from harness.targets.reference.replica import Site

RESEND: Final = 0.2
"""Seconds until what a peer has not confirmed is sent again."""
_BATCH: Final = 100


class MultiPrimary(Leaderless):
    """A node that takes writes by itself, and owes each of them to its peers until they have it."""

    HANDLERS = Leaderless.HANDLERS | {"replicate": "_on_replicate", "replicated": "_on_replicated"}

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._owed: dict[str, dict[str, int]] = {peer: dict.fromkeys(self.cells, 0) for peer in self.peers}
        """For each peer the keys that it may lack, and at which of our changes they became that."""
        self._changes = 0

    def start(self) -> None:
        super().start()
        self._resend()

    def status(self) -> dict[str, Any]:
        return super().status() | {"lag": max((len(owed) for owed in self._owed.values()), default=0)}

    def _spread(self, keys: list[str]) -> None:
        self._changes += 1
        for peer, owed in self._owed.items():
            owed.update(dict.fromkeys(keys, self._changes))
            self._replicate(peer, keys)

    def _replicate(self, peer: str, keys: list[str]) -> None:
        cells = [[key, dump(self.cells[key])] for key in keys]
        upto = [[key, self._owed[peer][key]] for key in keys]
        self._post(peer, {"kind": "replicate", "cells": cells, "upto": upto})

    def _resend(self) -> None:
        for peer, owed in self._owed.items():
            if owed:
                self._replicate(peer, list(owed)[:_BATCH])
        self.host.later(RESEND, self._resend)

    def _on_replicate(self, sender: str, message: Message) -> None:
        self._on_cells(sender, message)
        self._post(sender, {"kind": "replicated", "upto": message["upto"]})

    def _on_replicated(self, sender: str, message: Message) -> None:
        owed = self._owed[sender]
        for key, change in message["upto"]:
            if owed.get(key) == change:
                del owed[key]
