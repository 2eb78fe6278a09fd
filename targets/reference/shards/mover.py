"""Moves a range from one shard to another while both serve: a snapshot, what has changed since, and a cut-over.

Whoever is primary of the map drives what stands there. It remembers nothing: each step may be repeated, so that the
next primary begins again, and finds done what is done. A move that was planned is never given up.

Nor is a range unfrozen: an ADOPT may be on its way, and only the target could say that it will not heed it. So where
the target is cut off just between the two, nobody serves the range until it is back.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from harness.targets.reference.replica import NotPrimary, Unavailable, Unknown
from harness.targets.reference.shards.calls import LONG, Calls
from harness.targets.reference.shards.shard_map import MapGroup, Move
from harness.targets.reference.state import Answer

PACE: Final = 0.1
"""Seconds between two looks, and between two rounds of copying: moving may not take the place of serving."""
_ROUNDS: Final = 3
"""How often what has changed meanwhile is copied before the cut-over, while anything has."""


class Mover:
    """What one node does about moves."""

    def __init__(self, group: MapGroup, calls: Calls) -> None:
        self._group = group
        self._calls = calls

    async def run(self) -> None:
        """Drive whatever is planned, as long as this node is primary of the map."""
        while True:
            await asyncio.sleep(PACE)
            move = self._group.state.move
            if self._group.role == "primary" and move is not None:
                try:
                    await self._drive(move)
                except (NotPrimary, Unavailable, Unknown):
                    continue  # from the beginning, here or elsewhere

    async def _drive(self, move: Move) -> None:
        if await self._at_source("SEND", move, move.low, move.high) != "OVER":
            if await self._received(move) != "OVER":
                await self._copy_and_cut_over(move)
            await self._at_source("DROP", move)
        await self._group.execute(["FINISHED", str(move.number)])

    async def _copy_and_cut_over(self, move: Move) -> None:
        upto = await self._received(move)
        for _ in range(_ROUNDS):
            before, upto = upto, await self._copy(move, upto)
            if upto == before:
                break
            await asyncio.sleep(PACE)
        frozen = await self._at_source("FREEZE", move)
        if await self._copy(move, upto) == frozen:
            await self._at_target("ADOPT", move, str(frozen))
        else:  # somebody else copies, too
            raise Unavailable("the copies do not follow one another")

    async def _copy(self, move: Move, since: Answer) -> Answer:
        """Bring to the target what has changed since; up to which change it has everything then."""
        if not isinstance(since, int):
            raise Unavailable("the range has arrived already")
        text = await self._at_source("CHANGES", move, str(since))
        if json.loads(str(text))["upto"] == since:
            return since
        return await self._at_target("RECEIVE", move, move.low, move.high, str(since), str(text))

    async def _received(self, move: Move) -> Answer:
        return await self._at_target("RECEIVE", move, move.low, move.high, "0", "")

    async def _at_source(self, step: str, move: Move, *words: str) -> Answer:
        return await self._step(move.source, step, move, *words)

    async def _at_target(self, step: str, move: Move, *words: str) -> Answer:
        return await self._step(move.target, step, move, *words)

    async def _step(self, shard: int, step: str, move: Move, *words: str) -> Answer:
        answer = await self._calls.call(shard, [step, str(move.number), *words], LONG)
        if isinstance(answer, dict):
            raise Unavailable(answer["error"])
        return answer
