"""Everything that was found in a history of transactions, counted by kind, and the first few of each as anomalies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from harness.checkers.transactions.columns import Transactions
from harness.checkers.transactions.cycles import Cycle
from harness.checkers.transactions.explain import Storyteller, called, refutes, ruled_out
from harness.checkers.transactions.graph import EXPLAINED, Found
from harness.checkers.transactions.levels import cycle_exists, refuted_by
from harness.checkers.witness import anomaly
from harness.periods import fault_periods
from harness.verdict import Anomaly, Edge


class Gathering:
    """Collects what the inferences found."""

    def __init__(self, transactions: Transactions) -> None:
        self.transactions = transactions
        self.single: dict[str, int] = {}
        """How many there are of each kind that is no cycle."""
        self.cyclic: dict[str, int] = {}
        """How many there are of each kind of cycle."""
        self._names: dict[str, set[str]] = {}
        """By kind, what people call some of the cycles."""
        self._cycles: list[Cycle] = []
        self._story = Storyteller(transactions)
        self._made: dict[str, list[Callable[[], Anomaly]]] = {}
        self._periods = fault_periods(transactions.operations.history)

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        return {**self.single, **self.cyclic}

    def add_found(self, found: Iterable[Found], counts: dict[str, int]) -> None:
        """Anomalies that are no cycles; of each kind there are as many as ``counts`` says."""
        for kind, number in counts.items():
            if number:
                self.single[kind] = self.single.get(kind, 0) + number
        for one in found:
            if counts.get(one.kind):
                self.add(one.kind, one.transactions, one.text, one.key)

    def add_cycles(self, cycles: Iterable[Cycle], counts: dict[str, int]) -> None:
        """Cycles, as they are shown."""
        for kind, number in counts.items():
            self.cyclic[kind] = self.cyclic.get(kind, 0) + number
        for cycle in cycles:
            self._made.setdefault(cycle.kind, []).append(lambda cycle=cycle: self._of_cycle(cycle))  # type: ignore[misc]
            self._cycles.append(cycle)
            if name := called(cycle.kind, cycle.edges, self.transactions):
                self._names.setdefault(cycle.kind, set()).add(name)

    def names_of(self, kinds: Iterable[str]) -> list[str]:
        """What people call some of the cycles of these kinds, sorted."""
        return sorted(set[str]().union(*(self._names.get(kind, ()) for kind in kinds)))

    def add_called(self, name: str, kind: str) -> None:
        """Cycles once more that people call so, as anomalies of this kind."""
        for cycle in self._cycles:
            if called(cycle.kind, cycle.edges, self.transactions) == name:
                self.single[kind] = self.single.get(kind, 0) + 1
                self._made.setdefault(kind, []).append(lambda cycle=cycle: self._of_cycle(cycle, kind))  # type: ignore[misc]

    def add_refutations(self, models: Iterable[str]) -> None:
        """Cycles once more by whose shape one of these models is ruled out, where their classes do not tell so.

        As many are counted as are shown; that there is none proves nothing.
        """
        for model in models:
            kind = cycle_exists(model)
            for cycle in self._cycles:
                if model not in refuted_by(cycle.kind) and refutes(model, cycle.edges):
                    self.single[kind] = self.single.get(kind, 0) + 1
                    self._made.setdefault(kind, []).append(
                        lambda cycle=cycle, kind=kind, model=model: self._of_cycle(cycle, kind, model)  # type: ignore[misc]
                    )
                    if name := called(cycle.kind, cycle.edges, self.transactions):
                        self._names.setdefault(kind, set()).add(name)

    def add(self, kind: str, transactions: Sequence[int], text: str, key: int = -1, edges: Sequence[Edge] = ()) -> None:
        """One anomaly that is told already."""
        self._made.setdefault(kind, []).append(lambda: self._told(kind, transactions, text, key, edges))

    def anomalies(self, kinds: Iterable[str]) -> list[Anomaly]:
        """The first few anomalies of each of these kinds."""
        return [make() for kind in kinds for make in self._made.get(kind, [])[:EXPLAINED]]

    def _of_cycle(self, cycle: Cycle, kind: str = "", model: str | None = None) -> Anomaly:
        text = self._story.paragraph(cycle.kind, cycle.edges, model)
        keys = {step.key for step in cycle.edges if step.key >= 0}
        key = keys.pop() if len(keys) == 1 else -1
        return self._made_of(kind or cycle.kind, cycle.transactions, text, key, self._story.edges(cycle.edges))

    def _told(self, kind: str, transactions: Sequence[int], text: str, key: int, edges: Sequence[Edge]) -> Anomaly:
        if kind == "lost-update" and key >= 0 and len(transactions) > 1:
            text = self._story.lost_update(transactions, key)
        elif not edges:
            text = self._story.introduced(text, transactions)
        sentence = text if text.endswith((".", "!")) else f"{text}."
        closing = ruled_out(kind)
        return self._made_of(kind, transactions, f"{sentence} {closing}".rstrip(), key, edges)

    def _made_of(self, kind: str, transactions: Sequence[int], text: str, key: int, edges: Sequence[Edge]) -> Anomaly:
        t = self.transactions
        return anomaly(
            t.operations,
            self._periods,
            kind,
            text,
            [int(t.rows[one]) for one in transactions],
            key=t.keys[key] if key >= 0 else None,
            edges=edges,
            completed=True,
        )
