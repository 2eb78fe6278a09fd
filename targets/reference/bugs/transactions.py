"""Bugs of transactions: one for each kind of anomaly that an isolation level is there to prevent.

Most need no fault: other transactions between two steps are enough.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

from harness.targets.reference.bugs.bug import bug
from harness.targets.reference.raft import Raft
from harness.targets.reference.replica import Unknown
from harness.targets.reference.state import Answer
from harness.targets.reference.transactions import Step, VersionedState, parse

_LISTS = {"replication": "raft", "checker": "transactions", "workload": "list-append", "nemesis": ""}
_SNAPSHOT = {"isolation": "snapshot", "model": "snapshot-isolation"}


class _InParts(Raft):
    """Orders a transaction as several entries of the log; ``_parts`` says which steps belong to each."""

    async def execute(self, command: list[str]) -> Answer:
        if command[-2:-1] != ["TXN"]:
            return await super().execute(command)
        steps = parse(command[-1])
        answers: list[Any] = [None] * len(steps)
        for number, part in enumerate(filter(None, self._parts(steps))):
            if number and self.role != "primary":
                raise Unknown("a part of the transaction is done")
            once = [word if at != 1 else f"{word}/{number}" for at, word in enumerate(command[:-2])]
            answer = await super().execute([*once, "TXN", json.dumps([steps[at] for at in part])])
            if not isinstance(answer, str):
                return answer if not number else {"error": "a part of the transaction could not be done"}
            for at, step in zip(part, json.loads(answer), strict=True):
                answers[at] = step
        return json.dumps(answers)

    def _parts(self, steps: Sequence[Step]) -> list[list[int]]:
        raise NotImplementedError


# Few reads, and long transactions: cycles of nothing but writes.
@bug(**_LISTS, options={"read": "0.3", "longest": "6", "keys": "4"})
class KeyByKey(_InParts):
    """Executes a transaction key by key, each as an entry of the log: of two that write the same two keys one is first
    at one key and last at the other, a cycle of writes (G0).
    """

    def _parts(self, steps: Sequence[Step]) -> list[list[int]]:
        return [
            [at for at, step in enumerate(steps) if step[1] == key] for key in dict.fromkeys(k for _, k, _ in steps)
        ]


@bug(**_LISTS)
class IntermediateWritesShown(_InParts):
    """Orders the second write of a key, and what follows, as an entry of its own: others read the first one (G1b)."""

    def _parts(self, steps: Sequence[Step]) -> list[list[int]]:
        written = [key if f != "r" else None for f, key, _ in steps]
        again = (at for at, key in enumerate(written) if key is not None and key in written[:at])
        second = next(again, len(steps))
        return [[*range(second)], [*range(second, len(steps))]]


@bug(**_LISTS)
class ReadsAfterTheCommit(_InParts):
    """Commits the writes of a transaction first, and answers its reads of other keys afterwards: two transactions see
    one another's writes, each as if the other had been before it (G1c).
    """

    def _parts(self, steps: Sequence[Step]) -> list[list[int]]:
        written = {key for f, key, _ in steps if f != "r"}
        first = [at for at, step in enumerate(steps) if step[1] in written]
        return [first, [at for at in range(len(steps)) if at not in first]]


class _Unaware(VersionedState):
    def _run(self, steps: list[Step], snapshot: int) -> str:
        reads = iter(json.loads(super()._run([step for step in steps if step[0] == "r"], snapshot)))
        done = json.loads(super()._run(steps, snapshot))
        return json.dumps([next(reads) if step[0] == "r" else step for step in done])


@bug(**_LISTS)
class OwnWritesUnseen(Raft):
    """Answers all reads of a transaction from what was there before it: it does not see its own writes (internal)."""

    def _open_state(self, dump: Any) -> VersionedState:
        return _Unaware(dump)


class _Keeping(VersionedState):
    def _decline(self, conflict: str, steps: list[Step]) -> str:
        self._run(steps, self.version)
        return super()._decline(conflict, steps)


@bug(**_LISTS, options=_SNAPSHOT)
class AbortedWritesStay(Raft):
    """Declines a transaction for its conflict, and leaves what it has written: others read it, though it was aborted
    (G1a).
    """

    def _open_state(self, dump: Any) -> VersionedState:
        return _Keeping(dump)


class _Careless(VersionedState):
    def _conflict(self, keys: Iterable[str], snapshot: int) -> str | None:
        return None


@bug(**{**_LISTS, "workload": "rmw"}, options=_SNAPSHOT)
class LastCommitterWins(Raft):
    """Commits whatever others have committed since the snapshot: of two that change what both have read, one is lost
    (lost-update).
    """

    def _open_state(self, dump: Any) -> VersionedState:
        return _Careless(dump)


class _Hasty(VersionedState):
    def _conflict(self, keys: Iterable[str], snapshot: int) -> str | None:
        return super()._conflict([*keys][:1], snapshot)


@bug(**{**_LISTS, "workload": "rmw"}, options=_SNAPSHOT)
class FirstKeyDecides(Raft):
    """Looks for a conflict at the first key only that a transaction writes: at the others the first committer does not
    win, and its update is lost (lost-update).
    """

    def _open_state(self, dump: Any) -> VersionedState:
        return _Hasty(dump)


class _Forgetful(VersionedState):
    def _shown(self, key: str, snapshot: int) -> int:
        return self.version if crc32(key.encode()) % 2 else snapshot


@bug(**_LISTS, options=_SNAPSHOT)
class SnapshotOfHalfTheKeys(Raft):
    """Keeps older versions of every second key only; the others are read as they are at the commit: of what another
    transaction has written one half is seen (read skew, G-single).
    """

    def _open_state(self, dump: Any) -> VersionedState:
        return _Forgetful(dump)


class _Homely(VersionedState):
    def _shown(self, key: str, snapshot: int) -> int:
        return snapshot if (crc32(key.encode()) + snapshot) % 2 else max(snapshot - 20, 0)


@bug(**{**_LISTS, "workload": "long-fork"}, options=_SNAPSHOT)
class OwnKeysFirst(Raft):
    """Takes a snapshot of what the node itself holds, which is up to date with one half of the keys and behind with the
    others: two nodes disagree on which of two writes came first (long fork).
    """

    async def execute(self, command: list[str]) -> Answer:
        if command != ["BEGIN"]:
            return await super().execute(command)
        version = self.peek(command)
        assert isinstance(version, int)
        return max(version - (version + self._initial.index(self.name)) % 2, 0)

    def _open_state(self, dump: Any) -> VersionedState:
        return _Homely(dump)


@bug(**{**_LISTS, "workload": "write-skew"})
class ReadsNotValidated(Raft):
    """Executes a serializable transaction from a snapshot, and looks whether others have written what it writes, but
    not whether they have written what it has read (write skew, G2-item).
    """

    async def execute(self, command: list[str]) -> Answer:
        if command[-2:-1] == ["TXN"]:
            self._require_primary()
            await self._before_read()
            command = [*command[:-2], "COMMIT", str(self.peek(["BEGIN"])), command[-1]]
        return await super().execute(command)


@bug(**{**_LISTS, "nemesis": "partition"}, options={"partition": "primary"})
class ReadOnlyFromAnyNode(Raft):
    """Every node answers transactions that only read from what it has applied: one that is cut off shows a past that
    others have long replaced (G-single-realtime, G2-realtime).
    """

    async def execute(self, command: list[str]) -> Answer:
        if command[-2:-1] == ["TXN"] and all(f == "r" for f, _, _ in parse(command[-1])):
            return self.state.apply(command[-2:])
        return await super().execute(command)
