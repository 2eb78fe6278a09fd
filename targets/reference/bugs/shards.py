"""Bugs of a store whose keys are split over shards: of the way to the right one, and of moves between them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

from harness.targets.reference.bugs.bug import bug
from harness.targets.reference.placement import owner
from harness.targets.reference.replica import READS
from harness.targets.reference.shards.group import Shard
from harness.targets.reference.shards.prepared import PreparedState
from harness.targets.reference.state import Answer
from harness.targets.reference.transactions import VersionedState, parse

_MOVES: dict[str, Any] = {
    "replication": "raft",
    "checker": "linearizable",
    "workload": "register",
    "nemesis": "reshard",
    "options": {"shards": "3"},
}


class _TrustingState(PreparedState):
    def owns(self, key: str) -> bool:
        return True


@bug(**_MOVES)
class TrustsAnOldMap(Shard):
    """A shard executes whatever a router sends it, whose map may be an old one: what it has handed over, or is just
    handing over, is read and written there still.
    """

    STATE: ClassVar[type[PreparedState]] = _TrustingState


class _GenerousState(PreparedState):
    def owns(self, key: str) -> bool:
        return owner(self.pieces, self.point(key)) == self.number

    def _note(self, keys: Iterable[str]) -> None:
        if self.leaving is not None and not self.leaving["frozen"]:
            super()._note(keys)


@bug(**_MOVES)
class TwoOwners(Shard):
    """The former owner goes on to serve a range until it has forgotten it, though the new one has adopted it: both
    accept writes, and those of the former owner are lost.
    """

    STATE: ClassVar[type[PreparedState]] = _GenerousState


class _ForgetfulState(PreparedState):
    def _note(self, keys: Iterable[str]) -> None:
        """Not remembered: the last answers to clients go along, the keys do not."""


@bug(**_MOVES)
class LostBeforeTheCutOver(Shard):
    """Copies a range once, and not what was written to it between that snapshot and the cut-over."""

    STATE: ClassVar[type[PreparedState]] = _ForgetfulState


class _ExclusiveState(PreparedState):
    def _held(self, low: str, high: str) -> list[str]:
        return [key for key in super()._held(low, high) if self.point(key) != low]


@bug(**_MOVES)
class FirstKeyStays(Shard):
    """Takes a range to begin after its first point, where it begins with it: the key that stands there is not copied,
    and the new owner has nothing for it.
    """

    STATE: ClassVar[type[PreparedState]] = _ExclusiveState


_ACROSS: dict[str, Any] = {**_MOVES, "checker": "transactions", "workload": "list-append", "nemesis": ""}


class _UnwrittenState(PreparedState):
    def _write_down(self, transaction: str, shards: list[int]) -> None:
        """Not written down."""

    def _has_committed(self, transaction: str) -> bool:
        return False


@bug(**{**_ACROSS, "nemesis": "partition,kill"}, overlap=True)
class ForgetsItsDecision(Shard):
    """The home of a transaction commits without writing down that it has: a shard that lost the coordinator asks it,
    is told to abort, and half of what was acknowledged is lost.
    """

    STATE: ClassVar[type[PreparedState]] = _UnwrittenState


class _HastyState(PreparedState):
    def _hold(self, transaction: str, part: dict[str, Any]) -> None:
        reads = [command for command in part["commands"] if command[0] in READS]
        self._do(part["commands"])
        super()._hold(transaction, {**part, "commands": reads})


@bug(**_ACROSS)
class CommitsWithoutADecision(Shard):
    """A shard does its part of a transaction as soon as it is asked whether it could, and locks nothing: others see
    the half of it, also where it is given up and tried again.
    """

    STATE: ClassVar[type[PreparedState]] = _HastyState


class _LooseState(PreparedState):
    def _locked(self, keys: Iterable[str]) -> str | None:
        return None


@bug(**_ACROSS)
class UnlocksBeforeTheCommit(Shard):
    """Lets go of a transaction's locks once it has voted: another one reads and writes the same keys before the first
    one has written them.
    """

    STATE: ClassVar[type[PreparedState]] = _LooseState


class _DirtyState(PreparedState):
    def _locked(self, keys: Iterable[str]) -> str | None:
        return None if self._only_reads else super()._locked(keys)

    _only_reads = False

    def _prepare(self, transaction: str, home: str, client: str, number: str, text: str) -> Answer:
        self._only_reads = all(
            command[0] in READS or (command[0] == "TXN" and all(step[0] == "r" for step in parse(command[1])))
            for command in json.loads(text)
        )
        try:
            return super()._prepare(transaction, home, client, number, text)
        finally:
            self._only_reads = False

    def _seen(self, keys: Iterable[str]) -> VersionedState:
        there = super()._seen(keys)
        if self._only_reads:
            for part in self.prepared.values():
                for command in part["commands"]:
                    there.apply(command)
        return there


@bug(**_ACROSS)
class ReadsBetweenThePhases(Shard):
    """A transaction that only reads goes past the locks, and sees what others have prepared and not committed: in one
    shard what is written, in another what was there before, or what is never committed.
    """

    STATE: ClassVar[type[PreparedState]] = _DirtyState
