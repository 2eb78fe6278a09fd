"""Transactions against the definitions: serial orders, snapshots and axioms by brute force; databases of all levels."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import pytest

from harness.checkers.transactions import Transactional
from harness.checkers.transactions.columns import Transactions
from harness.checkers.transactions.cycles import Cycle, cycles
from harness.checkers.transactions.graph import Dependencies, Edges, Kind
from harness.checkers.transactions.list_append import infer
from harness.checkers.transactions.weak import judge
from harness.history import History, from_events
from harness.operation import Event
from harness.verdict import Budget, Verdict
from tests.random_runs import cases
from tests.transactions import databases, graph, levels, planted, random_histories
from tests.transactions.graph import Edge
from tests.transactions.small import Pairs, Txn, process_order, reads_own_writes, real_time, transactions

LEVELS: Final = {
    "serializable": (levels.serializable, "none"),
    "strong-session-serializable": (levels.serializable, "process"),
    "strict-serializable": (levels.serializable, "realtime"),
    "snapshot-isolation": (levels.snapshot_isolated, "none"),
    "strong-session-snapshot-isolation": (levels.snapshot_isolated, "process"),
    "strong-snapshot-isolation": (levels.snapshot_isolated, "realtime"),
}
SERIAL: Final = tuple(level for level in LEVELS if level.endswith("serializable"))
WEAK: Final = ("read-committed", "read-atomic", "causal")


def orders(txns: Sequence[Txn]) -> dict[str, Pairs]:
    return {"none": frozenset(), "process": process_order(txns, crashed=True), "realtime": real_time(txns)}


def shown(history: History) -> str:
    """A history as lines to look at."""
    return "\n".join(f"{e.time} {e.process} {e.type} {e.value}" for e in history.events())


def judged(history: History, workload: str, model: str) -> Verdict:
    return Transactional(workload=workload, models=(model,)).check(history, Budget())


def agrees(verdict: Verdict, expected: bool) -> bool:
    """Whether a verdict is what was expected. Where nothing depends on anything it may say just that."""
    empty = "empty-transaction-graph" in verdict.evidence.get("anomaly_types", ())
    return verdict.validity == ("valid" if expected else "invalid") or (expected and empty)


def random_transactions(rng: random.Random, number: int) -> History:
    """Transactions of which only the times matter."""
    events: list[Event] = []
    open_: dict[int, int] = {}
    process = list(range(rng.randint(1, number)))
    begun = now = 0
    while begun < number or open_:
        now += 1
        at = rng.randrange(len(process))
        if at in open_:
            kind = rng.choices(("ok", "info"), (8, 1))[0]
            events.append(Event(0, now, process[at], kind, "txn", value=[["r", "x", []]]))  # type: ignore[arg-type]
            del open_[at]
            process[at] += number if kind == "info" else 0
        elif begun < number:
            begun += 1
            open_[at] = begun
            events.append(Event(0, now, process[at], "invoke", "txn", value=[["r", "x", None]]))
    return from_events(events)


def around(cycle: Cycle, edges: set[Edge]) -> set[Edge]:
    """The edges that cycles of the same class may have, within the strong component of a cycle."""
    barred = {"process", "realtime"}
    if cycle.kind.endswith(("-process", "-realtime")):
        barred = {"realtime"} if cycle.kind.endswith("-process") else set()
    if cycle.kind.startswith(("G0", "G1c")):
        barred |= {"rw", "rwp"}
    if cycle.kind.startswith("G0"):
        barred |= {"wr", "wrp"}
    if "-item" in cycle.kind:
        barred |= {"rwp"}
    allowed = {edge for edge in edges if edge.kind not in barred}
    start = cycle.transactions[0]
    inside = {node for node in reached(start, allowed) if start in reached(node, allowed)}
    return {edge for edge in allowed if edge.source in inside and edge.target in inside}


def reached(start: int, edges: set[Edge]) -> set[int]:
    """What a path of an edge or more leads to."""
    there = {edge.target for edge in edges if edge.source == start}
    while more := {edge.target for edge in edges if edge.source in there} - there:
        there |= more
    return there


@pytest.mark.parametrize("asked", ["data", "process", "realtime", "both"])
def test_classes_of_cycles_are_those_of_all_simple_cycles(asked: str) -> None:
    """Every cycle that is told is one, once around, of the class that it is called by; of every class there is one
    that is told, or a stronger one.
    """
    rng = random.Random(f"cycles/{asked}")
    ordered = {"data": (), "process": (Kind.PROCESS,), "realtime": (Kind.REALTIME,)}
    for _ in range(cases(1000)):
        number = rng.randint(2, 7)
        history = random_transactions(rng, number)
        txns = transactions(history, lists=True)
        kinds = rng.choice(([0, 1, 2], [0, 0, 0, 1, 2], [1, 2, 2, 2], list(range(6)), [2], [2, 2, 2, 5]))
        drawn = [(rng.choice(kinds), *rng.sample(range(number), 2)) for _ in range(rng.randint(1, 2 * number))]
        edges = {Edge(a, b, Kind(kind).label) for kind, a, b in drawn}
        parts = [Edges.of(Kind(kind), [a], [b]) for kind, a, b in drawn]
        wanted = ordered.get(asked, (Kind.PROCESS, Kind.REALTIME))
        if Kind.PROCESS in wanted:
            edges |= {Edge(a, b, "process") for a, b in process_order(txns, crashed=True)}
        if Kind.REALTIME in wanted:
            edges |= {Edge(a, b, "realtime") for a, b in real_time(txns)}
        there = graph.simple_cycles(edges)
        told, counts = cycles(Dependencies(Transactions.of(history.operations()), Edges.join(parts)), wanted)
        names = {cycle.kind for cycle in told}
        where = f"{shown(history)}\n{sorted(edges)}\ntold {names}, there is {there}"
        assert names <= there.keys(), where
        assert graph.strongest(there) <= names, where
        assert names <= counts.keys(), where
        for cycle in told:
            near = around(cycle, edges)  # one is told of each component that has the class: a shortest one there
            assert len(cycle.edges) == graph.simple_cycles(near)[cycle.kind], (
                f"not a shortest one: {cycle.kind}\n{where}"
            )
            assert len(set(cycle.transactions)) == len(cycle.transactions) == len(cycle.edges), where
            pairs = zip(cycle.transactions, (*cycle.transactions[1:], cycle.transactions[0]), strict=True)
            steps = [Edge(a, b, step.kind.label) for (a, b), step in zip(pairs, cycle.edges, strict=True)]
            assert steps == [Edge(step.source, step.target, step.kind.label) for step in cycle.edges], where
            assert set(steps) <= edges, where
            assert graph.class_of([step.kind for step in steps]) == cycle.kind, where


def test_what_is_inferred_of_lists() -> None:
    """Anomalies that are no cycles, and the classes of those that the edges make."""
    rng = random.Random("lists/inferred")
    met: Counter[str] = Counter()
    for _ in range(cases(600)):
        history = random_histories.of_lists(rng)
        txns = transactions(history, lists=True)
        expected = graph.phenomena(txns)
        found = infer(Transactions.of(history.operations()))
        kinds = {kind for kind in found.counts if kind in NAMES}
        assert kinds == expected, f"{shown(history)}\ninferred {found.counts}, there is {expected}"
        met.update(expected)
        if expected.isdisjoint(("incompatible-order", "duplicate-elements", "garbage-read", "G1a")):
            ours = _classes(graph.data_edges(txns), txns)
            edges = zip(*(c.tolist() for c in (found.edges.source, found.edges.target, found.edges.kind)), strict=True)
            theirs = _classes({Edge(a, b, Kind(kind).label) for a, b, kind in edges}, txns)
            assert theirs == ours, f"{shown(history)}\ninferred {theirs}, there is {ours}"
    assert set(met) == NAMES


NAMES: Final = {
    "G1a",
    "G1b",
    "internal",
    "future-read",
    "duplicate-elements",
    "incompatible-order",
    "dirty-update",
    "lost-update",
    "garbage-read",
}


def _classes(data: set[Edge], txns: Sequence[Txn]) -> set[str]:
    order = orders(txns)
    also = {Edge(a, b, kind) for kind in ("process", "realtime") for a, b in order[kind]}
    return graph.strongest(graph.simple_cycles(data | also))


def test_lists_have_the_levels_that_serial_orders_and_snapshots_explain() -> None:
    rng = random.Random("lists/levels")
    met: Counter[tuple[str, bool]] = Counter()
    for _ in range(cases(300)):
        history = random_histories.of_lists(rng)
        txns = transactions(history, lists=True)
        order = orders(txns)
        level = rng.choice(list(LEVELS))
        holds, ordered = LEVELS[level]
        expected = holds(txns, order[ordered])
        verdict = judged(history, "list-append", level)
        assert agrees(verdict, expected), f"{level} {expected}: {verdict.reason}\n{shown(history)}"
        met[level, expected] += 1
    assert len(met) == 2 * len(LEVELS)


def test_the_levels_that_lists_are_said_not_to_have_are_those_that_nothing_explains() -> None:
    rng = random.Random("lists/not")
    for _ in range(cases(150)):
        history = random_histories.of_lists(rng)
        txns = transactions(history, lists=True)
        order = orders(txns)
        verdict = judged(history, "list-append", "strict-serializable")
        refuted = {*verdict.evidence["not"], *verdict.evidence["also_not"]}
        for level, (holds, ordered) in LEVELS.items():
            expected = not holds(txns, order[ordered])
            said = level in refuted or level.replace("strict", "strong") in refuted
            # Sessions alone are not looked at where real time is: cycles with either are told as those of real time.
            assert expected if said else not expected or "session" in level, f"{level} {refuted}\n{shown(history)}"


@pytest.mark.parametrize("workload", ["list-append", "rw-register", "rmw"])
def test_no_level_that_is_said_to_be_kept_is_refuted(workload: str) -> None:
    rng = random.Random(f"kept/{workload}")
    met: Counter[str] = Counter()
    for _ in range(cases(200)):
        lists = workload == "list-append"
        history = (
            random_histories.of_lists(rng)
            if lists
            else random_histories.of_registers(rng, reads_first=workload == "rmw")
        )
        asked = rng.choice(["strict-serializable", "strong-session-serializable", "serializable", "read-committed"])
        txns = transactions(history, lists=lists)
        order = orders(txns)
        for level in judged(history, workload, asked).evidence.get("kept", ()):
            verdict = judged(history, workload, level)
            told = f"{asked} {level}: {verdict.reason}\n{shown(history)}"
            assert verdict.validity != "invalid", told
            if level in LEVELS:
                holds, ordered = LEVELS[level]
                assert holds(txns, order[ordered]), told
            met[level] += 1
    assert {"strict-serializable", "causal"} <= met.keys()


@pytest.mark.parametrize("level", WEAK)
def test_registers_have_the_weak_levels_that_the_axioms_allow(level: str) -> None:
    rng = random.Random(f"registers/{level}")
    met: Counter[bool] = Counter()
    for _ in range(cases(500)):
        history = random_histories.of_registers(rng)
        txns = transactions(history, lists=False)
        if level == "read-committed" and not all(map(reads_own_writes, txns)):
            continue  # the axioms take it for granted; in Adya's levels, and in ours, read atomic asks for it
        sessions = process_order(txns, crashed=True)
        expected = levels.committed_by(txns, level, sessions if level == "causal" else frozenset())
        verdict = judged(history, "rw-register", level)
        assert agrees(verdict, expected), f"{level} {expected}: {verdict.reason}\n{shown(history)}"
        met[expected] += 1
        in_sessions = levels.committed_by(txns, level, sessions)
        judgement = judge(Transactions.of(history.operations()), level, sessions=True)  # type: ignore[arg-type]
        assert (judgement.validity == "valid") == in_sessions, f"{level} {in_sessions}\n{shown(history)}"
    assert len(met) == 2


@pytest.mark.parametrize("reads_first", [False, True], ids=["of unknown order", "read before they are written"])
def test_registers_have_the_levels_that_serial_orders_and_snapshots_explain(reads_first: bool) -> None:
    rng = random.Random(f"registers/levels/{reads_first}")
    met: Counter[tuple[str, bool]] = Counter()
    for _ in range(cases(300)):
        history = random_histories.of_registers(rng, reads_first=reads_first)
        txns = transactions(history, lists=False)
        order = orders(txns)
        level = rng.choice(list(LEVELS))
        holds, ordered = LEVELS[level]
        expected = holds(txns, order[ordered])
        verdict = judged(history, "rmw" if reads_first else "rw-register", level)
        told = f"{level} {expected}: {verdict.validity} {verdict.reason}\n{shown(history)}"
        assert agrees(verdict, expected), told
        met[level, expected] += 1
    assert len(met) == 2 * len(LEVELS)


DATABASES: Final[tuple[tuple[type[databases.Database], str, str], ...]] = (
    (databases.Serial, "list-append", "strict-serializable"),
    (databases.Optimistic, "list-append", "strict-serializable"),
    (databases.OldReads, "list-append", "serializable"),
    (databases.Snapshot, "list-append", "strong-snapshot-isolation"),
    (databases.SessionSnapshots, "list-append", "strong-session-snapshot-isolation"),
    (databases.OldSnapshots, "list-append", "snapshot-isolation"),
    (databases.ParallelSnapshots, "list-append", "parallel-snapshot-isolation"),
    (databases.ReadCommitted, "list-append", "strong-read-committed"),
    (databases.ReadUncommitted, "list-append", "read-uncommitted"),
    (databases.Serial, "rw-register", "strict-serializable"),
    (databases.Optimistic, "rw-register", "strict-serializable"),
    (databases.OldReads, "rw-register", "serializable"),
    (databases.Snapshot, "rw-register", "strong-snapshot-isolation"),
    (databases.SessionSnapshots, "rw-register", "strong-session-snapshot-isolation"),
    (databases.OldSnapshots, "rw-register", "snapshot-isolation"),
    (databases.ParallelSnapshots, "rw-register", "causal"),
    (databases.SessionSnapshots, "rw-register", "causal"),
    (databases.Replicated, "rw-register", "causal"),
    (databases.Replicated, "rw-register", "read-atomic"),
    (databases.ReadCommitted, "rw-register", "read-committed"),
    (databases.Optimistic, "rmw", "strict-serializable"),
    (databases.OldReads, "rmw", "serializable"),
    (databases.Snapshot, "rmw", "strong-snapshot-isolation"),
    (databases.OldSnapshots, "rmw", "snapshot-isolation"),
)


@pytest.mark.parametrize(
    ("kind", "workload", "model"), DATABASES, ids=[f"{kind.__name__}-{w}-{m}" for kind, w, m in DATABASES]
)
def test_no_alarm_at_a_database_of_the_level(kind: type[databases.Database], workload: str, model: str) -> None:
    rng = random.Random(f"{kind.__name__}/{workload}/{model}")
    for _ in range(min(cases(40), 10_000)):
        load = databases.Load(
            lists=workload == "list-append",
            keys=rng.randint(1, 6),
            longest=rng.randint(1, 5),
            reads=rng.choice((0.3, 0.5, 0.8)),
            reads_first=workload == "rmw",
        )
        most = 12 if workload == "rw-register" and model not in WEAK else 60
        history = databases.run(
            rng, kind(rng), load, transactions=rng.randint(2, most), clients=rng.randint(2, 8), crash=0.1
        )
        verdict = judged(history, workload, model)
        assert agrees(verdict, True), f"{verdict.reason} {verdict.anomalies}\n{shown(history)}"


@pytest.mark.parametrize("name", planted.EXAMPLES)
def test_every_planted_anomaly_is_found_and_named(name: str) -> None:
    rng = random.Random(f"planted/{name}")
    example = planted.EXAMPLES[name]
    for number in range(min(cases(20), 10_000)):
        hidden = number > 0
        history = planted.hidden(rng, example, rng.randint(2, 40)) if hidden else planted.alone(example)
        model = "strong-session-serializable" if name.endswith("-process") else "strict-serializable"
        verdict = judged(history, "list-append", model)
        types: Any = verdict.evidence["anomaly_types"]
        assert {name, *example.also} <= set(types), f"{types}\n{shown(history)}"
        assert verdict.validity == "invalid", types
        of_it = [anomaly for anomaly in verdict.anomalies if anomaly.kind == name]
        assert of_it
        assert of_it[0].operations
        assert of_it[0].text
        own = {step[1] for one in example.transactions for step in one.steps}
        for operation in of_it[0].operations:
            assert {step[1] for step in operation.value} <= own, f"{operation}\n{shown(history)}"


@pytest.mark.parametrize("name", planted.REGISTERS)
def test_what_lies_between_two_levels_is_allowed_by_one_and_refuted_by_the_other(name: str) -> None:
    rng = random.Random(f"planted/registers/{name}")
    example = planted.REGISTERS[name]
    for number in range(min(cases(10), 10_000)):
        history = planted.hidden(rng, example, rng.randint(2, 12)) if number else planted.alone(example)
        refuted = judged(history, "rw-register", example.refuted)
        assert refuted.validity == "invalid", f"{refuted.reason}\n{shown(history)}"
        if example.allowed:
            allowed = judged(history, "rw-register", example.allowed)
            assert allowed.validity == "valid", f"{allowed.reason} {allowed.anomalies}\n{shown(history)}"
