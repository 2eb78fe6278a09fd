"""Primary-backup replication with failover by election. What an acknowledgement means is the option's choice:

``sync``       a majority holds the command on disk, and a read is answered when a majority still followed this primary
               after the read arrived. Linearizable whatever is cut, paused or killed.
``semi-sync``  one backup holds it too. Survives the loss of the primary if that backup takes part in the election.
``async``      it is on the primary's own disk, and reads are answered at once. Writes that no backup had yet received
               are lost with the primary, and a primary that was cut off does not know it.

Three guards keep two primaries from both being followed, and each can be turned off: a ``majority`` of votes makes a
primary, ``fencing`` refuses what primaries of older terms say, and a ``witness`` is a node without data whose vote
breaks the tie between two others.
"""

from __future__ import annotations

from collections.abc import Collection

from harness.targets.reference.elected import Elected
from harness.targets.reference.log import Entry
from harness.targets.reference.peers import Message
from harness.targets.reference.replica import Unavailable
from harness.targets.reference.state import Answer


class PrimaryBackup(Elected):
    """A node that is primary, one of its backups, or the witness, which votes and holds no data."""

    @property
    def _is_witness(self) -> bool:
        return self.name == self.options.witness

    async def _before_read(self) -> None:
        if self.options.acknowledge == "sync" and self.peers:
            await self._confirm()

    def _committable(self) -> int:
        if self.options.acknowledge == "sync":
            return super()._committable()
        if self.options.acknowledge == "semi-sync" and self.peers:
            return max(self._held.get(peer, 0) for peer in self.peers)
        return self.log.last

    def _apply(self) -> None:
        if self.options.acknowledge == "async":
            self.committed = self.log.last
        super()._apply()

    # Guards

    @property
    def _needs_majority(self) -> bool:
        return self.options.majority

    def _hold(self, index: int, entries: list[Entry]) -> None:
        """A witness keeps the order of the commands but not the commands: enough to know whose log is behind."""
        super()._hold(index, [Entry(entry.term, []) for entry in entries] if self._is_witness else entries)

    def peek(self, command: list[str]) -> Answer:
        if self._is_witness:
            raise Unavailable("a witness holds no data")
        return super().peek(command)

    def _may_stand(self) -> bool:
        return not self._is_witness

    def _next_term(self) -> int:
        """Without the majority's votes two nodes can stand at once: then each has terms of its own."""
        term = super()._next_term()
        if self._needs_majority:
            return term
        return term + (sorted(self.members).index(self.name) - term) % len(self.members)

    def _are_enough(self, nodes: Collection[str]) -> bool:
        return super()._are_enough(nodes) or not self._needs_majority

    def _accepts_old_term(self, message: Message) -> bool:
        if not self.options.fencing and message["kind"] == "append":
            self.log.vote(message["term"], message["sender"])
            return True
        return super()._accepts_old_term(message)
