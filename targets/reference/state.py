"""The replicated state of the modes with one order of commands: the same on every node that ran the same commands."""

from __future__ import annotations

import json
from typing import Any

Answer = str | int | list[str] | dict[str, str] | None
"""What a command answers, as JSON can hold it; ``{"error": text}`` where it cannot be done."""


Value = str | int | set[str] | tuple[str, ...] | dict[str, int]
"""What a key holds: a string, a number, a set, a list as a tuple, or a bank: the balance of each account."""


_MOST = 1 << 63
"""What a number may be at most: one that is too long cannot be written down any more."""


class WrongTypeError(Exception):
    """A command for another kind of value than the key holds."""


class DeclinedError(Exception):
    """A command that can do nothing in this state."""


class State:
    """A map from keys to values, and the last answers to clients."""

    def __init__(self, dump: Any = None) -> None:
        self._values: dict[str, Value] = {}
        self._answered: dict[str, tuple[int, Any]] = {}
        self.leases: dict[str, tuple[int, int]] = {}
        """For how many milliseconds each lease is, and a number that no other grant or renewal has."""
        self._granted = 0
        """How many grants and renewals there were: each has its number, which is the fencing token of a grant."""
        self._fenced: dict[str, tuple[int, str]] = {}
        """What locks protect: the newest token with which it was written, and what was written last."""
        if dump is not None:
            self._values = {k: set(v) if isinstance(v, list) else v for k, v in dump["values"].items()}
            self._values |= {k: tuple(v) for k, v in dump.get("lists", {}).items()}
            self.leases = {k: (milliseconds, number) for k, milliseconds, number in dump.get("leases", ())}
            self._granted = dump.get("granted", 0)
            self._fenced = {k: (token, value) for k, token, value in dump.get("fenced", ())}
            self._answered = {client: (number, answer) for client, number, answer in dump["answered"]}

    def dump(self) -> Any:
        """All of it as JSON can hold it."""
        lists = {k: list(v) for k, v in self._values.items() if isinstance(v, tuple)}
        values = {k: sorted(v) if isinstance(v, set) else v for k, v in self._values.items() if k not in lists}
        return {
            "values": values,
            "lists": lists,
            "leases": [[key, *lease] for key, lease in self.leases.items()],
            "granted": self._granted,
            "fenced": [[key, *written] for key, written in self._fenced.items()],
            "answered": [[c, n, a] for c, (n, a) in self._answered.items()],
        }

    def contents(self) -> dict[str, str]:
        """Everything that clients can see, a text for each key."""
        held = {key: sorted(value) if isinstance(value, set) else value for key, value in self._values.items()}
        shown = {key: json.dumps(value, sort_keys=True) for key, value in held.items()}
        return shown | {f"{key} (fenced)": json.dumps(written) for key, written in self._fenced.items()}

    def __len__(self) -> int:
        return len(self._values)

    def read(self, command: list[str]) -> Answer:
        """Answer ``GET k``, ``SMEMBERS k``, ``LRANGE k first last`` or ``HGETALL k``. Raises ``WrongTypeError``."""
        value = self._values.get(command[1])
        if command[0] == "SMEMBERS":
            return sorted(self._set(command[1]))
        if command[0] == "LRANGE":
            elements, (first, last) = self._list(command[1]), map(int, command[2:])
            first, last = (max(at + len(elements), 0) if at < 0 else at for at in (first, last))
            return list(elements[first : last + 1])
        if command[0] == "HGETALL":
            return [word for account, balance in self._bank(command[1]).items() for word in (account, str(balance))]
        if isinstance(value, set | tuple | dict):
            raise WrongTypeError(f"{command[1]} holds no string and no number")
        return value if value is None else str(value)

    def apply(self, command: list[str]) -> Answer:
        """Run one command and return its answer.

        ``SET k v``, ``CAS k old new``, ``DEL k``, ``INCRBY k n``, ``SADD k e``, ``SREM k e``, ``RPUSH k e``,
        ``LPOP k``, ``OPEN k account balance ...``, ``MOVE k amount from to``, where one account may be '',
        ``GRANT k milliseconds``, ``RENEW k milliseconds``, ``EXPIRE k number``, ``RELEASE k token``,
        ``GUARDED k token v``, ``FENCED k token v``, or nothing at all. In ``ONCE client number ...`` a command that its
        client already got an answer to is not run again.
        """
        if not command:
            return None
        if command[0] == "ONCE":
            client, number, inner = command[1], int(command[2]), command[3:]
            done = self._answered.get(client)
            if done is None or done[0] < number:
                done = self._answered[client] = (number, self.apply(inner))
            return done[1] if done[0] == number else None
        try:
            return self._change(*command)
        except WrongTypeError as error:
            return {"error": f"WRONGTYPE {error}"}
        except DeclinedError as error:
            return {"error": f"DECLINED {error}"}

    def _change(self, name: str, key: str, *arguments: str) -> Answer:
        if name in ("SET", "INCRBY") or (name == "CAS" and self._values.get(key) == arguments[0]):
            self.leases.pop(key, None)  # what is written so is no lease any more
        if name == "SET":
            self._values[key] = arguments[0]
            return "OK"
        if name == "CAS":
            if self._values.get(key) != arguments[0]:
                return 0
            self._values[key] = arguments[1]
            return 1
        if name == "INCRBY":
            try:
                total = int(self._values.get(key, 0)) + int(arguments[0])  # type: ignore[arg-type]
            except (TypeError, ValueError):
                raise WrongTypeError(f"{key} holds no number") from None
            if abs(total) > _MOST:
                raise DeclinedError("the number would be too long")
            self._values[key] = total
            return total
        if name in ("SADD", "SREM"):
            members = self._set(key)
            changed = (arguments[0] in members) != (name == "SADD")
            self._values[key] = members | {arguments[0]} if name == "SADD" else members - {arguments[0]}
            return int(changed)
        if name == "RPUSH":
            longer = self._values[key] = (*self._list(key), arguments[0])
            return len(longer)
        if name == "LPOP":
            elements = self._list(key)
            self._values[key] = elements[1:]
            return elements[0] if elements else None
        if name == "OPEN":
            balances = {account: int(of) for account, of in zip(arguments[::2], arguments[1::2], strict=False)}
            self._values[key] = self._bank(key) or balances
            return "OK"
        if name == "MOVE":
            return self._move(key, int(arguments[0]), *arguments[1:])
        if name in ("GRANT", "RENEW", "EXPIRE", "RELEASE", "GUARDED", "FENCED"):
            return self._lease(name, key, *arguments)
        return self._delete(key)

    def _delete(self, key: str) -> int:
        self.leases.pop(key, None)
        return int(self._values.pop(key, None) is not None)

    def _lease(self, name: str, key: str, number: str, *arguments: str) -> Answer:
        """Grant, renew or end a lease, which holds its token; or write what a lock, which is a lease, protects.

        A write that is ``GUARDED`` is of the holder only, and renews its lease; one that is ``FENCED`` is of whoever
        has the newest token that was seen.
        """
        lease, newest = self.leases.get(key), self._fenced.get(key, (0, ""))[0]
        if name == "GRANT":
            if key in self._values:
                raise DeclinedError("somebody has it")
            self._values[key] = str(self._begin(key, int(number)))
            return self._granted
        if name == "RENEW":
            if lease is not None:
                self._begin(key, int(number))
            return int(lease is not None)
        if name == "EXPIRE":
            return self._delete(key) if lease is not None and lease[1] == int(number) else 0
        if name == "FENCED" and newest > int(number):
            raise DeclinedError("the token is older than one that was seen")
        if name != "FENCED" and (lease is None or self._values[key] != number):
            raise DeclinedError("it had run out")
        if name == "RELEASE":
            return self._delete(key)
        if name == "GUARDED" and lease is not None:
            self._begin(key, lease[0])
        self._fenced[key] = max(newest, int(number)), arguments[0]
        return "OK"

    def _begin(self, key: str, milliseconds: int) -> int:
        """Let a lease begin anew; its number."""
        self._granted += 1
        self.leases[key] = milliseconds, self._granted
        return self._granted

    def _move(self, key: str, amount: int, losing: str, gaining: str) -> int:
        """Move an amount between two accounts, or from or to one; what is left in the one that lost it."""
        after = dict(self._bank(key))
        for account, by in ((losing, -amount), (gaining, amount)):
            if account and account not in after:
                raise DeclinedError(f"there is no account {account}")
            if account:
                after[account] += by
        if losing and after[losing] < 0:
            raise DeclinedError("too little is left")
        self._values[key] = after
        return after.get(losing, 0)

    def _bank(self, key: str) -> dict[str, int]:
        balances = self._values.get(key, {})
        if not isinstance(balances, dict):
            raise WrongTypeError(f"{key} holds no bank")
        return balances

    def _set(self, key: str) -> set[str]:
        members = self._values.get(key, set())
        if not isinstance(members, set):
            raise WrongTypeError(f"{key} holds no set")
        return members

    def _list(self, key: str) -> tuple[str, ...]:
        elements = self._values.get(key, ())
        if not isinstance(elements, tuple):
            raise WrongTypeError(f"{key} holds no list")
        return elements
