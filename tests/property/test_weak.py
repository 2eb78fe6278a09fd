"""Weak isolation, serializability and snapshot isolation of registers, against the definitions, by brute force."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import pytest

from harness.checkers.transactions import forced
from harness.checkers.transactions.columns import Transactions
from harness.checkers.transactions.solver import Model, solve
from harness.checkers.transactions.weak import Level, Step, Violation, judge
from harness.history import from_events
from harness.operation import Event
from harness.verdict import Budget
from tests.random_runs import cases

LEVELS: tuple[Level, ...] = ("read-committed", "read-atomic", "causal")
CASES = cases(1500)

Micro = tuple[str, int, int | None]


class Txn(NamedTuple):
    """One transaction; ``span`` are the places of its invocation and its completion."""

    process: int
    type: Literal["ok", "info", "fail"]
    parts: tuple[Micro, ...]
    span: tuple[int, float]


def drawn(rng: random.Random) -> list[Txn]:
    """A small history: the answers of a serial store, of one that is a bit wrong, or of nobody."""
    keys = rng.randint(1, 3)
    style = rng.choice(("serial", "snapshot", "torn", "torn", "any"))
    values = itertools.count(1)
    committed: list[dict[int, int]] = [{}]
    written: list[tuple[int, int]] = []
    open_until: dict[int, int] = {}
    txns: list[Txn] = []
    processes = list(range(rng.randint(1, 3)))
    for at in range(rng.randint(2, 5)):
        which = rng.randrange(len(processes))
        process = processes[which]
        kind: Any = rng.choices(("ok", "info", "fail"), (8, 1.5, 0.7))[0]
        back = rng.randint(1, min(3, len(committed))) if style != "serial" else 1
        snapshot = committed[-back]
        parts: list[Micro] = []
        own: dict[int, int] = {}
        for _ in range(rng.randint(1, 4)):
            key = rng.randrange(keys)
            if rng.random() < 0.45:
                own[key] = next(values)
                parts.append(("w", key, own[key]))
                written.append((key, own[key]))
                continue
            if style == "torn" and rng.random() < 0.5:
                snapshot = committed[-rng.randint(1, len(committed))]
            found: int | None = own.get(key, snapshot.get(key))
            if (style == "any" and rng.random() < 0.6) or rng.random() < 0.02:
                found = rng.choice([v for k, v in written if k == key] or [None])
            if rng.random() < 0.005:
                found = 999
            parts.append(("r", key, found))
        if kind == "ok" or (kind == "info" and rng.random() < 0.6):
            committed.append({**committed[-1], **own})
        start = max(open_until.get(process, 0), 4 * at - rng.choice((0, 0, 3, 9)))
        end = max(start + 1, 4 * at + rng.choice((1, 2, 7)))
        open_until[process] = end + 1
        if kind == "info" and rng.random() < 0.7:  # else what crashed is forgotten, and the process goes on
            processes[which] += 3
        txns.append(Txn(process, kind, tuple(parts), (start, end)))
    if rng.random() < 0.3:  # what is read may come of one that is later in the file
        later = rng.choice(txns)
        at = next((i for i, part in enumerate(later.parts) if part[0] == "r"), -1)
        choices = [part for txn in txns for part in txn.parts if part[0] == "w"]
        if at >= 0 and choices:
            _, key, found = rng.choice(choices)
            changed = [*later.parts[:at], ("r", key, found), *later.parts[at + 1 :]]
            txns[txns.index(later)] = later._replace(parts=tuple(changed))
    return txns


def transactions_of(txns: list[Txn]) -> tuple[Transactions, list[Txn]]:
    """The history, and its transactions in the order of their invocations."""
    moments: list[tuple[float, int, int]] = []
    for number, txn in enumerate(txns):
        moments.append((txn.span[0], 1, number))
        moments.append((txn.span[1], 0, number))
    moments.sort()
    events: list[Event] = []
    spans = [[0, float("inf")] for _ in txns]
    for time, (_, starts, number) in enumerate(moments):
        txn = txns[number]
        spans[number][0 if starts else 1] = time
        asked = [[f, key, value if f == "w" else None] for f, key, value in txn.parts]
        kind = "invoke" if starts else txn.type
        value = [list(part) for part in txn.parts] if kind == "ok" else asked
        events.append(Event(len(events), time, txn.process, kind, "txn", None, value))
    order = sorted(range(len(txns)), key=lambda number: spans[number][0])
    ends = [float("inf") if txn.type == "info" else span[1] for txn, span in zip(txns, spans, strict=True)]
    placed = [txns[n]._replace(span=(int(spans[n][0]), ends[n])) for n in order]
    return Transactions.of(from_events(events).operations_or_completions()), placed


class Seen(NamedTuple):
    """What is observed if these transactions happened: session order, and reads as (reader, place, key, writer)."""

    nodes: list[int]
    reads: list[tuple[int, int, int, int]]
    writers: dict[int, list[int]]


def explanations(txns: list[Txn]) -> Iterator[Seen]:
    """For each choice of crashed transactions that happened: what was observed, if every read is right by itself."""
    crashed = [i for i, txn in enumerate(txns) if txn.type == "info"]
    for size in range(len(crashed) + 1):
        for chosen in itertools.combinations(crashed, size):
            nodes = [i for i, txn in enumerate(txns) if txn.type == "ok" or i in chosen]
            final = {(i, key): value for i in nodes for f, key, value in txns[i].parts if f == "w"}
            reads: list[tuple[int, int, int, int]] = []
            right = True
            for i in nodes:
                own: dict[int, int | None] = {}
                for place, (f, key, value) in enumerate(txns[i].parts):
                    if f == "w":
                        own[key] = value
                    elif txns[i].type == "info":
                        continue  # nobody knows what it read
                    elif key in own:
                        right &= own[key] == value
                    elif value is None:
                        reads.append((i, place, key, -1))
                    else:
                        source = [j for (j, k), last in final.items() if k == key and last == value and j != i]
                        right &= len(source) == 1
                        reads += [(i, place, key, j) for j in source]
            if right:
                writers: dict[int, list[int]] = {}
                for j, key in final:
                    writers.setdefault(key, []).append(j)
                yield Seen(nodes, reads, writers)


def axiom(level: Level, seen: Seen, so: set[tuple[int, int]]) -> bool:
    """Whether there is a commit order as the level's axiom asks for; the initial state, -1, is first in it."""
    base = so | {(j, i) for i, _, _, j in seen.reads} | {(-1, i) for i in seen.nodes}
    if level == "causal":
        before = closure(base, [-1, *seen.nodes])
    for permutation in itertools.permutations(seen.nodes):
        place = {node: at for at, node in enumerate((-1, *permutation))}
        if any(place[a] >= place[b] for a, b in base):
            continue
        for i, at, key, t1 in seen.reads:
            for t2 in [-1, *seen.writers.get(key, [])]:
                if t2 in (t1, i):
                    continue
                if level == "read-committed":
                    sees = any(r == i and p < at and j == t2 for r, p, _, j in seen.reads)
                elif level == "read-atomic":
                    sees = (t2, i) in base
                else:
                    sees = (t2, i) in before
                if sees and place[t2] >= place[t1]:
                    break
            else:
                continue
            break
        else:
            return True
    return False


