"""What the operations of the workloads are in SQL, statement by statement, within one transaction of MariaDB.

A key holds a list and a register, side by side, so that a read need not know which of the two it is about. A list is a
text of whole numbers with spaces between them. What depends on what was read is computed by the client, as programs do
it: whether others may change it in between is what a level of isolation decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from harness.operation import Declined, Failed, Operation
from harness.targets import transactions

_NAME: Final = "VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
"""A text that is equal to itself alone, and to none with spaces, or other letters of its kind."""
TABLES: Final = (
    f"CREATE TABLE held (k {_NAME} PRIMARY KEY, list MEDIUMTEXT, register BIGINT)",
    f"CREATE TABLE elements (k {_NAME}, element BIGINT, PRIMARY KEY (k, element))",
    f"CREATE TABLE accounts (bank {_NAME}, name {_NAME}, balance BIGINT NOT NULL, PRIMARY KEY (bank, name))",
    "CREATE TABLE ids (id BIGINT AUTO_INCREMENT PRIMARY KEY)",
)
CONTENTS: Final = (
    "SELECT k, CONCAT_WS('; ', list, register) FROM held",
    "SELECT CONCAT(k, ' (set)'), GROUP_CONCAT(element ORDER BY element SEPARATOR ' ') FROM elements GROUP BY k",
    "SELECT CONCAT(bank, '/', name), CAST(balance AS CHAR) FROM accounts",
)
"""All that the tables hold: each key, and a text."""

_READ: Final = "SELECT list, register FROM held WHERE k = %s"
_APPEND: Final = (
    "INSERT INTO held (k, list) VALUES (%s, %s) ON DUPLICATE KEY UPDATE list = CONCAT_WS(' ', list, VALUES(list))"
)
_WRITE: Final = "INSERT INTO held (k, register) VALUES (%s, %s) ON DUPLICATE KEY UPDATE register = VALUES(register)"
_CAS: Final = "UPDATE held SET register = %s WHERE k = %s AND register = %s"
_INCREMENT: Final = (
    "INSERT INTO held (k, register) VALUES (%s, %s) ON DUPLICATE KEY UPDATE register = register + VALUES(register)"
)
_ADD: Final = "INSERT INTO elements VALUES (%s, %s) ON DUPLICATE KEY UPDATE element = VALUES(element)"
_REMOVE: Final = "DELETE FROM elements WHERE k = %s AND element = %s"
_MEMBERS: Final = "SELECT element FROM elements WHERE k = %s ORDER BY element"
_GENERATE: Final = "INSERT INTO ids VALUES ()"
_OPEN: Final = "INSERT INTO accounts VALUES (%s, %s, %s) ON DUPLICATE KEY UPDATE balance = balance"
_BALANCES: Final = "SELECT name, balance FROM accounts WHERE bank = %s"
_BALANCE: Final = "SELECT balance FROM accounts WHERE bank = %s AND name = %s"
_SET_BALANCE: Final = "UPDATE accounts SET balance = %s WHERE bank = %s AND name = %s"

_READS: Final = frozenset({"read", "read-list", "members", "balances", "read-local", "members-local"})


class Connection(Protocol):
    """What is used of a connection: each call is one statement, and waits for its answer."""

    async def change(self, query: str, *args: Any) -> int:
        """How many rows it was about."""
        ...

    async def insert(self, query: str, *args: Any) -> int:
        """The number that the row was given."""
        ...

    async def fetch(self, query: str, *args: Any) -> Sequence[Sequence[Any]]: ...


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
            return (await _held(connection, key))[1]
        case "write":
            await connection.change(_WRITE, key, value)
        case "cas":
            old, new = value
            if not await connection.change(_CAS, new, key, old):
                raise Declined("the value was another one")
        case "read-list":
            return (await _held(connection, key))[0] or []
        case "append":
            await connection.change(_APPEND, key, str(value))
        case "increment":
            await connection.change(_INCREMENT, key, value)
        case "add":
            await connection.change(_ADD, key, value)
        case "remove":
            await connection.change(_REMOVE, key, value)
        case "members" | "members-local":
            return [element for (element,) in await connection.fetch(_MEMBERS, key)]
        case "generate":
            return await connection.insert(_GENERATE)
        case "init":
            for name, balance in value.items():
                await connection.change(_OPEN, key, name, balance)
        case "balances":
            return {name: balance for name, balance in await connection.fetch(_BALANCES, key)}  # noqa: C416
        case "transfer" | "withdraw" | "deposit":
            return await _move(connection, operation.f, key, value)
        case _:
            raise Failed(f"mariadb has no function {operation.f}")
    return value


async def _held(connection: Connection, key: str) -> tuple[list[int] | None, int | None]:
    """The list and the register of a key, each None where nobody has written it."""
    for text, register in await connection.fetch(_READ, key):
        return None if text is None else [int(word) for word in text.split()], register
    return None, None


async def _step(connection: Connection, f: str, key: Any, value: Any) -> list[Any]:
    """One micro-operation, as one statement; the same with what was read."""
    if f == "r":
        elements, register = await _held(connection, str(key))
        return [f, key, register if elements is None else elements]
    if f not in ("append", "w"):
        raise Failed(f"mariadb has no micro-operation {f}")
    if f == "append":
        await connection.change(_APPEND, str(key), str(value))
    else:
        await connection.change(_WRITE, str(key), value)
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
        rows = await connection.fetch(_BALANCE, bank, name)
        if not rows:
            raise Declined("there is no such account")
        after[name] = rows[0][0] + change
    if losing is not None and after[losing] < 0:
        raise Declined("too little is left")
    for name, balance in after.items():
        await connection.change(_SET_BALANCE, balance, bank, name)
    return value if losing is None else {**value, "balance": after[losing]}
