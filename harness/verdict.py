"""Verdicts: what a checker decided, why, and how much the decision means."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

import msgspec

from harness.options import Plugin

if TYPE_CHECKING:  # it brings NumPy along, which lists of plug-ins can do without
    from harness.history import History

Validity = Literal["valid", "invalid", "unknown"]

EXIT_CODES: Mapping[Validity, int] = {"valid": 0, "invalid": 1, "unknown": 3}


class Witness(msgspec.Struct, frozen=True, omit_defaults=True):
    """One operation that an anomaly rests on. Times in ns since the run began; no ``ret``: never completed.

    ``node`` is whom the client asked, ``server`` who executed it, where that is known.
    """

    process: int
    f: str
    key: Any
    value: Any
    call: int
    ret: int | None
    type: str
    node: str | None = None
    index: int | None = None
    server: str | None = None


class Edge(msgspec.Struct, frozen=True, omit_defaults=True):
    """One operation comes before another: why, in a word and in a sentence.

    ``source`` and ``target`` are the indices of operations among the anomaly's, ``kind`` is ww, wr, rw, process, ...
    """

    kind: str
    source: int
    target: int
    text: str
    key: Any = None


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operation in an order that was tried: its index, what it did, and what the object held after it."""

    index: int
    did: str
    held: str = ""


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """An order of operations that is possible, and cannot go on: none of those that may come next fits ``held``.

    ``began`` is what the object held before the first of ``steps``, ``skipped`` how many come before that.
    """

    began: str
    steps: Sequence[Step] = ()
    stuck: Sequence[Step] = ()
    skipped: int = 0

    @property
    def held(self) -> str:
        """What the object holds in the end."""
        return self.steps[-1].held if self.steps else self.began


class Anomaly(msgspec.Struct, omit_defaults=True):
    """Something that no correct store could have done.

    ``text`` says in one paragraph what was seen and why it is impossible. ``faults`` are the faults that were active
    between the first and the last of its operations. ``edges`` lead around a cycle, each from the target of the one
    before it. ``orders`` are those that got furthest, where orders were searched for. ``possible`` is what the last of
    the operations can have found in a correct store, where that is known.
    """

    kind: str
    text: str
    operations: Sequence[Witness] = ()
    key: Any = None
    faults: Sequence[str] = ()
    edges: Sequence[Edge] = ()
    orders: Sequence[Order] = ()
    possible: Sequence[Any] = ()


class Verdict(msgspec.Struct, omit_defaults=True):
    """The decision of one checker, or of all together (then ``parts`` holds each).

    ``found`` is how many anomalies there are, where ``anomalies`` explains only the first of them.
    """

    validity: Validity
    reason: str = ""
    anomalies: list[Anomaly] = []
    evidence: dict[str, Any] = {}
    parts: dict[str, Verdict] = {}
    found: int = 0

    @property
    def total(self) -> int:
        """How many anomalies were found, explained or not."""
        return max(self.found, len(self.anomalies))

    @property
    def exit_code(self) -> int:
        """What the command line ends with."""
        return EXIT_CODES[self.validity]


class Budget(msgspec.Struct, frozen=True):
    """How much a checker may spend before it answers ``unknown``."""

    seconds: float = 120.0
    bytes: int = 4 << 30


class Checker(Plugin, Protocol):
    """A pure function from a history to a verdict. One that is named on the command line is made without arguments."""

    @classmethod
    def of_run(cls, asked: Collection[str], seconds: float) -> Self:
        """The one for a run that has asked for these nemeses by name, and for operations for so many seconds."""
        return cls()

    @abstractmethod
    def check(self, history: History, budget: Budget) -> Verdict:
        """The verdict on a history; unknown where the budget was not enough."""
        ...

    def blind(self, history: History) -> str:
        """Why it would have found nothing, whatever the store had done; empty where it could have found something."""
        return ""

    def warm(self) -> None:
        """Compile or load what is large, in the background; called while the cluster boots."""
        return


@runtime_checkable
class HasModels(Protocol):
    """A checker that holds a history against a model, one of those that it knows or a person's own."""

    @staticmethod
    def models() -> Mapping[str, type]:
        """The models that it knows, by name."""
        ...

    @classmethod
    def against(cls, model: object, executor: Executor | None, initial: Any) -> Checker:
        """The checker for a model: its name, or one that was made. ``initial`` is the state before any operation.

        Raises ``UsageError`` for what is no model.
        """
        ...


@runtime_checkable
class HasLevels(Protocol):
    """A checker that holds transactions against levels of isolation."""

    @staticmethod
    def levels() -> Sequence[str]:
        """The names of the levels that it knows, the strongest first."""
        ...

    @staticmethod
    def about(level: str) -> str:
        """What one of them is about, in a line."""
        ...

    @staticmethod
    def knows(level: str) -> bool:
        """Whether it knows a level by this name, which may be another than ``levels`` has."""
        ...

    @staticmethod
    def fits(history: History) -> bool:
        """Whether a history consists of transactions."""
        ...

    @classmethod
    def asked(
        cls, workload: str | None, models: Sequence[str], anomalies: Sequence[str], versions: Sequence[str]
    ) -> Checker:
        """The checker for these; for all that it knows where nothing is asked for.

        Raises ``UsageError`` for what does not exist.
        """
        ...


def combine(parts: Mapping[str, Verdict]) -> Verdict:
    """One verdict from several: invalid if any is, else unknown if any is, else valid."""
    anomalies = [anomaly for part in parts.values() for anomaly in part.anomalies]
    total = sum(part.total for part in parts.values())
    evidence = {key: value for part in parts.values() for key, value in part.evidence.items()}
    for validity in ("invalid", "unknown"):
        of_it = {name: part for name, part in parts.items() if part.validity == validity}
        if of_it:
            reason = "; ".join(f"{name}: {part.reason}" for name, part in of_it.items() if part.reason)
            return Verdict(validity, reason, anomalies, evidence, dict(parts), total)
    reason = "; ".join(part.reason for part in parts.values() if part.reason)
    return Verdict("valid", reason, anomalies, evidence, dict(parts), total)
