"""Transactions in the replicated state: several keys read and written in one step, or from a snapshot.

Every key keeps the versions that a snapshot may still ask for, each with the number of the commit that wrote it. A
whole transaction (``TXN``) reads the newest ones; one that began with a snapshot (``BEGIN``, then ``COMMIT``) reads
those of the snapshot, and is declined if another one has written a key of its own meanwhile: the first committer wins.
After Berenson et al., "A Critique of ANSI SQL Isolation Levels" (1995), section 4.2.

Each command is one entry of the log, so that all nodes come to the same versions and the same answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from harness.targets.reference.state import Answer, DeclinedError, State, WrongTypeError

Step = tuple[str, Any, Any]
"""A micro-operation: ``("r", key, None)``, ``("w", key, value)`` or ``("append", key, element)``."""

KEPT: Final = 500
"""How many commits ago a snapshot may have been taken."""
_MOST_STEPS: Final = 1000


def parse(text: str) -> list[Step]:
    """The micro-operations of a transaction as it travels: a list of ``[f, key, value]``. Raises ``ValueError``."""
    try:
        steps = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("a transaction is a list of [f, key, value] in JSON") from None
    if not isinstance(steps, list) or len(steps) > _MOST_STEPS:
        raise ValueError(f"a transaction is a list of at most {_MOST_STEPS} micro-operations")
    for step in steps:
        if not isinstance(step, list) or len(step) != 3 or step[0] not in ("r", "w", "append"):
            raise ValueError('a micro-operation is ["r", key, null], ["w", key, value] or ["append", key, element]')
        if not all(part is None or isinstance(part, str | int) for part in step[1:]):
            raise ValueError("keys and values of micro-operations are texts or numbers")
    return [(f, key, value) for f, key, value in steps]


class VersionedState(State):
    """The state with a second map beside it, from keys of transactions to their versions.

    The steps that a planted bug gets wrong are methods of their own: ``_shown``, ``_conflict``, ``_decline``.
    """

    def __init__(self, dump: Any = None) -> None:
        super().__init__(dump)
        kept: Mapping[str, Any] = (dump or {}).get("transactions", {"version": 0, "keys": {}})
        self.version: int = kept["version"]
        """How many commits have written something: the number of a snapshot that is taken now."""
        self._versions: dict[str, list[tuple[int, Any]]] = {
            key: [(number, value) for number, value in versions] for key, versions in kept["keys"].items()
        }
        """Of each key the numbers of the commits that wrote it, and what they wrote: a value or a list."""

    def dump(self) -> Any:
        for key in self._versions:
            self._forget(key)
        # Copies: what was dumped is of this moment, and is kept while the state goes on.
        kept = {key: [*versions] for key, versions in self._versions.items()}
        return {**super().dump(), "transactions": {"version": self.version, "keys": kept}}

    def contents(self) -> dict[str, str]:
        newest = {f"{key} (transactions)": json.dumps(versions[-1][1]) for key, versions in self._versions.items()}
        return super().contents() | newest

    def __len__(self) -> int:
        return super().__len__() + len(self._versions)

    def read(self, command: list[str]) -> Answer:
        """Answer as ``State`` does, and ``BEGIN``: the number of a snapshot of what is here now."""
        return self.version if command[0] == "BEGIN" else super().read(command)

    def _change(self, name: str, key: str, *arguments: str) -> Answer:
        """Also ``TXN micro-operations`` and ``COMMIT snapshot micro-operations``, which answer with the reads."""
        if name == "TXN":
            return self._run(parse(key), self.version)
        if name != "COMMIT":
            return super()._change(name, key, *arguments)
        snapshot, steps = int(key), parse(arguments[0])
        if not self.version - KEPT <= snapshot <= self.version:
            raise DeclinedError("the snapshot is too old, or of what was lost")
        conflict = self._conflict([str(key) for f, key, _ in steps if f != "r"], snapshot)
        return self._run(steps, snapshot) if conflict is None else self._decline(conflict, steps)

    def _conflict(self, keys: Iterable[str], snapshot: int) -> str | None:
        """The first of the keys to be written that somebody has written since the snapshot."""
        return next((key for key in keys if self._newest(key) > self._shown(key, snapshot)), None)

    def _decline(self, conflict: str, _steps: list[Step]) -> str:
        """Abort a transaction: none of its steps is done."""
        raise DeclinedError(f"another transaction has written {conflict} since the snapshot")

    def _newest(self, key: str) -> int:
        """The commit that wrote a key last; 0 if nobody has."""
        return self._versions[key][-1][0] if key in self._versions else 0

    def _shown(self, key: str, snapshot: int) -> int:
        """Up to which commit a snapshot shows a key."""
        return snapshot

    def _run(self, steps: list[Step], snapshot: int) -> str:
        """Read from a snapshot and what the transaction itself has written; then install all writes as one commit."""
        written: dict[str, Any] = {}
        answers: list[Step] = []
        for f, key, value in steps:
            name = str(key)
            before = written[name] if name in written else self._at(name, self._shown(name, snapshot))
            if f == "append":
                if not isinstance(before, list | None):
                    raise WrongTypeError(f"{name} holds no list")
                written[name] = [*(before or ()), value]
            elif f == "w":
                written[name] = value
            answers.append((f, key, before if f == "r" else value))
        self._install(written)
        return json.dumps(answers, separators=(",", ":"))

    def _at(self, key: str, number: int) -> Any:
        """What a key held after a commit; None if nothing."""
        return next((value for written, value in reversed(self._versions.get(key, ())) if written <= number), None)

    def _install(self, written: Mapping[str, Any]) -> None:
        self.version += bool(written)
        for key, value in written.items():
            self._versions.setdefault(key, []).append((self.version, value))
            self._forget(key)

    def _forget(self, key: str) -> None:
        """Drop the versions that no snapshot can ask for any more."""
        versions, oldest = self._versions[key], self.version - KEPT
        while len(versions) > 1 and versions[1][0] <= oldest:
            del versions[0]
