"""Clients of ZooKeeper: what each operation is in its calls, and what is certain of one that did not end well.

A register, a list and a counter are znodes, changed where their version is still the one that was read; elements of a
set, entries of a queue and holders of a lock are children of one. Transactions are a ``multi`` that checks the version
of every znode that was read. A session that loses its connection is given up: nothing is sent twice.

Reads are answered by the client's own server, from what it has applied. ``sync`` has it catch up with the leader first,
or with who was leader until a moment ago; it has seen all that came before a write whose answer it passes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from harness.operation import Declined, Failed, Indeterminate, Operation, Served
from harness.targets.transactions import Steps, carry_out
from harness.targets.zookeeper_session import SESSION_SECONDS, Session, answer, driver

Reads = Literal["local", "sync", "write"]
"""What comes before a read: nothing, a ``sync``, or a write."""


_TRIES: Final = 30
"""How often a change is tried while others are faster."""
_SHARE: Final = 0.8
"""The part of an operation's time-out after which its session is given up, before somebody else cancels it."""
_WRITTEN: Final = "/splitbrain"
"""The znode that is written before reads."""


class Held(NamedTuple):
    """What a znode holds, and the version of that."""

    text: str
    version: int


class ZookeeperClient:
    """Does operations through the server of its own node."""

    def __init__(self, node: tuple[str, str], timeout: float, password: str, *, reads: Reads, grace: float) -> None:
        """``node`` is a name and an address.

        ``grace`` is how many seconds late the leader may hear that a session lives.
        """
        self._node, self._address = node
        self._timeout, self._password = timeout, password
        self._seconds = max(SESSION_SECONDS, 2 * timeout)
        self._reads, self._grace = reads, grace
        errors = driver().exceptions
        self._stale = (errors.NoNodeError, errors.NodeExistsError, errors.BadVersionError)
        """By which ZooKeeper says that what is there is not what was expected, so that it has changed nothing."""
        self._refused = (*self._stale, errors.NoAuthError, errors.BadArgumentsError, errors.NotEmptyError)
        self._errors = errors
        self._session: Session | None = None
        self._held: dict[str, str] = {}
        """By lock that this session holds, the znode that says so."""
        self._deadline = 0.0
        self._term: int | None = None
        """The epoch in which the leader has ordered the last change."""

    async def open(self) -> None:
        await self._connect(self._seconds)

    async def _connect(self, seconds: float) -> None:
        self._give_up()
        session = Session(self._address, self._password, seconds)
        await session.open(self._timeout * _SHARE)
        self._session = session

    def _give_up(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None
        self._held.clear()

    async def close(self) -> None:
        self._give_up()

    @property
    def _kazoo(self) -> Any:
        assert self._session is not None
        return self._session.kazoo

    async def invoke(self, operation: Operation) -> Any:
        self._deadline = asyncio.get_running_loop().time() + self._timeout * _SHARE
        self._term = None
        # A lock is its holder's for a time, from when the leader has last heard of it.
        seconds = operation.value + self._grace if operation.f == "acquire" else None
        try:
            if self._session is None or not self._session.lives:
                await self._connect(seconds or self._seconds)
            elif seconds not in (None, self._session.seconds):
                if self._held:
                    raise Failed("another lock is held, for another time")
                await self._connect(seconds or self._seconds)
        except OSError as error:
            raise Failed(f"{self._node} cannot be reached: {_words(error)}") from None
        value = await self._apply(operation)
        return Served(value, by=self._node, term=self._term)

    async def _apply(self, operation: Operation) -> Any:
        key, value = f"/{operation.key}", operation.value
        match operation.f:
            case "read" | "read-local":
                held = await self._get(key, local=operation.f == "read-local")
                return None if held is None else int(held.text)
            case "write":
                await self._write(key, str(value))
            case "cas":
                held = await self._get(key, local=True)  # an old one is refused by its version
                if held is None or held.text != str(value[0]):
                    raise Declined("the value was another one")
                if not await self._put(key, str(value[1]), held):
                    raise Declined("the value has changed meanwhile")
            case "read-list":
                held = await self._get(key)
                return [] if held is None else json.loads(held.text)
            case "append":
                await self._replace(key, lambda text: json.dumps([*json.loads(text or "[]"), value]))
            case "increment":
                await self._replace(key, lambda text: str(int(text or 0) + value))
            case "generate":
                return await self._write(key, "")
            case "add":
                await self._create_child(f"{key}/{value}")
            case "remove":
                if not await self._delete(f"{key}/{value}"):
                    raise Declined("there is no such element")
            case "members" | "members-local":
                return sorted(map(int, await self._children(key, local=operation.f == "members-local")))
            case "enqueue":
                await self._create_child(f"{key}/", str(value), sequence=True)
            case "dequeue":
                return await self._dequeue(key)
            case "init" | "balances" | "transfer" | "withdraw" | "deposit":
                return await self._bank(key, operation)
            case "acquire" | "release" | "write-held" | "write-fenced":
                return await self._lock(key, operation)
            case "txn":
                return await self._transaction(value)
            case _:
                raise Failed(f"zookeeper has no function {operation.f}")
        return value

    async def _ask(self, asked: Any) -> Any:
        """The answer of a call; the session is given up where there is none in time."""
        try:
            async with asyncio.timeout_at(self._deadline):
                return await answer(asked)
        except BaseException as error:
            if not isinstance(error, self._refused):
                self._give_up()
            raise

    async def _read(self, asked: Any) -> Any:
        """What was read; None where there is no such znode. Raises ``Failed``: nothing of the operation is done yet."""
        try:
            return await self._ask(asked)
        except self._errors.NoNodeError:
            return None
        except Exception as error:
            raise Failed(f"no answer to a read: {_words(error)}") from None

    async def _change(self, asked: Any) -> Any:
        """What a change was answered, which is ordered by the leader.

        Raises kazoo's errors of ``_stale``, ``Failed`` for what else ZooKeeper refuses, and ``Indeterminate``.
        """
        try:
            return await self._ask(asked)
        except self._stale:
            raise
        except self._refused as error:
            raise Failed(_words(error)) from None
        except Exception as error:
            raise Indeterminate(_words(error)) from None

    async def _caught_up(self, path: str, *, local: bool) -> None:
        if local or self._reads == "local":
            return
        if self._reads == "sync":
            await self._read(self._kazoo.sync_async(path))
            return
        try:
            await self._write(_WRITTEN, "")
        except Indeterminate as error:
            raise Failed(f"no answer before a read: {error}") from None
        self._term = None  # it is nobody's operation

    async def _get(self, path: str, *, local: bool = False) -> Held | None:
        await self._caught_up(path, local=local)
        found = await self._read(self._kazoo.get_async(path))
        return None if found is None else Held(found[0].decode(), found[1].version)

    async def _children(self, path: str, *, local: bool = False) -> list[str]:
        await self._caught_up(path, local=local)
        return list(await self._read(self._kazoo.get_children_async(path)) or ())

    async def _create(self, path: str, text: str = "", **how: bool) -> str:
        made, stat = await self._change(self._kazoo.create_async(path, text.encode(), include_data=True, **how))
        self._term = _epoch(stat.czxid)
        return str(made)

    async def _set(self, path: str, text: str, version: int = -1) -> int:
        """The version that it has now."""
        stat = await self._change(self._kazoo.set_async(path, text.encode(), version))
        self._term = _epoch(stat.mzxid)
        return int(stat.version)

    async def _put(self, path: str, text: str, held: Held | None) -> bool:
        """Change what was read; whether nobody was faster."""
        try:
            if held is None:
                await self._create(path, text)
            else:
                await self._set(path, text, held.version)
        except self._stale:
            return False
        return True

    async def _write(self, path: str, text: str) -> int:
        """Set a znode whatever it holds, and make it if need be; the version that it has now."""
        for _ in range(_TRIES):
            with contextlib.suppress(self._errors.NoNodeError):
                return await self._set(path, text)
            with contextlib.suppress(self._errors.NodeExistsError):
                await self._create(path, text)
                return 0
        raise Failed("the znode comes and goes")

    async def _replace(self, path: str, change: Callable[[str | None], str]) -> str:
        """Replace what a znode holds by what ``change`` makes of it.

        A server that has answered that somebody was faster has seen what that was.
        """
        for _ in range(_TRIES):
            held = await self._get(path, local=True)
            text = change(None if held is None else held.text)
            if await self._put(path, text, held):
                return text
        raise Failed("others were always faster")

    async def _create_child(self, path: str, text: str = "", **how: bool) -> str:
        """Make a znode below another one, which may have to be made first."""
        for _ in range(_TRIES):
            with contextlib.suppress(self._errors.NoNodeError):
                return await self._create(path, text, **how)
            with contextlib.suppress(self._errors.NodeExistsError):
                await self._create(path.rpartition("/")[0])
        raise Failed("the znode comes and goes")

    async def _delete(self, path: str) -> bool:
        """Whether it was there to be deleted."""
        try:
            await self._change(self._kazoo.delete_async(path))
        except self._errors.NoNodeError:
            return False
        return True

    async def _dequeue(self, key: str) -> int | None:
        for _ in range(_TRIES):
            entries = sorted(await self._children(key))
            if not entries:
                return None
            first = f"{key}/{entries[0]}"
            held = await self._get(first, local=True)
            if held is not None and await self._delete(first):
                return int(held.text)
        raise Failed("others were always faster")

    async def _bank(self, key: str, operation: Operation) -> Any:
        value, f = operation.value, operation.f
        if f == "balances":
            held = await self._get(key)
            return {} if held is None else json.loads(held.text)
        if f == "init":
            await self._put(key, json.dumps(value), None)
            return value
        losing = value.get("from" if f == "transfer" else "account") if f != "deposit" else None
        gaining = value.get("to" if f == "transfer" else "account") if f != "withdraw" else None

        def moved(text: str | None) -> str:
            balances = json.loads(text or "{}")
            for name, by in ((losing, -value["amount"]), (gaining, value["amount"])):
                if name is not None:
                    if name not in balances:
                        raise Declined("there is no such account")
                    balances[name] += by
                    if balances[name] < 0:
                        raise Declined("too little is left")
            return json.dumps(balances)

        after = json.loads(await self._replace(key, moved))
        return value if losing is None else {**value, "balance": after[losing]}

    async def _lock(self, key: str, operation: Operation) -> Any:
        value = operation.value
        if operation.f == "acquire":
            return await self._acquire(key)
        if operation.f == "release":
            own = self._held.pop(key, None)
            if own is None or not await self._delete(own):
                raise Declined("the lock is not held by this session")
            return value
        own = self._held.get(key)
        if own is None:
            raise Declined("the lock is not held by this session")
        text = f"{value[0]} {value[1]}"
        if operation.f == "write-held":
            await self._write(f"{key}-held", text)
        elif not await self._write_fenced(own, f"{key}-held", text):
            self._held.pop(key, None)
            raise Declined("the lock had run out")
        return value

    async def _acquire(self, key: str) -> int | bool:
        """Stand in line, and hold the lock if nobody stands before. The token is the number of the place.

        The list is read from the server that has just answered, which has seen all that came before.
        """
        own = await self._create_child(f"{key}/", ephemeral=True, sequence=True)
        name = own.rpartition("/")[2]
        if min(await self._children(key, local=True), default="") == name:
            self._held[key] = own
            return int(name)
        with contextlib.suppress(Indeterminate):
            await self._delete(own)
        return False

    async def _write_fenced(self, own: str, path: str, text: str) -> bool:
        """Write where a znode is still there; whether it was."""
        for _ in range(_TRIES):
            held = await self._get(path, local=True)
            request = self._kazoo.transaction()
            request.check(own, 0)
            _put(request, path, text, held)
            refused = await self._commit(request)
            if refused is None:
                return True
            if refused == 0:
                return False
        raise Failed("others were always faster")

    async def _transaction(self, steps: Steps) -> list[list[Any]]:
        """Read every key, and write what comes of it if none of them has changed, in one ``multi``.

        That there is no znode is checked by making one and deleting it again.
        """
        read: dict[Any, Held | None] = {}
        for _, key, _ in steps:
            if key not in read:
                read[key] = await self._get(f"/{key}", local=True)
        held: Mapping[Any, Any] = {key: json.loads(there.text) for key, there in read.items() if there is not None}
        outcome = carry_out(steps, held)
        request = self._kazoo.transaction()
        for key, there in read.items():
            path = f"/{key}"
            if key in outcome.written:
                _put(request, path, json.dumps(outcome.written[key]), there)
            elif there is not None:
                request.check(path, there.version)
            else:
                request.create(path)
                request.delete(path)
        if await self._commit(request) is not None:
            raise Declined("a znode has changed meanwhile")
        return outcome.answer

    async def _commit(self, request: Any) -> int | None:
        """Do all of a ``multi``; the place of the part for which nothing was done, None if all is done."""
        for place, result in enumerate(await self._change(request.commit_async())):
            if isinstance(result, self._stale):
                return place
            if isinstance(result, Exception) and not isinstance(result, self._errors.RolledBackError):
                raise Indeterminate(_words(result))
            if hasattr(result, "mzxid"):
                self._term = _epoch(result.mzxid)
        return None


def _put(request: Any, path: str, text: str, held: Held | None) -> None:
    """Have a ``multi`` change what was read."""
    if held is None:
        request.create(path, text.encode())
    else:
        request.set_data(path, text.encode(), held.version)


def _epoch(zxid: int) -> int:
    """The epoch of the leader that has ordered a change; a single server has none."""
    return zxid >> 32


def _words(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
