"""A client of Redis Cluster: it asks its own node first, every time, and goes where that sends it.

A node that was cut off goes on sending clients to whoever it believes to have a key, and be it to itself. Reads of one
node (``members-local``) go the same way: a node holds only a part of the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hiredis import ReplyError

from harness.operation import Failed, Indeterminate, Operation, Served
from harness.targets.redis_commands import READS, REFUSED, apply
from harness.targets.resp import Link, connect

PORT: Final = 6379

_HOPS: Final = 5
"""How often a client is sent on before it gives up."""
_REFUSALS: Final = (
    *("CLUSTERDOWN", "TRYAGAIN", "CROSSSLOT", "MOVED", "ASK"),
    *("READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN", "OOM", "MISCONF", "NOAUTH", "DENIED"),
    *REFUSED,
)
"""Errors with which Redis refuses a command before it does anything."""


class RedisClusterClient:
    """Sends each command to its own node, and from there to the one that has the key."""

    def __init__(self, address: str, timeout: float, wait: int, password: str, names: Mapping[str, str]) -> None:
        """``wait`` is for how many replicas ``WAIT`` waits after each write; ``names`` are the nodes by address."""
        self._address = address
        self._timeout, self._wait = timeout, wait
        self._password = password
        self._names = names
        self._links: dict[str, Link] = {}
        """Open connections by address."""
        self._served = address
        """The address of who has answered last."""

    async def open(self) -> None:
        await self._link(self._address)

    async def _link(self, address: str) -> Link:
        if address not in self._links:
            self._links[address] = await connect(address, PORT, self._timeout, self._password)
        return self._links[address]

    async def invoke(self, operation: Operation) -> Any:
        async def execute(*words: str | int) -> Any:
            return await self._execute([_tagged(word, operation.key) for word in words])

        try:
            value = await apply(execute, operation, isolated=True)
            if self._wait and operation.f not in READS:
                await self._wait_for_replicas()
        except ReplyError as error:
            if str(error).split(maxsplit=1)[0] in _REFUSALS:
                raise Failed(str(error)) from None
            raise Indeterminate(str(error)) from None
        return Served(value, by=self._names[self._served])

    async def _execute(self, words: list[str | int]) -> Any:
        """The answer of whoever has the key. Raises ``ReplyError``, ``Failed`` where nobody was asked, ``OSError``."""
        address, asking = self._address, False
        for _ in range(_HOPS):
            try:
                link = await self._link(address)
                if asking:
                    await link.execute_command("ASKING")
            except (ReplyError, OSError) as error:
                await self.close()
                raise Failed(f"{self._names.get(address, address)} cannot be reached: {error}") from None
            try:
                answer = await link.execute_command(*words)
            except ReplyError as error:
                kind, *where = str(error).split()
                if kind not in ("MOVED", "ASK"):
                    raise
                address, asking = where[1].rpartition(":")[0], kind == "ASK"
            else:
                self._served = address
                return answer
        raise Failed("the nodes send one another's clients around")

    async def _wait_for_replicas(self) -> None:
        try:
            link = self._links[self._served]
            reached = await link.execute_command("WAIT", self._wait, int(self._timeout * 500))
        except ReplyError as error:
            raise Indeterminate(f"it is done, but WAIT was refused: {error}") from None
        if reached < self._wait:
            raise Indeterminate(f"WAIT reached {reached} of {self._wait} replicas")

    async def close(self) -> None:
        for link in self._links.values():
            await link.aclose()
        self._links.clear()


def _tagged(word: str | int, key: Any) -> str | int:
    """A word of a command: the keys that belong to an operation's key are put into its slot, by braces around that."""
    if isinstance(word, str) and word.startswith(f"{key}/"):
        return f"{{{key}}}{word.removeprefix(str(key))}"
    return word
