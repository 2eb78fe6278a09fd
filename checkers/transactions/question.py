"""What transactions are held against: levels of isolation, or single anomalies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from harness.checkers.transactions.levels import (
    CAUSAL,
    anomaly_named,
    boundary,
    cycle_exists,
    model_to_check,
    names_to_check,
    prohibited_by,
    told,
    weaker,
)
from harness.checkers.transactions.recognise import WORKLOADS
from harness.errors import UsageError, field

VERSIONS: Final = ("wfr", "process", "realtime")
"""What else may order the versions of a register: that a write follows the reads of its transaction, the order of each
process, and real time."""
_ALSO_CALLED: Final = {
    "wfr-keys": "wfr",
    "writes-follow-reads": "wfr",
    "sequential": "process",
    "sequential-keys": "process",
    "linearizable": "realtime",
    "linearizable-keys": "realtime",
    "register": "rw-register",
    "read-modify-write": "rmw",
    "predicates": "closed-predicate",
}


def _choice(name: str, given: str, there_is: Sequence[str]) -> str:
    """One of the words that there are. Raises ``UsageError``."""
    low = given.lower().rstrip("?")
    word = _ALSO_CALLED.get(low, low)
    if word not in there_is:
        raise UsageError(f"{field(name)} has {given!r}: there are {', '.join(there_is)}")
    return word


@dataclass(frozen=True)
class Question:
    """The models that a history is held against, and the anomalies that must not be found beside those they forbid.

    ``models`` are names of ``levels.model_to_check``; ``workload`` is None where the history is to tell; ``versions``
    are of ``VERSIONS``.
    """

    models: tuple[str, ...]
    anomalies: tuple[str, ...]
    workload: str | None
    versions: tuple[str, ...]
    sessions: tuple[str, ...] = ()
    """What else must not be found where weak models have sessions."""

    @classmethod
    def of(
        cls, workload: str | None, models: Sequence[str], anomalies: Sequence[str], versions: Sequence[str]
    ) -> Question:
        """From the words of a person. Raises ``UsageError`` for one that is not known."""
        found = []
        for name in models:
            model = model_to_check(name)
            if model is None:
                raise UsageError(
                    f"there is no model named {name!r} for transactions: there are {', '.join(names_to_check())}"
                )
            found.append(model)
        return cls(
            tuple(dict.fromkeys(found)),
            tuple(dict.fromkeys(anomaly_named(name) for name in anomalies)),
            None if workload is None else _choice("workload", workload, WORKLOADS),
            tuple(dict.fromkeys(_choice("versions", name, VERSIONS) for name in versions)),
        )

    @cached_property
    def prohibited(self) -> frozenset[str]:
        """All anomalies that make a history invalid."""
        return prohibited_by(self.models, (*self.anomalies, *self.sessions))

    @cached_property
    def order(self) -> str:
        """The order of time that counts beside dependencies: realtime, process or none."""
        for order in ("realtime", "process"):
            if any(anomaly.endswith(f"-{order}") for anomaly in self.prohibited):
                return order
        return ""

    @staticmethod
    def implies(model: str, other: str) -> bool:
        """Whether a model implies another one, ``causal`` being that of transactions in sessions in both places."""
        if other == CAUSAL:
            return model == CAUSAL or "strong-session-snapshot-isolation" in weaker(model)
        return other in weaker("causal-cerone" if model == CAUSAL else model)

    @property
    def title(self) -> str:
        """What the history is held against, in a sentence."""
        return " and ".join([*map(told, self.models), *self.anomalies]) or "nothing"

    def refuted(self, anomalies: Sequence[str]) -> list[str]:
        """Those of the models that these anomalies rule out."""
        out = boundary(anomalies)
        ruled_out = {*out.refuted, *out.also}
        return [
            model
            for model in self.models
            if model in ruled_out
            or (model == CAUSAL and not prohibited_by([CAUSAL]).isdisjoint(anomalies))
            or (model in _OF_SESSIONS and self.sessions and not prohibited_by((), self.sessions).isdisjoint(anomalies))
        ]


_OF_SESSIONS: Final = {
    "read-committed": ("G1c-process", cycle_exists("strong-session-read-committed"), "own-write-unseen"),
    "read-atomic": ("G1c-process", "fractured-read-process"),
    "causal-cerone": ("G1c-process", "fractured-read-process", "causality-violation-process"),
}
"""What refutes a weak model where sessions are part of it, as in Biswas & Enea (2019) and AWDIT (2025)."""


def in_sessions(question: Question) -> Question:
    """The same of a history without any times: sessions are then a part of weak models, being all that there is."""
    more = dict.fromkeys(name for model in question.models for name in _OF_SESSIONS.get(model, ()))
    return replace(question, sessions=tuple(more))
