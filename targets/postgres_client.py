"""Clients of PostgreSQL, and what is certain of a transaction that did not end well.

Until COMMIT is sent nothing can be committed: whatever goes wrong, the transaction has failed. Afterwards only an error
with which the server says that it has rolled back is certain. A connection that does not answer in time is dropped
rather than cancelled: who cancels the wait for a synchronous replica has the transaction acknowledged without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from harness.errors import MissingError
from harness.operation import Declined, Failed, Indeterminate, Operation, Served
from harness.targets.postgres_statements import apply, only_reads

PORT: Final = 5432
USER: Final = "splitbrain"
DATABASE: Final = "postgres"

LEVELS: Final = {
    "serializable": "SERIALIZABLE",
    "repeatable-read": "REPEATABLE READ",
    "read-committed": "READ COMMITTED",
}
_CONFLICTS: Final = ("40001", "40P01")
"""The errors of a transaction that could not be serialized, or was chosen to end a deadlock."""
_ROLLED_BACK: Final = ("40", "23", "25", "53")
"""Classes of errors that may be the answer to COMMIT, and say that nothing is committed: conflicts, constraints, states
of transactions, and too little memory or other resources. What ends a server's process (57P0x) may come too late."""
_NOT_KNOWN: Final = "40003"
"""The one error of these classes that says that the outcome is not known."""
_CANCEL_SHARE: Final = 0.5
"""The part of an operation's time-out after which it is cancelled, where it is."""
_SHARE: Final = 0.8
"""The part of an operation's time-out after which its connection is dropped, before somebody else cancels it."""


def missing() -> str | None:
    """Why PostgreSQL cannot be spoken to here; None if it can."""
    try:
        importlib.import_module("asyncpg")
    except ImportError:
        return "it is spoken to through asyncpg, which is not installed: pip install 'splitbrain[postgres]'"
    return None


def driver() -> Any:
    """The module asyncpg. Raises ``MissingError`` where it is not installed."""
    if why := missing():
        raise MissingError(f"postgres: {why}")
    return importlib.import_module("asyncpg")


async def connect(address: str, password: str, seconds: float, **settings: str) -> Any:
    """A connection to the server at ``address``, with these settings of PostgreSQL.

    Raises what ``lost`` names, and ``MissingError``.
    """
    whom = {"host": address, "port": PORT, "user": USER, "password": password, "database": DATABASE}
    return await driver().connect(**whom, ssl=False, timeout=seconds, server_settings=settings)


def lost() -> tuple[type[BaseException], ...]:
    """What a connection raises that cannot be had or used, besides what the server says of a statement."""
    asyncpg = driver()
    return (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError)


@contextlib.contextmanager
def dropped_after(connection: Any, seconds: float) -> Iterator[None]:
    """Within this block, the connection is dropped once so many seconds are over; what waits for it fails then."""
    timer = asyncio.get_running_loop().call_later(seconds, connection.terminate)
    try:
        yield
    finally:
        timer.cancel()


class Server(NamedTuple):
    """A connection to a server, the name and address of its node, and whether it is a primary's."""

    where: tuple[str, str]
    link: Any
    primary: bool


class _Thinking:
    """A connection whose user thinks, for so many seconds, before every statement that changes something."""

    def __init__(self, link: Any, seconds: float) -> None:
        self._link = link
        self._seconds = seconds

    async def execute(self, query: str, *args: Any) -> str:
        await asyncio.sleep(self._seconds)
        tag: str = await self._link.execute(query, *args)
        return tag

    async def fetch(self, query: str, *args: Any) -> Any:
        return await self._link.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        return await self._link.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        return await self._link.fetchval(query, *args)


