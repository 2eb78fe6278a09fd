"""What the operations of the workloads are in SQL, statement by statement, within one transaction of PostgreSQL.

A key holds a list and a register, side by side, so that a read need not know which of the two it is about. What depends
on what was read is computed by the client, as programs do it: whether others may change it in between is what a level
of isolation decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from harness.operation import Declined, Failed, Operation
from harness.targets import transactions

TABLES: Final = (
    "CREATE TABLE held (key text PRIMARY KEY, list bigint[], register bigint)",
    "CREATE TABLE elements (key text, element bigint, PRIMARY KEY (key, element))",
    "CREATE TABLE accounts (bank text, name text, balance bigint NOT NULL, PRIMARY KEY (bank, name))",
    "CREATE SEQUENCE ids",
)
CONTENTS: Final = (
    "SELECT key, concat_ws(' ', list::text, register::text) FROM held "
    "UNION ALL SELECT key || ' (set)', string_agg(element::text, ' ' ORDER BY element) FROM elements GROUP BY key "
    "UNION ALL SELECT bank || '/' || name, balance::text FROM accounts"
)
"""All that the tables hold: each key, and a text."""

_READ: Final = "SELECT list, register FROM held WHERE key = $1"
_APPEND: Final = (
    "INSERT INTO held (key, list) VALUES ($1, ARRAY[$2::bigint]) "
    "ON CONFLICT (key) DO UPDATE SET list = held.list || excluded.list"
)
_WRITE: Final = (
    "INSERT INTO held (key, register) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET register = excluded.register"
)
_CAS: Final = "UPDATE held SET register = $3 WHERE key = $1 AND register = $2 RETURNING register"
_INCREMENT: Final = (
    "INSERT INTO held (key, register) VALUES ($1, $2) "
    "ON CONFLICT (key) DO UPDATE SET register = held.register + excluded.register"
)
_ADD: Final = "INSERT INTO elements VALUES ($1, $2) ON CONFLICT DO NOTHING"
_REMOVE: Final = "DELETE FROM elements WHERE key = $1 AND element = $2"
_MEMBERS: Final = "SELECT element FROM elements WHERE key = $1 ORDER BY element"
_OPEN: Final = "INSERT INTO accounts VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_BALANCES: Final = "SELECT name, balance FROM accounts WHERE bank = $1"
_BALANCE: Final = "SELECT balance FROM accounts WHERE bank = $1 AND name = $2"
_SET_BALANCE: Final = "UPDATE accounts SET balance = $3 WHERE bank = $1 AND name = $2"

_READS: Final = frozenset({"read", "read-list", "members", "balances", "read-local", "members-local"})


class Connection(Protocol):
    """What is used of a connection: each call is one statement, and waits for its answer."""

    async def execute(self, query: str, *args: Any) -> str: ...

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]: ...

    async def fetchrow(self, query: str, *args: Any) -> Any: ...

    async def fetchval(self, query: str, *args: Any) -> Any: ...


def only_reads(operation: Operation) -> bool:
    """Whether an operation changes nothing."""
    if operation.f == "txn":
        return transactions.only_reads(operation.value)
    return operation.f in _READS


async def apply(connection: Connection, operation: Operation) -> Any:
    """Do one operation in the transaction that the connection is in; its answer, which counts once that is committed.

    Raises ``Declined`` where what is there does not allow it, and ``Failed`` for a function that there is not: either
    way the transaction is to be rolled back.
    """
    key, value = str(operation.key), operation.value
    match operation.f:
        case "txn":
            return [await _step(connection, *step) for step in value]
        case "read" | "read-local":
            row = await connection.fetchrow(_READ, key)
            return None if row is None else row["register"]
        case "write":
            await connection.execute(_WRITE, key, value)
        case "cas":
            if await connection.fetchval(_CAS, key, *value) is None:
                raise Declined("the value was another one")
        case "read-list":
            row = await connection.fetchrow(_READ, key)
            return [] if row is None else row["list"]
        case "append":
            await connection.execute(_APPEND, key, value)
        case "increment":
            await connection.execute(_INCREMENT, key, value)
        case "add":
            await connection.execute(_ADD, key, value)
        case "remove":
            await connection.execute(_REMOVE, key, value)
        case "members" | "members-local":
            return [row["element"] for row in await connection.fetch(_MEMBERS, key)]
        case "generate":
            return await connection.fetchval("SELECT nextval('ids')")
        case "init":
            for name, balance in value.items():
                await connection.execute(_OPEN, key, name, balance)
        case "balances":
            return {row["name"]: row["balance"] for row in await connection.fetch(_BALANCES, key)}
        case "transfer" | "withdraw" | "deposit":
            return await _move(connection, operation.f, key, value)
        case _:
            raise Failed(f"postgres has no function {operation.f}")
    return value


async def _step(connection: Connection, f: str, key: Any, value: Any) -> list[Any]:
    """One micro-operation, as one statement; the same with what was read."""
    if f == "r":
        row = await connection.fetchrow(_READ, str(key))
        if row is None:
            return [f, key, None]
        return [f, key, row["register"] if row["list"] is None else row["list"]]
    if f not in ("append", "w"):
        raise Failed(f"postgres has no micro-operation {f}")
    await connection.execute(_APPEND if f == "append" else _WRITE, str(key), value)
    return [f, key, value]


async def _move(connection: Connection, f: str, bank: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the balances that it is about, and write others: two transactions that do so at once may undo each other."""
    losing = value["from"] if f == "transfer" else value["account"] if f == "withdraw" else None
    gaining = value["to"] if f == "transfer" else value["account"] if f == "deposit" else None
    changes = {losing: -value["amount"], gaining: value["amount"]}
    after: dict[str, int] = {}
    for name, change in changes.items():
        if name is None:
            continue
        balance = await connection.fetchval(_BALANCE, bank, name)
        if balance is None:
            raise Declined("there is no such account")
        after[name] = balance + change
    if losing is not None and after[losing] < 0:
        raise Declined("too little is left")
    for name, balance in after.items():
        await connection.execute(_SET_BALANCE, bank, name, balance)
    return value if losing is None else {**value, "balance": after[losing]}
