"""Change of members: nodes leave the cluster while it serves, and join again."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from harness.cluster import Cluster
from harness.errors import NothingToDo
from harness.nemesis import PRIMARY, Decks, Layer, Plan, Zones
from harness.options import Number
from harness.target import Target
from nemeses.victims import ANY, Aimed, aims, minority, resolve, shuffled


class Membership:
    """Let a node, or two at once, leave the cluster; the heal lets them join again."""

    class Options(msgspec.Struct, frozen=True):
        """How many."""

        leaving: Annotated[int | None, Number(1, 99), "how many nodes leave, fewer than there are"] = None

    class Fields(Aimed, frozen=True, kw_only=True):
        """What a plan holds."""

        leaving: Annotated[int, Number(1, 99)]

    name: ClassVar[str] = "membership"
    needs: ClassVar[frozenset[str]] = frozenset()
    layer: ClassVar[Layer] = Layer.MEMBERS
    needs_of_target: ClassVar[frozenset[str]] = frozenset({"membership"})
    least: ClassVar[int] = 3

    def __init__(self, options: Options) -> None:
        self._options = options
        self._left: set[str] = set()
        self._doubtful: set[str] = set()
        """Whom a change that nobody has confirmed may still let leave, at any later moment."""

    def misfit(self, zones: Zones) -> str | None:
        if (self._options.leaving or 0) < len(zones):
            return None
        return f"-o leaving is {self._options.leaving}, but of {len(zones)} nodes at most {len(zones) - 1} can leave"

    def decks(self, zones: Zones) -> Decks:
        counts = [self._options.leaving] if self._options.leaving else range(1, minority(len(zones)) + 1)
        return {"aim": aims(zones, ANY, (PRIMARY, "one")), "leaving": {str(count): 1.0 for count in counts}}

    def plan(self, rng: random.Random, zones: Zones, dealt: Mapping[str, str]) -> Plan:
        return {"aim": dealt["aim"], "order": shuffled(rng, zones), "leaving": int(dealt["leaving"])}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        first = await resolve(cluster, target, plan)
        leaving = [*first, *(name for name in plan["order"] if name not in first)][: plan["leaving"]]
        self._left.update(leaving)
        self._doubtful.update(leaving)
        changing: Any = target
        members = await changing.leave(cluster, leaving)
        gone = [name for name in leaving if name not in members]
        self._doubtful.difference_update(gone)
        return {"said": f"{' '.join(gone) or 'nobody yet'} left", "members": members}

    async def heal(self, cluster: Cluster, target: Target) -> Plan:
        changing: Any = target
        away = self._left | self._doubtful
        members = await changing.join(cluster, sorted(away)) if away else None
        if members is not None and (out := away.difference(members)):
            raise NothingToDo(f"{', '.join(sorted(out))} could not join again yet")
        self._left.clear()
        return {"members": members}
