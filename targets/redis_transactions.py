"""Transactions on several keys in Redis: registers are strings, lists are lists.

``multi`` sends ``MULTI``, one command for each micro-operation, and ``EXEC`` together, in one round trip. ``watch`` is
the optimistic way: it watches the keys, reads them, and sends what is to be written between ``MULTI`` and ``EXEC``,
which answers nil, and has done nothing, where a key was changed in between. ``lua`` is one script, which Redis executes
as a whole. None of them is undone where one command is refused in the middle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal

from hiredis import ReplyError

from harness.operation import Declined, Failed, Indeterminate
from harness.targets.transactions import Steps, carry_out, keys_needed, only_reads

How = Literal["multi", "watch", "lua"]
Command = Sequence[str | int]
ExecuteEach = Callable[[Sequence[Command]], Awaitable[list[Any]]]
"""Sends commands together, and returns their answers in order; an error that the server answers is one of these."""

_SCRIPT: Final = """
local answers = {}
for at, key in ipairs(KEYS) do
  local what, value = ARGV[2 * at - 1], ARGV[2 * at]
  if what == 'w' then answers[at] = redis.call('SET', key, value)
  elseif what == 'append' then answers[at] = redis.call('RPUSH', key, value)
  elseif redis.call('TYPE', key).ok == 'list' then answers[at] = redis.call('LRANGE', key, 0, -1)
  else answers[at] = redis.call('GET', key) end
end
return answers
"""
_WRONG_TYPE: Final = "WRONGTYPE"
_ABORTED: Final = "EXECABORT"


async def transact(execute_each: ExecuteEach, steps: Steps, how: How) -> list[list[Any]]:
    """Do one transaction, and return it with its answers.

    Raises ``Declined`` where a watched key was changed; ``Failed`` where Redis has refused all of it, and, with an
    ``OSError`` as its cause, where the connection was lost before anything was to be written; else ``OSError`` where it
    was lost, ``Indeterminate`` where only a part was refused, and ``ReplyError`` as ``apply`` does.
    """
    way = {"multi": _multi, "watch": _watch, "lua": _script}[how]
    try:
        return await way(execute_each, steps)
    except OSError as error:
        if only_reads(steps):
            raise Failed(f"the connection was lost: {error}") from error
        raise


async def _multi(execute_each: ExecuteEach, steps: Steps) -> list[list[Any]]:
    lists, registers = _kinds(steps)
    commands = [
        _reading(key, lists=lists, registers=registers) if function == "r" else [_write(function, key, value)]
        for function, key, value in steps
    ]
    answers = iter(await _execute(execute_each, [command for some in commands for command in some]))
    filled = []
    for (function, key, value), some in zip(steps, commands, strict=True):
        found = [next(answers) for _ in some]
        if function != "r":
            _raise_if_half(found[0])
        filled.append([function, key, _held_in_the_middle(found) if function == "r" else value])
    return filled


async def _watch(execute_each: ExecuteEach, steps: Steps) -> list[list[Any]]:
    lists, registers = _kinds(steps)
    asked = {key: _reading(key, lists=lists, registers=registers) for key in keys_needed(steps)}
    held = {}
    if asked:
        try:
            watching, *found = await execute_each(
                [("WATCH", *asked), *(one for some in asked.values() for one in some)]
            )
        except OSError as error:
            raise Failed(f"the connection was lost before anything was written: {error}") from error
        _raise_if_refused(watching)
        answers = iter(found)
        held = {key: _held([next(answers) for _ in some]) for key, some in asked.items()}
    outcome = carry_out(steps, held)
    for answer in await _execute(execute_each, [_write(*step) for step in steps if step[0] != "r"]):
        _raise_if_half(answer)
    return outcome.answer


async def _script(execute_each: ExecuteEach, steps: Steps) -> list[list[Any]]:
    arguments = [word for function, _, value in steps for word in (function, "" if value is None else value)]
    (answers,) = await execute_each([("EVAL", _SCRIPT, len(steps), *(key for _, key, _ in steps), *arguments)])
    _raise_if_refused(answers)
    return [
        [function, key, _held([answer]) if function == "r" else value]
        for (function, key, value), answer in zip(steps, answers, strict=True)
    ]


async def _execute(execute_each: ExecuteEach, commands: Sequence[Command]) -> list[Any]:
    """The answers to commands between ``MULTI`` and ``EXEC``. Raises ``Failed`` if one was refused before that."""
    began, *queued, answers = await execute_each([("MULTI",), *commands, ("EXEC",)])
    if isinstance(answers, ReplyError):
        refused = [answer for answer in (began, *queued) if isinstance(answer, ReplyError)]
        if str(answers).startswith(_ABORTED) or len(refused) == 1 + len(queued):
            raise Failed(str(refused[0] if refused else answers))
        raise Indeterminate(str(answers))
    if answers is None:
        raise Declined("a watched key was changed")
    return list(answers)


def _kinds(steps: Steps) -> tuple[bool, bool]:
    """Whether the keys of a transaction may be lists, and whether registers: what is written tells, if anything is."""
    functions = {function for function, _, _ in steps}
    return "w" not in functions, "append" not in functions


def _reading(key: Any, *, lists: bool, registers: bool) -> list[Command]:
    """The commands that read a key, of which one fits what it holds."""
    commands: list[Command] = [("LRANGE", key, 0, -1)] if lists or not registers else []
    return commands + ([("GET", key)] if registers or not lists else [])


def _write(function: str, key: Any, value: Any) -> Command:
    match function:
        case "w":
            return ("SET", key, value)
        case "append":
            return ("RPUSH", key, value)
    raise Failed(f"a transaction has no micro-operation {function}")


def _held(answers: Sequence[Any]) -> Any:
    """What a key holds, by the answers to those commands that might read it: None if there is no such key."""
    errors = [answer for answer in answers if isinstance(answer, ReplyError)]
    for error in errors:
        if len(errors) == len(answers) or not str(error).startswith(_WRONG_TYPE):
            raise error
    for answer in answers:
        if isinstance(answer, list) and answer:
            return [int(element) for element in answer]
        if isinstance(answer, str):
            return int(answer)
    return None


def _held_in_the_middle(answers: Sequence[Any]) -> Any:
    """The same, where other commands of the transaction are done whatever becomes of these."""
    try:
        return _held(answers)
    except ReplyError as error:
        _raise_if_half(error)


def _raise_if_refused(answer: Any) -> None:
    if isinstance(answer, ReplyError):
        raise answer


def _raise_if_half(answer: Any) -> None:
    """Raise ``Indeterminate`` for a command that was refused between others that were not."""
    if isinstance(answer, ReplyError):
        raise Indeterminate(f"the rest of it is done: {answer}")
