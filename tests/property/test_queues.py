"""Queues: planted violations are named, correct runs are clean, and what is found is not linearizable."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from harness.checkers.linearizability import Linearizable
from harness.checkers.queue import Queue
from harness.history import History
from harness.verdict import Budget
from tests.random_runs import CASES, FOREVER, Done, cases, done, run


def random_queue(
    rng: random.Random, wrong: float, steps: int, *, drains: bool = False, fifo: bool = True, repeat: bool = False
) -> History:
    """Unique elements; with ``wrong`` some are lost, come out twice, out of order, or from nowhere."""
    inside: list[int] = []
    out: list[int] = []
    put = 0
    share = rng.choice((0.35, 0.5, 0.7))

    def draw(rng: random.Random, process: int) -> tuple[str, Any] | None:
        nonlocal put
        if drains and rng.random() < 0.1:
            return "drain", None
        if rng.random() > share:
            return "dequeue", None
        put += 1
        return "enqueue", put % 3 if repeat else put

    def take() -> int | None:
        if rng.random() < wrong:
            return rng.choice([None, None, None, *out[-3:], put + 1, 77])
        if not inside:
            return None
        at = rng.randrange(len(inside)) if not fifo or rng.random() < wrong else 0
        out.append(inside.pop(at))
        return out[-1]

    def apply(f: str, argument: Any, now: int, process: int) -> Any:
        if f == "enqueue":
            if rng.random() >= wrong:
                inside.append(argument)
            return argument
        if f == "dequeue":
            return take()
        taken = []
        while inside:
            element = take()
            if element is not None:
                taken.append(element)
        return taken

    return run(rng, draw, apply, steps=steps)


def judge(history: History, *, fifo: bool = True) -> Counter[str]:
    """How many anomalies of each kind; at most ten of each are explained."""
    verdict = Queue(fifo=fifo).check(history, Budget())
    kinds = Counter(anomaly.kind for anomaly in verdict.anomalies)
    assert (verdict.validity == "invalid") == bool(kinds)
    assert verdict.total >= sum(kinds.values())
    return kinds


def takes(history: History) -> list[Done]:
    return [one for one in done(history, "dequeue") if one.type == "ok" and one.answer is not None]


def patterns(history: History) -> set[str]:
    """The four patterns of a queue with unique elements, without dequeues of unknown outcome, as they are defined."""
    puts = {one.argument: one for one in done(history, "enqueue") if one.type != "fail"}
    found = set()
    by_element: dict[int, list[Done]] = {}
    for take in takes(history):
        by_element.setdefault(take.answer, []).append(take)
        if take.answer not in puts or puts[take.answer].call > take.ret:
            found.add("phantom")
    first = {element: min(some, key=lambda one: one.ret) for element, some in by_element.items()}
    if any(len(some) > 1 and element in puts for element, some in by_element.items()):
        found.add("duplicated")
    acknowledged = {element: one for element, one in puts.items() if one.type == "ok"}
    empty = [one for one in done(history, "dequeue") if one.type == "ok" and one.answer is None]
    if any(one.ret < seen.call for e, one in acknowledged.items() if e not in first for seen in empty):
        found.add("lost")
    for seen in empty:
        inside = [(one.ret, first[e].call) for e, one in acknowledged.items() if e in first]
        # Between any two places of the history, from the invocation to the completion, something is inside.
        if all(any(a <= place < b for a, b in inside) for place in range(seen.call, seen.ret)):
            found.add("falsely empty")
    for a, one in acknowledged.items():
        for b, other in puts.items():
            overtook = one.ret < other.call and b in first
            if overtook and (first[b].ret < first[a].call if a in first else "lost" not in found):
                found.add("reordered")
    return found


@pytest.mark.parametrize("wrong", [0.0, 0.06])
def test_the_patterns_of_a_queue_are_found(wrong: float) -> None:
    rng = random.Random(f"queue/{wrong}")
    seen: Counter[str] = Counter()
    for _ in range(CASES):
        history = random_queue(rng, wrong, rng.randint(5, 60))
        if any(one.type == "info" for one in done(history, "dequeue")):
            continue
        expected = patterns(history)
        assert set(judge(history)) == expected, list(history.events())
        assert wrong or not expected
        seen.update(expected)
    assert not wrong or set(seen) == {"phantom", "duplicated", "lost", "falsely empty", "reordered"}


@pytest.mark.parametrize(("fifo", "repeat"), [(True, False), (False, False), (True, True), (False, True)])
def test_correct_runs_are_clean_with_drains_and_crashes(fifo: bool, repeat: bool) -> None:
    rng = random.Random(f"queue/correct/{fifo}/{repeat}")
    for _ in range(CASES):
        history = random_queue(rng, 0.0, rng.randint(5, 80), drains=True, fifo=fifo, repeat=repeat)
        assert not judge(history, fifo=fifo), list(history.events())


@pytest.mark.parametrize(("fifo", "model"), [(True, "fifo-queue"), (False, "unordered-queue")])
@pytest.mark.parametrize("repeat", [False, True])
def test_what_it_finds_is_not_linearizable(fifo: bool, model: str, repeat: bool) -> None:
    rng = random.Random(f"queue/linearizable/{fifo}/{repeat}")
    agreed, missed, looked_at = 0, 0, cases(1000)
    for _ in range(looked_at):
        history = random_queue(rng, 0.06, rng.randint(5, 24), fifo=fifo, repeat=repeat)
        found = judge(history, fifo=fifo)
        possible = Linearizable(model).check(history, Budget()).validity
        if found:
            assert possible == "invalid", (found, list(history.events()))
            agreed += 1
        elif possible == "invalid":
            missed += 1
    assert agreed > looked_at // 33
    assert repeat or missed <= agreed // 10, "what it misses is rare: crashed and empty dequeues together"


def lost_by_definition(history: History) -> int:
    """The most elements that are missing when the queue is found empty, less those that the unknown may have taken."""
    puts = [one for one in done(history, "enqueue") if one.type == "ok"]
    out = Counter(one.answer for one in takes(history))
    drained = [one for one in done(history, "drain") if one.type == "ok"]
    for one in drained:
        out.update(one.answer)
    empty = [one for one in done(history, "dequeue") if one.type == "ok" and one.answer is None] + drained
    unknown = [one for one in done(history, "dequeue") if one.ret == FOREVER]
    bottomless = [one for one in done(history, "drain") if one.ret == FOREVER]
    worst = 0
    for seen in empty:
        if not any(one.call < seen.ret for one in bottomless):
            missing = sum(one.ret < seen.call and not out[one.argument] for one in puts)
            worst = max(worst, missing - sum(one.call < seen.ret for one in unknown))
    return worst


def test_as_many_are_lost_as_nobody_can_have_taken() -> None:
    rng = random.Random("queue/lost")
    seen: Counter[bool] = Counter()
    for _ in range(CASES):
        history = random_queue(rng, 0.1, rng.randint(10, 90), drains=rng.random() < 0.5)
        expected = lost_by_definition(history)
        verdict = Queue(fifo=False).check(history, Budget())
        shown = sum(anomaly.kind == "lost" for anomaly in verdict.anomalies)
        assert shown == min(expected, 10), list(history.events())
        seen[expected > 0] += 1
    assert min(seen.values()) > CASES // 20
