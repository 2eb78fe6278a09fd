"""Simulated databases of each level of isolation, and runs of clients that use them at random moments.

A database executes a transaction as a generator: wherever it yields, others may go on. What it returns is what the
client is answered.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from harness.history import History, from_events
from harness.operation import Event
from tests.transactions.small import Step

Answer = list[list[Any]]
Execution = Generator[None, None, Answer]


class RefusedError(Exception):
    """The database has aborted the transaction."""


def updated(held: Any, f: str, value: Any) -> Any:
    """What a key holds after a write."""
    return (*(held or ()), value) if f == "append" else value


def shown(f: str, key: Any, held: Any) -> list[Any]:
    """A micro-operation as it is answered."""
    return [f, key, list(held) if isinstance(held, tuple) else held]


class Database:
    """One copy of the data; what happens in one moment is atomic."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.held: dict[Any, Any] = {}

    def execute(self, steps: list[Step], process: int) -> Execution:
        """Run a transaction of a client's process."""
        raise NotImplementedError

    def background(self) -> None:
        """Something that the database does by itself, as to replicate."""


class Serial(Database):
    """One transaction after the other, each at one moment between its call and its return: strict serializable."""

    def execute(self, steps: list[Step], process: int) -> Execution:
        yield
        answer = []
        for f, key, value in steps:
            if f == "r":
                answer.append(shown(f, key, self.held.get(key)))
            else:
                self.held[key] = updated(self.held.get(key), f, value)
                answer.append([f, key, value])
        yield
        return answer


class Snapshot(Database):
    """Versions of all keys; a commit is refused if another one wrote one of its keys since the snapshot was taken.

    ``lag`` is by how many commits a snapshot may be old; 0 is strong snapshot isolation.
    """

    lag = 0

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.commits: list[dict[Any, Any]] = [{}]
        """What each commit left behind, of all keys."""
        self.changed: list[set[Any]] = [set()]

    def execute(self, steps: list[Step], process: int) -> Execution:
        yield
        at = self.snapshot(process)
        own = dict(self.commits[at])
        answer, writes = [], []
        for f, key, value in steps:
            if f == "r":
                answer.append(shown(f, key, own.get(key)))
            else:
                own[key] = updated(own.get(key), f, value)
                writes.append((f, key, value))
                answer.append([f, key, value])
            yield
        self.commit(at, writes, {key for f, key, _ in steps if f == "r"})
        yield
        return answer

    def snapshot(self, process: int) -> int:
        """How many commits a new transaction of this process sees."""
        return max(len(self.commits) - 1 - self.rng.randint(0, self.lag), 0)

    def commit(self, at: int, writes: list[Step], read: set[Any]) -> None:
        """Raises ``RefusedError`` if others came first."""
        if not writes:
            return
        since: set[Any] = set().union(*self.changed[at + 1 :])
        mine = {key for _, key, _ in writes}
        if self.conflicts(since, mine, read):
            raise RefusedError
        state = dict(self.commits[-1])
        for f, key, value in writes:
            state[key] = updated(state.get(key), f, value)
        self.commits.append(state)
        self.changed.append(mine)

    def conflicts(self, since: set[Any], mine: set[Any], read: set[Any]) -> bool:
        """Whether a transaction that writes ``mine`` may not commit after others have changed ``since``."""
        return bool(since & mine)


class OldSnapshots(Snapshot):
    """Snapshots that may be old: snapshot isolation, neither strong nor in sessions."""

    lag = 4


class SessionSnapshots(Snapshot):
    """Snapshots that may be old, but never older than what their process has seen or done: strong session SI."""

    lag = 4

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._least: dict[int, int] = {}

    def execute(self, steps: list[Step], process: int) -> Execution:
        answer = yield from super().execute(steps, process)
        if any(f != "r" for f, _, _ in steps):
            self._least[process] = len(self.commits) - 1
        return answer

    def snapshot(self, process: int) -> int:
        at = self._least[process] = max(super().snapshot(process), self._least.get(process, 0))
        return at


class Optimistic(Snapshot):
    """Checks what it has read as well: serializable, and strict."""

    def conflicts(self, since: set[Any], mine: set[Any], read: set[Any]) -> bool:
        return bool(since & (mine | read))


class OldReads(Optimistic):
    """Serializable, but what only reads may be shown an old state: neither strict nor in sessions."""

    lag = 4


