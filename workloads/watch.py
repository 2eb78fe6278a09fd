"""Watches: values are put into a store with change streams, and several streams must be told of all, in one order.

A stream goes on from where it was, each time on another node perhaps; in the end every process watches from the
beginning. Refutes: changes that nobody is told of ("missing"), or some are not ("gap"), or too late, or twice
("duplicated", "replayed"), or in another order than others or than they were made ("reordered"), and changes that
nobody made ("phantom").
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from harness.checkers.split_brain import SplitBrain
from harness.checkers.watch import Watch
from harness.generator import Generator, Stream, each_process, sleep, then
from harness.operation import Event, Operation
from harness.options import Number, Seconds
from harness.verdict import Checker
from harness.workload import Answers, Workload

_TRIES = 5


class WatchWorkload(Workload):
    """Clients put values into a few keys, and read a few streams of their changes."""

    class Options(msgspec.Struct, frozen=True):
        """How many keys and streams, and how often each function is invoked."""

        keys: Annotated[int, Number(1, 10_000), "keys that are changed"] = 10
        streams: Annotated[int, Number(1, 100), "streams that all of them are watched by"] = 3
        put: Annotated[float, Number(0.001, 1000), "weight of changes"] = 4.0
        watch: Annotated[float, Number(0.001, 1000), "weight of watches"] = 1.0
        settle: Annotated[float, Seconds(0.001, 3600, zero="none"), "quiet time before the final watches"] = 1.0

    name: ClassVar[str] = "watch"
    functions: ClassVar[frozenset[str] | None] = frozenset({"put", "watch"})
    answers: ClassVar[Answers] = {"watch": (dict,)}
    reads: ClassVar[frozenset[str]] = frozenset({"watch"})

    def __init__(self, options: Options) -> None:
        self._options = options
        self.settle = options.settle

    def generator(self, rng: random.Random) -> Generator:
        options = self._options
        positions: dict[str, Any] = {f"w{stream}": None for stream in range(options.streams)}
        free = set(positions)
        put = 0

        def draw() -> Operation:
            nonlocal put
            if free and rng.choices(("put", "watch"), (options.put, options.watch))[0] == "watch":
                stream = rng.choice(sorted(free))
                free.remove(stream)
                return Operation("watch", stream, positions[stream])
            put += 1
            return Operation("put", f"k{rng.randrange(options.keys)}", put)

        def learn(event: Event) -> None:
            if event.f == "watch" and event.type != "invoke":
                if event.type == "ok":
                    positions[event.key] = event.value["next"]
                free.add(event.key)

        return Stream(draw, learn)

    def final(self) -> Generator:
        return then(sleep(self.settle), each_process(_from_the_beginning))

    def checkers(self) -> Mapping[str, Checker]:
        return {"split-brain": SplitBrain(), "watch": Watch()}


def _from_the_beginning() -> Generator:
    """Watch until all was told, or nothing was a few times in turn."""
    position: Any = None
    tries = 0

    def draw() -> Operation | None:
        return Operation("watch", "whole", position) if tries < _TRIES else None

    def learn(event: Event) -> None:
        nonlocal position, tries
        if event.type == "ok":
            position = event.value["next"]
            tries = 0 if event.value.get("more") else _TRIES
        elif event.type != "invoke":
            tries += 1

    return Stream(draw, learn)
