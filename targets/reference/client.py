"""A client of the reference store: asks its own node, follows its redirections, repeats what may be repeated."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final, Literal

from hiredis import ReplyError

from harness.operation import Declined, Failed, Indeterminate, Operation, Served
from harness.targets.reference.server import CLIENT_PORT
from harness.targets.resp import connect
from harness.targets.transactions import Steps, only_reads

_TRIES: Final = 4
_PATIENCE: Final = 0.4
"""The part of an operation's time-out after which a command that may be repeated is sent again."""
_WATCHED: Final = "watched"
"""The list of all changes that are watched."""
_REST: Final = 0.05
"""Seconds between two tries."""
Isolation = Literal["serializable", "snapshot", "read-committed"]
"""How transactions are done, as the option ``isolation`` says."""


class ReferenceClient:
    """Sends each command to its own node, and where that is not primary, to the one that it names.

    Commands that change something carry a number, so that the store can tell a repetition from a second command: a
    command whose outcome is unknown is sent again, and answered as if it had been sent once.
    """

    def __init__(
        self,
        address: str,
        identity: str,
        timeout: float,
        secret: str | None,
        *,
        repeats: bool,
        isolation: Isolation = "serializable",
    ) -> None:
        self._address = address
        self._secret = secret
        self._identity = identity
        self._timeout = timeout
        self._repeats = repeats
        self._isolation: Isolation = isolation
        self._number = 0
        self._connections: dict[str, Any] = {}
        self._served_by: tuple[str, int | None] | None = None
        """Who answered the operation that is going on, and in which term; None while nobody has, or it was refused."""

    async def open(self) -> None:
        self._connections[self._address] = await self._connect(self._address)

    async def _connect(self, address: str) -> Any:
        return await connect(address, CLIENT_PORT, self._timeout, self._secret)

    async def invoke(self, operation: Operation) -> Any:
        self._served_by = None
        value = await self._do(operation)
        if self._served_by is None:
            return value
        by, term = self._served_by
        return Served(value, by=by, term=term)

    async def _do(self, operation: Operation) -> Any:
        key, value = operation.key, operation.value
        match operation.f:
            case "read":
                return _number(await self._send("GET", key))
            case "read-local":
                return _number(await self._ask(self._address, "PEEK", "GET", key))
            case "write":
                await self._change("SET", key, value)
            case "delete":
                await self._change("DEL", key)
            case "cas":
                if not await self._change("CAS", key, *value):
                    raise Declined("the value was another one")
            case "increment":
                await self._change("INCRBY", key, value)
            case "generate":
                return int(await self._change("INCRBY", key, 1))
            case "append" | "enqueue":
                await self._change("RPUSH", key, value)
            case "read-list":
                return [int(element) for element in await self._send("LRANGE", key, 0, -1)]
            case "dequeue":
                return _number(await self._change("LPOP", key))
            case "put":
                await self._change("RPUSH", _WATCHED, value)
            case "watch":
                events = [int(event) for event in await self._send("LRANGE", _WATCHED, value or 0, -1)]
                return {"events": events, "next": (value or 0) + len(events)}
            case "txn":
                return await self._transact(value)
            case "init":
                await self._change("OPEN", key, *(word for account in value.items() for word in account))
            case "balances":
                reply = await self._send("HGETALL", key)
                return {name: int(balance) for name, balance in zip(reply[::2], reply[1::2], strict=True)}
            case "transfer":
                left = await self._change("MOVE", key, value["amount"], value["from"], value["to"])
                return {**value, "balance": left}
            case "withdraw":
                return {**value, "balance": await self._change("MOVE", key, value["amount"], value["account"], "")}
            case "deposit":
                await self._change("MOVE", key, value["amount"], "", value["account"])
            case "acquire" | "grant":
                try:
                    token = await self._change("GRANT", key, int(value * 1000))
                except Declined:
                    if operation.f == "grant":
                        raise
                    return False
                return token if operation.f == "acquire" else value
            case "renew":
                return bool(await self._change("RENEW", key, int(value * 1000)))
            case "look":
                return await self._send("GET", key) is not None
            case "revoke":
                await self._change("DEL", key)
            case "release":
                await self._change("RELEASE", key, value)
            case "write-held":
                await self._change("GUARDED", key, *value)
            case "write-fenced":
                await self._change("FENCED", key, *value)
            case "add":
                await self._change("SADD", key, value)
            case "remove":
                await self._change("SREM", key, value)
            case "members":
                return sorted(map(int, await self._send("SMEMBERS", key)))
            case "members-local":
                return sorted(map(int, await self._ask(self._address, "PEEK", "SMEMBERS", key)))
            case _:
                raise Failed(f"the reference store has no function {operation.f}")
        return value

    async def _transact(self, steps: Steps) -> list[list[Any]]:
        """Execute a transaction; its micro-operations with the reads filled in.

        Raises ``Failed`` where nothing can have been written, ``Declined`` for a conflict.
        """
        if self._isolation == "serializable":
            return await self._execute(steps, "TXN")
        if self._isolation == "snapshot":
            try:
                snapshot = await self._send("BEGIN")
            except (OSError, Indeterminate) as error:
                raise Failed(f"the transaction had not begun: {error}") from None
            return await self._execute(steps, "COMMIT", snapshot)
        answers = [list(step) for step in steps]
        last: list[int] = []
        """The steps that are done in the end, at once: all writes, and the reads of what was written before them."""
        written = set()
        for at, (f, key, _) in enumerate(steps):
            if f != "r" or str(key) in written:
                written.add(str(key))
                last.append(at)
            else:
                [answers[at]] = await self._execute([steps[at]], "TXN")
        if last:
            for at, answer in zip(last, await self._execute([steps[at] for at in last], "TXN"), strict=True):
                answers[at] = answer
        return answers

    async def _execute(self, steps: Steps, *words: Any) -> list[list[Any]]:
        """Execute micro-operations by one command. Without an answer nothing has happened where all are reads."""
        try:
            answer = await self._change(*words, json.dumps(steps, separators=(",", ":")))
        except (OSError, Indeterminate) as error:
            if only_reads(steps):
                raise Failed(f"nobody answered the reads: {error}") from None
            raise
        return json.loads(answer)  # type: ignore[no-any-return]

    async def _change(self, *words: Any) -> Any:
        self._number += 1
        return await self._send("ONCE", self._identity, self._number, *words)

    async def _send(self, *words: Any) -> Any:
        """The answer of whoever can give it. Raises ``Failed`` where certainly nobody has done anything.

        Every command goes to the client's own node first, since a node that wrongly believes to be primary is found
        out only by being asked.
        """
        address, unknown = self._address, ""
        for attempt in range(_TRIES):
            if attempt > 1:
                await asyncio.sleep(_REST)
            try:
                return await self._ask(address, *words)
            except _Elsewhere as elsewhere:
                if not elsewhere.address and not unknown:
                    raise Failed("no primary is known") from None
                address = elsewhere.address or self._address
            except (_OutcomeUnknown, OSError) as error:
                if not self._repeats or words[0] != "ONCE":
                    raise
                address, unknown = self._address, str(error) or "timed out"
            except Declined:
                raise
            except Failed:
                if not unknown:
                    raise
                address = self._address
        if unknown:
            raise Indeterminate(unknown)
        raise Failed("no node that was asked is primary")

    async def _ask(self, address: str, *words: Any) -> Any:
        if address not in self._connections:
            try:
                self._connections[address] = await self._connect(address)
            except (OSError, ReplyError) as error:
                raise Failed(f"the primary cannot be reached: {error}") from None
        try:
            patience = self._timeout * _PATIENCE if self._repeats else None
            link = self._connections[address]
            by, term, answer = await link.execute_command("SERVED", *words, patience=patience)
        except OSError:  # a time-out is one too; what was asked may yet be done
            await self._connections.pop(address).aclose()
            raise
        except ReplyError as error:
            kind, *rest = str(error).split()
            if kind == "NOTPRIMARY":
                there = rest[-1] if rest and rest[-1] not in ("?", address) else ""
                raise _Elsewhere(there) from None
            if kind == "UNKNOWN":
                raise _OutcomeUnknown(str(error)) from None
            if kind == "DECLINED":
                raise Declined(" ".join(rest)) from None
            raise Failed(str(error)) from None
        self._served_by = by, term
        return answer

    async def close(self) -> None:
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            await connection.aclose()


class _Elsewhere(Exception):  # noqa: N818 - a redirection, not an error
    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


class _OutcomeUnknown(Indeterminate):
    pass


def _number(answer: Any) -> Any:
    """What a register holds; several values where writes conflicted."""
    if isinstance(answer, list):
        return sorted(map(int, answer))
    return None if answer is None else int(answer)
