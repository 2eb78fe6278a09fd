"""Cycles of transactions in words: what each did, why one comes before the other, and what nobody can have done."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from harness.checkers.transactions.columns import APPEND, NEVER_CALLED, NIL, READ, Transactions
from harness.checkers.transactions.cycles import Step
from harness.checkers.transactions.graph import Kind
from harness.checkers.transactions.levels import ORDERS, boundary, told
from harness.checkers.witness import Clock
from harness.history import NEVER
from harness.verdict import Edge
from harness.words import key_named, named, show

_LISTED: Final = 8
"""The most elements of a list that are written out."""
_TOLD: Final = 6
"""The most edges of a cycle that its paragraph tells; the rest are among the anomaly's edges."""


class Class(NamedTuple):
    """A class of cycles in its parts: ``G-single``, by items, ``realtime``."""

    base: str
    item: bool
    order: str


def class_of(kind: str) -> Class:
    """The parts of the name of a class: ``G-single-item-realtime`` is a ``G-single`` by items, of real time."""
    base, dash, order = kind.rpartition("-")
    if not dash or order not in ORDERS:
        base, order = kind, ""
    return Class(base.removesuffix("-item"), base.endswith("-item"), order)


_READ_ANOTHER: Final = (Kind.WR, Kind.WRP)
_MISSED: Final = (Kind.RW, Kind.RWP)
_TIMES: Final = (Kind.PROCESS, Kind.REALTIME)


def called(kind: str, steps: Sequence[Step], transactions: Transactions) -> str:
    """What people call a cycle of this class and shape: write skew, long fork, ...; empty for one without a name."""
    base, _, order = class_of(kind)
    missed = [step for step in steps if step.kind in _MISSED]
    other = [step for step in steps if step.kind not in _MISSED]
    if base == "G2" and not order and len(steps) == 2 and len(missed) == 2:
        items = all(step.kind == Kind.RW for step in missed)
        return "lost update" if items and steps[0].key == steps[1].key else "write skew"
    if base == "G-nonadjacent" and len(missed) == 2 and len(steps) == 4 and not order:
        readers = [step.source for step in missed]
        return "long fork" if all(not _writes(transactions, reader) for reader in readers) else ""
    if base == "G-single" and not order and len(steps) == 2:
        if other[0].kind == Kind.WW:
            return "lost update" if other[0].key == missed[0].key else ""
        return "read skew"
    if base == "G-single" and all(step.kind in _TIMES for step in other):
        return "stale read"
    return ""


def refutes(model: str, steps: Sequence[Step]) -> bool:
    """Whether a cycle by itself rules out a model that the name of its class says nothing about.

    Prefix consistency and parallel snapshot isolation in terms of dependencies, after Cerone & Gotsman ("Analysing
    Snapshot Isolation", 2018): the former forbids cycles in which each anti-dependency follows a read of what was
    written, the latter those with at most one anti-dependency.
    """
    if any(step.kind in _TIMES for step in steps):
        return False
    missed = [number for number, step in enumerate(steps) if step.kind in _MISSED]
    if model == "prefix":
        return all(steps[number - 1].kind in _READ_ANOTHER for number in missed)
    return model == "parallel-snapshot-isolation" and len(missed) < 2


def _writes(transactions: Transactions, transaction: int) -> bool:
    span = slice(int(transactions.start[transaction]), int(transactions.start[transaction + 1]))
    return bool((transactions.f[span] != READ).any())


