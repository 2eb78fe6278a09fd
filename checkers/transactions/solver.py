"""Serializability and snapshot isolation of registers whose version order nobody knows.

Both are NP-complete (Papadimitriou, "The serializability of concurrent database updates", 1979; Biswas & Enea, "On the
Complexity of Checking Transactional Consistency", 2019). A serial order is an order of events, one for each
transaction; snapshot isolation is an order of twice as many, starts that read and commits that write, in which two
transactions that write one key do not overlap (Cerone & Gotsman, "Analysing Snapshot Isolation", 2016).

What is certain comes first: reads, the order that fractured reads force, and the orders of processes and of time that
the model has. Then an order of events near to that of the completions is tried. What it gets wrong becomes constraints,
each a choice between two edges: where t3 reads a key from t1, every other writer t2 commits before t1 or after t3. A
SAT solver chooses, cycles among what it chose become clauses, and so on until an order is right or no choice is left.
So most choices, of which there are quadratically many, are never looked at; and the answer is exact, or unknown.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from harness.checkers.transactions import commit_order
from harness.checkers.transactions.circular import shortest
from harness.checkers.transactions.columns import NEVER_CALLED, Transactions
from harness.checkers.transactions.components import grouped, strong_components
from harness.checkers.transactions.reads import INITIAL, Reads, name
from harness.checkers.transactions.replay import linear, replay, way_back
from harness.checkers.transactions.sessions import processes, session_order
from harness.columns import Ints
from harness.history import INFO, NEVER, OK
from harness.verdict import Budget, Validity
from harness.words import count, named, show

Model = Literal[
    "serializable",
    "strong-session-serializable",
    "strict-serializable",
    "snapshot-isolation",
    "strong-session-snapshot-isolation",
    "strong-snapshot-isolation",
]

ABSENT: Final = "needs splitbrain[sat]: the SAT solver python-sat is not installed"

_CONFLICTS: Final = 2_000
"""After how many conflicts the solver looks at the clock."""
_CYCLES: Final = 400
"""The most cycles that one round forbids."""
_SHOWN: Final = 12
"""The most reasons that are written out."""
_SHRINKING: Final = 5.0
"""How many seconds may go into making the reasons fewer."""

Edge = tuple[int, int]
"""One event before another."""


@dataclass(frozen=True)
class Answer:
    """Whether an order exists, and why not.

    ``transactions`` are rows of those that contradict each other; ``order`` is the order of commits where there is one.
    """

    validity: Validity
    reason: str
    transactions: tuple[int, ...] = ()
    order: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Choice:
    """One of two edges holds, since ``reader`` read ``key`` from ``writer`` and ``other`` wrote it, too.

    ``writer`` is None where two that write one key must not overlap.
    """

    one: Edge
    two: Edge
    reader: int
    writer: int | None
    other: int
    key: int


def solve(
    transactions: Transactions, model: Model, budget: Budget | None = None, *, reads: Reads | None = None
) -> Answer:
    """Look for an order of the transactions that a model allows; unknown where the budget ends before the search.

    Transactions that failed are in none; of the crashed ones those are whose writes were read: an order with others is
    one without them, too. ``reads`` are those of the history where they are known already.
    """
    budget = Budget() if budget is None else budget
    reads = Reads.of(transactions) if reads is None else reads
    if reads.found:
        first = reads.found[0]
        return Answer("invalid", first.text, first.transactions)
    search = _Search(reads, model, time.monotonic() + budget.seconds)
    answer = search.run()
    if answer.validity == "valid" and reads.unknown:
        return Answer("unknown", reads.unknown)
    return answer


class _Search:
    def __init__(self, reads: Reads, model: Model, deadline: float) -> None:
        self.t, self.reads, self.deadline = reads.transactions, reads, deadline
        self.split = "snapshot" in model
        self.choices: list[_Choice] = []
        self.chosen: dict[Edge, int] = {}
        """The edges of choices, with their literals."""
        self.cycles: list[tuple[list[int], tuple[int, ...]]] = []
        """Clauses against cycles, with the transactions of each."""
        self.variables: dict[Edge, int] = {}
        self.solver: Any = None
        self.added: set[Edge] = set()
        """Edges that became certain while searching."""
        self.offered: set[tuple[Edge, Edge]] = set()
        """The pairs of edges that are choices already."""
        self.forbidden: set[tuple[int, ...]] = set()
        """The clauses against cycles that are there already."""
        self.events = (1 + self.split) * len(self.t)
        self.source, self.target = self._known(model)
        self.rank = self._rank()

    def _start(self, transaction: Any) -> Any:
        return 2 * transaction if self.split else transaction

    def _commit(self, transaction: Any) -> Any:
        return 2 * transaction + 1 if self.split else transaction

    def _owner(self, event: int) -> int:
        """The transaction of an event, or -1 for a moment of the clock."""
        if event >= (1 + self.split) * len(self.t):
            return -1
        return event >> 1 if self.split else event

    def _known(self, model: Model) -> tuple[Ints, Ints]:
        """The edges that are certain."""
        t, r = self.t, self.reads
        nodes = np.flatnonzero(r.happened)
        reader = np.repeat(np.arange(len(t)), np.diff(r.read_start))
        source = r.read_source.astype(np.int64)
        real = source >= 0
        edges = [(self._commit(source[real]), self._start(reader[real]))]
        alone = np.arange(len(t), dtype=np.int32)
        forced = commit_order.read_atomic(
            len(t.keys),
            r.happened,
            np.zeros(len(t), dtype=np.bool_),
            alone,
            len(t),
            r.read_start,
            r.read_key,
            r.read_source,
            r.write_start,
            r.write_key,
        ).astype(np.int64)
        self.torn = forced[forced[:, 1] < 0]
        forced = forced[forced[:, 1] >= 0]
        edges.append((self._commit(forced[:, 0]), self._commit(forced[:, 1])))
        if self.split:
            edges.append((self._start(nodes), self._commit(nodes)))
        if "session" in model:
            process = processes(t)
            previous = session_order(r.happened, t.type == INFO, process, len(t))[1]
            after = np.flatnonzero(previous >= 0)
            edges.append((self._commit(previous[after].astype(np.int64)), self._start(after)))
        elif model in ("strict-serializable", "strong-snapshot-isolation"):
            edges += self._real_time(nodes)
        return np.concatenate([a for a, _ in edges]), np.concatenate([b for _, b in edges])

    def _real_time(self, nodes: Ints) -> list[tuple[Ints, Ints]]:
        """Real time by moments: a chain of the completions, which lead to theirs, and from which invocations follow."""
        t = self.t
        ended = nodes[(t.ret[nodes] != NEVER) & (t.type[nodes] == OK)]
        called = nodes[t.call[nodes] != NEVER_CALLED]
        moments = np.unique(t.ret[ended])
        first = self.events
        self.events += len(moments)
        at = np.searchsorted(moments, t.call[called]) - 1
        after, at = called[at >= 0], at[at >= 0]
        chain = first + np.arange(len(moments))
        return [
            (self._commit(ended), first + np.searchsorted(moments, t.ret[ended])),
            (chain[:-1], chain[1:]),
            (first + at, self._start(after)),
        ]

    def _rank(self) -> Ints:
        """The order of events to begin with: by completions, and starts by invocations."""
        t = self.t
        called = np.where(t.call == NEVER_CALLED, t.ret, t.call)
        ended = np.where(t.ret == NEVER, called, t.ret)
        moments = np.zeros(self.events, np.int64)
        moments[self._commit(np.arange(len(t)))] = ended
        if self.split:
            moments[0 : 2 * len(t) : 2] = called
        rank = np.empty(self.events, np.int64)
        rank[np.argsort(moments, kind="stable")] = np.arange(self.events)
        return rank

    def run(self) -> Answer:
        """Alternate between orders and choices until one of them is right or none is left."""
        if len(self.torn):
            t2, _, row = self.torn[0].tolist()
            reader = int(self.t.owner[self.reads.read_at[row]])
            key = named(self.t.keys[self.reads.read_key[row]])
            a, b = name(self.t, t2), name(self.t, reader)
            return Answer("invalid", f"{b} saw {a}, and yet found nothing at key {key}, which {a} wrote.", (t2, reader))
        while True:
            if time.monotonic() > self.deadline:
                return Answer("unknown", "the budget of time was spent before the search for an order came to an end")
            edges = self._chosen_edges()
            extra = np.array(edges, np.int64).reshape(-1, 2)
            source = np.concatenate([self.source, extra[:, 0]])
            target = np.concatenate([self.target, extra[:, 1]])
            begin, by_source = grouped(self.events, source)
            source, target = source[by_source], target[by_source]
            order = linear(begin, target, self.rank)
            if len(order) < self.events:
                chosen = by_source >= len(self.source)
                if (answer := self._forbid(begin, source, target, chosen)) is not None:
                    return answer
            else:
                r = self.reads
                wrong = replay(
                    order,
                    self.split,
                    len(self.t.keys),
                    r.read_start,
                    r.read_key,
                    r.read_source,
                    r.write_start,
                    r.write_key,
                )
                if not len(wrong):
                    return self._valid(order)
                if not self._constrain(wrong):
                    continue
            answer = self._choose()
            if answer is not None:
                return answer

    def _valid(self, order: Ints) -> Answer:
        owners = [self._owner(int(event)) for event in order if not self.split or event & 1]
        happened = [owner for owner in owners if owner >= 0 and self.reads.happened[owner]]
        reason = f"an order of {count(len(happened), 'transaction')} explains every read"
        return Answer("valid", reason, (), tuple(happened))

    # Constraints

    def _constrain(self, wrong: Ints) -> bool:
        """Turn what an order got wrong into choices; false if all of it became certain edges instead."""
        certain: list[Edge] = []
        before = len(self.choices)
        for row, i, other in wrong.tolist():
            if row < 0:
                key = -1 - row
                one, two = (self._commit(other), self._start(i)), (self._commit(i), self._start(other))
                self._choice(_Choice(one, two, i, None, other, key))
                continue
            key, t1 = int(self.reads.read_key[row]), int(self.reads.read_source[row])
            after = (self._start(i), self._commit(other))
            if t1 == INITIAL:
                if after not in self.added:
                    self.added.add(after)
                    certain.append(after)
                continue
            self._choice(_Choice((self._commit(other), self._commit(t1)), after, i, t1, other, key))
        if certain:
            added = np.array(certain, np.int64)
            self.source = np.concatenate([self.source, added[:, 0]])
            self.target = np.concatenate([self.target, added[:, 1]])
        return len(self.choices) > before

    def _choice(self, choice: _Choice) -> None:
        if choice.one != choice.two and (choice.one, choice.two) not in self.offered:
            self.offered.update([(choice.one, choice.two), (choice.two, choice.one)])
            self.choices.append(choice)

    def _literal(self, edge: Edge) -> int:
        """The variable of a pair of events: whether the lesser is before the greater."""
        a, b = edge
        pair = (a, b) if a < b else (b, a)
        variable = self.variables.setdefault(pair, len(self.variables) + 1)
        return variable if a < b else -variable

    # The solver

    def _choose(self) -> Answer | None:
        """Have the solver choose; an answer if it cannot."""
        if self.solver is None:
            try:
                from pysat.solvers import Glucose4
            except ImportError:
                return Answer("unknown", ABSENT)
            self.solver = Glucose4()
            self.told = self.told_cycles = self.phased = 0
        for choice in self.choices[self.told :]:
            a, b = self._literal(choice.one), self._literal(choice.two)
            self.chosen[choice.one], self.chosen[choice.two] = a, b
            self.solver.add_clause([a, b])
            self.solver.add_clause([-a, -b])
        self.told = len(self.choices)
        for clause, _ in self.cycles[self.told_cycles :]:
            self.solver.add_clause(clause)
        self.told_cycles = len(self.cycles)
        pairs = list(self.variables)[self.phased :]
        if pairs:
            self.phased = len(self.variables)
            # What the first order says is tried first.
            self.solver.set_phases([self._literal((a, b) if self.rank[a] < self.rank[b] else (b, a)) for a, b in pairs])
        satisfiable = self._limited(self.solver, [])
        if satisfiable is None:
            return Answer("unknown", "the budget of time was spent before the solver came to an end")
        return None if satisfiable else self._impossible()

    def _limited(self, solver: Any, assumptions: list[int], deadline: float | None = None) -> bool | None:
        """Solve; None when the time is over."""
        while True:
            solver.conf_budget(_CONFLICTS)
            answer: bool | None = solver.solve_limited(assumptions=assumptions)
            if answer is not None:
                return answer
            if time.monotonic() > (self.deadline if deadline is None else deadline):
                return None

    def _chosen_edges(self) -> list[Edge]:
        if self.solver is None or not self.choices:
            return []
        model = self.solver.get_model()
        return list(dict.fromkeys(edge for edge, a in self.chosen.items() if (model[abs(a) - 1] > 0) == (a > 0)))

    def _forbid(self, begin: Ints, source: Ints, target: Ints, chosen: Ints) -> Answer | None:
        """Turn the cycles among what is certain and what was chosen into clauses; an answer if nothing was chosen."""
        component = strong_components(self.events, source, target)
        sizes = np.bincount(component)
        inside = (component[source] == component[target]) & (sizes[component[source]] > 1)
        candidates = np.flatnonzero(inside & chosen)
        free = chosen.astype(np.int8)
        knots = np.unique(component[source[inside]])
        # A component without a choice is a contradiction by itself.
        certain = np.setdiff1d(knots, component[source[candidates]])
        if len(certain):
            rows = shortest(np.flatnonzero(component == certain[0]), begin, target, component, 10_000_000)
            events = [int(source[row]) for row in rows.tolist()]
            shown = tuple(dict.fromkeys(owner for event in events if (owner := self._owner(event)) >= 0))
            return Answer("invalid", self._circle(shown), shown)
        via = np.full(len(begin) - 1, -1, np.int64)
        now, later = np.empty(len(target) + 1, np.int64), np.empty(len(target) + 1, np.int64)
        if len(candidates) > _CYCLES:
            candidates = candidates[:: len(candidates) // _CYCLES + 1]
        for edge in candidates.tolist():
            rows = way_back(begin, source, target, free, component, edge, int(source[edge]), via, now, later).tolist()
            clause = [-self.chosen[int(source[row]), int(target[row])] for row in rows if chosen[row]]
            if (once := tuple(sorted(clause))) not in self.forbidden:
                self.forbidden.add(once)
                owners = (self._owner(int(source[row])) for row in rows)
                self.cycles.append((clause, tuple(dict.fromkeys(owner for owner in owners if owner >= 0))))
        return None

    # Explanations

    def _circle(self, shown: tuple[int, ...]) -> str:
        names = [name(self.t, i) for i in shown]
        if len(names) > _SHOWN:
            names = [*names[:_SHOWN], "..."]
        return f"What is certain is a cycle already: {' before '.join([*names, names[0]])}."

    def _impossible(self) -> Answer:
        """Which choices cannot be made together."""
        from pysat.solvers import Glucose4

        clauses = [[self._literal(choice.one), self._literal(choice.two)] for choice in self.choices]
        clauses += [clause for clause, _ in self.cycles]
        exclusive = [[-a for a in clauses[at]] for at in range(len(self.choices))]
        deadline = min(time.monotonic() + _SHRINKING, max(self.deadline, time.monotonic() + 0.5))
        first = len(self.variables) + 1
        with Glucose4(bootstrap_with=exclusive) as solver:
            for at, clause in enumerate(clauses):
                solver.add_clause([*clause, -(first + at)])
            needed = list(range(len(clauses)))
            answer = self._limited(solver, [first + at for at in needed], deadline)
            if answer is False:
                needed = sorted(literal - first for literal in solver.get_core() or [])
            for at in list(needed):
                if time.monotonic() > deadline:
                    break
                if at not in needed:
                    continue
                rest = [first + other for other in needed if other != at]
                if self._limited(solver, rest, deadline) is False:
                    needed = sorted(literal - first for literal in solver.get_core() or [])
        choices = [self.choices[at] for at in needed if at < len(self.choices)]
        shown: dict[int, None] = {}
        for choice in choices:
            involved = [choice.reader, choice.other, *([] if choice.writer is None else [choice.writer])]
            shown.update(dict.fromkeys(involved))
        for at in needed:
            if at >= len(self.choices):
                shown.update(dict.fromkeys(self.cycles[at - len(self.choices)][1]))
        sentences = [self._because(choice) for choice in choices[:_SHOWN]]
        if len(choices) > _SHOWN:
            sentences.append(f"And {count(len(choices) - _SHOWN, 'more such choice')}.")
        text = " ".join([*sentences, "No choice among these leaves an order of the transactions without a cycle."])
        return Answer("invalid", text, tuple(shown))

    def _because(self, choice: _Choice) -> str:
        t = self.t
        key, reader, other = named(t.keys[choice.key]), name(t, choice.reader), name(t, choice.other)
        if choice.writer is None:
            return f"{reader} and {other} both write key {key}, so one commits before the other starts."
        writer, value = name(t, choice.writer), show(self.reads.wrote(choice.writer, choice.key))
        return (
            f"{reader} read {value} of key {key} from {writer}, so {other}, which writes it, too, is before {writer} "
            f"or after {reader}."
        )
