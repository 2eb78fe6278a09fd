"""Change of members: nodes leave the cluster while it serves, and join again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec

from harness.capability import Capability
from harness.cluster import Cluster, holds_within
from harness.errors import NothingToDo, option
from harness.nemeses.victims import ANY, Aimed, aims, minority, primary, resolve, shuffled
from harness.nemesis import PRIMARY, Decks, EndsServers, Layer, Nemesis, Plan, Proof, Zones
from harness.options import Number
from harness.target import ChangesMembers, Target

_CHANGE_SECONDS = 3.0
"""How long a store may take to let nodes leave, beside the failover that it takes when the primary does."""
_LOOK_SECONDS = 0.2


class Membership(Nemesis):
    """Let a node, or two at once, leave the cluster; the heal lets them join again."""

    class Options(msgspec.Struct, frozen=True):
        """How many nodes leave at a time."""

        leaving: Annotated[int | None, Number(1, 99), "how many nodes leave, fewer than there are"] = None

    class Fields(Aimed, frozen=True, kw_only=True):
        """How many leave."""

        leaving: Annotated[int, Number(1, 99)]

    name: ClassVar[str] = "membership"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.MEMBERSHIP})
    layer: ClassVar[Layer] = Layer.MEMBERS
    ends_servers: ClassVar[EndsServers] = "meanwhile"
    least: ClassVar[int] = 3

    def __init__(self, options: Options) -> None:
        self._options = options
        self._left: set[str] = set()
        self._doubtful: set[str] = set()
        """Whom a change that nobody has confirmed may still let leave, at any later moment."""

    def misfit(self, zones: Zones) -> str | None:
        if (self._options.leaving or 0) < len(zones):
            return None
        asked = option("leaving")
        return f"{asked} is {self._options.leaving}, but of {len(zones)} nodes at most {len(zones) - 1} can leave"

    def decks(self, zones: Zones) -> Decks:
        counts = [self._options.leaving] if self._options.leaving else range(1, minority(len(zones)) + 1)
        return {"aim": aims(zones, ANY, (PRIMARY, "one")), "leaving": {str(count): 1.0 for count in counts}}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        return {"aim": dealt["aim"], "order": shuffled(rng, zones), "leaving": int(dealt["leaving"])}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        if self._left:
            raise NothingToDo(f"{', '.join(sorted(self._left))} could not join again yet")
        first = await resolve(cluster, target, plan)
        leaving = [*first, *(name for name in plan["order"] if name not in first)][: plan["leaving"]]
        changing = _changing(target)
        hands_over = await primary(cluster, target) in leaving
        seconds = _CHANGE_SECONDS + (target.failover if hands_over else 0.0)
        try:
            async with asyncio.timeout(seconds):
                before = await self._members(cluster, target)
                self._left.update(leaving)
                self._doubtful.update(leaving)
                members = await self._leave(changing, cluster, target, leaving)
        except TimeoutError:
            raise NothingToDo(f"{' '.join(leaving)} could not leave within {seconds:g} s") from None
        gone = [name for name in leaving if name not in members]
        self._doubtful.difference_update(gone)
        words = f"{' '.join(gone) or 'nobody yet'} left"
        return {"said": words, "leaving": leaving, "before": before, "members": members}

    async def _leave(
        self, changing: ChangesMembers, cluster: Cluster, target: Target, leaving: Sequence[str]
    ) -> list[str]:
        """Let nodes leave; who the members are then. The answer may be lost and all be done nevertheless."""
        try:
            return list(await changing.leave(cluster, leaving))
        except NothingToDo:
            members = await self._members(cluster, target)
            if set(leaving) & set(members):
                raise
            return members

    async def _members(self, cluster: Cluster, target: Target) -> list[str]:
        """Who the members are, as soon as one says so."""
        changing = _changing(target)
        while True:
            try:
                return list(await changing.members(cluster))
            except NothingToDo:
                await asyncio.sleep(_LOOK_SECONDS)

    async def prove(self, cluster: Cluster, target: Target, done: Plan, seconds: float) -> Proof:
        """Until the members say so, or the time is over: who has just lost its primary may know no member for now."""
        before, leaving = set(done["before"]), set(done["leaving"])
        members: list[str] | None = None

        async def have_left() -> bool:
            nonlocal members
            members = await self._members(cluster, target)
            return leaving <= before and before - set(members) == leaving

        holds = await holds_within(have_left, seconds - _LOOK_SECONDS, _LOOK_SECONDS)
        return Proof("the list of members, as members say it", done["before"], members, holds)

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        away = self._left | self._doubtful
        members = await _changing(target).join(cluster, sorted(away)) if away else None
        if members is not None and (out := away.difference(members)):
            raise NothingToDo(f"{', '.join(sorted(out))} could not join again yet")
        self._left.clear()
        return {"members": members}


def _changing(target: Target) -> ChangesMembers:
    """What changes the members of a target's store. Raises ``NothingToDo`` where that cannot be done."""
    if target.membership is None:
        raise NothingToDo(f"{target.name} cannot change its members")
    return target.membership
