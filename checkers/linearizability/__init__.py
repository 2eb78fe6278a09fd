"""Linearizability: does an order of all operations exist that respects real time and that the model explains?

Registers whose written values are unique are decided by ``blocks`` in O(n log n); everything else by ``search``.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harness.checkers.compiled import compile_in_background
from harness.errors import UsageError
from harness.history import History, Operations
from harness.periods import Period, fault_periods
from harness.verdict import Anomaly, Budget, Checker, Verdict
from harness.words import count, named, show

if TYPE_CHECKING:
    from harness.checkers.linearizability.models import Model
    from harness.checkers.linearizability.partitions import Checked

_REPORTED = 50
"""How many anomalies are told; all are counted."""
_IN_FULL = 10
"""Of how many it is also searched for what else could have been, which takes time."""


class Linearizable(Checker):
    """Checks a history against a model, partition by partition.

    ``model`` is a name of ``models.MODELS`` or a model of one's own. ``executor`` runs the searches of partitions, for
    instance on other machines; by default threads of this process do. ``initial`` is the state before any
    operation. Raises ``UsageError`` for an unknown model, and for an initial value of a model that takes none.
    """

    def __init__(
        self, model: str | Model = "cas-register", executor: Executor | None = None, initial: Any = None
    ) -> None:
        self._name = model if isinstance(model, str) else type(model).__name__
        self._given = model
        self._executor = executor
        self._initial = initial

    @staticmethod
    def models() -> dict[str, type[Model]]:
        """The models that come with the product, by name."""
        from harness.checkers.linearizability.models import MODELS

        return MODELS

    @classmethod
    def against(cls, model: object, executor: Executor | None, initial: Any) -> Self:
        from harness.checkers.linearizability.model import Model

        if not isinstance(model, str | Model):
            wanted = f"{Model.__module__}.{Model.__qualname__}"
            raise UsageError(f"{type(model).__qualname__} is no model: it does not extend {wanted}")
        return cls(model, executor, initial)

    def warm(self) -> None:
        """Have the search compiled, in the background, by the time that it may be needed."""
        compile_in_background("harness.checkers.linearizability.warm", [Path(__file__).with_name("kernel.py")])

    def _model(self) -> Model:
        from harness.checkers.linearizability.models import MODELS

        if not isinstance(self._given, str):
            return self._given
        if self._given not in MODELS:
            raise UsageError(f"there is no model named {self._given!r}: there are {', '.join(MODELS)}")
        made = MODELS[self._given]
        if self._initial is None:
            return made()
        if made.begins is None:
            raise UsageError(f"the model {self._given} takes no initial value")
        try:
            return made(self._initial)  # type: ignore[call-arg]
        except ValueError:
            text = f"the model {self._given} begins with {made.begins}, not with {show(self._initial)}"
            raise UsageError(text) from None

    def check(self, history: History, budget: Budget) -> Verdict:
        """The verdict of all partitions. Raises ``HistoryError`` for an operation that the model does not have."""
        model = self._model()
        operations = history.operations()
        evidence: dict[str, Any] = {"model": self._name}
        periods = fault_periods(history)
        if self._given in ("register", "cas-register"):
            return self._check_registers(model, operations, budget, periods, evidence)
        evidence["operations_checked"] = len(operations)
        return self._search(model, operations, range(len(operations)), budget, periods, evidence, [], [])

    def blind(self, history: History) -> str:
        """Why no answer in the history could have been wrong; empty where some could."""
        from harness.checkers.linearizability.blind import is_blind

        if not is_blind(self._model(), history.operations()):
            return ""
        return f"nothing in it could be wrong: {self._name} allows what succeeded in whatever order it happened"

    def _check_registers(
        self, model: Model, operations: Operations, budget: Budget, periods: list[Period], evidence: dict[str, Any]
    ) -> Verdict:
        import numpy as np

        from harness.checkers.linearizability import blocks
        from harness.checkers.linearizability.explain import Explainer
        from harness.checkers.linearizability.registers import encode

        encoded = encode(operations, self._initial, model)
        evidence |= {"operations_checked": len(encoded.row), "keys": int((np.bincount(encoded.key) > 0).sum())}
        encoded = blocks.drop_unobserved(encoded)
        repeated = blocks.repeated(encoded)
        unique = encoded if not repeated.any() else encoded.select(~repeated)
        parts = blocks.check(unique)
        explainers = [Explainer(model, part.operations, part.blocks, periods) for part in parts]
        violations = [
            (v, explainer) for part, explainer in zip(parts, explainers, strict=True) for v in part.violations
        ]
        violations.sort(key=lambda pair: pair[0].time)
        first_of_key = {violation.key: violation for violation, _ in reversed(violations)}
        # Every key has its turn before any has a second.
        chosen = sorted(violations, key=lambda pair: (pair[0] is not first_of_key[pair[0].key], pair[0].time))
        chosen = chosen[:_REPORTED]
        stale = [explainer.staleness(violation) for violation, explainer in chosen]
        anomalies = [
            explainer.anomaly(violation, *stale[number], in_full=number < _IN_FULL)
            for number, (violation, explainer) in enumerate(chosen)
        ]
        if stale:
            evidence["stalest_read_ms"] = round(max(pair[0] for pair in stale) / 1e6, 3)
            evidence["most_newer_writes"] = max(pair[1] for pair in stale)
        rest: list[int] = encoded.row[repeated].tolist()
        guilty = [operations.history.keys[violation.key] for violation, _ in violations]
        return self._search(model, operations, rest, budget, periods, evidence, anomalies, guilty)

    def _search(
        self,
        model: Model,
        operations: Operations,
        rows: Sequence[int],
        budget: Budget,
        periods: list[Period],
        evidence: dict[str, Any],
        anomalies: list[Anomaly],
        guilty: list[Any],
    ) -> Verdict:
        """Search the given rows, and put what was found together with what is known.

        ``guilty`` has the key of each violation that is known.
        """
        unfinished: list[str] = []
        if len(rows):
            from harness.checkers.linearizability.explain import explain_search
            from harness.checkers.linearizability.partitions import check_all, partitions

            parts = partitions(model, operations, rows)
            evidence.setdefault("keys", len(parts))
            stuck: list[Checked] = []
            for checked in check_all(model, parts, budget, self._executor):
                if checked.outcome.verdict == "impossible":
                    stuck.append(checked)
                elif checked.outcome.verdict != "linearizable":
                    unfinished.append(_how_far(checked))
            stuck.sort(key=lambda checked: checked.outcome.furthest.ret if checked.outcome.furthest else 0)
            anomalies += [explain_search(model, operations, checked, periods) for checked in stuck[:_IN_FULL]]
            guilty += [checked.partition.key for checked in stuck]
        if guilty:
            evidence["violations"] = len(guilty)
            keys = len(set(map(repr, guilty)))
            reason = f"{count(len(guilty), 'violation')} of {self._name}"
            reason += f" on {keys} of {count(evidence.get('keys', keys), 'key')}"
            return Verdict("invalid", reason, anomalies, evidence, found=len(guilty))
        if unfinished:
            return Verdict("unknown", "; ".join(unfinished[:5]), [], evidence)
        return Verdict("valid", evidence=evidence)


def _how_far(checked: Checked) -> str:
    outcome, part = checked.outcome, checked.partition
    which = "" if part.key is None else f" of key {named(part.key)}"
    done = sum(op.ret <= outcome.furthest.ret for op in part.operations) if outcome.furthest else 0
    return (
        f"out of {outcome.verdict} after {outcome.returns_passed:,} of {len(part.operations):,} operations{which} "
        f"({outcome.expanded:,} configurations; {done:,} had returned)"
    )