class Storyteller:
    """Tells of the transactions of one history. They are called T and the index of their completion."""

    def __init__(self, transactions: Transactions) -> None:
        self._all = transactions
        self.clock = Clock(transactions.operations.history)
        self._met: set[int] = set()

    def edges(self, steps: Sequence[Step]) -> list[Edge]:
        """The edges of a cycle, each with a sentence of its own: who, where and when."""
        told = []
        for step in steps:
            self._met.clear()
            told.append(
                Edge(
                    step.kind.label,
                    self._all.index(step.source),
                    self._all.index(step.target),
                    self.clause(step),
                    self._all.keys[step.key] if step.key >= 0 else None,
                )
            )
        return told

    def paragraph(self, kind: str, steps: Sequence[Step], model: str | None = None) -> str:
        """A cycle as a paragraph: why each comes before the next, and which stores rule that out, or ``model`` does."""
        self._met.clear()
        clauses = [self.clause(step) for step in steps]
        if len(clauses) > _TOLD:
            half = _TOLD // 2
            clauses = [*clauses[:half], f"and so on for {len(clauses) - _TOLD} more", *clauses[-half:]]
        name = called(kind, steps, self._all)
        levels = [ruled_out(kind)] if model is None else [f"No store that is {told(model)} can do this."]
        parts = [
            f"{'; '.join(clauses)}.",
            _closing(kind, steps),
            f"This is called {name}." if name else "",
            *levels,
        ]
        return " ".join(filter(None, parts))

    def introduced(self, text: str, transactions: Sequence[int]) -> str:
        """A text that calls transactions by their names alone, with who, where and when behind each, once."""
        self._met.clear()
        for one in dict.fromkeys(transactions):
            text = re.sub(rf"\b{self._all.title(one)}\b(?! \()", lambda _, one=one: self._who(one), text, count=1)  # type: ignore[misc]
        return text

    def lost_update(self, transactions: Sequence[int], key: int) -> str:
        """Transactions that read the same of a key, and then wrote it, each."""
        self._met.clear()
        shown = transactions[:_TOLD]
        name = key_named(self._all.keys[key])
        told = []
        for one in shown:
            rows = [row for row in self._micro(one, key) if self._all.key[row] == key]
            read = next((row for row in rows if self._all.f[row] == READ), None)
            saw = None if read is None else self._shown(read)
            found = f"found nothing in {name}" if saw is None else f"read {name} as {saw}"
            wrote = next((row for row in rows if self._all.f[row] != READ), None)
            did = "appended" if wrote is not None and self._all.f[wrote] == APPEND else "wrote"
            what = "something" if wrote is None else show(self._all.value_name(int(self._all.value[wrote])))
            told.append(f"{self._who(one)} {found} and then {did} {what} to it")
        more = f"; and {len(transactions) - len(shown)} more did so" if len(transactions) > len(shown) else ""
        return (
            f"{'; '.join(told)}{more}. So all but one of them have overwritten what they had not seen. This is called "
            "lost update"
        )

    def _shown(self, row: int) -> str | None:
        """What a read found; None for nothing."""
        if self._all.listed[row]:
            return _list(self._all.elements(int(self._all.value[row])))
        value = int(self._all.value[row])
        return None if value == NIL else show(self._all.value_name(value))

    def clause(self, step: Step) -> str:
        """An edge as a clause; a transaction is introduced where it is met for the first time."""
        kind, source, target = step.kind, self._who(step.source), self._who(step.target)
        if kind == Kind.PROCESS:
            process = int(self._all.process[step.source])
            return f"{source} came before {target} in process {process}, which does one thing after the other"
        if kind == Kind.REALTIME:
            return f"{source} had completed before {target} began{self._gap(step)}"
        key = key_named(self._all.keys[step.key]) if step.key >= 0 else "a key"
        if kind in (Kind.WWP, Kind.WRP, Kind.RWP):
            return self._by_predicate(kind, source, target, key)
        after, before = show(self._all.value_name(step.after)), show(self._all.value_name(step.before))
        lists = self._appends(step.target if kind != Kind.WR else step.source, step.key)
        if kind == Kind.WR:
            saw = self._read(step.target, step.key, step.after)
            did = f"appended {after} to {key}" if lists else f"wrote {after} to {key}"
            return f"{source} {did}, before {target} read {key} as {saw}"
        then = f"appended {after} to it" if lists else f"wrote {after} to it"
        if kind == Kind.RW:
            saw = self._read(step.source, step.key, step.before)
            found = f"found nothing in {key}" if saw is None else f"read {key} as {saw}"
            return f"{source} {found}, before {target} {then}"
        first = f"{'appended' if lists else 'wrote'} {before} to {key}"
        return f"{source} {first}, before {target} {then}"

    @staticmethod
    def _by_predicate(kind: Kind, source: str, target: str, key: str) -> str:
        if kind == Kind.WRP:
            return f"{source} changed {key}, before {target} read by a predicate that saw this"
        if kind == Kind.RWP:
            return f"{source} read by a predicate, before {target} changed {key}, which that would have shown"
        return f"{source} changed {key}, before {target} changed it again"

    def _who(self, transaction: int) -> str:
        """A transaction by its name; with its process, node and times where it is met for the first time."""
        title = self._all.title(transaction)
        if transaction in self._met:
            return title
        self._met.add(transaction)
        operations, row = self._all.operations, int(self._all.rows[transaction])
        node = operations.node_name(row)
        where = f" at {named(node)}" if node else ""
        return f"{title} (process {int(self._all.process[transaction])}{where}, {self._when(transaction)})"

    def _when(self, transaction: int) -> str:
        call, ret = int(self._all.call[transaction]), int(self._all.ret[transaction])
        began = "" if call == NEVER_CALLED else self.clock.at(call)
        if ret == NEVER:
            return f"{began}, outcome unknown" if began else "outcome unknown"
        return f"{began} to {self.clock.at(ret)}" if began else f"completed at {self.clock.at(ret)}"

    def _gap(self, step: Step) -> str:
        gap = int(self._all.call[step.target]) - int(self._all.ret[step.source])
        return f", {self.clock.between(0, gap)} later" if gap > 0 else ""

    def _micro(self, transaction: int, key: int) -> range:
        span = range(int(self._all.start[transaction]), int(self._all.start[transaction + 1]))
        rows = [row for row in span if self._all.key[row] == key]
        return range(rows[0], rows[-1] + 1) if rows else range(0)

    def _appends(self, transaction: int, key: int) -> bool:
        return any(self._all.f[row] == APPEND for row in self._micro(transaction, key) if self._all.key[row] == key)

    def _read(self, transaction: int, key: int, version: int) -> str | None:
        """What a transaction read of a key, where that ends in this version; None for nothing."""
        for row in self._micro(transaction, key):
            if self._all.f[row] != READ or self._all.key[row] != key:
                continue
            if self._all.listed[row]:
                elements = self._all.elements(int(self._all.value[row]))
                if version == NIL or elements[-1] == self._all.value_name(version):
                    return _list(elements)
            elif int(self._all.value[row]) == version:
                return None if version == NIL else show(self._all.value_name(version))
        return None if version == NIL else f"{show(self._all.value_name(version))}"


