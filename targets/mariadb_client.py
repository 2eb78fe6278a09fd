"""Clients of MariaDB, and what is certain of a transaction that did not end well.

Until COMMIT is sent nothing can be committed: whatever goes wrong, the transaction has failed. Afterwards only an error
with which the server says that it has rolled back is certain: a deadlock, which is also what Galera calls a transaction
that others came before when it was certified.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from harness.errors import MissingError
from harness.operation import Declined, Failed, Indeterminate, Operation, Served
from harness.targets.mariadb_statements import apply, only_reads

PORT: Final = 3306
USER: Final = "splitbrain"
DATABASE: Final = "splitbrain"

_DEADLOCK: Final = 1213
_CHANGED: Final = 1020
"""Somebody has changed a row since the snapshot was taken (``innodb_snapshot_isolation``)."""
_LOCK_WAIT: Final = 1205
_CONFLICTS: Final = (_DEADLOCK, _CHANGED, _LOCK_WAIT)
_ROLLED_BACK: Final = (_DEADLOCK, _CHANGED)
"""The errors that may be the answer to COMMIT, and say that nothing is committed."""
_MATCHED: Final = 2
"""CLIENT_FOUND_ROWS: how many rows an update is about are those that it has found, whether or not they have changed."""
_SHARE: Final = 0.8
"""The part of an operation's time-out after which its connection is dropped, before somebody else cancels it."""


def missing() -> str | None:
    """Why MariaDB cannot be spoken to here; None if it can."""
    try:
        importlib.import_module("aiomysql")
    except ImportError:
        return "it is spoken to through aiomysql, which is not installed: pip install 'splitbrain[mariadb]'"
    return None


def driver() -> Any:
    """The module aiomysql. Raises ``MissingError`` where it is not installed."""
    if why := missing():
        raise MissingError(f"mariadb: {why}")
    return importlib.import_module("aiomysql")


def lost() -> tuple[type[BaseException], ...]:
    """What a connection raises that cannot be had or used, besides what the server says of a statement."""
    return (OSError, driver().MySQLError)


class Link:
    """A connection: each call is one statement, and waits for its answer. All raise what ``lost`` names."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._transport = connection._writer.transport  # what the driver has forgotten by the time that it matters

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return bool(self._connection.closed or self._transport.is_closing())

    async def change(self, query: str, *args: Any) -> int:
        """How many rows it was about."""
        async with self._connection.cursor() as cursor:
            return int(await cursor.execute(query, args))

    async def insert(self, query: str, *args: Any) -> int:
        """The number that the row was given."""
        async with self._connection.cursor() as cursor:
            await cursor.execute(query, args)
            return int(cursor.lastrowid)

    async def fetch(self, query: str, *args: Any) -> Sequence[Sequence[Any]]:
        """The rows that it answers."""
        async with self._connection.cursor() as cursor:
            await cursor.execute(query, args)
            rows: Sequence[Sequence[Any]] = await cursor.fetchall()
            return rows

    def drop(self) -> None:
        """End it without a word, and without waiting for what was not sent; who waits for an answer is told."""
        self._transport.abort()
        self._connection.close()


async def connect(address: str, password: str, seconds: float) -> Link:
    """A connection to the server at ``address``. Raises what ``lost`` names, and ``MissingError``."""
    whom = {"host": address, "port": PORT, "user": USER, "password": password, "db": DATABASE}
    async with asyncio.timeout(seconds):
        return Link(await driver().connect(**whom, autocommit=True, client_flag=_MATCHED, charset="utf8mb4"))


@contextlib.contextmanager
def dropped_after(link: Link, seconds: float) -> Iterator[None]:
    """Within this block, the connection is dropped once so many seconds are over; what waits for it fails then."""
    timer = asyncio.get_running_loop().call_later(seconds, link.drop)
    try:
        yield
    finally:
        timer.cancel()


class MariadbClient:
    """Does every operation in a transaction of its own, on its own node."""

    def __init__(self, name: str, address: str, timeout: float, password: str) -> None:
        """``name`` and ``address`` are the node's."""
        self._name = name
        self._address = address
        self._timeout = timeout
        self._password = password
        self._kept: Link | None = None

    async def open(self) -> None:
        await self._link()

    async def _link(self) -> Link:
        if self._kept is None or self._kept.closed:
            self._kept = await connect(self._address, self._password, self._timeout * _SHARE)
        return self._kept

    async def invoke(self, operation: Operation) -> Any:
        deadline = asyncio.get_running_loop().time() + self._timeout * _SHARE
        try:
            link = await self._link()
        except lost() as error:
            raise Failed(f"{self._name} cannot be reached: {_words(error)}") from None
        with dropped_after(link, deadline - asyncio.get_running_loop().time()):
            return Served(await _transaction(link, operation), by=self._name)

    async def close(self) -> None:
        if self._kept is not None:
            self._kept.drop()
            self._kept = None


async def _transaction(link: Link, operation: Operation) -> Any:
    try:
        await link.change("BEGIN")
        answer = await apply(link, operation)
    except Failed:
        await _roll_back(link)
        raise
    except lost() as error:
        await _roll_back(link)
        raise _refusal(error) from None
    except BaseException:
        link.drop()
        raise
    try:
        await link.change("COMMIT")
    except lost() as error:
        if _code(error) in _ROLLED_BACK:
            raise _refusal(error) from None
        link.drop()
        if only_reads(operation):
            raise Failed(_words(error)) from None
        raise Indeterminate(f"COMMIT has not succeeded for certain: {_words(error)}") from None
    except BaseException:
        link.drop()
        raise
    return answer


async def _roll_back(link: Link) -> None:
    """Have the connection ready for the next transaction; one that cannot be is dropped.

    Not every error ends a transaction: after a lock was waited for in vain, all but that statement still stands.
    """
    try:
        await link.change("ROLLBACK")
    except lost():
        link.drop()
    except BaseException:
        link.drop()
        raise


def _refusal(error: BaseException) -> Failed:
    """What to say of a transaction of which it is certain that it is not committed."""
    return (Declined if _code(error) in _CONFLICTS else Failed)(_words(error))


def _code(error: BaseException) -> int | None:
    """The number of an error of the server, or of the driver; None for any other."""
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) and not isinstance(error, OSError) else None


def _words(error: BaseException) -> str:
    code = _code(error)
    said = str(error.args[1] if code is not None and len(error.args) > 1 else error).strip().splitlines()
    text = said[0] if said else type(error).__name__
    return text if code is None else f"{text} ({code})"
