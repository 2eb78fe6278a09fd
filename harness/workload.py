"""What clients do in a run. ``workloads/`` holds the bundled ones; copy one to begin."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Protocol

from harness.generator import Generator
from harness.options import Part
from harness.verdict import Checker

Answers = Mapping[str, tuple[type, ...]]
"""The types that the answer to each function has."""


class Workload(Part, Protocol):
    """One file: which operations are invoked, and which checkers judge what came of them."""

    reads: ClassVar[frozenset[str]]
    """The functions that change nothing in any store: one of them without an answer is recorded as ``fail``, since it
    certainly had no effect."""
    functions: ClassVar[frozenset[str] | None] = None
    """All functions, if it names them: a timetable may have no others."""
    answers: ClassVar[Answers] = {}
    """Of functions what their value is when they are ``ok``: the types that it may have. A client that returns anything
    else breaks off the run, with its own name."""
    settle: float = 0.0
    """For how many seconds ``final`` waits at first: the time that final reads may take begins after that."""

    @abstractmethod
    def generator(self, rng: random.Random) -> Generator:
        """The operations while the run goes; endless, the runner limits it."""
        ...

    @abstractmethod
    def final(self) -> Generator | None:
        """The operations after all faults were healed, usually reads of everything."""
        ...

    @abstractmethod
    def checkers(self) -> Mapping[str, Checker]:
        """The checkers that judge this workload's history."""
        ...
