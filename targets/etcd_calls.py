"""What the operations of the workloads are in etcd's calls: transactions that compare revisions, leases, and locks.

Elements and accounts are keys with one prefix, so that one call reads all of them at one revision. Whatever changes
what was read before is a transaction that compares its revision, and is tried again when somebody was faster.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp

from harness.operation import Declined, Failed, Indeterminate, Operation

Post = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""Calls a method of the gateway, such as ``kv/range``, and returns its answer."""
Follow = Callable[[str, dict[str, Any]], AsyncGenerator[Any, None]]
"""The same for one that answers again and again."""

_WATCHED: Final = "watched/"
"""What the keys begin with that are watched."""
_TRIES: Final = 30
"""How often a transaction is tried while others are faster."""
_LOCK_PATIENCE: Final = 0.5
"""Seconds for which the lock API is waited for, before a try is given up."""


def encode(value: Any) -> str:
    """Text as the gateway takes it."""
    return base64.b64encode(str(value).encode()).decode()


def decode(text: str) -> str:
    """What the gateway calls text."""
    return base64.b64decode(text).decode()


def _prefixed(prefix: str) -> dict[str, Any]:
    """All keys with a prefix, as the gateway names them."""
    return {"key": encode(prefix), "range_end": encode(prefix[:-1] + chr(ord(prefix[-1]) + 1))}


