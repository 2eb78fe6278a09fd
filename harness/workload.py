"""What clients do in a run. ``workloads/`` holds the bundled ones; copy one to begin."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import msgspec

from harness.generator import Generator
from harness.verdict import Checker

Answers = Mapping[str, tuple[type, ...]]
"""The types that the answer to each function has."""


class Workload(Protocol):
    """One file: which operations are invoked, and which checkers judge what came of them.

    ``reads`` names the functions that change nothing in any store: one of them without an answer is recorded as
    ``fail``, since it certainly had no effect. ``functions``, if it is there, names all of them: a timetable may have
    no others. ``answers``, if it is there, says of functions what their value is when they are ``ok``: the types that
    it may have. A client that returns anything else breaks off the run, with its own name. ``settle``, if it is there,
    is for how many seconds ``final`` waits at first: the time that final reads may take begins after that.
    """

    name: ClassVar[str]
    Options: ClassVar[type[msgspec.Struct]]
    reads: ClassVar[frozenset[str]]

    def __init__(self, options: Any) -> None: ...

    def generator(self, rng: random.Random) -> Generator:
        """The operations while the run goes; endless, the runner limits it."""
        ...

    def final(self) -> Generator | None:
        """The operations after all faults were healed, usually reads of everything."""
        ...

    def checkers(self) -> Mapping[str, Checker]:
        """The checkers that judge this workload's history."""
        ...