def closure(edges: set[tuple[int, int]], nodes: list[int]) -> set[tuple[int, int]]:
    reach = set(edges)
    for k in nodes:
        for a in nodes:
            if (a, k) in reach:
                reach |= {(a, b) for b in nodes if (k, b) in reach}
    return reach


def session_order(txns: list[Txn], nodes: list[int]) -> set[tuple[int, int]]:
    """Nothing comes after what crashed."""
    waited = [a for a in nodes if txns[a].type != "info"]
    return {(a, b) for a in waited for b in nodes if a < b and txns[a].process == txns[b].process}


def allowed(level: Level, txns: list[Txn]) -> bool:
    return any(axiom(level, seen, session_order(txns, seen.nodes)) for seen in explanations(txns))


def is_witness(level: Level, txns: list[Txn], keys: list[Any], violation: Violation) -> None:
    """Check every step of a violation against the history."""
    assert violation.text.endswith(".")
    assert len(set(violation.transactions)) == len(violation.transactions)
    assert len({step.source for step in violation.edges}) == len(violation.edges)
    final = {(key, value): j for j, txn in enumerate(txns) if txn.type != "fail" for key, value in last(txn).items()}
    reads = [
        (i, place, key, -1 if value is None else final.get((key, value), -2))
        for i, txn in enumerate(txns)
        for place, (f, key, value) in enumerate(txn.parts)
        if f == "r" and txn.type == "ok" and ("w", key) not in {part[:2] for part in txn.parts[:place]}
    ]
    so = session_order(txns, list(range(len(txns)))) | {(-1, i) for i in range(len(txns))}
    before = closure(so | {(j, i) for i, _, _, j in reads if j >= 0}, list(range(len(txns))))

    def holds(step: Step) -> bool:
        if step.kind == "so":
            return (step.source, step.target) in so
        if step.kind == "wr":
            return any((i, key, j) == (step.target, keys[step.key], step.source) for i, _, key, j in reads)
        assert step.source != step.target
        assert keys[step.key] in last(txns[step.source])
        for i, place, key, j in reads:
            if (i, key, j) == (step.reader, keys[step.key], step.target):
                own = any(i == r and j == step.source and (p < place) for r, p, _, j in reads)
                some = own or (step.source, i) in so or any(i == r and j == step.source for r, _, _, j in reads)
                if {"read-committed": own, "read-atomic": some, "causal": (step.source, i) in before}[level]:
                    return all(map(holds, step.road)) and bool(step.road)
        return False

    for one, following in itertools.pairwise([*violation.edges, *violation.edges[:1]]):
        assert one.target == following.source
        assert holds(one), (txns, one)


