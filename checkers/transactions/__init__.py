"""The isolation that transactions really got, from what they read and wrote, and when.

Dependencies between transactions are inferred from their answers, in the manner of Adya ("Weak Consistency: A
Generalized Theory and Optimistic Implementations for Distributed Transactions", 1999) and of Kingsbury & Alvaro ("Elle:
Inferring Isolation Anomalies from Experimental Observations", 2020); what no order of the transactions explains is a
cycle among them. ``levels`` says which level of isolation each anomaly refutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any, Final, Self

from harness.checkers.transactions.columns import NEVER_CALLED, Transactions, transaction_operations
from harness.checkers.transactions.graph import EXPLAINED
from harness.checkers.transactions.levels import (
    CAUSAL,
    MODELS,
    boundary,
    model_to_check,
    names_to_check,
    refuted,
    refuted_by,
    spoken,
    strongest,
)
from harness.checkers.transactions.question import Question, in_sessions
from harness.checkers.transactions.recognise import (
    LIST_APPEND,
    PREDICATES,
    READ_MODIFY_WRITE,
    RW_REGISTER,
    depends,
    garbage_read,
    has_predicates,
    is_transactional,
    unwritten_reads,
    workload_of,
)
from harness.history import OK, History
from harness.verdict import Budget, Checker, Verdict
from harness.words import count

__all__ = ["Transactional"]

EMPTY: Final = "empty-transaction-graph"
"""The name for that no transaction depends on another: nothing could have been wrong."""
_DEFAULT: Final = ("strict-serializable",)


class Transactional(Checker):
    """Checks ``txn`` of lists, of registers and with predicates against levels of isolation.

    An anomaly that a level of ``models`` forbids, or that is one of ``anomalies``, makes a history invalid. What else
    was found is evidence. Real time counts if an anomaly of real time is forbidden, else the order of each process if
    one of those is. ``workload`` is list-append, rw-register, rmw or closed-predicate, by default as the history shows;
    ``versions`` says what else orders the versions of registers: wfr, process, realtime.
    """

    def __init__(
        self,
        workload: str | None = None,
        models: Sequence[str] = _DEFAULT,
        anomalies: Sequence[str] = (),
        versions: Sequence[str] = (),
    ) -> None:
        self._question = Question.of(workload, models, anomalies, versions)

    @staticmethod
    def levels() -> Sequence[str]:
        """The names of the levels that it knows, the strongest first."""
        return names_to_check()

    @staticmethod
    def knows(level: str) -> bool:
        """Whether it knows a level by this name, which may be one of Adya's or of a database."""
        return model_to_check(level) is not None

    @staticmethod
    def fits(history: History) -> bool:
        """Whether clients did nothing but transactions."""
        return is_transactional(history)

    @classmethod
    def asked(
        cls,
        workload: str | None = None,
        models: Sequence[str] = (),
        anomalies: Sequence[str] = (),
        versions: Sequence[str] = (),
    ) -> Self:
        """The one for these, with strict serializability where neither models nor anomalies are given."""
        return cls(workload, tuple(models) or (() if anomalies else _DEFAULT), anomalies, versions)

    def check(self, history: History, budget: Budget) -> Verdict:
        """The verdict; unknown where no transaction depends on another, or where the order of versions is not known.

        Raises ``HistoryError`` for what is no transaction.
        """
        return _Judgement(self._question, history, budget).verdict()


