"""Violations in words: who did what when, and why no correct register could have answered like that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harness.checkers.linearizability.blocks import ALWAYS, Blocks, Violation
from harness.checkers.linearizability.minimal import closest, minimal
from harness.checkers.linearizability.models import Model
from harness.checkers.linearizability.orders import furthest_orders
from harness.checkers.linearizability.partitions import Checked, partitions
from harness.checkers.linearizability.registers import CAS, NOTHING, READ, RegisterOperations
from harness.checkers.linearizability.search import Timed
from harness.checkers.witness import Clock, about, anomaly, sentence
from harness.history import FAIL, Operations
from harness.periods import Period
from harness.verdict import Anomaly, Order, Witness
from harness.witness import witness
from harness.words import count, show


class Explainer:
    """Turns violations of one history into anomalies."""

    def __init__(
        self, model: Model, operations: RegisterOperations, blocks: Blocks | None, periods: list[Period]
    ) -> None:
        self._model = model
        self._operations = operations
        self._blocks = blocks
        self._periods = periods
        self._clock = Clock(operations.source.history)

    def anomaly(self, violation: Violation, stale: int, newer: int, *, in_full: bool) -> Anomaly:
        """The anomaly of a violation, with the faults that were active meanwhile; ``stale``, ``newer``: its staleness.

        ``in_full`` with what a read could have found, and the orders of its operations that get furthest.
        """
        key = self._operations.source.history.keys[violation.key]
        kind, text = getattr(self, f"_{violation.kind}")(violation)
        rows = [int(self._operations.row[row]) for row in violation.rows if row >= 0]
        if newer and kind == "stale read":
            text += (
                f" It is at least {self._clock.between(0, stale)} stale: {count(newer, 'newer write')} had completed."
            )
        text = about(key) + text
        text = text[:1].upper() + text[1:]
        source = self._operations.source
        last = max(rows, key=lambda row: source.call[row])
        possible = possible_values(source, last) if in_full and source.name(last) == "read" else []
        orders = self._orders(violation) if in_full else []
        return anomaly(source, self._periods, kind, text, rows, key=key, orders=orders, possible=possible)

    def _orders(self, violation: Violation) -> list[Order]:
        """The orders that get furthest of the operations that witness a violation, and of those that they build on."""
        operations = self._operations
        rows = {row for row in violation.rows if row >= 0}
        wanted = list(rows)
        while wanted and len(rows) <= _SHOWN:
            code = operations.observes[wanted.pop()]
            writers = np.flatnonzero((operations.writes == code) & (operations.key == violation.key))
            new = [] if code == NOTHING else [row for row in writers.tolist() if row not in rows]
            rows.update(new)
            wanted += new
        if wanted:  # compare-and-sets that build on each other, without an end
            return []
        sources = [int(operations.row[row]) for row in sorted(rows)]
        (part,) = partitions(self._model, operations.source, sources)
        return furthest_orders(self._model, part.operations, _indices(operations.source))

    def staleness(self, violation: Violation) -> tuple[int, int]:
        """How far from atomic the operation that came too late is: (ns, newer writes).

        The time since its value was certainly overwritten (Δ of Golab, Li & Shah, "Analyzing Consistency Properties for
        Fun and Profit", 2011), and how many newer writes had completed (k of k-atomicity). Zero for other violations.
        """
        if self._blocks is None or violation.kind != "conflict":
            return 0, 0
        blocks, operations = self._blocks, self._operations
        late = violation.rows[3]
        own_block = blocks.member[late]
        moment = operations.call[late]
        newer = (
            (blocks.key == violation.key) & (blocks.f[own_block] < blocks.s) & (blocks.f < moment) & (blocks.f > ALWAYS)
        )
        newer[own_block] = False
        if not newer.any():
            return 0, 0
        written = newer[blocks.member] & (operations.writes != NOTHING) & (operations.ret < moment)
        return int(moment - blocks.f[newer].min()), int(np.count_nonzero(written))

    def _witness(self, row: int) -> Witness:
        return witness(self._operations.source, int(self._operations.row[row]))

    def _says(self, row: int) -> str:
        return sentence(self._witness(row), self._clock)

    def _value(self, row: int) -> Any:
        """The value whose operations the row belongs to: what it wrote, else what it read."""
        value = self._witness(row).value
        return value[1] if self._operations.kind[row] == CAS else value

    def _seen(self, row: int) -> Any:
        """The value that the operation found in the register, or what it wrote where it looked at none."""
        value = self._witness(row).value
        return value[0] if self._operations.kind[row] == CAS else value

    def _unwritten(self, violation: Violation) -> tuple[str, str]:
        (row,) = violation.rows
        return (
            "phantom value",
            f"{self._says(row)}, a value that no operation that may have happened ever wrote.",
        )

    def _forked(self, violation: Violation) -> tuple[str, str]:
        a, b = violation.rows
        return "lost update", (
            f"{self._says(a)}, and {self._says(b)}. The value was written once, so it can be replaced once: "
            "whichever came second must have found another value and failed. One of the two updates is lost."
        )

    def _cycle(self, violation: Violation) -> tuple[str, str]:
        clauses = "; ".join(self._says(row) for row in violation.rows)
        return (
            "impossible update",
            f"{clauses}. Each needs the value that another of them wrote, so none can be first.",
        )

    def _order(self, violation: Violation) -> tuple[str, str]:
        early, late = violation.rows
        kinds = self._operations.kind
        gap = self._clock.between(int(self._operations.ret[early]), int(self._operations.call[late]))
        if kinds[late] == READ:
            return "stale read", (
                f"{self._says(early)}: {show(self._value(late))} had been replaced. Yet {self._says(late)}, invoked "
                f"{gap} after that had completed, as if the replacement had never happened."
            )
        if kinds[early] == READ:
            return "read from the future", (
                f"{self._says(early)}, but {self._says(late)}, and {show(self._value(early))} comes from there: that "
                f"was invoked only {gap} after the read had completed."
            )
        return "impossible update", (
            f"{self._says(early)}, and {self._says(late)}. The first builds on the second, which was invoked "
            f"only {gap} after the first had completed."
        )

    def _conflict(self, violation: Violation) -> tuple[str, str]:
        assert self._blocks is not None
        x_return, y_call, y_return, x_call = violation.rows
        clock, operations = self._clock, self._operations
        later = self._later_sightings(x_call, y_return)
        seen_again = operations.call[y_call] > operations.call[x_call]
        kind = "lost write" if later >= 2 and not seen_again and operations.kind[y_return] != READ else "stale read"
        if operations.kind[x_call] != READ and operations.kind[x_call] != CAS:
            kind = "out of order"
        old = show(self._initial(x_call) if x_return < 0 else self._value(x_return))
        new = show(self._value(y_return))
        gap = clock.between(int(operations.ret[y_return]), int(operations.call[x_call]))
        if x_return < 0:
            first = f"The register began with {old}"
        else:
            first = f"{self._says(x_return)}, so {old} was already there"
        proof = "" if y_call in (y_return, x_call) else f" ({self._says(y_call)}, after that)"
        text = (
            f"{first}. Then {self._says(y_return)}: {new} had taken its place{proof}. "
            f"Yet {self._says(x_call)}, invoked {gap} after {new} was certainly there"
        )
        seen = show(self._seen(x_call))
        if seen != old:
            text += f". {seen} comes from {old} through compare-and-sets alone, with no {new} between"
        text += ". "
        if kind == "lost write":
            text += f"From then on {new} was never seen again, and the older value {later} times: the write is lost."
        else:
            text += "Every value is written once, so a register that has moved on cannot show the old one again."
        return kind, text

    def _initial(self, row: int) -> Any:
        at = self._operations
        code = at.observes[row]
        return self._witness(row).value if code != NOTHING and at.kind[row] == READ else None

    def _later_sightings(self, x_call: int, y_return: int) -> int:
        """How many operations of the old block were invoked after one of the new block had completed."""
        assert self._blocks is not None
        same_block = self._blocks.member == self._blocks.member[x_call]
        return int(np.count_nonzero(same_block & (self._operations.call > self._operations.ret[y_return])))


_EXPLAIN_SECONDS = 0.5
"""How long the search for a smaller history may take, and again that for the order that gets furthest."""
_NAMED = 8
"""How many operations of the order that gets furthest are named."""
_POSSIBLE = 6
"""The most values that a read is told to have been able to find."""
_SHOWN = 40
"""How many operations an anomaly carries."""


def explain_search(model: Model, operations: Operations, checked: Checked, periods: list[Period]) -> Anomaly:
    """The anomaly of a partition that no order explains: the smallest part of it, and where every order ends."""
    kept, furthest = minimal(model, checked.partition.operations, checked.outcome, _EXPLAIN_SECONDS)
    clock = Clock(operations.history)
    kept.sort(key=lambda op: (op.ret, op.start))
    last = sorted(kept, key=lambda op: (min(op.ret, furthest.ret), op.start))[-_SHOWN:]
    key = checked.partition.key
    shown = "" if len(last) == len(kept) else f" (the last {len(last)} are shown)"
    text = f"{about(key)}no order of these {len(kept):,} operations{shown} explains all of them. "
    text += f"The one that none can place: {sentence(witness(operations, furthest.row), clock)}. "
    text += _furthest(model, kept, furthest)
    during = min(op.start for op in last), furthest.ret
    orders = furthest_orders(model, kept, _indices(operations))
    rows = [op.row for op in last]
    return anomaly(operations, periods, "not linearizable", text, rows, key=key, during=during, orders=orders)


def possible_values(operations: Operations, read: int) -> list[Any]:
    """What a read can have found in a correct register; empty if nothing is known, or too much.

    Only what was written before the read was over, and not replaced for certain before it began.
    """
    at = operations
    writing = np.array([name in ("write", "cas") for name in at.history.functions])[at.f]
    writes = np.flatnonzero(writing & (at.key == at.key[read]) & (at.type != FAIL) & (at.call < at.ret[read]))
    over = writes[at.ret[writes] < at.call[read]]
    if not len(over):
        return []
    there = writes[at.ret[writes] >= at.call[over].max()]
    values = [at.done(row)[1] if at.name(row) == "cas" else at.done(row) for row in there[: _POSSIBLE + 1].tolist()]
    return values if len(values) <= _POSSIBLE else []


def _indices(operations: Operations) -> Callable[[int], int]:
    """What gives the index of an operation by its row."""
    return lambda row: operations.history.index_of(int(operations.invoked[row]))


def _furthest(model: Model, kept: Sequence[Timed], furthest: Timed) -> str:
    """An order of all that returned before, in words, and that the operation does not follow it."""
    order = closest(model, kept, furthest, _EXPLAIN_SECONDS)
    if order is None:
        return ""
    calls = {op.row: op.call for op in kept}
    names = [model.describe(calls[row]) for row in order]
    before = "... " if len(names) > _NAMED else ""
    told = before + ", ".join(names[-_NAMED:]) if names else "nothing at all"
    return (
        f"An order of all changes before it is: {told}; no such order makes {model.describe(furthest.call)} possible."
    )
