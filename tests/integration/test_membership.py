"""Members that leave and join again, as the stores themselves say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster, Role, wait_until
from harness.environments.simulation.environment import SimulationEnvironment
from harness.errors import NothingToDo
from harness.nemeses.membership import Membership
from harness.nemeses.victims import primary, revive
from harness.operation import Operation
from harness.targets.etcd import Etcd
from harness.targets.redis import Redis
from harness.targets.reference.target import Reference
from tests.integration.inside import on, simulated
from tests.integration.test_faults import ENVIRONMENTS, serving, states


def plan(leaving: str) -> dict[str, Any]:
    return {"aim": leaving, "order": ["n1", "n2", "n3"], "leaving": 1}


async def rejoined(membership: Membership, cluster: Cluster, store: Any) -> dict[str, Any]:
    """What the heal did. As at the end of a run it is tried until the store, which may be just coming back, does it."""
    done: dict[str, Any] = {}

    async def healed() -> bool:
        try:
            done.update(await membership.heal(cluster, store))
        except NothingToDo:
            return False
        return True

    await wait_until(healed, seconds=60, what="everybody joining again")
    return done


async def left(membership: Membership, cluster: Cluster, store: Any, leaving: str) -> dict[str, Any]:
    """What was done to let a node leave. etcd agrees only once all members have been connected for five seconds."""
    done: dict[str, Any] = {}

    async def gone() -> bool:
        try:
            done.update(await membership.inject(cluster, store, plan(leaving)))
        except NothingToDo:
            await rejoined(membership, cluster, store)
        return bool(done)

    await wait_until(gone, seconds=100, what=f"{leaving} leaving")
    return done


async def leaves_and_joins(cluster: Cluster, store: Any) -> None:
    """Whoever is primary leaves, the others go on, and it comes back with what was written meanwhile."""
    names = [node.name for node in cluster.nodes]
    await serving(cluster, store, 90)
    first = await primary(cluster, store)
    assert first is not None
    membership = Membership(Membership.Options())
    others = [name for name in names if name != first]
    # Everybody once on local nodes, which are the quickest; the stores are the same elsewhere.
    for leaving in (first, *(others if cluster.environment.name == "local" else others[:1])):
        done = await left(membership, cluster, store, leaving)
        assert done["members"] == [name for name in names if name != leaving]
        proof = await membership.prove(cluster, store, done, 3.0)
        assert proof.holds, proof
        assert proof.before == names
        gone = cluster.node(leaving)

        async def ended(node: Any = gone) -> bool:
            return not await states(node)

        await wait_until(ended, seconds=90, what=f"{leaving} ending")
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

        await wait_until(written, seconds=90, what="a write without it")
        await client.close()
        done = await rejoined(membership, cluster, store)
        assert done["members"] == names
        assert not (await membership.prove(cluster, store, {"before": names, "leaving": [leaving]}, 0.5)).holds
        await wait_until(lambda: store.ready(cluster), seconds=60, what="the store being whole again")
        client = store.client(cluster, gone, 5.0)
        await client.open()
        assert (await client.invoke(Operation("read", "k"))).value == names.index(leaving)
        await client.close()


async def etcd_members_leave_and_join(cluster: Cluster) -> None:
    await leaves_and_joins(cluster, Etcd(Etcd.Options()))


async def redis_replicas_leave_and_join(cluster: Cluster) -> None:
    await leaves_and_joins(cluster, Redis(Redis.Options()))


async def etcd_member_whose_first_try_to_join_was_answered_with_nothing(cluster: Cluster) -> None:
    """It is a member already, but a new one: it cannot go on with what it had."""
    store, membership = await serving(cluster, Etcd(Etcd.Options()), 90), Membership(Membership.Options())
    first, _, gone = cluster.nodes
    await left(membership, cluster, store, gone.name)

    async def added() -> bool:
        answer = await store.call(first, "add", peerURLs=[f"https://{gone.address}:2380"])
        return answer is not None and ("members" in answer or "exist" in str(answer))

    await wait_until(added, seconds=90, what="the first try")
    await rejoined(membership, cluster, store)
    await wait_until(lambda: store.ready(cluster), seconds=60, what="the store being whole again")


class Silent:
    """A store whose members say who they are, but not whether they let a node leave."""

    failover = 5.0

    def __init__(self) -> None:
        self.membership = self
        self.joined: list[list[str]] = []

    async def roles(self, cluster: Cluster) -> list[Role]:
        return []

    async def members(self, cluster: Cluster) -> list[str]:
        return ["n1", "n2", "n3"]

    async def leave(self, cluster: Cluster, names: list[str]) -> list[str]:
        raise NothingToDo("no member answers")

    async def join(self, cluster: Cluster, names: list[str]) -> list[str]:
        self.joined.append(names)
        return ["n1", "n2", "n3"]


def test_who_may_yet_have_to_leave_is_joined_again_at_every_heal() -> None:
    store, membership, cluster = Silent(), Membership(Membership.Options()), Cluster(None, [], 0)  # type: ignore[arg-type]

    async def main() -> None:
        with pytest.raises(NothingToDo):
            await membership.inject(cluster, store, plan("n3"))  # type: ignore[arg-type]
        for _ in range(2):
            await membership.heal(cluster, store)  # type: ignore[arg-type]

    asyncio.run(main())
    assert store.joined == [["n3"], ["n3"]]


class Stubborn(Silent):
    """A store that never comes to an end with a change, or never says anything."""

    failover = 1.0

    async def roles(self, cluster: Cluster) -> list[Role]:
        return [Role("n3", "primary")]

    def __init__(self, *, silent: bool) -> None:
        super().__init__()
        self._silent = silent

    async def members(self, cluster: Cluster) -> list[str]:
        if self._silent:
            raise NothingToDo("no member answers")
        return ["n1", "n2", "n3"]

    async def leave(self, cluster: Cluster, names: list[str]) -> list[str]:
        await asyncio.sleep(3600)
        raise AssertionError


@pytest.mark.parametrize("silent", [False, True])
def test_a_store_that_does_not_change_its_members_is_not_waited_for(silent: bool) -> None:
    async def main() -> None:
        loop, store, cluster = asyncio.get_running_loop(), Stubborn(silent=silent), Cluster(None, [], 0)  # type: ignore[arg-type]
        membership = Membership(Membership.Options())
        with pytest.raises(NothingToDo, match="n3 could not leave within 4 s"):
            await membership.inject(cluster, store, plan("n3"))  # type: ignore[arg-type]
        assert loop.time() == pytest.approx(4.0, abs=0.1)
        done = {"before": ["n1", "n2", "n3"], "leaving": ["n3"]}
        proof = await membership.prove(cluster, store, done, 2.0)  # type: ignore[arg-type]
        assert not proof.holds
        assert loop.time() < 6.1

    SimulationEnvironment().run(main())


async def a_node_that_is_kept_down_joins_without_being_started(cluster: Cluster) -> None:
    store, membership = await serving(cluster, Etcd(Etcd.Options()), 90), Membership(Membership.Options())
    await left(membership, cluster, store, "n3")
    cluster.down["kill"] = {"n3"}
    assert (await rejoined(membership, cluster, store))["members"] == ["n1", "n2", "n3"]
    assert not await states(cluster.node("n3"))
    del cluster.down["kill"]
    assert (await revive(cluster, store, ["n3"]))["n3"] == ["etcd"]
    await wait_until(lambda: store.ready(cluster), seconds=60, what="the store being whole again")


@pytest.mark.needs("etcd", "local")
def test_a_node_that_is_kept_down_joins_without_being_started() -> None:
    on("local", a_node_that_is_kept_down_joins_without_being_started)


async def the_reference_store_lets_whom_it_is_asked_to_leave(cluster: Cluster) -> None:
    store = await serving(cluster, Reference(Reference.Options()))
    for aim in ("primary", "one"):
        membership = Membership(Membership.Options())
        first = await primary(cluster, store)
        done = await membership.inject(cluster, store, {"aim": aim, "order": ["n2", "n1", "n3"], "leaving": 1})
        assert done["leaving"] == [first if aim == "primary" else "n2"]
        assert (await membership.prove(cluster, store, done, 3.0)).holds
        await membership.heal(cluster, store)
        await wait_until(lambda: store.ready(cluster), seconds=90, what="the store being whole again")


def test_the_reference_store_lets_whom_it_is_asked_to_leave(tmp_path: Path) -> None:
    simulated(tmp_path, the_reference_store_lets_whom_it_is_asked_to_leave)


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
