"""Change of members: nodes leave the cluster while it serves, and join again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from harness.cluster import Cluster
from harness.errors import NothingToDo
from harness.nemesis import Plan
from harness.target import Target


class Membership:
    """Let a node, or two at once, leave the cluster; the heal lets them join again."""

    class Options(msgspec.Struct, frozen=True):
        """``leaving`` fixes how many leave."""

        leaving: int = 0

    name: ClassVar[str] = "membership"
    needs: ClassVar[frozenset[str]] = frozenset()
    needs_of_target: ClassVar[frozenset[str]] = frozenset({"membership"})
    least: ClassVar[int] = 3

    def __init__(self, options: Options) -> None:
        self._options = options
        self._left: set[str] = set()
        self._doubtful: set[str] = set()
        """Whom a change that nobody has confirmed may still let leave, at any later moment."""

    def plan(self, rng: random.Random, nodes: Sequence[str]) -> Plan:
        count = self._options.leaving or rng.randint(1, max(1, (len(nodes) - 1) // 2))
        return {"leaving": rng.sample(list(nodes), count)}

    async def inject(self, cluster: Cluster, target: Target, plan: Plan) -> Plan:
        leaving = plan["leaving"]
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
