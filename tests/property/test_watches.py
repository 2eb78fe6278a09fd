"""Change streams against the definitions, one by one, on small random histories."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest

from harness.checkers.watch import Watch
from harness.history import History
from harness.verdict import Budget
from tests.random_runs import CASES, Done, done, run


def random_watches(rng: random.Random, wrong: float, steps: int) -> History:
    """A log that every process follows; with ``wrong`` a stream leaves out, repeats, swaps or makes up."""
    log: list[int] = []
    put = 0
    positions: dict[int, Any] = {}

    def draw(rng: random.Random, process: int) -> tuple[str, Any] | None:
        nonlocal put
        if rng.random() < 0.4:
            return "watch", positions.get(process) if rng.random() < 0.9 else None
        put += 1
        return "put", put

    def apply(f: str, argument: Any, now: int, process: int) -> Any:
        if f == "put":
            if rng.random() >= wrong:
                log.insert(len(log) - (len(log) > 0 and rng.random() < wrong), argument)
            return argument
        start = argument[1] if argument else 0
        told = log[start:]
        if rng.random() < wrong:
            told = log[max(start - 1, 0) :]
        if told and rng.random() < wrong:
            told = rng.choice((told[:-1], told[1:], told[:1] + told, told + told[:1], told[::-1], [*told, put + 1, 99]))
        short = bool(told) and rng.random() < wrong
        # The name of a stream is its own, so that each goes on with itself only.
        after = [f"{process}/{now}", len(log) - short]
        positions[process] = after
        return {"events": told[: len(told) - short], "next": after}

    return run(rng, draw, apply, steps=steps)


def judge(history: History) -> Counter[str]:
    verdict = Watch().check(history, Budget())
    kinds = Counter(anomaly.kind for anomaly in verdict.anomalies)
    assert (verdict.validity == "invalid") == bool(kinds)
    return kinds


class Stream:
    """What one stream was told, and by which of its watches."""

    def __init__(self, watches: list[Done], puts: dict[int, Done]) -> None:
        self.kinds: set[str] = set()
        self.told: list[int] = []
        by: dict[int, int] = {}
        for at, watch in enumerate(watches):
            for value in watch.answer["events"]:
                source = puts.get(value)
                if source is None or source.type == "fail" or source.call > watch.ret:
                    self.kinds.add("phantom")
                elif value in by:
                    self.kinds.add("duplicated" if by[value] == at else "replayed")
                else:
                    by[value] = at
                    self.told.append(value)
        self.without = set()
        for value, one in puts.items():
            due = [at for at, watch in enumerate(watches) if one.type == "ok" and one.ret < watch.call]
            if due and by.get(value, len(watches)) > due[0]:
                self.without.add(value)
                self.kinds.add("late" if value in by else "missing")
        for value, one in puts.items():
            if value in by or value in self.without or one.type != "ok":
                continue
            if any(one.ret < puts[other].call for other in self.told):
                self.without.add(value)
                self.kinds.add("gap")
        for a, b in itertools.combinations(self.told, 2):
            if puts[b].type == "ok" and puts[b].ret < puts[a].call and b not in self.without:
                self.kinds.add("reordered")

    def gaps(self, other: Stream) -> set[str]:
        found = set()
        mine, others = ({v: at for at, v in enumerate(one.told)} for one in (self, other))
        for a, b in itertools.permutations(self.told, 2):
            if mine[a] < mine[b] and b in others and a not in others and a not in other.without:
                found.add("gap")
            if mine[a] < mine[b] and a in others and b in others and others[b] < others[a]:
                found.add("reordered")
        if any(
            a not in others and a not in other.without and b not in mine and b not in self.without
            for a in mine
            for b in others
        ):
            found.add("gap")
        return found


def definitions(history: History) -> tuple[set[str], set[str]]:
    """The kinds that streams show by themselves, and those that two of them show together."""
    puts = {one.argument: one for one in done(history, "put")}
    chains: dict[str, list[Done]] = {}
    for watch in sorted(done(history, "watch"), key=lambda one: one.ret):
        if watch.type == "ok":
            begin = watch.argument and watch.argument[0]
            chains[watch.answer["next"][0]] = [*(chains.pop(begin) if begin else []), watch]
    streams = [Stream(watches, puts) for watches in chains.values()]
    alone: set[str] = set().union(*(stream.kinds for stream in streams))
    together: set[str] = set().union(*(a.gaps(b) for a, b in itertools.permutations(streams, 2)))
    return alone, together


@pytest.mark.parametrize("wrong", [0.0, 0.03, 0.1])
def test_streams_are_judged_as_they_are_defined(wrong: float) -> None:
    rng = random.Random(f"watch/{wrong}")
    seen: Counter[str] = Counter()
    for _ in range(CASES):
        history = random_watches(rng, wrong, rng.randint(5, 60))
        alone, together = definitions(history)
        found = set(judge(history))
        # Streams are compared with the longest only, which decides whether any two of them differ.
        assert alone <= found <= alone | together, (alone, together, found, list(history.events()))
        assert bool(found) == bool(alone | together), (alone, together, list(history.events()))
        assert wrong or not found
        seen.update(found)
    kinds = {"phantom", "duplicated", "replayed", "missing", "late", "reordered", "gap"}
    assert not wrong or set(seen) == kinds, seen
