from __future__ import annotations

import asyncio

import pytest

from harness.cluster import wait_until
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
