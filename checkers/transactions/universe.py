"""The versions of all keys in transactions that insert, delete, write, and read by predicates: a closed universe."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from harness.checkers.transactions.columns import NEVER_CALLED, NIL, READ, TRANSACTION, UNKNOWN, WRITE, Transactions
from harness.columns import hashable
from harness.errors import HistoryError
from harness.history import FAIL, OK, Operations
from harness.words import show

INIT: Final = "init"
"""The function of the operation that fills the store."""
_DELETED: Final = "deleted"
"""What a key holds, for people, when it has been deleted."""
BASE: Final = -1
"""The transaction of a version that was there before all transactions."""


@dataclass(frozen=True)
class Version:
    """What a key held. ``value`` is None if it is absent; ``final``: its transaction did not write the key again."""

    key: Any
    value: Any
    transaction: int
    place: int
    """Among the writes of its transaction to this key."""
    final: bool

    @property
    def absent(self) -> bool:
        """Whether the key is not born yet, or is deleted."""
        return self.value is None


@dataclass(frozen=True)
class Step:
    """A micro-operation; a predicate's ``key`` is the predicate, its ``value`` what was found, by key."""

    f: str
    key: Any
    value: Any


@dataclass
class Universe:
    """All versions of each key, with the one that is there first at the front, and the steps of each transaction."""

    steps: list[list[Step]]
    types: list[int]
    init: int
    """The transaction that filled the store; -1: none."""
    versions: dict[Any, list[Version]] = field(default_factory=dict)
    aborted: dict[tuple[Any, Any], int] = field(default_factory=dict)
    """The failed transaction that wrote a value to a key."""

    def before(self, one: Version, other: Version) -> bool:
        """Whether one version of a key is known to come before another one."""
        if one.transaction == other.transaction:
            return one.place < other.place
        return self._rank(one) < self._rank(other)

    def _rank(self, version: Version) -> int:
        return 0 if version.transaction == BASE else 1 if version.transaction == self.init else 2


def read_universe(operations: Operations) -> tuple[list[int], Universe]:
    """The rows of the operations that are transactions, the ``init`` among them, and their universe.

    Raises ``HistoryError`` with the line of what is neither a transaction with predicates nor the one ``init``.
    """
    history = operations.history
    rows = [row for row in range(len(operations)) if operations.name(row) in (INIT, TRANSACTION)]
    init = -1
    steps: list[list[Step]] = []
    types = [int(operations.type[row]) for row in rows]
    for number, row in enumerate(rows):
        asked, answered = operations.argument(row), operations.result(row)
        line = history.line_of(int(operations.invoked[row]))
        if operations.name(row) == INIT:
            if init >= 0:
                raise HistoryError("the store is filled a second time: there must be one init", line=line)
            init = number
            # An answer may leave out what was asked for.
            content = {**_map(asked, line), **_map(answered, line)}
            steps.append([Step("w", key, value) for key, value in content.items()])
        else:
            steps.append(_parsed(answered if types[number] == OK and answered is not None else asked, line))
    universe = Universe(steps, types, init if init >= 0 and types[init] != FAIL else -1)
    _collect_versions(universe)
    return rows, universe


def _map(value: Any, line: int) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise HistoryError(f"a map of keys to values is expected, not {show(value)}", line=line)
    return {_key(key): item for key, item in value.items()}


def _key(key: Any) -> Any:
    """A key: whole numbers as text, as in JSON, where the keys of a map can be nothing else."""
    return str(key) if type(key) is int else hashable(key)


def _parsed(value: Any, line: int) -> list[Step]:
    steps = []
    for part in value if isinstance(value, list | tuple) else [value]:
        size = len(part) if isinstance(part, list | tuple) else 0
        f = part[0] if size else None
        if f == "delete" and size >= 2:
            steps.append(Step("w", _key(part[1]), None))
        elif f in ("w", "insert") and size == 3:
            steps.append(Step("w", _key(part[1]), part[2]))
        elif f == "r" and size == 3:
            steps.append(Step("r", _key(part[1]), part[2]))
        elif f == "rp" and size == 3:
            matches(part[1], 0, line)
            steps.append(Step("rp", hashable(part[1]), _map(part[2], line)))
        else:
            raise HistoryError(f"{show(part)} is none of w, insert, delete, r and rp", line=line)
    return steps


