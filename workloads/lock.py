"""Locks: a process acquires a lock, writes a few times what the lock protects, and releases it.

A lock with a time-out is given to somebody else when its holder is not heard for that long, whether the holder knows or
not: etcd's holders are heard all the time, Redis' with each write. So it excludes nobody for certain; ``fencing=true``
lets the store refuse the writes of whoever held it before, by the token that came with the lock, and asks only that it
does. Refutes: two holders at one moment, tokens that come twice or go back, and writes with an older token that are
accepted after one with a newer token was.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from harness.checkers.lock import Lock
from harness.checkers.split_brain import SplitBrain
from harness.generator import Generator, Process
from harness.operation import NEMESIS, Event, Operation
from harness.options import Number, Seconds
from harness.verdict import Checker
from harness.workload import Workload
from harness.workloads.turns import Turns


class LockWorkload(Workload):
    """Clients acquire locks, write while they hold one, and release it."""

    class Options(msgspec.Struct, frozen=True):
        """How many locks, for how long they are given, and what the store does with tokens."""

        keys: Annotated[int, Number(1, 10_000), "locks"] = 2
        ttl: Annotated[float, Seconds(1, 3600), "silence of a holder after which somebody else may have the lock"] = 2.0
        writes: Annotated[int, Number(1, 1000), "writes of a holder before it releases the lock"] = 4
        fencing: Annotated[bool, "whether the store refuses older tokens; then only that is judged"] = False

    name: ClassVar[str] = "lock"
    functions: ClassVar[frozenset[str] | None] = frozenset({"acquire", "release", "write-held", "write-fenced"})
    reads: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, options: Options) -> None:
        self._options = options
        self._keys = [f"lock{key}" for key in range(options.keys)]

    def generator(self, rng: random.Random) -> Generator:
        held: dict[Process, tuple[str, Any]] = {}
        left: dict[Process, int] = {}
        function = "write-fenced" if self._options.fencing else "write-held"
        written = 0

        def draw(process: Process) -> Operation:
            nonlocal written
            if process not in held:
                return Operation("acquire", rng.choice(self._keys), self._options.ttl)
            key, token = held[process]
            if left[process] > 0:
                written += 1
                return Operation(function, key, [token, written])
            return Operation("release", key, token)

        def learn(event: Event) -> None:
            process = event.process
            if process == NEMESIS or event.type == "invoke":
                return
            if event.f == "acquire" and event.type == "ok" and event.value is not False:
                held[process], left[process] = (event.key, event.value), self._options.writes
            elif event.f == "release" or event.type == "info" or (event.f == function and event.type == "fail"):
                held.pop(process, None)
            elif event.f == function:
                left[process] -= 1

        return Turns(draw, learn)

    def final(self) -> Generator | None:
        return None

    def checkers(self) -> Mapping[str, Checker]:
        return {"split-brain": SplitBrain(), "lock": Lock(exclusive=not self._options.fencing)}
