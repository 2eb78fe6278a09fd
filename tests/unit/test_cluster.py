from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.cluster import Cluster, wait_until
from harness.environments.base import Environment, Node
from harness.errors import NodeError


async def test_waiting_ends_when_it_holds_and_when_time_is_up() -> None:
    answers = iter([False, False, True])

    async def third_time() -> bool:
        return next(answers)

    await wait_until(third_time, seconds=30, what="the third time", every=0.001)

    async def never() -> bool:
        return False

    with pytest.raises(NodeError, match=r"the end did not happen within 0\.05 s"):
        await wait_until(never, seconds=0.05, what="the end", every=0.001)


async def test_a_condition_that_swallows_its_cancellation_does_not_wait_for_ever() -> None:
    async def deaf() -> bool:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return False
        return True

    with pytest.raises(NodeError, match="did not happen"):
        await wait_until(deaf, seconds=0.05, what="hearing")


async def test_when_it_fails_on_one_node_the_others_are_waited_for() -> None:
    done: list[str] = []

    async def do(node: Node) -> None:
        if node.name == "n1":
            raise NodeError("n1 is broken")
        await asyncio.sleep(0.01)
        done.append(node.name)

    nodes: list[Any] = [SimpleNamespace(name=name) for name in ("n1", "n2")]
    with pytest.raises(NodeError, match="n1 is broken"):
        await Cluster(cast(Environment, None), nodes, 0).on_each(["n1", "n2"], do)
    assert done == ["n2"]
