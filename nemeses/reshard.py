"""Resharding: ranges of keys go from one shard to another while both serve."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import msgspec

from harness.capability import Capability
from harness.cluster import Cluster, holds_within
from harness.errors import FaultError, NothingToDo
from harness.nemesis import Decks, EndsServers, Layer, Nemesis, Plan, Proof, Zones
from harness.options import Share
from harness.target import Reshards, ShardsSeen, Target

Kind = Literal["move", "split", "merge"]
_KINDS: tuple[Kind, ...] = ("move", "split", "merge")
_LOOK_SECONDS = 0.2
_HEAL_SECONDS = 5.0
_END = "\U0010ffff"
"""Beyond every point."""


class Reshard(Nemesis):
    """Move a piece to another shard, or half of one, or one to the shard of its neighbour; the heal sees it arrive."""

    class Options(msgspec.Struct, frozen=True):
        """What is done."""

        reshard: Annotated[Literal["any", "move", "split", "merge"], "what is done to a shard's piece"] = "any"

    class Fields(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
        """What to do, and where on the line of keys; which of the other shards gets it."""

        kind: Kind
        at: Annotated[float, Share(0, 1)]
        to: Annotated[float, Share(0, 1)]

    name: ClassVar[str] = "reshard"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.RESHARD})
    layer: ClassVar[Layer] = Layer.MEMBERS
    ends_servers: ClassVar[EndsServers] = "never"

    def __init__(self, options: Options) -> None:
        self._options = options

    def decks(self, zones: Zones) -> Decks:
        asked = self._options.reshard
        return {"kind": dict.fromkeys(_KINDS if asked == "any" else (asked,), 1.0)}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        return {"kind": dealt["kind"], "at": rng.random(), "to": rng.random()}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        resharding = _resharding(target)
        seen = await resharding.shards(cluster)
        newest = _newest(seen)
        try:
            low, high, shard = chosen(newest, plan)
        except NothingToDo:
            if plan["kind"] != "split" or self._options.reshard != "any":
                raise
            # In pieces of one slot nothing can be split, but whatever is to be done may be a move.
            plan = {**plan, "kind": "move"}
            low, high, shard = chosen(newest, plan)
        before = {name: [one.epoch, *owners_of(one, low, high)] for name, one in seen.items()}
        epoch = await resharding.reshard(cluster, low, high, shard)
        said = f"{plan['kind']}: {low or 'the first'} to {'the last' if high == _END else high} goes to shard {shard}"
        return {"said": said, "low": low, "high": high, "to": shard, "epoch": epoch, "before": before}

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        """Until most nodes' own shards say that the range has its new owner, and their maps that the move is over."""
        now: dict[str, list[int]] = {}
        epoch, shard = int(done["epoch"]), [int(done["to"])]

        async def has_moved() -> bool:
            seen = await _resharding(target).shards(cluster)
            now.clear()
            now.update({name: [one.epoch, *owners_of(one, done["low"], done["high"])] for name, one in seen.items()})
            over = [name for name, one in seen.items() if one.epoch > epoch and not one.moving]
            return sum(now[name][1:] == shard for name in over) >= cluster.majority

        holds = await holds_within(has_moved, seconds - _LOOK_SECONDS, _LOOK_SECONDS)
        means = "the epoch of each node's map, and who owns the range as its shards say themselves"
        return Proof(means, done["before"], dict(now), holds)

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        """Nothing is undone: keys may be anywhere. But what is on its way has to arrive, as most nodes say it.

        A few may have heard of nothing for long.
        """
        if target.sharding is None:
            return {"epoch": None}
        epoch: int | None = None

        async def has_arrived() -> bool:
            nonlocal epoch
            seen = (await _resharding(target).shards(cluster)).values()
            epoch = max((one.epoch for one in seen), default=None)
            return sum(one.epoch == epoch and not one.moving for one in seen) >= cluster.majority

        if not await holds_within(has_arrived, _HEAL_SECONDS, _LOOK_SECONDS):
            raise NothingToDo("a range has not arrived yet")
        return {"epoch": epoch}


def chosen(seen: ShardsSeen, plan: Plan) -> tuple[str, str, int]:
    """The range that a plan moves, from its start to its end, which is not in it, and to which shard.

    Raises ``NothingToDo`` where there is no such range, or something is on its way already.
    """
    starts, shards = [start for start, _ in seen.owners], [shard for _, shard in seen.owners]
    if seen.moving or 0 in shards:
        raise NothingToDo("a range is on its way already")
    counts = Counter(bisect_right(starts, point) - 1 for point in seen.points if point < _END)
    if not counts:
        raise NothingToDo("there are no keys yet")
    held = sorted(at for at, points in counts.items() if points > 1 or plan["kind"] != "split")
    if not held:
        raise NothingToDo("the keys of each piece are all at one point, where nothing can be split")
    at = _one_of(held, plan["at"])
    low, high = starts[at], [*starts[1:], _END][at]
    others = [shard for shard in seen.shards if shard != shards[at]]
    if plan["kind"] == "merge":
        others = [shards[beside] for beside in (at - 1, at + 1) if 0 <= beside < len(shards)]
    if not others:
        raise NothingToDo("no other shard is its neighbour")
    if plan["kind"] == "split":
        points = sorted(point for point in seen.points if low <= point < high)
        low = points[len(points) // 2]
    return low, high, _one_of(others, plan["to"])


def owners_of(seen: ShardsSeen, low: str, high: str) -> Sequence[int]:
    """The shards that own parts of a range, 0 where nobody does just now."""
    pieces = [*seen.owners, (_END, 0)]
    return sorted({shard for (start, shard), (end, _) in pairwise(pieces) if start < high and low < end})


def _one_of(choices: Sequence[int], share: float) -> int:
    return choices[min(int(share * len(choices)), len(choices) - 1)]


def _newest(seen: Mapping[str, ShardsSeen]) -> ShardsSeen:
    """What the node says whose map is the newest. Raises ``NothingToDo`` where nobody answers."""
    if not seen:
        raise NothingToDo("no node says what its shards own")
    return max(seen.values(), key=lambda one: (one.epoch, not one.moving))


def _resharding(target: Target) -> Reshards:
    if target.sharding is None:
        raise FaultError(f"{target.name} has no shards between which keys could be moved")
    return target.sharding
