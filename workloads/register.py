"""Registers: reads, unique writes and compare-and-set on several keys.

Every written value is unique, so a read names the write that it saw. A compare-and-set takes its expected value from
what was last seen of its key, so that it often succeeds. Refutes: any store that loses acknowledged writes, serves
stale reads, or has two primaries that both accept writes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from harness.checkers.linearizability import Linearizable
from harness.checkers.split_brain import SplitBrain
from harness.generator import Generator, Stream, each_process, limit, repeat, then, until_ok
from harness.operation import Event, Operation
from harness.options import Number
from harness.verdict import Checker
from harness.workload import Answers, Workload

_FINAL_TRIES = 20


class Register(Workload):
    """Clients read, write and compare-and-set registers; the history must be linearizable key by key."""

    class Options(msgspec.Struct, frozen=True):
        """How many registers, and how often each of the three functions is invoked."""

        keys: Annotated[int, Number(1, 10_000), "registers"] = 5
        read: Annotated[float, Number(0.001, 1000), "weight of reads"] = 2.0
        write: Annotated[float, Number(0.001, 1000), "weight of writes"] = 2.0
        cas: Annotated[float, Number(0.001, 1000, zero="none"), "weight of compare-and-set"] = 1.0

    name: ClassVar[str] = "register"
    functions: ClassVar[frozenset[str] | None] = frozenset({"read", "write", "cas"})
    reads: ClassVar[frozenset[str]] = frozenset({"read"})
    answers: ClassVar[Answers] = {"cas": (list, tuple)}

    def __init__(self, options: Options) -> None:
        self._keys = [f"k{key}" for key in range(options.keys)]
        self._weights = {"read": options.read, "write": options.write, "cas": options.cas}

    def generator(self, rng: random.Random) -> Generator:
        functions, weights = list(self._weights), list(self._weights.values())
        seen: dict[str, Any] = {}
        written = 0

        def draw() -> Operation:
            nonlocal written
            function = rng.choices(functions, weights)[0]
            key = rng.choice(self._keys)
            if function == "read":
                return Operation("read", key)
            written += 1
            if function == "cas" and seen.get(key) is not None:
                return Operation("cas", key, [seen[key], written])
            return Operation("write", key, written)

        def learn(event: Event) -> None:
            if event.type == "ok" and event.key is not None:
                seen[event.key] = event.value[1] if event.f == "cas" else event.value

        return Stream(draw, learn)

    def final(self) -> Generator:
        """Every process reads every key, again and again until it gets an answer or has tried often enough."""

        def reads() -> Generator:
            return then(*(until_ok(limit(_FINAL_TRIES, repeat(Operation("read", key)))) for key in self._keys))

        return each_process(reads)

    def checkers(self) -> Mapping[str, Checker]:
        return {"split-brain": SplitBrain(), "linearizable": Linearizable()}