class _Judgement:
    """One history held against a question."""

    def __init__(self, question: Question, history: History, budget: Budget) -> None:
        self.question = in_sessions(question) if history.timeless else question
        self.history = history
        self.budget = budget
        self.until = monotonic() + budget.seconds
        self.transactions: Transactions
        self.workload = ""
        self.edges = 0
        """How many dependencies there are."""
        self.empty = False
        self.fatal = ""
        """Why nothing can be decided."""
        self.unknown = ""
        """Why something could not be."""
        self.partial = ""
        """Why some dependencies are not known."""
        self.sessions: dict[str, int] = {}
        """What is found in the order of each process, where the question is about real time."""

    def verdict(self) -> Verdict:
        """What is found, and what follows from it."""
        if self._is_plainly_weak():
            return self._told()
        self._infer()
        self._find_cycles()
        if self.workload != PREDICATES and not self.fatal:
            self._decide_exactly()
        return self._told()

    def _read(self) -> None:
        """The transactions, and what they are about."""
        self.transactions = Transactions.of(transaction_operations(self.history))
        self.workload = self.question.workload or workload_of(self.transactions)

    def _is_plainly_weak(self) -> bool:
        """Whether registers keep the weak levels, if no other is asked for: then no dependency is to be written out."""
        from harness.checkers.transactions.exact import judgement_of, only_weak, weak_levels
        from harness.checkers.transactions.gathering import Gathering
        from harness.checkers.transactions.reads import Reads

        question = self.question
        if not only_weak(question) or question.versions or self._reads_by_predicates():
            return False
        self._read()
        if self.workload not in (RW_REGISTER, READ_MODIFY_WRITE):
            return False
        reads = Reads.of(self.transactions)
        self.edges = int((reads.read_source >= 0).sum())
        self.empty = not self.edges and not depends(self.transactions, question.order)
        if self.empty or reads.found or reads.unknown:
            return False
        for level in weak_levels(question, lists=False):
            if judgement_of(level, question, self.transactions, reads).validity != "valid":
                return False
        self.gathering = Gathering(self.transactions)
        return True

    def _reads_by_predicates(self) -> bool:
        asked = self.question.workload
        return asked == PREDICATES or (asked is None and has_predicates(self.history))

    def _infer(self) -> None:
        """Dependencies between the transactions, and the anomalies that are no cycles."""
        from harness.checkers.transactions.gathering import Gathering

        if self._reads_by_predicates():
            from harness.checkers.transactions import predicates

            self.workload = PREDICATES
            self.dependencies = predicates.infer(self.history)
            self.transactions = self.dependencies.transactions
        else:
            if not hasattr(self, "transactions"):
                self._read()
            self.dependencies = self._inferred()
        self.edges = len(self.dependencies.edges)
        self.gathering = Gathering(self.transactions)
        self.fatal = self.dependencies.unknown
        self.partial = self.dependencies.partial
        found, counts = self.dependencies.found, dict(self.dependencies.counts)
        if self.workload in (RW_REGISTER, READ_MODIFY_WRITE) and not self.fatal:
            rows = unwritten_reads(self.transactions)
            counts["garbage-read"] = len(rows)
            found = [one for one in found if one.kind != "garbage-read"]
            found += [garbage_read(self.transactions, row) for row in rows[:EXPLAINED].tolist()]
        self.gathering.add_found(found, counts)

    def _inferred(self) -> Any:
        if self.workload == LIST_APPEND:
            from harness.checkers.transactions import list_append

            return list_append.infer(self.transactions)
        if self.workload == READ_MODIFY_WRITE:
            from harness.checkers.transactions import read_modify_write

            return read_modify_write.infer(self.transactions)
        from harness.checkers.transactions import rw_register

        return rw_register.infer(self.transactions, self.question.versions)

    def _find_cycles(self) -> None:
        from harness.checkers.transactions.cycles import cycles
        from harness.checkers.transactions.graph import Kind

        orders = {"realtime": (Kind.REALTIME,), "process": (Kind.PROCESS,)}.get(self.question.order, ())
        self.empty = not self.edges and not depends(self.transactions, self.question.order)
        if not self.fatal:
            self.gathering.add_cycles(*cycles(self.dependencies, orders))
        if self.question.order == "realtime" and self.gathering.cyclic:
            # In real time a session is in order, too; but what a session shows refutes more.
            self.sessions = cycles(self.dependencies, (Kind.PROCESS,))[1]

    def _decide_exactly(self) -> None:
        """Hold registers against levels that can be decided although the order of their versions is not known."""
        from harness.checkers.transactions.exact import (
            add_wrong_reads,
            can_be_searched,
            hold_to_weak_levels,
            search_for_an_order,
        )

        gathering, question = self.gathering, self.question
        lists = self.workload == LIST_APPEND
        if not lists and not self._is_refuted():
            add_wrong_reads(gathering, question)
        if self._is_refuted() or self.empty:
            return
        self.unknown = hold_to_weak_levels(gathering, question, lists=lists)
        ordered = lists or self._are_versions_ordered()
        if not ordered and not self._is_refuted():
            why = search_for_an_order(gathering, question, self.until, self.budget.bytes)
            self.unknown = self.unknown or why
            if not why and can_be_searched(question):
                self.partial = ""  # there is an order, with or without the dependencies that are not known

    def _are_versions_ordered(self) -> bool:
        """Whether the order of all versions follows from reads: each write has one before it whose answer is known."""
        from harness.checkers.transactions.reads import Reads

        if workload_of(self.transactions) != READ_MODIFY_WRITE:
            return False
        return not (Reads.of(self.transactions).happened & (self.transactions.type != OK)).any()

    def _is_refuted(self) -> bool:
        return not self.question.prohibited.isdisjoint(self.gathering.counts)

    def _told(self) -> Verdict:
        """The verdict in words."""
        gathering, question = self.gathering, self.question
        counts = gathering.counts
        in_order = sorted(counts, key=lambda kind: (-len(refuted_by(kind)), kind))  # what refutes most comes first
        reported = {kind: counts[kind] for kind in in_order if kind in question.prohibited}
        # Cycles that nobody asks for are not looked for elsewhere, and do not count here either.
        counted = {*gathering.single, *reported}
        limits = boundary(counted)
        causal = [CAUSAL] if CAUSAL in question.refuted(list(reported)) else []
        other = sorted(counts.keys() - reported.keys())
        transactions = len(self.transactions)
        evidence: dict[str, Any] = {
            "workload": self.workload,
            "transactions": transactions,
            "models": [spoken(model) for model in question.models],
            "order": question.order or "none",
            "anomaly_types": sorted([*reported, *([EMPTY] if self.empty else [])]),
            "anomaly_counts": reported,
            "not": sorted({*limits.refuted, *causal}),
            "also_not": [model for model in limits.also if model not in causal],
            "strongest": strongest(MODELS - refuted({**counts, **self.sessions})),
            "dependencies": self.edges,
        }
        if gathering.names:
            evidence["names"] = sorted(gathering.names)
        if by_session := sorted(self.sessions.keys() - counts.keys()):
            evidence["session_anomaly_types"] = by_session
        if other:
            evidence["beside"] = {kind: counts[kind] for kind in other}
        if reported:
            number = sum(reported.values())
            return Verdict(
                "invalid", self._why_invalid(reported), gathering.anomalies(reported), evidence, found=number
            )
        if why := self._why_unknown():
            return Verdict("unknown", why, evidence=evidence)
        beside = f"; beside that there are {', '.join(other)}" if other else ""
        untimed = question.order == "realtime" and bool((self.transactions.call == NEVER_CALLED).all())
        time = "; it has no invocations, so that real time asks for nothing" if untimed else ""
        reason = f"{count(transactions, 'transaction')} without an anomaly that {question.title} forbids{beside}{time}"
        return Verdict("valid", reason, evidence=evidence)

    def _why_invalid(self, reported: dict[str, int]) -> str:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in reported.items())
        names = f", called {', '.join(sorted(self.gathering.names))}" if self.gathering.names else ""
        kept = {model for model in MODELS - refuted({**self.gathering.counts, **self.sessions}) if self._looked(model)}
        left = [spoken(model) for model in strongest(kept) if model_to_check(model)]
        refuted_models = [spoken(model) for model in self.question.refuted(list(reported))]
        said = f"not {' and not '.join(refuted_models)}: " if refuted_models else ""
        said_left = f"{', '.join(left[:-1])} and {left[-1]}" if len(left) > 1 else "".join(left)
        rest = f"; of the levels that are left {said_left} {'is' if len(left) == 1 else 'are'} the strongest"
        return f"{said}{kinds}{names}{rest if left else ''}"

    def _looked(self, model: str) -> bool:
        """Whether the order of time that a model is about was looked at."""
        if not model.startswith("strong-") or self.question.order == "realtime":
            return True
        return model.startswith("strong-session-") and self.question.order == "process"

    def _why_unknown(self) -> str:
        if self.fatal:
            return self.fatal
        if not len(self.transactions):
            return "there is no transaction in the history"
        if not (self.transactions.type == OK).any():
            return "no transaction committed"
        if self.empty:
            return "no transaction depends on another, so that nothing could have been wrong"
        return self.unknown or self.partial
