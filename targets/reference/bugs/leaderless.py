"""Bugs of quorums, multi-primary replication and gossip."""

from __future__ import annotations

from collections.abc import Sequence

from harness.targets.reference.bugs.bug import bug
from harness.targets.reference.cells import Cell, Counter, Elements, Last, dump
from harness.targets.reference.clocks import HybridClock, WallClock
from harness.targets.reference.gossip import Gossip
from harness.targets.reference.leaderless import Leaderless
from harness.targets.reference.multi_primary import MultiPrimary
from harness.targets.reference.peers import Message
from harness.targets.reference.quorum import Quorum
from harness.targets.reference.replica import Site

_QUORUMS = {"replication": "quorum", "checker": "linearizable", "workload": "register"}


@bug(**_QUORUMS, nemesis="partition,kill", options={"cas": "0"})
class SmallQuorums(Quorum):
    """Waits for one node to write and asks one to read, so that the two need not meet (R + W <= N)."""

    def _quorums(self) -> tuple[int, int]:
        return 1, 1


@bug(**_QUORUMS, nemesis="partition,netem,pause", options={"cas": "0", "read": "6"}, overlap=True)
class ReadWithoutWriteBack(Quorum):
    """A read answers with a value that too few nodes hold yet: the next read may find the older one again."""

    async def _settle(self, key: str, homes: Sequence[str], cell: Cell, agreeing: set[str]) -> None:
        return


@bug(
    replication="quorum",
    checker="overwritten",
    workload="converge",
    nemesis="partition",
    # So many keys that some are written only once, by the side of a cut on which none of their homes is.
    options={"sloppy": "true", "partition": "halves", "keys": "400", "delete": "0"},
)
class DroppedHint(Quorum):
    """A node that stands in for another one acknowledges the write, and forgets it."""

    def _hold_hint(self, home: str, key: str, cell: Cell) -> None:
        return


@bug(
    replication="multi-primary",
    checker="overwritten",
    workload="converge",
    nemesis="partition",
    options={"delete": "2"},
)
class TombstoneResurrected(Leaderless):
    """A delete leaves nothing behind, so a node that has not heard of it brings the value back."""

    def _take(self, key: str, cell: Cell) -> bool:
        changed = super()._take(key, cell)
        held = self.cells[key]
        if isinstance(held, Last) and held.value is None:
            nothing = Last(None, (0.0, 0, ""))
            self._place(key, nothing, dump(nothing))
        return changed


@bug(replication="multi-primary", checker="overwritten", workload="converge", nemesis="clock")
class LastWriteWinsUnderSkew(Leaderless):
    """Stamps writes with the wall clock: a node whose clock is behind writes what has already lost."""

    def _make_clock(self) -> HybridClock | WallClock:
        return WallClock(self.host, self.name)


@bug(replication="multi-primary", checker="total", workload="counter", nemesis="partition")
class CounterTakesTheGreater(Leaderless):
    """Merges two counters by taking the greater total: what the other one had counted is lost."""

    def _join(self, mine: Cell, theirs: Cell) -> Cell:
        if isinstance(mine, Counter) and isinstance(theirs, Counter):
            return max(mine, theirs, key=Counter.read)
        return super()._join(mine, theirs)


@bug(replication="multi-primary", checker="elements", workload="set", nemesis="partition", options={"remove": "3"})
class RemovedElementReturns(Leaderless):
    """Merges two sets by taking the elements of both, also those that one of them knows to be removed."""

    def _join(self, mine: Cell, theirs: Cell) -> Cell:
        joined = super()._join(mine, theirs)
        if isinstance(mine, Elements) and isinstance(theirs, Elements) and isinstance(joined, Elements):
            return Elements({**mine.dots, **theirs.dots}, joined.seen)
        return joined


@bug(
    replication="multi-primary",
    checker="convergence",
    workload="converge",
    nemesis="partition,kill",
    # So many keys that what was owed and forgotten is not all written anew.
    options={"anti_entropy": "false", "keys": "200"},
    overlap=True,
)
class ForgetsWhatItOwes(MultiPrimary):
    """Keeps the list of what its peers lack in memory only: after a restart they never hear of it."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._owed = {peer: {} for peer in self.peers}


@bug(replication="gossip", checker="convergence", workload="converge", nemesis="partition,kill")
class RumoursOnly(Gossip):
    """Spreads rumours and never compares: whoever was away when a rumour went round never hears of it."""

    def _compare_later(self) -> None:
        return


@bug(replication="gossip", checker="convergence", workload="converge", nemesis="partition,kill")
class HalfATree(Gossip):
    """Goes down only the first half of a Merkle tree's differing nodes: some keys are never compared."""

    def _on_tree(self, sender: str, message: Message) -> None:
        nodes = [node for node in message["nodes"] if node[0][1] % 4 < 2]
        super()._on_tree(sender, {**message, "nodes": nodes})