def matches(predicate: Any, value: Any, line: int | None = None) -> bool:
    """Whether a value of a key matches ``true``, ``[=, value]`` or ``[mod, divisor, remainder]``; nothing never does.

    Raises ``HistoryError`` with the line for another predicate.
    """
    name, *of = predicate if isinstance(predicate, list | tuple) and predicate else [predicate]
    name = "true" if name is True else str(name).removeprefix(":")
    if name == "true" and not of:
        return value is not None
    if name == "=" and len(of) == 1:
        return value is not None and type(value) is type(of[0]) and bool(value == of[0])
    if name == "mod" and len(of) == 2 and all(type(number) is int for number in of) and of[0]:
        return type(value) is int and bool(value % of[0] == of[1])
    raise HistoryError(f"there is no predicate {show(predicate)}; there are true, = and mod", line=line)


def _collect_versions(universe: Universe) -> None:
    written: dict[Any, list[Version]] = defaultdict(list)
    for transaction, steps in enumerate(universe.steps):
        writes: dict[Any, list[Any]] = defaultdict(list)
        for step in steps:
            if step.f == "w":
                writes[step.key].append(step.value)
        for key, values in writes.items():
            if universe.types[transaction] == FAIL:
                for value in values:
                    universe.aborted.setdefault((key, hashable(value)), transaction)
                continue
            versions = [
                Version(key, value, transaction, place, place == len(values) - 1) for place, value in enumerate(values)
            ]
            first = transaction == universe.init
            written[key] = [*versions, *written[key]] if first else [*written[key], *versions]
    trusted = universe.init if universe.init >= 0 and universe.types[universe.init] == OK else BASE - 1
    for key, versions in written.items():
        born = versions[0].transaction == trusted
        universe.versions[key] = versions if born else [unborn(key), *versions]


def unborn(key: Any) -> Version:
    """What a key is before anybody has written it."""
    return Version(key, None, BASE, 0, final=True)


def spoken(predicate: Any) -> str:
    """A predicate for people: "= 3", "mod 2 1", "true"."""
    parts = predicate if isinstance(predicate, list | tuple) else [predicate]
    return " ".join(str(part).removeprefix(":") for part in parts)


@dataclass
class Coder:
    """Numbers for keys and values."""

    keys: list[Any]
    names: list[Any]
    _key_codes: dict[Any, int] = field(default_factory=dict)
    _codes: dict[Any, int] = field(default_factory=dict)

    @classmethod
    def of(cls, transactions: Transactions) -> Coder:
        """One that goes on where another one has stopped."""
        coder = cls(transactions.keys, transactions.names if transactions.names is not None else [])
        coder._key_codes = {key: code for code, key in enumerate(coder.keys)}
        coder._codes = {_typed(value): code for code, value in enumerate(coder.names)}
        return coder

    def key(self, key: Any) -> int:
        """The number of a key."""
        if key not in self._key_codes:
            self._key_codes[key] = len(self.keys)
            self.keys.append(key)
        return self._key_codes[key]

    def named(self, value: Any) -> int:
        """The number of a value that is there."""
        if _typed(value) not in self._codes:
            self._codes[_typed(value)] = len(self.names)
            self.names.append(value)
        return self._codes[_typed(value)]

    def value(self, version: Version) -> int:
        """The number of what a version holds: ``NIL`` before a key is born."""
        if version.absent:
            return NIL if version.transaction == BASE else self.named(_DELETED)
        return self.named(version.value)


def _typed(value: Any) -> tuple[str, Any]:
    return type(value).__name__, hashable(value)


def as_transactions(operations: Operations, rows: list[int], universe: Universe) -> Transactions:
    """The same as arrays: without reads by predicates, with a delete as a write, and the ``init`` as a transaction."""
    coder = Coder([], [])
    start, f, key, value = [0], [], [], []
    for transaction, steps in enumerate(universe.steps):
        for step in steps:
            if step.f == "rp":
                for shown in step.value:
                    coder.key(shown)
                continue
            f.append(WRITE if step.f == "w" else READ)
            key.append(coder.key(step.key))
            if step.value is not None:
                value.append(coder.named(step.value))
            elif step.f == "w":
                value.append(coder.named(_DELETED))
            else:
                value.append(NIL if universe.types[transaction] == OK else UNKNOWN)
        start.append(len(f))
    at = np.array(rows, np.int64)
    orphans = operations.invoked[at] == operations.completed[at]
    return Transactions(
        operations,
        at,
        operations.type[at],
        operations.process[at],
        np.where(orphans, NEVER_CALLED, operations.call[at]),
        operations.ret[at],
        np.array(start, np.int64),
        np.array(f, np.int8),
        np.array(key, np.int32),
        np.array(value, np.int64),
        np.zeros(len(f), dtype=bool),
        np.zeros(1, np.int64),
        np.zeros(0, np.int64),
        coder.keys,
        coder.names,
    )
