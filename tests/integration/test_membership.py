"""Members that leave and join again, as the stores themselves say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.cluster import Cluster, wait_until
from harness.errors import NothingToDo
from harness.operation import Operation
from nemeses.membership import Membership
from nemeses.victims import primary
from targets.etcd import Etcd, _cluster_call
from targets.redis import Redis
from tests.integration.inside import on
from tests.integration.test_faults import ENVIRONMENTS, serving, states


async def leaves_and_joins(cluster: Cluster, store: Any) -> None:
    """Whoever is primary leaves, the others go on, and it comes back with what was written meanwhile."""
    names = [node.name for node in cluster.nodes]
    await serving(cluster, store, 90)
    first = await primary(cluster, store)
    assert first is not None
    membership = Membership(Membership.Options())
    for leaving in (first, *(name for name in names if name != first)):
        done = await membership.inject(cluster, store, {"leaving": [leaving]})
        assert done["members"] == [name for name in names if name != leaving]
        gone = cluster.node(leaving)

        async def ended(node: Any = gone) -> bool:
            return not await states(node)

        await wait_until(ended, seconds=30, what=f"{leaving} ending")
        other = next(node for node in cluster.nodes if node is not gone)
        client = store.client(cluster, other, 5.0)

        async def written(client: Any = client, value: int = names.index(leaving)) -> bool:
            try:
                await client.open()
                await client.invoke(Operation("write", "k", value))
            except Exception:
                await client.close()
                return False
            return True

        await wait_until(written, seconds=30, what="a write without it")
        await client.close()
        done = await membership.heal(cluster, store)
        assert done["members"] == names
        await wait_until(lambda: store.ready(cluster), seconds=60, what="the store being whole again")
        client = store.client(cluster, gone, 5.0)
        await client.open()
        assert await client.invoke(Operation("read", "k")) == names.index(leaving)
        await client.close()


async def etcd_members_leave_and_join(cluster: Cluster) -> None:
    await leaves_and_joins(cluster, Etcd(Etcd.Options()))


async def redis_replicas_leave_and_join(cluster: Cluster) -> None:
    await leaves_and_joins(cluster, Redis(Redis.Options()))


async def etcd_member_whose_first_try_to_join_was_answered_with_nothing(cluster: Cluster) -> None:
    """It is a member already, but a new one: it cannot go on with what it had."""
    store, membership = await serving(cluster, Etcd(Etcd.Options()), 90), Membership(Membership.Options())
    first, _, gone = cluster.nodes
    await membership.inject(cluster, store, {"leaving": [gone.name]})

    async def added() -> bool:
        answer = await _cluster_call(first, "add", peerURLs=[f"http://{gone.address}:2380"])
        return answer is not None and ("members" in answer or "exist" in str(answer))

    await wait_until(added, seconds=30, what="the first try")
    await membership.heal(cluster, store)
    await wait_until(lambda: store.ready(cluster), seconds=60, what="the store being whole again")


class Silent:
    """A store whose members do not say whether they let a node leave."""

    def __init__(self) -> None:
        self.joined: list[list[str]] = []

    async def leave(self, cluster: Cluster, names: list[str]) -> list[str]:
        raise NothingToDo("no member answers")

    async def join(self, cluster: Cluster, names: list[str]) -> list[str]:
        self.joined.append(names)
        return ["n1", "n2", "n3"]


def test_who_may_yet_have_to_leave_is_joined_again_at_every_heal() -> None:
    store, membership, cluster = Silent(), Membership(Membership.Options()), Cluster(None, [], 0)  # type: ignore[arg-type]

    async def main() -> None:
        with pytest.raises(NothingToDo):
            await membership.inject(cluster, store, {"leaving": ["n3"]})  # type: ignore[arg-type]
        for _ in range(2):
            await membership.heal(cluster, store)  # type: ignore[arg-type]

    asyncio.run(main())
    assert store.joined == [["n3"], ["n3"]]


@pytest.mark.needs("etcd", "local")
def test_a_lost_answer_does_not_keep_a_member_out() -> None:
    on("local", etcd_member_whose_first_try_to_join_was_answered_with_nothing)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(etcd_members_leave_and_join, marks=pytest.mark.needs("etcd")),
        pytest.param(redis_replicas_leave_and_join, marks=pytest.mark.needs("redis")),
    ],
)
def test_on_real_nodes(environment: str, scenario: Any) -> None:
    on(environment, scenario)