def _list(elements: Sequence[Any]) -> str:
    """A list in a sentence: of a long one its end."""
    if len(elements) <= _LISTED:
        return f"[{' '.join(map(show, elements))}]"
    return f"[... {' '.join(map(show, elements[-_LISTED:]))}] ({len(elements):,} elements)"


def _closing(kind: str, steps: Sequence[Step]) -> str:
    """Why that cannot be."""
    base, _, order = class_of(kind)
    each = "each of the two comes" if len({step.source for step in steps}) == 2 else "each of them comes"
    what = {
        "G0": f"so {each} before the other by what they wrote: their writes are mixed up",
        "G1c": f"so {each} before the other by what they wrote and read of one another",
        "G-single": f"so {each} before the other: one read missed a write that it should have seen",
        "G-nonadjacent": f"so {each} before the others: reads disagree on which of the writes came first",
        "G2": f"so {each} before the other: reads missed writes of transactions that come before them",
    }.get(base, f"so {each} before the other")
    if len({step.source for step in steps}) > 2:
        what = what.replace("before the other:", "before all the others:").replace("the other by", "the others by")
    times = {
        "process": ", if a process sees what it did before",
        "realtime": ", if what has completed is there for whoever begins later",
    }.get(order, "")
    return f"{what[0].upper()}{what[1:]}{times}."


def ruled_out(kind: str) -> str:
    """Which stores cannot have done what an anomaly of this kind shows."""
    levels = [told(model) for model in boundary([kind]).refuted]
    return f"No store that is {' or '.join(levels)} can do this." if levels else ""
