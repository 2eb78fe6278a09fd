"""Raft: the elected log with pre-votes, ReadIndex and lease reads, snapshots and change of members.

Linearizable whatever is cut, paused, killed or told a wrong time; a lease read also needs clocks whose rates differ by
less than the margin of the lease. After Ongaro, "Consensus: Bridging Theory and Practice" (2014): chapter 4 for one
change of members at a time, 5 for snapshots, 6.4 for reads, 9.6 for pre-votes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from harness.targets.reference.elected import ELECTION, Elected
from harness.targets.reference.log import Entry
from harness.targets.reference.peers import Message
from harness.targets.reference.replica import Site, Unavailable
from harness.targets.reference.state import Answer

LEASE: Final = ELECTION[0] / 2
"""Seconds that a primary may answer reads by itself after a majority followed it. Those who followed do not vote for
another for twice as long, so their clocks may run up to twice as fast."""


class Raft(Elected):
    """One node of a Raft cluster."""

    commands = Elected.commands | {"MEMBERS"}

    HANDLERS = Elected.HANDLERS | {
        "snapshot": "_on_snapshot",
        "pre-vote?": "_on_pre_vote_request",
        "pre-vote": "_on_pre_vote",
    }

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._pre_votes: set[str] = set()
        self._initial = tuple(site.nodes)
        self._adopt_members()

    # Reads

    async def _before_read(self) -> None:
        if self.options.reads == "local" or (self.options.reads == "lease" and self._holds_lease()):
            return
        await self._confirm()

    def _holds_lease(self) -> bool:
        """Whether nobody else can have become primary yet, and all that was acknowledged before is applied here."""
        confirmed = sorted((self._confirmed.get(peer, 0) for peer in self.peers), reverse=True)
        others = len(self.members) // 2
        if self.applied < self._own_term_from or len(confirmed) < others:
            return False
        began = self._round_began.get(confirmed[others - 1]) if others else self.host.monotonic()
        return began is not None and self.host.monotonic() < began + self._lease()

    def _lease(self) -> float:
        return LEASE

    # Pre-votes: nobody enters a new term, which would depose the primary, before a majority says that it would vote

    def _ask_for_votes(self) -> None:
        self._pre_votes = {self.name}
        for peer in self.peers:
            self._post(peer, {"kind": "pre-vote?", **self._position()})
        self._count_pre_votes()

    def _on_pre_vote_request(self, sender: str, message: Message) -> None:
        if self._is_current(message) and not self._is_loyal():
            self._post(sender, {"kind": "pre-vote"})

    def _on_pre_vote(self, sender: str, _message: Message) -> None:
        self._pre_votes.add(sender)
        self._count_pre_votes()

    def _count_pre_votes(self) -> None:
        if self.role != "primary" and self._are_enough(self._pre_votes):
            self._pre_votes = set()
            super()._ask_for_votes()

    def _is_loyal(self) -> bool:
        """Whether this node heard of a primary so lately that it must not help to make another."""
        return self.role == "primary" or self.host.monotonic() < self._heard + ELECTION[0]

    def receive(self, message: Message) -> None:
        if message["kind"] == "vote?" and message["term"] > self.log.term and self._is_loyal():
            return
        super().receive(message)

    # Snapshots

    def _apply(self) -> None:
        super()._apply()
        if self.applied - self.log.base > self.options.snapshot:
            self._take_snapshot()

    def _take_snapshot(self) -> None:
        """Keep the state in place of the entries that led to it; the later entries stay."""
        state = {**self.state.dump(), "members": list(self._members_at(self.applied))}
        self.log.compact(self.applied, self.log.term_of(self.applied), state)

    def _replicate_to(self, peer: str) -> None:
        if self._next.get(peer, self.log.last + 1) > self.log.base:
            super()._replicate_to(peer)
            return
        self._post(peer, {"kind": "snapshot", "state": self.log.snapshot, **self._base(), "round": self._round})
        self._next[peer] = self.log.base + 1

    def _base(self) -> Message:
        return {"base": self.log.base, "base_term": self.log.base_term}

    def _on_snapshot(self, sender: str, message: Message) -> None:
        if self.role == "primary":
            return
        self.primary = sender
        if self.role == "candidate":
            self._step_down()
        self._heard = self.host.monotonic()
        self._expect_primary()
        base = message["base"]
        if base > self.applied:
            if self.log.term_of(base) != message["base_term"]:
                self.log.append(self.log.base + 1, [])  # what is here beyond the base belongs to another history
            self.log.compact(base, message["base_term"], message["state"])
            self.state = self._open_state(self.log.snapshot)
            self.applied = base
            self.committed = max(self.committed, base)
            self._adopt_members()
        self._post(sender, {"kind": "held", "held": base, "round": message["round"]})

    # Members

    async def execute(self, command: list[str]) -> Answer:
        if command[0] != "MEMBERS":
            return await super().execute(command)
        if len(command) == 1:
            return list(self.members)
        self._require_primary()
        await self._before_member_change()
        after = self._members_after(command[1], command[2:])
        if list(after) == list(self.members):
            return "OK"
        if not self._may_change_members(after):
            raise Unavailable("another change of members is not finished")
        return await self._order(["MEMBERS", *after])

    async def _before_member_change(self) -> None:
        """Be sure to be primary still, and to have committed an entry of this term."""
        await self._confirm()

    def _members_after(self, change: str, names: Sequence[str]) -> list[str]:
        if change.upper() == "ADD":
            return sorted({*self.members, *names})
        return [member for member in self.members if member not in names]

    def _may_change_members(self, after: Sequence[str]) -> bool:
        """One node at a time, and one change after the other: then any two majorities have a node in common."""
        pending = any(self.log[at].command[:1] == ["MEMBERS"] for at in range(self.committed + 1, self.log.last + 1))
        return len(after) > 0 and len({*after} ^ {*self.members}) == 1 and not pending

    def _hold(self, index: int, entries: list[Entry]) -> None:
        replaced = index <= self.log.last
        super()._hold(index, entries)
        if replaced or any(entry.command[:1] == ["MEMBERS"] for entry in entries):
            self._adopt_members()

    def _adopt_members(self) -> None:
        """A change of members counts from the moment that it stands in the log, not only once it is committed."""
        self.members = self._members_at(self.log.last)

    def _members_at(self, index: int) -> Sequence[str]:
        for at in range(index, self.log.base, -1):
            if self.log[at].command[:1] == ["MEMBERS"]:
                return self.log[at].command[1:]
        snapshot: dict[str, Sequence[str]] = self.log.snapshot or {}
        return snapshot.get("members", self._initial)

    def _run(self, command: list[str]) -> Answer:
        if command[:1] != ["MEMBERS"]:
            return super()._run(command)
        if self.role == "primary" and self.name not in command[1:]:
            # It has led its own farewell to the end; the others elect a primary among themselves.
            asyncio.get_running_loop().call_soon(self._step_down)
        return "OK"
