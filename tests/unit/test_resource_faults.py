"""What faults of clocks, resources and processes plan, and how their measurements are judged."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.errors import FaultError
from harness.faults import clock, dial, limits
from harness.faults.vdso import NONE, Skew
from harness.nemeses.clock import Asked, Clock
from harness.nemeses.squeeze import Squeeze, _is_scarce, _left

ZONES = {"n1": "a", "n2": "b", "n3": "c"}


@pytest.mark.parametrize(
    ("asked", "shown", "elapsed", "fits"),
    [
        (Asked(5.0), [(0.0, 5.0), (1.0, 5.0)], 2.0, True),
        (Asked(5.0), [(0.0, 0.0), (1.0, 0.0)], 2.0, False),
        (Asked(5.0), [(0.0, 5.0), (1.0, 5.1)], 2.0, False),
        (Asked(0.0, 0.05), [(0.0, 0.01), (1.0, 0.06)], 2.0, True),
        (Asked(0.0, 0.05), [(0.0, 0.0), (1.0, 0.0)], 2.0, False),
        (Asked(0.0, 0.05), [(0.0, 0.5), (1.0, 0.55)], 2.0, False),
        (Asked(1.0, 0.0, 0.2), [(0.0, 1.0), (0.2, 0.0), (0.4, 1.0)], 2.0, True),
        (Asked(1.0, 0.0, 0.2), [(0.0, 1.0), (0.2, 1.0), (0.4, 1.0)], 2.0, False),
        (Asked(1.0, 0.0, 0.2), [(0.0, 0.0), (0.2, 0.0), (0.4, 0.0)], 2.0, False),
        (Asked(), [(0.0, 0.0), (1.0, 0.0)], 2.0, True),
        (Asked(), [(0.0, 0.1), (1.0, 0.1)], 2.0, False),
    ],
)
def test_a_clock_is_held_against_what_was_asked_for(
    asked: Asked, shown: list[tuple[float, float]], elapsed: float, fits: bool
) -> None:
    assert asked.fits(shown, elapsed) is fits


@pytest.mark.parametrize("wrong", [60.0, -60.0])
async def test_one_server_whose_clock_is_still_wrong_shows_beside_one_that_is_right(wrong: float) -> None:
    class Node:
        name = "n1"
        own_tools = frozenset({clock, dial})

        async def own_tool(self, request: Any) -> Any:
            return [{"redis-server 7": {"at": 1.0, "wall": wrong}, "redis-sentinel 8": {"at": 1.0, "wall": 0.0}}]

    unused: Any = None
    nodes: Any = [Node()]
    cluster, nemesis = Cluster(unused, nodes, 0), Clock(Clock.Options())
    assert await nemesis.observe(cluster) == {"n1": wrong}
    with pytest.raises(FaultError, match="n1 are still wrong"):
        await nemesis.heal(cluster, unused)


def test_a_monotonic_clock_goes_on_from_what_it_shows() -> None:
    second, now = 10**9, 5 * 10**9
    assert NONE.going_on(now, NONE) == NONE
    jumped = NONE.going_on(now, Skew(0, 30 * second))
    assert jumped.at(now) == 30 * second
    assert jumped.going_on(now, Skew(0, -30 * second, 0, second)).at(now) == 30 * second
    assert jumped.going_on(now, NONE).at(now + 100 * second) == 30 * second
    slow = jumped.going_on(now, Skew(0, 0, -(2**31)))
    later = now + 10 * second
    assert slow.at(later) == 25 * second
    assert slow.going_on(later, NONE).at(later) == 25 * second


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, ["cpu", "memory", "both"]),
        ({"scarce": "memory"}, ["memory"]),
        ({"cpu": 0.1}, ["cpu"]),
        ({"memory": 16}, ["memory"]),
        ({"cpu": 0.1, "memory": 16}, ["both"]),
        ({"scarce": "both", "cpu": 0.1}, ["both"]),
    ],
)
def test_what_becomes_scarce(options: dict[str, Any], kinds: list[str]) -> None:
    squeeze = Squeeze(Squeeze.Options(**options))
    assert list(squeeze.decks(ZONES)["scarce"]) == kinds
    for kind in kinds:
        plan = squeeze.plan(random.Random(1), ZONES, {"aim": "one", "scarce": kind})
        has_cpu, has_memory = "cpu" in plan or "cpu_of_used" in plan, "memory" in plan or "memory_of_held" in plan
        assert (has_cpu, has_memory) == (kind != "memory", kind != "cpu")
        fixed = {name: value for name, value in options.items() if name in plan}
        assert {name: plan[name] for name in fixed} == fixed
        assert ("cpu_of_used" in plan, "memory_of_held" in plan) == (
            has_cpu and "cpu" not in options,
            has_memory and "memory" not in options,
        )


def test_a_value_of_nothing_is_not_taken_for_none() -> None:
    plan = Squeeze(Squeeze.Options(cpu=0.0, memory=0)).plan(random.Random(1), ZONES, {"aim": "one", "scarce": "both"})
    assert (plan["cpu"], plan["memory"]) == (0.0, 0)
    assert _left(plan, {}, {}, 1.0) == {"cpu": 0.0, "memory": 0}


def counted(**counts: Any) -> dict[str, Any]:
    nothing = {"cpu": None, "memory": None, "throttled": 0, "throttled_seconds": 0.0, "at_limit": 0, "ended": 0}
    return {"server 7": {**nothing, "used": 1.0, "held": 10 << 20, "groups": ["a", "b"], **counts}}


class Counting:
    """A node whose servers' counters stand so, at one look after the other."""

    name = "n1"
    own_tools = frozenset({limits})

    def __init__(self, *throttled: int) -> None:
        self._throttled = iter(throttled)

    async def own_tool(self, request: Any) -> Any:
        throttled = next(self._throttled, None)
        if throttled is None:
            await asyncio.sleep(60)
        return counted(cpu=0.1, throttled=throttled, throttled_seconds=throttled)


