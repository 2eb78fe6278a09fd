"""Levels of isolation that a history of registers is held against exactly, whatever the order of their versions was.

Read committed, read atomic and causal consistency are decided by ``weak``, serializability and snapshot isolation, in
their three forms each, by the search of ``solver``. Lists are registers that hold their last element, as far as the
weak levels go: who read from whom is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from harness.checkers.transactions.columns import Transactions
from harness.checkers.transactions.gathering import Gathering
from harness.checkers.transactions.levels import CAUSAL, cycle_exists, spoken, weaker
from harness.checkers.transactions.question import Question
from harness.checkers.transactions.reads import Reads
from harness.checkers.transactions.recognise import as_registers, without_sessions
from harness.checkers.transactions.weak import COMMIT_ORDER, Judgement, Level, Step, Violation, judge
from harness.verdict import Budget, Edge
from harness.words import named

if TYPE_CHECKING:
    from harness.checkers.transactions.solver import Model


class _Weak(NamedTuple):
    """A model, the level of ``weak``, and the anomaly that says no more than that it is refuted."""

    model: str
    level: Level
    sessions: bool
    anomaly: str


_WEAK: Final = (
    _Weak(CAUSAL, "causal", True, "causality-violation-process"),
    _Weak("causal-cerone", "causal", False, "causality-violation"),
    _Weak("read-atomic", "read-atomic", False, "fractured-read"),
    _Weak("read-committed", "read-committed", False, cycle_exists("read-committed")),
)
"""The strongest first."""
MANY: Final = 4000
"""Above that many transactions causal consistency without sessions, which takes time for each two of them, is not tried
in order to refute what is stronger: read atomic is."""
_IN_SESSIONS: Final[dict[Level, str]] = {
    "causal": "causality-violation-process",
    "read-atomic": "fractured-read-process",
    "read-committed": cycle_exists("strong-session-read-committed"),
}
"""By level, the anomaly where it has sessions, too."""
SEARCHED: Final[Mapping[str, Model]] = {
    "strong-serializable": "strict-serializable",
    "strong-session-serializable": "strong-session-serializable",
    "serializable": "serializable",
    "strong-snapshot-isolation": "strong-snapshot-isolation",
    "strong-session-snapshot-isolation": "strong-session-snapshot-isolation",
    "snapshot-isolation": "snapshot-isolation",
}
"""The models that ``solver`` knows, the strongest first, and what it calls them."""


def weak_levels(question: Question, *, lists: bool) -> list[_Weak]:
    """The weak levels that say more than the dependencies do, of those that are asked for or implied.

    From snapshot isolation on, lists leave nothing open. Of levels that one model implies the strongest is enough.
    """
    chosen: list[_Weak] = []
    for model in question.models:
        if lists and "snapshot-isolation" in weaker(model) and model != CAUSAL:
            continue
        strongest = next((one for one in _WEAK if question.implies(model, one.model)), None)
        if strongest is not None and strongest not in chosen:
            chosen.append(strongest)
    return chosen


def only_weak(question: Question) -> bool:
    """Whether nothing is asked for but what ``weak`` decides by itself."""
    known = {one.model for one in _WEAK}
    return bool(question.models) and known.issuperset(question.models) and not question.anomalies


def _has_sessions(level: _Weak, question: Question) -> bool:
    """Whether sessions count: always, or in a history without times for a model that is asked for itself."""
    return level.sessions or bool(question.sessions and level.model in question.models)


def judgement_of(
    level: _Weak,
    question: Question,
    transactions: Transactions,
    reads: Reads | None,
    deadline: float,
) -> Judgement:
    """A history of registers held against a weak level, until a ``deadline`` of ``time.monotonic``.

    ``reads`` are those of the history where they are known already.
    """
    if _has_sessions(level, question):
        return judge(transactions, level.level, reads=reads, deadline=deadline)
    apart = without_sessions(transactions)
    known = None if reads is None else replace(reads, transactions=apart)
    return judge(apart, level.level, sessions=False, reads=known, deadline=deadline)


def add_wrong_reads(gathering: Gathering, question: Question, reads: Reads) -> None:
    """Add the reads of registers that are wrong by themselves and that the dependencies left out."""
    # Of what nobody wrote more is known already; what AWDIT asks of own writes at every level, Adya does at some.
    names = {kind: kind for kind in reads.counts if kind != "garbage-read"}
    if "own-write-unseen" in question.sessions and "internal" in names:
        names["internal"] = "own-write-unseen"
    for kind, name in names.items():
        if name in question.prohibited and name not in gathering.counts:
            gathering.single[name] = reads.counts[kind]
            for one in reads.found:
                if one.kind == kind:
                    gathering.add(name, one.transactions, one.text, one.key)


def hold_to_weak_levels(gathering: Gathering, question: Question, deadline: float, reads: Reads | None) -> str:
    """Add what refutes the weak levels that are asked for; answers why one of them could not be decided, if so.

    ``reads`` are those of registers, None where transactions are on lists. The time is that of ``time.monotonic``.
    """
    lists = reads is None
    t = as_registers(gathering.transactions) if lists else gathering.transactions
    unknown = ""
    for level in weak_levels(question, lists=lists):
        if level.model == "causal-cerone" and level.model not in question.models and len(t) > MANY:
            level = next(one for one in _WEAK if one.model == "read-atomic")  # noqa: PLW2901
        judgement = judgement_of(level, question, t, reads, deadline)
        unknown = unknown or judgement.unknown
        anomaly = _IN_SESSIONS[level.level] if _has_sessions(level, question) else level.anomaly
        # Wrong reads are found by the inference, too, which knows better what is garbage.
        names = {COMMIT_ORDER: anomaly, "G1c-process": "G1c-process", "G1c": "G1c"}
        for kind, number in judgement.counts.items():
            if kind in names and names[kind] not in gathering.counts:
                gathering.single[names[kind]] = number
        for one in judgement.found:
            if one.kind in names:
                gathering.add(
                    names[one.kind], one.transactions, one.text, one.key, edges_of(one, gathering.transactions)
                )
    return unknown


def edges_of(violation: Violation, transactions: Transactions) -> list[Edge]:
    """The edges of a cycle that has an order of commits in it. One through the initial state is none to be drawn."""
    if any(step.source < 0 or step.target < 0 for step in violation.edges):
        return []
    return [
        Edge(
            {"so": "process", "wr": "wr", "co": "commit"}[step.kind],
            transactions.index(step.source),
            transactions.index(step.target),
            _sentence(step, transactions),
            transactions.keys[step.key] if step.key >= 0 else None,
        )
        for step in violation.edges
    ]


def _sentence(step: Step, transactions: Transactions) -> str:
    source, target = transactions.title(step.source), transactions.title(step.target)
    if step.kind == "so":
        return f"{source} came before {target} in process {int(transactions.process[step.source])}"
    key = named(transactions.keys[step.key])
    if step.kind == "wr":
        return f"{source} wrote {key}, before {target} read that"
    reader = transactions.title(step.reader)
    return f"{source} committed before {target}, since {reader}, which saw {source}, read {key} of {target}"


def can_be_searched(question: Question) -> bool:
    """Whether an order of the transactions, if there is one, answers all that is asked for."""
    return set(SEARCHED).issuperset(question.models) and not question.anomalies


def search_for_an_order(gathering: Gathering, question: Question, reads: Reads, deadline: float, memory: int) -> str:
    """Look for an order of the transactions that the models allow; answers why it is not known whether there is one.

    Where a model is refuted, so may be weaker ones that it implies: these are tried as well, while there is time. The
    time is that of ``time.monotonic``; ``memory`` are bytes.
    """
    from harness.checkers.transactions.solver import solve

    # What is wrong by itself was found before; of what nobody wrote only that is left which may have been there.
    reads = replace(reads, found=[], counts={})
    unknown = ""
    allowed: set[str] = set()
    for model in _searched(question.models):
        asked = model in question.models
        if model in allowed or not (asked or gathering.counts.keys() & question.prohibited):
            continue
        left = deadline - monotonic()
        if left <= 0 and not asked:
            break
        answer = solve(gathering.transactions, SEARCHED[model], Budget(max(left, 0.1), memory), reads=reads)
        if answer.validity == "invalid":
            kind = cycle_exists(model)
            gathering.single[kind] = 1
            gathering.add(kind, answer.transactions, answer.reason)
        elif answer.validity == "valid":
            allowed |= weaker(model)
        elif asked:
            unknown = unknown or f"whether it is {spoken(model)} is not known: {answer.reason}"
    return unknown


def _searched(models: Sequence[str]) -> list[str]:
    """The models that can be searched for among these and those that they imply, the strongest first."""
    implied = set[str]().union(*(weaker(model) for model in models if model != CAUSAL))
    return [model for model in SEARCHED if model in implied]