class Locking(Database):
    """Who writes a key locks it until the end, and who finds it locked aborts."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._locked: dict[Any, object] = {}

    def lock(self, key: Any, me: object) -> None:
        """Raises ``RefusedError`` where somebody else has locked it."""
        if self._locked.setdefault(key, me) is not me:
            raise RefusedError

    def unlock(self, me: object) -> None:
        """Give up everything."""
        self._locked = {key: owner for key, owner in self._locked.items() if owner is not me}


class ReadCommitted(Locking):
    """Each read sees what is committed just then; writes take effect together, at the commit."""

    def execute(self, steps: list[Step], process: int) -> Execution:
        me = object()
        try:
            yield
            answer: Answer = []
            own: dict[Any, Any] = {}
            for f, key, value in steps:
                if f == "r":
                    answer.append(shown(f, key, own[key] if key in own else self.held.get(key)))
                else:
                    self.lock(key, me)
                    own[key] = updated(own[key] if key in own else self.held.get(key), f, value)
                    answer.append([f, key, value])
                yield
            self.held.update(own)
        finally:
            self.unlock(me)
        yield
        return answer


class ReadUncommitted(Locking):
    """Writes take effect at once; reads take no notice of locks. Some abort, and undo what they did."""

    def execute(self, steps: list[Step], process: int) -> Execution:
        me = object()
        before: dict[Any, Any] = {}
        try:
            yield
            answer = []
            for f, key, value in steps:
                if f == "r":
                    answer.append(shown(f, key, self.held.get(key)))
                else:
                    self.lock(key, me)
                    before.setdefault(key, self.held.get(key))
                    self.held[key] = updated(self.held.get(key), f, value)
                    answer.append([f, key, value])
                yield
            if self.rng.random() < 0.1:
                raise RefusedError
        except (RefusedError, GeneratorExit):
            self.held.update(before)
            raise
        finally:
            self.unlock(me)
        yield
        return answer


class Unlocked(Database):
    """Everything at once and for good, whatever becomes of the transaction: no isolation at all."""

    def execute(self, steps: list[Step], process: int) -> Execution:
        yield
        answer = []
        for f, key, value in steps:
            if f == "r":
                answer.append(shown(f, key, self.held.get(key)))
            else:
                self.held[key] = updated(self.held.get(key), f, value)
                answer.append([f, key, value])
            yield
        if self.rng.random() < 0.1:
            raise RefusedError
        return answer


@dataclass
class _Commit:
    stamp: tuple[int, int]
    origin: int
    seen: list[int]
    """How many commits of each replica its own replica had applied before it."""
    writes: list[Step]


class Replicated(Database):
    """Replicas that execute transactions on their own state, and pass their commits on, later, in causal order.

    Of a register the write with the latest stamp wins. A process stays with its replica: causal consistency.
    """

    replicas = 3

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._log: list[list[_Commit]] = [[] for _ in range(self.replicas)]
        self._applied = [[0] * self.replicas for _ in range(self.replicas)]
        self._clock = [0] * self.replicas
        self._state: list[dict[Any, tuple[tuple[int, int], Any]]] = [{} for _ in range(self.replicas)]

    def execute(self, steps: list[Step], process: int) -> Execution:
        yield
        at = process % self.replicas
        snapshot = {key: value for key, (_, value) in self._state[at].items()}
        seen = list(self._applied[at])
        yield
        answer, writes = [], []
        for f, key, value in steps:
            if f == "r":
                answer.append(shown(f, key, snapshot.get(key)))
            else:
                snapshot[key] = updated(snapshot.get(key), f, value)
                writes.append((f, key, value))
                answer.append([f, key, value])
        if writes:
            self.admit(at, seen, {key for _, key, _ in writes})
            self._clock[at] += 1
            commit = _Commit((self._clock[at], at), at, list(self._applied[at]), writes)
            self._log[at].append(commit)
            self._apply(at, commit)
        yield
        return answer

    def admit(self, at: int, seen: list[int], keys: set[Any]) -> None:
        """Raise ``RefusedError`` for a commit that replica ``at`` may not make after it has ``seen`` so much."""

    def _apply(self, at: int, commit: _Commit) -> None:
        self._applied[at][commit.origin] += 1
        self._clock[at] = max(self._clock[at], commit.stamp[0])
        state = self._state[at]
        for f, key, value in commit.writes:
            stamp, held = state.get(key, ((0, 0), None))
            if commit.stamp >= stamp:
                state[key] = (commit.stamp, updated(held, f, value))

    def background(self) -> None:
        """One replica learns of the next commit of another one, if it knows all that came before that."""
        at, origin = self.rng.sample(range(self.replicas), 2)
        for number in self.next(at, origin):
            commit = self._log[origin][number]
            if all(have >= needs for have, needs in zip(self._applied[at], commit.seen, strict=True)):
                self._apply(at, commit)

    def next(self, at: int, origin: int) -> Iterator[int]:
        """Which commit of ``origin`` the replica ``at`` may learn of now."""
        if self._applied[at][origin] < len(self._log[origin]):
            yield self._applied[at][origin]


class ParallelSnapshots(Replicated):
    """Replicas as before, but nobody commits a key of which another replica has a commit that was not seen: parallel
    snapshot isolation (Sovran, Power, Aguilera and Li, "Transactional storage for geo-replicated systems", 2011).
    """

    def admit(self, at: int, seen: list[int], keys: set[Any]) -> None:
        for origin, log in enumerate(self._log):
            if any(keys & {key for _, key, _ in commit.writes} for commit in log[seen[origin] :]):
                raise RefusedError


@dataclass(frozen=True)
class Load:
    """What clients do: registers or lists, how many keys, how long transactions are and how often they read."""

    lists: bool = True
    keys: int = 3
    longest: int = 4
    reads: float = 0.5
    reads_first: bool = False
    """Every write of a key comes after a read of it in the same transaction, and each key is written once."""
    whole: bool = False
    """No key twice in one transaction for reads, or writes."""

    def draw(self, rng: random.Random, next_: dict[Any, int]) -> list[Step]:
        """A new transaction; written values are unique for each key."""
        steps: list[Step] = []
        for _ in range(rng.randint(1, self.longest)):
            key = rng.randrange(self.keys)
            if rng.random() < self.reads:
                if not (self.whole and any(other == key for _, other, _ in steps)):
                    steps.append(("r", key, None))
                continue
            if self.reads_first and not any(other == key for _, other, _ in steps):
                steps.append(("r", key, None))
            if (self.reads_first or self.whole) and any(f != "r" and other == key for f, other, _ in steps):
                continue
            next_[key] = next_.get(key, 0) + 1
            steps.append(("append" if self.lists else "w", key, next_[key]))
        return steps or [("r", 0, None)]


@dataclass
class _Client:
    process: int
    steps: list[Step]
    execution: Execution
    started: bool = False
    answer: Answer | None = None


def run(
    rng: random.Random,
    database: Database,
    load: Load,
    *,
    transactions: int,
    clients: int = 3,
    crash: float = 0.05,
    fail: float = 0.03,
) -> History:
    """So many transactions of concurrent clients. One that crashed goes on in the database, or never ends there; one
    that fails never reached it, or was refused.
    """
    events: list[Event] = []
    busy: dict[int, _Client] = {}
    process = list(range(clients))
    late: list[Execution] = []
    next_: dict[Any, int] = {}
    now = begun = 0

    def record(one: _Client, kind: str, value: Any) -> None:
        events.append(Event(len(events), now, one.process, kind, "txn", value=value))  # type: ignore[arg-type]

    while begun < transactions or busy:
        now += 1
        database.background()
        if late and rng.random() < 0.2:
            _proceed(late, rng.randrange(len(late)))
            continue
        at = rng.randrange(clients)
        one = busy.get(at)
        if one is None:
            if begun < transactions:
                begun += 1
                steps = load.draw(rng, next_)
                one = busy[at] = _Client(process[at], steps, database.execute(steps, process[at]))
                record(one, "invoke", [list(step) for step in steps])
            continue
        asked = [list(step) for step in one.steps]
        if rng.random() < crash / (len(asked) + 2):
            record(one, "info", asked)
            late.append(one.execution)
            process[at] += clients
            del busy[at]
            continue
        if one.answer is not None:
            record(one, "ok", one.answer)
            del busy[at]
            continue
        if not one.started and rng.random() < fail:
            record(one, "fail", asked)
            del busy[at]
            continue
        one.started = True
        try:
            next(one.execution)
        except StopIteration as done:
            one.answer = done.value
        except RefusedError:
            record(one, "fail", asked)
            del busy[at]
    for execution in late:
        execution.close()
    return from_events(events)


def _proceed(late: list[Execution], at: int) -> None:
    try:
        next(late[at])
    except (StopIteration, RefusedError):
        del late[at]