class PostgresClient:
    """Does every operation in a transaction of its own, on the primary; reads perhaps on its own node's replica."""

    def __init__(
        self,
        own: tuple[str, str],
        primary: tuple[str, str],
        timeout: float,
        password: str,
        *,
        isolation: str = "serializable",
        commit: str = "on",
        any_node: bool = False,
        cancel: bool = False,
        think: float = 0.0,
    ) -> None:
        """``own`` and ``primary`` are a node's name and address; ``commit`` is what a commit waits for.

        With ``any_node`` what only reads goes to the own node; with ``cancel`` what is not answered in half of the
        time is cancelled. It thinks for ``think`` seconds before it changes anything.
        """
        self._own = own
        self._primary = primary
        self._timeout = timeout
        self._password = password
        self._isolation = isolation
        self._commit = commit
        self._any_node = any_node
        self._cancel = cancel
        self._think = think
        self._links: dict[str, Any] = {}
        """Connections by node."""

    async def open(self) -> None:
        await self._link(self._own if self._any_node else self._primary)

    async def _link(self, where: tuple[str, str]) -> Any:
        name, address = where
        link = self._links.get(name)
        if link is None or link.is_closed():
            seconds = self._timeout * _SHARE
            link = await connect(address, self._password, seconds, synchronous_commit=self._commit)
            self._links[name] = link
        return link

    async def invoke(self, operation: Operation) -> Any:
        reads = only_reads(operation)
        own = operation.f.endswith("-local") or (self._any_node and reads)
        deadline = asyncio.get_running_loop().time() + self._timeout * _SHARE
        try:
            async with asyncio.timeout_at(deadline):
                server = await (self._at_own() if own else self._at_primary())
        except TimeoutError:
            raise Failed("no server was found in time") from None
        with dropped_after(server.link, deadline - asyncio.get_running_loop().time()), self._cancelled_late(server):
            answer = await self._transaction(server.link, operation, reads=reads, primary=server.primary)
        return Served(answer, by=server.where[0])

    @contextlib.contextmanager
    def _cancelled_late(self, server: Server) -> Iterator[None]:
        """Within this block, what the server does is cancelled after a while, if that is asked for."""
        if not self._cancel:
            yield
            return

        async def cancel() -> None:
            await asyncio.sleep(self._timeout * _CANCEL_SHARE)
            with contextlib.suppress(*lost()):  # then it goes on
                other = await connect(server.where[1], self._password, self._timeout)
                try:
                    await other.execute("SELECT pg_cancel_backend($1)", server.link.get_server_pid())
                finally:
                    other.terminate()

        task = asyncio.create_task(cancel())
        try:
            yield
        finally:
            task.cancel()

    async def _at_own(self) -> Server:
        """The server of the client's own node. Raises ``Failed`` where it cannot be reached."""
        return Server(self._own, await self._reach(self._own), primary=self._own == self._primary)

    async def _at_primary(self) -> Server:
        """The primary. Raises ``Failed`` where it cannot be reached."""
        return Server(self._primary, await self._reach(self._primary), primary=True)

    async def _reach(self, where: tuple[str, str]) -> Any:
        try:
            return await self._link(where)
        except lost() as error:
            raise Failed(f"{where[0]} cannot be reached: {_words(error)}") from None

    async def _transaction(self, link: Any, operation: Operation, *, reads: bool, primary: bool) -> Any:
        try:
            await link.execute(f"BEGIN ISOLATION LEVEL {self._level(primary=primary)}")
            answer = await apply(_Thinking(link, self._think) if self._think else link, operation)
        except Failed:
            await self._roll_back(link)
            raise
        except lost() as error:
            await self._roll_back(link)
            raise _refusal(error) from None
        except BaseException:
            link.terminate()
            raise
        warnings = await self._commit_it(link, reads=reads)
        if warnings and not reads:
            raise Indeterminate(f"COMMIT was answered with a warning: {warnings[0]}")
        return answer

    async def _commit_it(self, link: Any, *, reads: bool) -> list[str]:
        """Commit; what the server warns of: that it has not waited for the replicas, it says in no other way."""
        warnings: list[str] = []

        def listen(_: Any, message: Any) -> None:
            if message.severity == "WARNING":
                warnings.append(message.message)

        try:
            link.add_log_listener(listen)
        except lost() as error:
            raise Failed(_words(error)) from None  # it is gone, and nobody has asked it to commit
        try:
            tag = await link.execute("COMMIT")
        except lost() as error:
            state = getattr(error, "sqlstate", None) or ""
            if not link.is_closed() and state[:2] in _ROLLED_BACK and state != _NOT_KNOWN:
                raise _refusal(error) from None
            link.terminate()
            if reads:
                raise Failed(_words(error)) from None
            raise Indeterminate(f"the answer to COMMIT is lost: {_words(error)}") from None
        except BaseException:
            link.terminate()
            raise
        finally:
            link.remove_log_listener(listen)
        if tag != "COMMIT":
            raise Failed(f"COMMIT was answered by {tag}")
        return warnings

    def _level(self, *, primary: bool) -> str:
        if not primary and self._isolation == "serializable":
            return LEVELS["repeatable-read"]  # a replica knows no stricter one, and refuses what it does not know
        return LEVELS[self._isolation]

    async def _roll_back(self, link: Any) -> None:
        """Have the connection ready for the next transaction; one that cannot be is dropped."""
        try:
            if not link.is_closed() and link.is_in_transaction():
                await link.execute("ROLLBACK")
        except lost():
            link.terminate()

    async def close(self) -> None:
        for link in self._links.values():
            link.terminate()
        self._links.clear()


def _refusal(error: BaseException) -> Failed:
    """What to say of a transaction of which it is certain that it is not committed."""
    if getattr(error, "sqlstate", None) in _CONFLICTS:
        return Declined(_words(error))
    return Failed(_words(error))


def _words(error: BaseException) -> str:
    state = getattr(error, "sqlstate", None)
    text = str(error).strip().splitlines()
    said = text[0] if text else type(error).__name__
    return f"{said} ({state})" if state else said