class Calls:
    """The calls of one client. ``api`` is how locks are taken: with a ``transaction``, or with etcd's ``lock``.

    ``patience`` is for how many seconds a watch may go on.
    """

    def __init__(self, post: Post, follow: Follow, patience: float, *, serializable: bool, locks: str) -> None:
        self._patience = patience
        self._post, self._follow, self._serializable, self._locks = post, follow, serializable, locks
        self._held: dict[str, _Hold] = {}

    async def apply(self, operation: Operation) -> Any:
        """Do one operation and return its answer."""
        key, value = operation.key, operation.value
        match operation.f:
            case "read" | "read-local":
                text = await self._value(key, local=operation.f == "read-local")
                return None if text is None else int(text)
            case "write":
                await self._put(key, value)
            case "cas":
                compare = {"key": encode(key), "target": "VALUE", "result": "EQUAL", "value": encode(value[0])}
                if not await self._transaction([compare], {key: value[1]}):
                    raise Declined("the value was another one")
            case "read-list":
                text = await self._value(key)
                return [] if text is None else json.loads(text)
            case "append":
                await self._append(key, value)
            case "increment":
                await self._replace(key, lambda held: {key: int(held.get(key, 0)) + value})
            case "add":
                await self._put(f"{key}/{value}", value)
            case "remove":
                await self._post("kv/deleterange", {"key": encode(f"{key}/{value}")})
            case "members" | "members-local":
                members, _ = await self._all(f"{key}/", local=operation.f == "members-local")
                return sorted(map(int, members.values()))
            case "put":
                await self._put(f"{_WATCHED}{key}", value)
            case "watch":
                return await self._watch(value or 1)
            case "generate":
                return int((await self._put(key, ""))["header"]["revision"])
            case "init" | "balances" | "transfer" | "withdraw" | "deposit":
                return await self._bank(operation)
            case "acquire" | "release" | "write-held" | "write-fenced":
                return await self._lock(operation)
            case "grant" | "renew" | "look" | "revoke":
                return await self._lease(operation)
            case _:
                raise Failed(f"etcd has no function {operation.f}")
        return value

    def close(self) -> None:
        """Stop keeping locks alive."""
        for hold in self._held.values():
            hold.end()
        self._held.clear()

    async def _value(self, key: str, *, local: bool = False) -> str | None:
        answer = await self._post("kv/range", {"key": encode(key), "serializable": local or self._serializable})
        values = answer.get("kvs", [])
        return decode(values[0].get("value", "")) if values else None

    async def _all(self, prefix: str, *, local: bool = False) -> tuple[dict[str, str], dict[str, str]]:
        """The values of the keys with a prefix, and the revisions at which they were last changed."""
        asked = {**_prefixed(prefix), "serializable": local or self._serializable}
        pairs = (await self._post("kv/range", asked)).get("kvs", [])
        values = {decode(pair["key"]): decode(pair.get("value", "")) for pair in pairs}
        return values, {decode(pair["key"]): pair["mod_revision"] for pair in pairs}

    async def _watch(self, position: int) -> dict[str, Any]:
        """What was put since a revision, up to the latest that there is now, and what else came with it.

        etcd tells who is behind a thousand revisions at a time: who is far behind is told that there is more.
        """
        latest = {"sort_order": "DESCEND", "sort_target": "MOD", "limit": "1", "keys_only": True}
        newest = (await self._post("kv/range", {**_prefixed(_WATCHED), **latest})).get("kvs", [])
        events: list[int] = []
        if not newest or int(newest[0]["mod_revision"]) < position:
            return {"events": events, "next": position}
        asked = {**_prefixed(_WATCHED), "start_revision": str(position)}
        try:
            async with (
                asyncio.timeout(self._patience),
                contextlib.aclosing(self._follow("watch", {"create_request": asked})) as answers,
            ):
                async for answer in answers:
                    told = answer.get("result", {})
                    if told.get("canceled") or "error" in answer:
                        raise Indeterminate(f"the watch was ended: {told.get('cancel_reason') or answer}")
                    for event in told.get("events", []):
                        position = int(event["kv"]["mod_revision"]) + 1
                        if event.get("type") != "DELETE":
                            events.append(int(decode(event["kv"]["value"])))
                    if position > int(newest[0]["mod_revision"]):
                        return {"events": events, "next": position}
        except TimeoutError:
            if not events:
                raise
            return {"events": events, "next": position, "more": True}
        raise Indeterminate("the watch ended by itself")

    async def _put(self, key: str, value: Any, lease: int = 0) -> Any:
        return await self._post("kv/put", {"key": encode(key), "value": encode(value), "lease": str(lease)})

    async def _transaction(self, compare: list[dict[str, Any]], puts: Mapping[str, Any], lease: int = 0) -> int:
        """Write all of it if everything compares; the revision of that, or 0 if it does not."""
        success = [
            {"request_put": {"key": encode(key), "value": encode(value), "lease": str(lease)}}
            for key, value in puts.items()
        ]
        answer = await self._post("kv/txn", {"compare": compare, "success": success})
        return int(answer["header"]["revision"]) if answer.get("succeeded") else 0

    async def _replace(self, prefix: str, change: Callable[[dict[str, str]], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Replace what keys with this prefix hold by what ``change`` makes of it, in one step."""
        for _ in range(_TRIES):
            held, revisions = await self._all(prefix)
            puts = change(held)
            compare = [
                {"key": encode(key), "target": "MOD", "result": "EQUAL", "mod_revision": revisions.get(key, "0")}
                for key in puts
            ]
            if await self._transaction(compare, puts):
                return puts
        raise Failed("others were always faster")

    async def _append(self, key: str, element: Any) -> None:
        """Read the list, and put it with one more element where nobody has changed it in between."""
        for _ in range(_TRIES):
            try:
                pairs = (await self._post("kv/range", {"key": encode(key)})).get("kvs", [])
            except (Indeterminate, TimeoutError, aiohttp.ClientError) as error:
                raise Failed(f"the list could not be read: {error}") from None
            elements = json.loads(decode(pairs[0]["value"])) if pairs else []
            revision = pairs[0]["mod_revision"] if pairs else "0"
            compare = {"key": encode(key), "target": "MOD", "result": "EQUAL", "mod_revision": revision}
            if await self._transaction([compare], {key: json.dumps([*elements, element])}):
                return
        raise Failed("others were always faster")

    async def _bank(self, operation: Operation) -> Any:
        prefix, value, f = f"{operation.key}/", operation.value, operation.f
        if f == "balances":
            balances, _ = await self._all(prefix)
            return {name.removeprefix(prefix): int(balance) for name, balance in balances.items()}
        if f == "init":
            accounts = {f"{prefix}{name}": balance for name, balance in value.items()}
            fresh = [
                {"key": encode(name), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
                for name in accounts
            ]
            await self._transaction(fresh, accounts)
            return value
        losing = value.get("from" if f == "transfer" else "account") if f != "deposit" else None
        gaining = value.get("to" if f == "transfer" else "account") if f != "withdraw" else None

        def moved(held: dict[str, str]) -> dict[str, int]:
            after = {}
            for name, by in ((losing, -value["amount"]), (gaining, value["amount"])):
                if name is not None:
                    if f"{prefix}{name}" not in held:
                        raise Declined("there is no such account")
                    after[f"{prefix}{name}"] = int(held[f"{prefix}{name}"]) + by
            if min(after.values()) < 0:
                raise Declined("too little is left")
            return after

        after = await self._replace(prefix, moved)
        return value if losing is None else {**value, "balance": after[f"{prefix}{losing}"]}

    async def _lock(self, operation: Operation) -> Any:
        key, value = operation.key, operation.value
        if operation.f == "acquire":
            return await (self._acquire if self._locks == "transaction" else self._acquire_by_api)(key, value)
        hold = self._held.get(key)
        if operation.f == "release":
            if hold is None:
                raise Declined("the lock is not held by this connection")
            self._held.pop(key).end()
            await self._post("lease/revoke", {"ID": str(hold.lease)})
            return value
        try:
            await self._write(operation, hold)
        except Failed:  # who is told so gives the lock up
            if hold is not None:
                self._held.pop(key).end()
            raise
        return value

    async def _write(self, operation: Operation, hold: _Hold | None) -> None:
        """Write what a lock protects."""
        key, (token, what) = operation.key, operation.value
        if operation.f == "write-held":
            await self._put(f"held/{key}", f"{token} {what}")
            return
        if hold is None:
            raise Declined("the lock is not held by this connection")
        compare = {"key": encode(hold.key), "target": "CREATE", "result": "EQUAL", "create_revision": str(token)}
        if not await self._transaction([compare], {f"held/{key}": f"{token} {what}"}):
            raise Declined("the lock had run out")

    async def _acquire(self, name: str, ttl: float) -> int | bool:
        lease = await self._granted(ttl)
        free = {"key": encode(name), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
        token = await self._transaction([free], {name: lease}, lease)
        if not token:
            with contextlib.suppress(Exception):
                await self._post("lease/revoke", {"ID": str(lease)})
            return False
        self._hold(name, name, lease, ttl)
        return token

    async def _acquire_by_api(self, name: str, ttl: float) -> int | bool:
        """Wait for the lock for a while. A try that is given up takes its lease back, and with it its place."""
        lease = await self._granted(ttl)
        asked = asyncio.ensure_future(self._post("lock/lock", {"name": encode(name), "lease": str(lease)}))
        try:
            done, _ = await asyncio.wait([asked], timeout=_LOCK_PATIENCE)
        finally:
            asked.cancel()
        if not done:
            await self._post("lease/revoke", {"ID": str(lease)})
            return False
        key = decode(asked.result()["key"])
        pairs = (await self._post("kv/range", {"key": encode(key)})).get("kvs", [])
        if not pairs:
            return False  # it has run out already
        self._hold(name, key, lease, ttl)
        return int(pairs[0]["create_revision"])

    async def _granted(self, ttl: float) -> int:
        """A lease of as many seconds, rounded up."""
        answer = await self._post("lease/grant", {"TTL": str(-int(-ttl // 1)), "ID": "0"})
        return int(answer["ID"])

    def _hold(self, name: str, key: str, lease: int, ttl: float) -> None:
        if (before := self._held.pop(name, None)) is not None:
            before.end()
        self._held[name] = _Hold(key, lease, asyncio.ensure_future(self._keep_alive(lease, ttl / 3)))

    async def _keep_alive(self, lease: int, every: float) -> None:
        """What a holder's library does all the time, as well as it can. Whether it is of use nobody asks."""
        while True:
            await asyncio.sleep(every)
            with contextlib.suppress(Exception):
                await self._post("lease/keepalive", {"ID": str(lease)})

    async def _lease(self, operation: Operation) -> Any:
        key, value = operation.key, operation.value
        # Every client has to find it, so that its number is made from its name.
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7]) or 1
        match operation.f:
            case "grant":
                seconds = -int(-value // 1)
                answer = await self._post("lease/grant", {"TTL": str(seconds), "ID": str(number)})
                try:
                    await self._put(key, "", number)
                except Failed as failure:
                    raise Indeterminate(f"half of it is done: {failure}") from None
                return max(seconds, int(answer.get("TTL", 0)))
            case "renew":
                answer = await self._post("lease/keepalive", {"ID": str(number)})
                return int(answer.get("result", {}).get("TTL", 0)) or False
            case "revoke":
                await self._post("lease/revoke", {"ID": str(number)})
                return value
        return await self._value(key) is not None


class _Hold:
    """A lock that is held: its key, its lease, and the task that keeps the lease alive."""

    def __init__(self, key: str, lease: int, alive: asyncio.Task[None]) -> None:
        self.key, self.lease, self._alive = key, lease, alive

    def end(self) -> None:
        """Keep it alive no longer."""
        self._alive.cancel()
