"""A workload of one's own: clients switch a light, and look at it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec
from toggle import Toggle

from harness.checkers.linearizability import Linearizable
from harness.generator import Generator, Stream, each_process, limit, repeat, until_ok
from harness.operation import Operation
from harness.options import Share
from harness.verdict import Checker
from harness.workload import Answers, Workload


class Toggling(Workload):
    """Toggles and looks; in the end everybody looks."""

    class Options(msgspec.Struct, frozen=True):
        """How often they look."""

        looks: Annotated[float, Share(0, 1), "the share of looks"] = 0.5

    name: ClassVar[str] = "toggling"
    reads: ClassVar[frozenset[str]] = frozenset({"look"})
    functions: ClassVar[frozenset[str] | None] = frozenset({"toggle", "look"})
    answers: ClassVar[Answers] = {"toggle": (bool,), "look": (bool,)}

    def __init__(self, options: Options) -> None:
        self._options = options

    def generator(self, rng: random.Random) -> Generator:
        return Stream(lambda: Operation("look" if rng.random() < self._options.looks else "toggle"))

    def final(self) -> Generator:
        return each_process(lambda: until_ok(limit(20, repeat(Operation("look")))))

    def checkers(self) -> Mapping[str, Checker]:
        return {"linearizable": Linearizable(Toggle())}