def last(txn: Txn) -> dict[int, int | None]:
    return {key: value for f, key, value in txn.parts if f == "w"}


@pytest.mark.parametrize("level", LEVELS)
def test_the_axioms_by_all_commit_orders(level: Level) -> None:
    rng = random.Random(LEVELS.index(level))
    outcomes = []
    for _ in range(CASES):
        history, txns = transactions_of(drawn(rng))
        judgement = judge(history, level)
        expected = allowed(level, txns)
        assert (judgement.validity == "valid") == expected, (txns, judgement)
        outcomes.append(expected)
        for violation in judgement.found:
            is_witness(level, txns, history.keys, violation)
    assert 0.2 < sum(outcomes) / len(outcomes) < 0.95


def serial(seen: Seen, before: set[tuple[int, int]]) -> bool:
    """Whether the transactions, one after another in some order, find what they found."""
    writes: dict[int, list[int]] = {i: [k for k, w in seen.writers.items() if i in w] for i in seen.nodes}
    for permutation in itertools.permutations(seen.nodes):
        place = {node: at for at, node in enumerate(permutation)}
        if any(place[a] >= place[b] for a, b in before):
            continue
        state: dict[int, int] = {}
        for i in permutation:
            if any(state.get(key, -1) != j for r, _, key, j in seen.reads if r == i):
                break
            state.update(dict.fromkeys(writes[i], i))
        else:
            return True
    return False


def snapshot(seen: Seen, before: set[tuple[int, int]]) -> bool:
    """Whether some order of each key's versions leaves no cycle without two adjacent read-write edges."""
    sources: dict[tuple[int, int], set[int]] = {}
    for i, _, key, j in seen.reads:
        sources.setdefault((i, key), set()).add(j)
    if any(len(found) > 1 for found in sources.values()):
        return False
    keys = list(seen.writers)
    wr = {(j, i) for i, _, _, j in seen.reads if j >= 0}
    for versions in itertools.product(*(itertools.permutations(seen.writers[key]) for key in keys)):
        ww = {pair for order in versions for pair in itertools.combinations(order, 2)}
        rw = set()
        for (i, key), (j,) in ((where, tuple(found)) for where, found in sources.items()):
            order = versions[keys.index(key)] if key in keys else ()
            rw |= {(i, k) for k in order[(order.index(j) + 1) if j >= 0 else 0 :] if k != i}
        depends = wr | ww | before
        composed = depends | {(a, c) for a, b in depends for b2, c in rw if b == b2}
        if not any((i, i) in closure(composed, seen.nodes) for i in seen.nodes):
            return True
    return False


