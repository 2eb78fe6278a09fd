"""Transactions across shards: one node coordinates, the shards of the keys vote, the first key's shard decides.

The coordinator remembers nothing that must not be lost. Where it dies, whoever is primary of a shard that has waited
too long asks the transaction's home, which gives up what it has not committed; and the home tells all shards of what it
has committed until all have heard of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final

from harness.targets.reference.replica import NotPrimary, Site, Unavailable, Unknown
from harness.targets.reference.shards.calls import LONG, Calls
from harness.targets.reference.shards.group import Shard
from harness.targets.reference.shards.parts import Parts
from harness.targets.reference.shards.prepared import (
    ABORTED,
    ANSWERED,
    COMMIT,
    DECLINED,
    FORGOTTEN,
    PreparedState,
    is_final,
)
from harness.targets.reference.shards.shard import keys_of
from harness.targets.reference.state import Answer

_TOO_LONG: Final = 0.8
"""Seconds after which a transaction's coordinator counts as dead."""
_LOOK: Final = 0.2
_LOST: Final = (NotPrimary, Unavailable, Unknown)


class Coordinator:
    """What one node does about transactions across shards."""

    def __init__(self, site: Site, shards: Mapping[int, Shard], calls: Calls, shard: Callable[[str], int]) -> None:
        self._host = site.host
        self._shards = shards
        self._calls = calls
        self._shard = shard
        """Which shard owns a key, as far as this node knows."""
        # Of this run of the server only: the numbers of one before may still be prepared somewhere.
        self._name = f"{site.name}-{site.host.rng.getrandbits(32):08x}"
        self._number = 0
        self._since: dict[tuple[int, str], float] = {}
        """Since when this node knows of a transaction that is not over, by shard."""
        self._telling: set[asyncio.Task[None]] = set()

    async def execute(self, parts: Parts, once: Sequence[str], joined: Callable[[Sequence[Answer]], Answer]) -> Answer:
        """Execute all parts, or none, and answer with what their answers are together.

        ``once`` is the client and the number of its command, if it may be repeated. An answer with an error is a
        refusal: nothing was done. Raises ``Unavailable``, likewise, and ``Unknown``.
        """
        self._number += 1
        transaction = f"{self._name}-{self._number}"
        client, number = once or ("", "0")
        by_shard: dict[int, list[int]] = {}
        for at, part in enumerate(parts):
            by_shard.setdefault(self._shard(keys_of(part)[0]), []).append(at)
        home, *others = by_shard
        answers: list[Answer] = [None] * len(parts)
        for asked, (shard, some) in enumerate(by_shard.items(), 1):
            commands = json.dumps([parts[at] for at in some])
            try:
                vote = await self._calls.call(shard, ["PREPARE", transaction, str(home), client, number, commands])
            except _LOST as lost:
                self._give_up(transaction, home, others[: asked - 1])
                raise Unavailable(f"shard {shard} has not voted: {lost}") from None
            if isinstance(vote, dict):
                if vote["error"] == ANSWERED:
                    return json.loads(vote["answer"])  # type: ignore[no-any-return]
                if is_final(vote) and shard != home:
                    return await self._decide("REJECT", transaction, home, others, (client, number), vote)
                self._give_up(transaction, home, others[: asked - 1])
                return vote
            for at, answer in zip(some, json.loads(str(vote)), strict=True):
                answers[at] = answer
        return await self._decide("DECIDE", transaction, home, others, (client, number), joined(answers))

    async def _decide(
        self, phase: str, transaction: str, home: int, others: list[int], once: Sequence[str], answer: Answer
    ) -> Answer:
        """Have the home decide, once all have voted, or one has declined for good."""
        words = [phase, transaction, *once, json.dumps(answer), json.dumps(others)]
        try:
            decision = await self._calls.call(home, words)
        except _LOST:
            try:
                decision = await self._calls.call(home, ["RESOLVE", transaction])
            except _LOST as lost:
                raise Unknown(f"shard {home} may have decided: {lost}") from None
        told = COMMIT if decision == COMMIT else ABORTED
        self._in_background(self._finish_and_close(transaction, home, others, told))
        if decision in (COMMIT, DECLINED):
            return answer
        why = decision["error"] if isinstance(decision, dict) else decision
        if why == ANSWERED and isinstance(decision, dict):
            return json.loads(decision["answer"])  # type: ignore[no-any-return]
        if why == FORGOTTEN:
            raise Unknown(f"shard {home} has forgotten what it decided")
        raise Unavailable("the transaction was given up")

    def _give_up(self, transaction: str, home: int, others: Sequence[int]) -> None:
        """Nobody has decided, and only the coordinator asks for a commit: it is certain that nothing was done."""
        self._in_background(self._abort(transaction, home, others))

    async def _abort(self, transaction: str, home: int, others: Sequence[int]) -> None:
        with contextlib.suppress(*_LOST):
            if await self._calls.call(home, ["RESOLVE", transaction], LONG) != COMMIT:
                await self._finish(transaction, others, ABORTED)

    async def _finish_and_close(self, transaction: str, home: int, others: Sequence[int], decision: str) -> None:
        with contextlib.suppress(*_LOST):
            await self._finish(transaction, others, decision)
            if others and decision == COMMIT:
                await self._calls.call(home, ["CLOSE", transaction], LONG)

    async def _finish(self, transaction: str, shards: Sequence[int], decision: str) -> None:
        for shard in shards:
            await self._calls.call(shard, ["FINISH", transaction, decision], LONG)

    def _in_background(self, what: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    # Those whose coordinator is lost

    async def run(self) -> None:
        """End, again and again, what has waited for too long in the shards whose primary this node is."""
        while True:
            await asyncio.sleep(_LOOK)
            # All at once: those whose shard is not reached keep nobody else waiting.
            await asyncio.gather(*self._endings())

    def _endings(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What ends each of the transactions that have waited for too long."""
        for number, state in self._old():
            for transaction, part in state.prepared.items():
                if self._has_waited(number, transaction):
                    yield self._ask_home(number, transaction, part["home"])
            for transaction, others in state.decided.items():
                if self._has_waited(number, transaction):
                    yield self._finish_and_close(transaction, number, others, COMMIT)

    def _old(self) -> list[tuple[int, PreparedState]]:
        """The shards whose primary this node is; and note since when it knows their transactions."""
        led = [(number, shard.state) for number, shard in self._shards.items() if shard.role == "primary"]
        there = [(number, name) for number, state in led for name in (*state.prepared, *state.decided)]
        self._since = {one: self._since.get(one, self._host.monotonic()) for one in there}
        return led

    def _has_waited(self, shard: int, transaction: str) -> bool:
        return self._host.monotonic() > self._since.get((shard, transaction), self._host.monotonic()) + _TOO_LONG

    async def _ask_home(self, shard: int, transaction: str, home: int) -> None:
        with contextlib.suppress(*_LOST):
            decision = await self._calls.call(home, ["RESOLVE", transaction, str(shard)], LONG)
            if shard != home:
                await self._finish(transaction, [shard], COMMIT if decision == COMMIT else ABORTED)
