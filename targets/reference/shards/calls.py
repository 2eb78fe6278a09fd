"""Calls between nodes: a command for whoever is primary of a group, over messages that may be lost or doubled.

Only what may be executed twice is called: whoever hears nothing in time cannot know whether it was executed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from harness.targets.reference.elected import Elected
from harness.targets.reference.peers import Message
from harness.targets.reference.replica import NotPrimary, Site, Unavailable, Unknown
from harness.targets.reference.state import Answer, WrongTypeError

PATIENCE: Final = 0.4
"""Seconds to wait for an answer while a client waits, which by default waits no longer itself."""
LONG: Final = 1.0
"""Seconds to wait where no client does: enough for as slow a network as a group elects a primary in."""


class Calls:
    """One node's calls, and the answers to those of the others."""

    def __init__(self, site: Site, groups: Mapping[int, Elected]) -> None:
        self._site = site
        self._groups = groups
        # An answer to a call of the run before this one must not answer one of this run.
        self._number = site.host.rng.getrandbits(48)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    async def call(self, group: int, command: list[str], patience: float = PATIENCE) -> Answer:
        """What the primary of a group answers. Raises ``NotPrimary``, ``Unavailable`` or ``Unknown``."""
        primary = self._groups[group].primary
        if primary is None:
            raise Unavailable(f"no primary of group {group} is known")
        try:
            async with asyncio.timeout(patience):
                if primary == self._site.name:
                    return await self._execute(group, command)
                return await self._ask(primary, group, command)
        except TimeoutError:
            raise Unknown(f"group {group} has not answered") from None

    async def _execute(self, group: int, command: list[str]) -> Answer:
        try:
            return await self._groups[group].execute(command)
        except WrongTypeError as error:
            return {"error": f"WRONGTYPE {error}"}

    async def _ask(self, primary: str, group: int, command: list[str]) -> Answer:
        self._number += 1
        number = self._number
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        call = {"kind": "call", "sender": self._site.name, "number": number, "of": group, "command": command}
        self._site.send(primary, call)
        try:
            return await future
        finally:
            del self._waiting[number]

    def receive(self, message: Message) -> None:
        """Handle a peer's call, or its answer to one."""
        if message["kind"] == "call":
            task = asyncio.get_running_loop().create_task(self._answer(message))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return
        future = self._waiting.get(message["number"])
        if future is not None and not future.done():
            if message["error"]:
                future.set_exception((Unknown if message["done"] else Unavailable)(message["error"]))
            else:
                future.set_result(message["answer"])

    async def _answer(self, message: Message) -> None:
        answer, error, done = None, "", False
        try:
            async with asyncio.timeout(LONG):
                answer = await self._execute(message["of"], message["command"])
        except (NotPrimary, Unavailable) as refused:
            error = str(refused)
        except (Unknown, TimeoutError) as lost:
            error, done = str(lost) or "it took too long", True
        reply = {"kind": "answer", "number": message["number"], "answer": answer, "error": error, "done": done}
        self._site.send(message["sender"], reply)
