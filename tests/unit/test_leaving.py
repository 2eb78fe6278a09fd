"""A node that leaves, of which the store's answer may be lost."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cluster import Cluster, Role
from harness.errors import NothingToDo
from harness.nemeses.membership import Membership

NAMES = ["n1", "n2", "n3"]


class Store:
    """A store that answers nothing to who lets a node leave, whether it ``does`` so or not."""

    name = "store"

    def __init__(self, *, does: bool) -> None:
        self.membership = self
        self._does = does
        self._members = list(NAMES)
        self._silent = 0

    async def roles(self, cluster: Cluster) -> Sequence[Role]:
        return [Role("n1", "primary")]

    async def members(self, cluster: Cluster) -> Sequence[str]:
        self._silent -= 1
        if self._silent >= 0:
            raise NothingToDo("nobody answers")
        return self._members

    async def leave(self, cluster: Cluster, names: Sequence[str]) -> Sequence[str]:
        if self._does:
            self._members = [name for name in self._members if name not in names]
        self._silent = 2
        raise NothingToDo("nobody answers")


async def leave(store: Any) -> Any:
    nodes: Any = [SimpleNamespace(name=name) for name in NAMES]
    environment: Any = None
    plan = {"aim": "n3", "order": NAMES, "leaving": 1}
    return await Membership(Membership.Options()).inject(Cluster(environment, nodes, 0), store, plan)


async def test_who_has_left_has_left_though_nobody_answered() -> None:
    done = await leave(Store(does=True))
    assert (done["before"], done["leaving"], done["members"]) == (NAMES, ["n3"], ["n1", "n2"])


async def test_who_has_not_left_could_not() -> None:
    with pytest.raises(NothingToDo, match="nobody answers"):
        await leave(Store(does=False))
