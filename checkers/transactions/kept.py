"""Which levels a history is known to keep: those that it was held against by a decision that leaves nothing open.

That no anomaly was found which a table ties to a level proves nothing, if nobody looked for what the level forbids
beside it. Where the order of versions is known, cycles decide serializability, snapshot isolation (each with sessions
and with real time) and Adya's PL-1; whatever that order is, ``weak`` decides causal consistency, read atomic and read
committed, which are tried from the strongest on.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from harness.checkers.transactions.columns import Transactions
from harness.checkers.transactions.exact import MANY, SEARCHED, judgement_of, weak_levels
from harness.checkers.transactions.levels import CAUSAL, PARTLY, strongest, weaker
from harness.checkers.transactions.question import Question, in_sessions
from harness.checkers.transactions.reads import Reads
from harness.checkers.transactions.recognise import as_registers

_BY_CYCLES: Final = (*SEARCHED, "read-uncommitted")
_BY_READS: Final = (CAUSAL, "causal-cerone", "read-atomic", "read-committed")
"""What ``weak`` decides, the strongest first."""
_MOST: Final = 200_000
"""The most micro-operations of a history that is held against the weak levels beside what is asked for."""
_LOOKED_AT: Final = {"": ("",), "process": ("", "process"), "realtime": ("", "process", "realtime")}
"""Which orders of time were looked at where one counts."""


def kept_by_cycles(counts: Collection[str], order: str, *, timeless: bool) -> list[str]:
    """The levels that these anomalies leave, being all there are, where cycles with this order of time were sought."""
    return [model for model in _BY_CYCLES if _is_left(_alone(model, timeless=timeless), counts, order)]


def kept_by_reads(
    transactions: Transactions,
    counts: Collection[str],
    order: str,
    reads: Reads | None,
    deadline: float,
    *,
    timeless: bool,
) -> list[str]:
    """The strongest of the weak levels that a history keeps, or none. Large histories are not looked at.

    ``reads`` are those of registers, None where transactions are on lists. The time is that of ``time.monotonic``.
    """
    # Without sessions causal consistency takes time for each two transactions.
    levels = [model for model in _BY_READS if model != "causal-cerone" or len(transactions) <= MANY]
    questions = [_alone(model, timeless=timeless) for model in levels]
    left = [question for question in questions if _is_left(question, counts, order)]
    if not left or len(transactions.f) > _MOST:
        return []
    lists = reads is None
    registers = as_registers(transactions) if lists else transactions
    for question in left:
        (level,) = weak_levels(question, lists=lists)
        if judgement_of(level, question, registers, reads, deadline).validity == "valid":
            return list(question.models)
    return []


def the_strongest(models: Collection[str]) -> list[str]:
    """Those of these that no other implies, ``causal`` being that of transactions."""
    known = set(models)
    if CAUSAL in known:
        known -= weaker("causal-cerone")
    if "strong-session-snapshot-isolation" in frozenset[str]().union(*(weaker(m) for m in known if m != CAUSAL)):
        known.discard(CAUSAL)
    return sorted({*strongest(known - {CAUSAL}), *(known & {CAUSAL})})


def is_decided(model: str, *, ordered: bool) -> bool:
    """Whether nothing that a level forbids is left unsought; ``ordered``: where the order of all versions is known."""
    return model not in PARTLY if ordered else model in _BY_READS or model in SEARCHED


def _alone(model: str, *, timeless: bool) -> Question:
    question = Question((model,), (), None, ())
    return in_sessions(question) if timeless else question


def _is_left(question: Question, counts: Collection[str], order: str) -> bool:
    return question.order in _LOOKED_AT[order] and question.prohibited.isdisjoint(counts)
