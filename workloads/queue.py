"""Queues: unique elements are enqueued and dequeued, and in the end whatever is left is dequeued.

Refutes: acknowledged elements that never come out ("lost"), elements that come out twice or from nowhere, a queue that
is found empty while something is in it, and with ``fifo`` elements that overtake one another.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from harness.checkers.queue import Queue
from harness.checkers.split_brain import SplitBrain
from harness.generator import Generator, Stream, each_process, limit, then
from harness.operation import Event, Operation
from harness.options import Number
from harness.verdict import Checker
from harness.workload import Workload

_TRIES = 10_000
"""How often one process tries to dequeue from one queue in the end."""
_EMPTY = 3
"""After how many answers that a queue is empty a process goes on to the next one."""


class QueueWorkload(Workload):
    """Clients enqueue and dequeue; in the end they dequeue until every queue is empty."""

    class Options(msgspec.Struct, frozen=True):
        """How many queues, how often each function is invoked, and whether their order is judged."""

        keys: Annotated[int, Number(1, 10_000), "queues"] = 5
        enqueue: Annotated[float, Number(0.001, 1000), "weight of enqueueing"] = 1.0
        dequeue: Annotated[float, Number(0.001, 1000), "weight of dequeueing"] = 1.0
        fifo: Annotated[bool, "whether what was enqueued before has to come out before"] = True

    name: ClassVar[str] = "queue"
    functions: ClassVar[frozenset[str] | None] = frozenset({"enqueue", "dequeue"})
    reads: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, options: Options) -> None:
        self._options = options
        self._keys = [f"q{key}" for key in range(options.keys)]

    def generator(self, rng: random.Random) -> Generator:
        weights = [self._options.enqueue, self._options.dequeue]
        enqueued = 0

        def draw() -> Operation:
            nonlocal enqueued
            function, key = rng.choices(("enqueue", "dequeue"), weights)[0], rng.choice(self._keys)
            if function == "dequeue":
                return Operation("dequeue", key)
            enqueued += 1
            return Operation("enqueue", key, enqueued)

        return Stream(draw)

    def final(self) -> Generator:
        """Every process dequeues from every queue until it was told a few times that it is empty."""

        def drain() -> Generator:
            return then(*(limit(_TRIES, _until_empty(key)) for key in self._keys))

        return each_process(drain)

    def checkers(self) -> Mapping[str, Checker]:
        return {"split-brain": SplitBrain(), "queue": Queue(fifo=self._options.fifo)}


def _until_empty(key: str) -> Generator:
    empty = 0

    def draw() -> Operation | None:
        return Operation("dequeue", key) if empty < _EMPTY else None

    def learn(event: Event) -> None:
        nonlocal empty
        if event.f == "dequeue" and event.key == key and event.type == "ok":
            empty = empty + 1 if event.value is None else 0

    return Stream(draw, learn)