@pytest.mark.parametrize(("looks", "seconds", "holds"), [((0, 0, 3), 30.0, True), ((0, 0), 1.0, False)])
async def test_want_is_looked_for_until_it_shows_or_the_time_is_over(
    looks: tuple[int, ...], seconds: float, holds: bool
) -> None:
    unused: Any = None
    nodes: Any = [Counting(*looks)]
    done = {"before": {"n1": counted(cpu=0.1)}, "left": {"n1": {"cpu": 0.1}}}
    proof = await Squeeze(Squeeze.Options()).prove(Cluster(unused, nodes, 0), unused, done, seconds)
    assert proof.holds is holds
    assert "waited 3 times" in proof.during["n1"][0] or not holds


async def test_want_that_nobody_could_look_at_is_not_called_absent() -> None:
    unused: Any = None
    nodes: Any = [Counting()]
    done = {"before": {"n1": counted(cpu=0.1)}, "left": {"n1": {"cpu": 0.1}}}
    with pytest.raises(FaultError, match="could not be read in time"):
        await Squeeze(Squeeze.Options()).prove(Cluster(unused, nodes, 0), unused, done, 0.3)


@pytest.mark.parametrize(
    ("left", "before", "now", "scarce"),
    [
        ({"cpu": 0.1}, {}, {"cpu": 0.1, "throttled": 3, "throttled_seconds": 0.2}, True),
        ({"cpu": 0.1}, {}, {"cpu": 0.1}, False),
        ({"cpu": 0.1}, {}, {"throttled": 3, "throttled_seconds": 0.2}, False),
        ({"cpu": 0.1}, {"throttled": 3}, {"cpu": 0.1, "throttled": 3, "throttled_seconds": 0.2}, False),
        ({"cpu": 0.1}, {"throttled": 9, "groups": ["c"]}, {"cpu": 0.1, "throttled": 3, "throttled_seconds": 0.2}, True),
        ({"memory": 65536}, {}, {"memory": 65536, "at_limit": 1}, True),
        ({"memory": 65536}, {}, {"memory": 65536, "ended": 1}, True),
        ({"memory": 65536}, {}, {"memory": 65536}, False),
        ({"cpu": 0.1, "memory": 65536}, {}, {"cpu": 0.1, "memory": 65536, "at_limit": 1}, False),
    ],
)
def test_a_squeeze_is_held_against_the_groups_counters(
    left: dict[str, Any], before: dict[str, Any], now: dict[str, Any], scarce: bool
) -> None:
    assert _is_scarce(left, counted(**before), counted(**now)) is scarce


def test_limits_are_shares_of_what_servers_use() -> None:
    before, after = counted(used=1.0), counted(used=1.5)
    assert _left({"cpu_of_used": 0.25}, before, after, 1.0) == {"cpu": 0.125}
    assert _left({"cpu_of_used": 0.1}, before, before, 1.0) == {"cpu": 0.01}
    assert _left({"memory_of_held": 0.01}, before, after, 1.0) == {"memory": round(0.01 * (10 << 20))}
    assert _left({"memory": 16}, before, after, 1.0) == {"memory": 16 << 20}
