"""What the operations of the workloads are in Redis' commands, each in one command or one script.

Counters are ``INCRBY``, sets ``SADD``, lists ``RPUSH``, queues ``RPUSH`` and ``LPOP``, identifiers ``INCR``. A bank is
a hash, so that one command reads all balances. A lock is ``SET NX PX`` with a token that is counted beside it, and a
write of its holder renews it; a lease is a key with a time to live. What has to be read before it is written goes by a
script, which Redis executes as a whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from hiredis import ReplyError

from harness.operation import Declined, Failed, Indeterminate, Operation

Execute = Callable[..., Awaitable[Any]]
"""Sends one command, and returns its answer."""

_CAS: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) return 1 end return 0"
_INIT: Final = "for i = 1, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end return 1"
_MOVE: Final = """
local amount, from, to, left = tonumber(ARGV[1]), ARGV[2], ARGV[3], 0
if (from ~= '' and redis.call('HEXISTS', KEYS[1], from) == 0) or (to ~= '' and redis.call('HEXISTS', KEYS[1], to) == 0)
then return redis.error_reply('NOACCOUNT there is no such account') end
if from ~= '' then
  if tonumber(redis.call('HGET', KEYS[1], from)) < amount then return redis.error_reply('POOR too little is left') end
  left = redis.call('HINCRBY', KEYS[1], from, -amount)
end
if to ~= '' then redis.call('HINCRBY', KEYS[1], to, amount) end
return left
"""
_ACQUIRE: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], token, 'NX', 'PX', ARGV[1])
redis.call('HSET', KEYS[3], 'ttl', ARGV[1])
return token
"""
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_HELD: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], redis.call('HGET', KEYS[2], 'ttl')) end
redis.call('HSET', KEYS[2], 'token', ARGV[1], 'value', ARGV[2])
return 1
"""
_FENCED: Final = """
if tonumber(redis.call('HGET', KEYS[1], 'token') or 0) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'value', ARGV[2])
return 1
"""

REFUSED: Final = ("NOACCOUNT", "POOR")
"""What the scripts here say when they have changed nothing."""
_AT_ONCE: Final = 1000
_WHOLE: Final[Mapping[str, Sequence[Any]]] = {
    "string": ("GET",),
    "list": ("LRANGE", 0, -1),
    "set": ("SMEMBERS",),
    "hash": ("HGETALL",),
}
"""What reads the whole of a key, by its type."""
READS: Final = frozenset({"read", "read-local", "read-list", "members", "members-local", "balances", "look"})
"""The operations that change nothing."""


async def apply(execute: Execute, operation: Operation, *, isolated: bool) -> Any:
    """Do one operation and return its answer. Raises ``Failed`` where a command says that it has changed nothing.

    Without ``isolated`` a bank does what an automat must not: it reads a balance and then writes another one.
    """
    key, value = operation.key, operation.value
    match operation.f:
        case "read" | "read-local":
            reply = await execute("GET", key)
            return None if reply is None else int(reply)
        case "write":
            await execute("SET", key, value)
        case "cas":
            if not await execute("EVAL", _CAS, 1, key, *value):
                raise Declined("the value was another one")
        case "read-list":
            return [int(element) for element in await execute("LRANGE", key, 0, -1)]
        case "append":
            await execute("RPUSH", key, value)
        case "increment":
            await execute("INCRBY", key, value)
        case "add":
            await execute("SADD", key, value)
        case "remove":
            await execute("SREM", key, value)
        case "members" | "members-local":
            return sorted(map(int, await execute("SMEMBERS", key)))
        case "enqueue":
            await execute("RPUSH", key, value)
        case "dequeue":
            reply = await execute("LPOP", key)
            return None if reply is None else int(reply)
        case "generate":
            return await execute("INCR", key)
        case "init" | "balances" | "transfer" | "withdraw" | "deposit":
            return await _bank(execute, operation, isolated=isolated)
        case "acquire" | "release" | "write-held" | "write-fenced":
            return await _lock(execute, operation)
        case "grant":
            if await execute("SET", key, 1, "NX", "PX", _milliseconds(value)) is None:
                raise Declined("there is such a lease already")
        case "renew":
            return bool(await execute("PEXPIRE", key, _milliseconds(value)))
        case "look":
            return bool(await execute("EXISTS", key))
        case "revoke":
            await execute("DEL", key)
        case _:
            raise Failed(f"redis has no function {operation.f}")
    return value


async def _bank(execute: Execute, operation: Operation, *, isolated: bool) -> Any:
    key, value = operation.key, operation.value
    if operation.f == "init":
        await execute("EVAL", _INIT, 1, key, *(word for account in value.items() for word in account))
        return value
    if operation.f == "balances":
        reply = await execute("HGETALL", key)
        return {name: int(balance) for name, balance in zip(reply[::2], reply[1::2], strict=True)}
    losing = value.get("from" if operation.f == "transfer" else "account") if operation.f != "deposit" else ""
    gaining = value.get("to" if operation.f == "transfer" else "account") if operation.f != "withdraw" else ""
    if isolated:
        left = await execute("EVAL", _MOVE, 1, key, value["amount"], losing, gaining)
    else:
        left = await _move_by_steps(execute, key, value["amount"], losing, gaining)
    return {**value, "balance": left} if losing else value


async def _move_by_steps(execute: Execute, bank: str, amount: int, losing: str, gaining: str) -> int:
    """What a program does that was not made for two automats."""
    balances = {name: await execute("HGET", bank, name) for name in (losing, gaining) if name}
    if None in balances.values():
        raise Declined("there is no such account")
    left = 0
    if losing:
        left = int(balances[losing]) - amount
        if left < 0:
            raise Declined("too little is left")
        await execute("HSET", bank, losing, left)
    if gaining:
        try:
            await execute("HSET", bank, gaining, int(balances[gaining]) + amount)
        except ReplyError as error:
            raise Indeterminate(f"half of it is done: {error}") from None
    return left


async def _lock(execute: Execute, operation: Operation) -> Any:
    key, value = operation.key, operation.value
    if operation.f == "acquire":
        token = await execute("EVAL", _ACQUIRE, 3, key, f"{key}/token", f"{key}/held", _milliseconds(value))
        return token or False
    if operation.f == "release":
        if not await execute("EVAL", _RELEASE, 1, key, value):
            raise Declined("the lock had run out")
        return value
    token, what = value
    if operation.f == "write-held":
        await execute("EVAL", _HELD, 2, key, f"{key}/held", token, what)
    elif not await execute("EVAL", _FENCED, 1, f"{key}/held", token, what):
        raise Declined("the token is older than one that was seen")
    return value


async def contents(execute: Execute) -> dict[str, str]:
    """Each key and what it holds, as a text."""
    texts: dict[str, str] = {}
    cursor = "0"
    while True:
        cursor, keys = await execute("SCAN", cursor, "COUNT", _AT_ONCE)
        for key in keys:
            kind = await execute("TYPE", key)
            if kind not in _WHOLE:
                if kind != "none":  # else it has run out meanwhile
                    texts[key] = f"a {kind}"
                continue
            name, *arguments = _WHOLE[kind]
            held = await execute(name, key, *arguments)
            if kind == "hash":
                held = sorted(zip(held[::2], held[1::2], strict=True))
            texts[key] = repr(sorted(held) if kind == "set" else held)
        if str(cursor) == "0":
            return texts


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
