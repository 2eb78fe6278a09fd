"""The isolation that transactions really got, from what they read and wrote, and when.

Dependencies between transactions are inferred from their answers, in the manner of Adya ("Weak Consistency: A
Generalized Theory and Optimistic Implementations for Distributed Transactions", 1999) and of Kingsbury & Alvaro ("Elle:
Inferring Isolation Anomalies from Experimental Observations", 2020); what no order of the transactions explains is a
cycle among them. ``levels`` says which level of isolation each anomaly refutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self

from harness.checkers.compiled import compile_in_background
from harness.checkers.transactions.columns import NEVER_CALLED, TRANSACTION, Transactions
from harness.checkers.transactions.graph import EXPLAINED, Dependencies
from harness.checkers.transactions.levels import (
    CAUSAL,
    MODELS,
    about,
    boundary,
    model_to_check,
    names_to_check,
    refuted,
    refuted_by,
    spoken,
    strongest,
    told,
    weaker,
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
from harness.words import all_of, count, show

if TYPE_CHECKING:
    from harness.checkers.transactions.reads import Reads

__all__ = ["Transactional"]

EMPTY: Final = "empty-transaction-graph"
"""The name for that no transaction depends on another: nothing could have been wrong."""
_COMPILED: Final = ("components", "lists", "walks", "reads", "register_kernel")
"""The modules that are compiled at first."""
_DEFAULT: Final = ("strict-serializable",)
_LOWEST: Final = ("read-uncommitted", "read-committed")
"""What most people take for granted."""
_OF_WEAK_LEVELS: Final = (
    ("fractured-read", "read-atomic", ()),
    ("fractured-read-process", "read-atomic", ("fractured-read-process",)),
    ("causality-violation", "causal-cerone", ()),
    ("causality-violation-process", CAUSAL, ()),
)
"""Anomalies that are no cycles of dependencies, the level that is held against to find them, and its sessions."""


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
    def about(level: str) -> str:
        """What one of them is about, in a line."""
        return about(level)

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

    def warm(self) -> None:
        """Have the loops over large histories compiled, in the background, by the time that they may be needed."""
        folder = Path(__file__).parent
        compile_in_background("harness.checkers.transactions.warm", [folder / f"{name}.py" for name in _COMPILED])

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

    @cached_property
    def beside(self) -> str:
        """What else clients did, where they did not only transactions."""
        others = sorted(self.history.client_functions() - {TRANSACTION})
        if not others:
            return ""
        return f"beside the transactions there are operations of another kind ({', '.join(map(show, others[:5]))})"

    def verdict(self) -> Verdict:
        """What is found, and what follows from it."""
        by_predicates = self._reads_by_predicates()
        if not by_predicates:
            self.transactions = Transactions.of(self.history.operations_or_completions())
            self.workload = self.question.workload or workload_of(self.transactions)
            if not self.beside and self._is_plainly_weak():
                return self._told()
        self._infer(by_predicates=by_predicates)
        self._find_cycles()
        if not self.fatal:
            self.gathering.add_refutations(self.question.models)
        if self.workload != PREDICATES and not self.fatal:
            self._decide_exactly()
            self._hold_to_named_anomalies()
        return self._told()

    @cached_property
    def reads(self) -> Reads | None:
        """Which writes were read; None of lists, whose reads are other ones."""
        from harness.checkers.transactions.reads import Reads

        return None if self.workload == LIST_APPEND else Reads.of(self.transactions)

    def _is_plainly_weak(self) -> bool:
        """Whether registers keep the weak levels, if no other is asked for: then no dependency is to be written out."""
        from harness.checkers.transactions.exact import judgement_of, only_weak, weak_levels
        from harness.checkers.transactions.gathering import Gathering

        question, reads = self.question, self.reads
        if not only_weak(question) or question.versions or reads is None:
            return False
        self.edges = int((reads.read_source >= 0).sum())
        self.empty = not self.edges and not depends(self.transactions, question.order)
        if self.empty or reads.found or reads.unknown:
            return False
        for level in weak_levels(question, lists=False):
            if judgement_of(level, question, self.transactions, reads, self.until).validity != "valid":
                return False
        self.gathering = Gathering(self.transactions)
        return True

    def _reads_by_predicates(self) -> bool:
        asked = self.question.workload
        return asked == PREDICATES or (asked is None and has_predicates(self.history))

    def _infer(self, *, by_predicates: bool) -> None:
        """Dependencies between the transactions, and the anomalies that are no cycles."""
        from harness.checkers.transactions.gathering import Gathering

        if by_predicates:
            from harness.checkers.transactions import predicates

            self.workload = PREDICATES
            self.dependencies = predicates.infer(self.history)
            self.transactions = self.dependencies.transactions
        else:
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
        if self.beside:
            # Another function may have written it.
            counts.pop("garbage-read", None)
        self.gathering.add_found(found, counts)

    def _inferred(self) -> Dependencies:
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
            only_weak,
            search_for_an_order,
        )

        gathering, question, reads = self.gathering, self.question, self.reads
        if reads is not None and not self._is_refuted():
            add_wrong_reads(gathering, question, reads)
        if self._is_refuted() or self.empty:
            return
        self.unknown = hold_to_weak_levels(gathering, question, self.until, reads)
        if reads is None and not self._is_refuted():
            from harness.checkers.transactions.unordered import hold_to_snapshots

            self.unknown = self.unknown or hold_to_snapshots(self.dependencies, gathering, question.models)
        if reads is None:
            return
        if not self.unknown and only_weak(question):
            self.partial = ""  # these levels do not rest on the dependencies
        if not (self._are_versions_ordered(reads) and not self.partial) and not self._is_refuted():
            why = search_for_an_order(gathering, question, reads, self.until, self.budget.bytes)
            self.unknown = self.unknown or why
            if not why and can_be_searched(question):
                # There is an order, whatever is not known of dependencies, and of what the models imply.
                self.partial = self.unknown = ""

    def _hold_to_named_anomalies(self) -> None:
        """Look for what only a weak level is held to, where it is asked for by its name and not by the level's."""
        from harness.checkers.transactions.exact import hold_to_weak_levels

        if "lost-update" in self.question.anomalies and not self._is_refuted():
            # One that wrote blindly has its update lost as well (Berenson's P4), though not in Elle's sense.
            self.gathering.add_called("lost update", "lost-update")
        for anomaly, model, sessions in _OF_WEAK_LEVELS:
            if anomaly in self.question.anomalies and not self._is_refuted() and not self.empty:
                level = replace(self.question, models=(model,), anomalies=(), sessions=sessions)
                unknown = hold_to_weak_levels(self.gathering, level, self.until, self.reads)
                self.unknown = self.unknown or unknown

    def _are_versions_ordered(self, reads: Reads) -> bool:
        """Whether the order of all versions follows from reads: each write has one before it whose answer is known."""
        if workload_of(self.transactions) != READ_MODIFY_WRITE:
            return False
        return not (reads.happened & (self.transactions.type != OK)).any()

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
        if names := gathering.names_of(reported):
            evidence["names"] = names
        if by_session := sorted(self.sessions.keys() - counts.keys()):
            evidence["session_anomaly_types"] = by_session
        if other:
            evidence["beside"] = {kind: counts[kind] for kind in other}
        if reported or not self._why_unknown():
            evidence["kept"] = [spoken(model) for model in self.kept]
        if reported:
            number = sum(reported.values())
            return Verdict(
                "invalid", self._why_invalid(reported), gathering.anomalies(reported), evidence, found=number
            )
        if why := self._why_unknown():
            return Verdict("unknown", why, evidence=evidence)
        beside = f"; beside that there are {', '.join(other)}" if other else ""
        untimed = not self.history.timeless and bool((self.transactions.call == NEVER_CALLED).all())
        asks = {"realtime": "real time asks", "process": "sessions ask"}.get(question.order or "", "")
        if not asks and CAUSAL in question.models:
            asks = "sessions ask"
        time = f"; it has no invocations, so that {asks} for nothing" if untimed and asks else ""
        forbids = f"{count(transactions, 'transaction')} without an anomaly that {question.title} forbids"
        reason = f"{forbids}{self._said_in_part()}{beside}{time}"
        return Verdict("valid", reason, evidence=evidence)

    def _why_invalid(self, reported: dict[str, int]) -> str:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in reported.items())
        called = self.gathering.names_of(reported)
        names = f", called {', '.join(called)}" if called else ""
        refuted_models = [told(model) for model in self.question.refuted(list(reported))]
        said = f"not {' and not '.join(refuted_models)}: " if refuted_models else ""
        kept = [spoken(model) for model in self.kept]
        said_kept = all_of(kept) if kept else ""
        known = "the strongest level that it is known to keep is"
        if len(kept) > 1:
            known = "the strongest levels that it is known to keep are"
        lowest = [model for model in _LOWEST if model in boundary(reported).refuted and model not in refuted_models]
        least = f"; it is not even {lowest[0]}" if lowest else ""
        return f"{said}{kinds}{names}{f'; {known} {said_kept}' if kept else least}"

    @cached_property
    def kept(self) -> list[str]:
        """The strongest levels that the history is known to keep: it was held against them, and nothing is open."""
        from harness.checkers.transactions.kept import kept_by_cycles, kept_by_reads, the_strongest

        if self.fatal or self.empty or self.workload == PREDICATES:
            return []
        counts = {**self.gathering.counts, **self.sessions}
        order, timeless = self.question.order, self.history.timeless
        kept: list[str] = []
        if self.question.prohibited.isdisjoint(counts):
            kept += [model for model in self.question.models if self._is_decided(model)]
        if self._is_ordered and not self.partial:
            # Where two transactions replaced one version, nobody knows which of the two came first.
            forked = self.workload != LIST_APPEND and "lost-update" in counts
            kept += [] if forked else kept_by_cycles(counts, order, timeless=timeless)
        if not any(model == CAUSAL or "causal-cerone" in weaker(model) for model in kept):
            kept += kept_by_reads(self.transactions, counts, order, self.reads, self.until, timeless=timeless)
        return the_strongest(kept)

    @cached_property
    def _is_ordered(self) -> bool:
        """Whether the order of all versions is known, so that cycles decide, and whether they were sought at all."""
        if not hasattr(self, "dependencies") or self.workload == PREDICATES:
            return False
        if self.reads is None:
            return True
        by_reads = self.workload == READ_MODIFY_WRITE or "wfr" in self.question.versions
        return by_reads and self._are_versions_ordered(self.reads)

    def _is_decided(self, model: str) -> bool:
        from harness.checkers.transactions.kept import is_decided

        return is_decided(model, ordered=self._is_ordered or self.workload == PREDICATES)

    def _said_in_part(self) -> str:
        """Of which levels a history without an anomaly may still not be, as nothing decides them."""
        stronger = frozenset[str]().union(*(weaker(model) for model in self.kept if model != CAUSAL))
        open_ones = [m for m in self.question.models if not self._is_decided(m) and m not in stronger]
        if not open_ones:
            return ""
        names = " and ".join(map(spoken, open_ones))
        return f" (of {names} only what is tied to it here and in Elle was looked at, which is not all that defines it)"

    def _why_unknown(self) -> str:
        if self.fatal:
            return self.fatal
        if not len(self.transactions):
            return "there is no transaction in the history"
        if not (self.transactions.type == OK).any():
            return "no transaction committed"
        if self.empty:
            return "no transaction depends on another, so that nothing could have been wrong"
        if self.beside and self.workload != PREDICATES:
            return f"{self.beside}, and what they did to the same keys is not known"
        return self.unknown or self.partial