def real_time(txns: list[Txn], nodes: list[int]) -> set[tuple[int, int]]:
    return {(a, b) for a in nodes for b in nodes if txns[a].type == "ok" and txns[a].span[1] < txns[b].span[0]}


MODELS: dict[Model, tuple[Any, Any]] = {
    "serializable": (serial, lambda txns, nodes: set()),
    "strong-session-serializable": (serial, session_order),
    "strict-serializable": (serial, real_time),
    "snapshot-isolation": (snapshot, lambda txns, nodes: set()),
    "strong-session-snapshot-isolation": (snapshot, session_order),
    "strong-snapshot-isolation": (snapshot, real_time),
}


@pytest.mark.parametrize(("sessions", "chains"), [(1, 2), (1, 16), (2, 1)])
def test_many_sessions_are_chains_or_come_in_parts(sessions: int, chains: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(sessions + chains)
    for _ in range(CASES):
        history, txns = transactions_of(drawn(rng))
        expected = judge(history, "causal")
        with monkeypatch.context() as patch:
            patch.setattr(forced, "_SESSIONS", sessions)
            patch.setattr(forced, "_CHAINS", chains)
            assert judge(history, "causal").validity == expected.validity, txns


@pytest.mark.parametrize("model", MODELS)
def test_orders_of_transactions_by_trying_all(model: Model) -> None:
    rng = random.Random(list(MODELS).index(model))
    exists, order = MODELS[model]
    outcomes = []
    for _ in range(CASES):
        history, txns = transactions_of(drawn(rng))
        answer = solve(history, model, Budget(seconds=60))
        expected = any(exists(seen, order(txns, seen.nodes)) for seen in explanations(txns))
        assert answer.validity == ("valid" if expected else "invalid"), (txns, answer)
        assert answer.reason.strip()
        assert (answer.validity == "invalid") == bool(answer.transactions)
        outcomes.append(expected)
    assert 0.2 < sum(outcomes) / len(outcomes) < 0.95


def concurrent(rng: random.Random, *, snapshots: bool) -> list[Txn]:
    """A longer run of clients whose transactions overlap: each takes effect at one moment, or reads at its start."""
    state: dict[int, int] = {}
    changed: dict[int, int] = {}
    open_: dict[int, tuple[int, list[tuple[str, int]], dict[int, int]]] = {}
    txns: list[Txn] = []
    values = itertools.count(1)
    for now in range(400):
        client = rng.randrange(6)
        if client not in open_:
            asked = [(rng.choice("rw"), rng.randrange(4)) for _ in range(rng.randint(1, 4))]
            open_[client] = (now, asked, dict(state))
            continue
        began, asked, seen = open_.pop(client)
        writes = {key for f, key in asked if f == "w"}
        if snapshots and any(changed.get(key, -1) > began for key in writes):
            continue
        found = dict(seen if snapshots else state)
        parts: list[Micro] = []
        for f, key in asked:
            if f == "w":
                found[key] = next(values)
            parts.append((f, key, found.get(key)))
        state.update({key: found[key] for key in writes})
        changed.update(dict.fromkeys(writes, now))
        txns.append(Txn(client, "ok", tuple(parts), (began, now)))
    return txns


@pytest.mark.parametrize("snapshots", [False, True])
def test_longer_runs_of_stores_that_are_right(snapshots: bool) -> None:
    rng = random.Random(snapshots)
    for _ in range(max(CASES // 300, 3)):
        history, txns = transactions_of(concurrent(rng, snapshots=snapshots))
        for level in LEVELS:
            assert judge(history, level).validity == "valid"
        kinds = [m for m in MODELS if "snapshot" in m or not snapshots]
        for model in kinds:
            answer = solve(history, model, Budget(seconds=60))
            assert answer.validity == "valid", (model, answer.reason)
            assert sorted(answer.order) == list(range(len(txns)))
            if "snapshot" not in model:
                state: dict[int, int | None] = {}
                for i in answer.order:
                    for f, key, value in txns[i].parts:
                        assert f == "w" or state.get(key) == value
                        state[key] = value
