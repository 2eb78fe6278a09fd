"""Sets against a transcription of Jepsen's set-full, and against linearizability by brute force."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from harness.checkers.elements import Elements
from harness.history import History
from harness.verdict import Budget
from tests.random_runs import CASES, FOREVER, Done, done, run


def random_set(rng: random.Random, wrong: float, steps: int, *, removes: bool, finals: bool = False) -> History:
    """Unique elements are added, and removed; with ``wrong`` reads leave out, invent, repeat and bring back."""
    state: set[int] = set()
    gone: set[int] = set()
    added: list[int] = []
    left = steps // 4

    def draw(rng: random.Random, process: int) -> tuple[str, Any] | None:
        nonlocal left
        left -= 1
        if finals and left < 0:
            return "members-local", None
        if removes and added and rng.random() < 0.2:
            return "remove", rng.choice(added)
        if rng.random() < 0.5:
            return "members" if finals else "read", None
        added.append(len(added))
        return "add", added[-1]

    def apply(f: str, argument: Any, now: int, process: int) -> Any:
        if f == "add":
            if rng.random() >= wrong / 3:
                state.add(argument)
            return argument
        if f == "remove":
            state.discard(argument)
            gone.add(argument)
            return argument
        shown = sorted(state)
        if rng.random() < wrong:
            shown = [one for one in shown if rng.random() < 0.6]
            if rng.random() < 0.3:
                shown.append(rng.choice([*added, 99]))
            if rng.random() < 0.3:
                shown += rng.sample(sorted(gone), min(1, len(gone)))
        if rng.random() < wrong:
            state.difference_update(rng.sample(sorted(state), min(1, len(state))))
        return shown

    return run(rng, draw, apply, steps=steps)


def set_full(history: History) -> dict[str, set[Any]]:
    """Jepsen's set-full, element by element, as its source has it; adds only."""
    found: dict[str, set[Any]] = {name: set() for name in ("stable", "lost", "never_read", "stale")}
    reads = [one for one in done(history, "read") if one.type == "ok"]
    for add in done(history, "add"):
        if add.type == "fail":
            continue
        element, known = add.argument, add.ret
        last_present = last_absent = -1
        for read in reads:
            if read.ret < add.call:
                continue
            if element in read.answer:
                known = min(known, read.ret)
                last_present = max(last_present, read.call)
            else:
                last_absent = max(last_absent, read.call)
        stable = last_present >= 0 and last_absent < last_present
        lost = known != FOREVER and last_absent >= 0 and last_present < last_absent and known < last_absent
        if lost:
            found["lost"].add(element)
        elif stable:
            found["stable"].add(element)
        elif known != FOREVER:
            found["never_read"].add(element)
        misses = [read for read in reads if read.call > known and element not in read.answer]
        if known != FOREVER and not lost and misses:
            found["stale"].add(element)
    return found


def phantoms(history: History) -> tuple[int, int]:
    """How often a read shows an element that nobody can have added by then, and elements more than once."""
    tried = {one.argument: one.call for one in done(history, "add") if one.type != "fail"}
    strange = repeated = 0
    for read in done(history, "read", "members", "members-local"):
        if read.type == "ok":
            strange += sum(tried.get(element, FOREVER) > read.ret for element in read.answer)
            repeated += sum(times > 1 and element in tried for element, times in Counter(read.answer).items())
    return strange, repeated


@pytest.mark.parametrize("wrong", [0.0, 0.25])
def test_the_classes_are_those_of_set_full(wrong: float) -> None:
    rng = random.Random(f"set-full/{wrong}")
    seen: Counter[str] = Counter()
    for _ in range(CASES):
        history = random_set(rng, wrong, rng.randint(5, 40), removes=False)
        expected = set_full(history)
        counts = {name: len(elements) for name, elements in expected.items()}
        strange, repeated = phantoms(history)
        verdict = Elements().check(history, Budget())
        told = {name: verdict.evidence.get(f"elements_{name}", 0) for name in counts}
        assert told == counts, list(history.events())
        assert verdict.total == counts["lost"] + strange + repeated, list(history.events())
        kinds = {
            name
            for name, number in (("lost", counts["lost"]), ("phantom", strange), ("duplicated", repeated))
            if number
        }
        assert {anomaly.kind for anomaly in verdict.anomalies} == kinds
        expect = "invalid" if verdict.total else "valid" if counts["stable"] else "unknown"
        assert verdict.validity == expect
        if not wrong:
            assert not verdict.total
            assert not counts["stale"]
        seen.update(kinds or {verdict.validity})
    assert len(seen) > (4 if wrong else 1)


def may_be(history: History, shown: Done, element: int, *, present: bool) -> bool:
    """Whether a read may find an element, or miss it, given that a store is linearizable; looked at by itself."""
    (add,) = [one for one in done(history, "add") if one.argument == element]
    reads = [one for one in done(history, "read") if one.type == "ok" and element in one.answer]
    known = min([add.ret if add.type == "ok" else FOREVER, *(one.ret for one in reads)])
    removes = [one for one in done(history, "remove") if one.argument == element and one.type != "fail"]
    if present:
        return not any(one.type == "ok" and known < one.call and one.ret < shown.call for one in removes)
    return not known < shown.call or any(one.call < shown.ret for one in removes)


@pytest.mark.parametrize("wrong", [0.0, 0.25])
def test_with_removes_each_read_is_judged_by_what_came_before(wrong: float) -> None:
    rng = random.Random(f"removes/{wrong}")
    seen: Counter[str] = Counter()
    for _ in range(CASES):
        history = random_set(rng, wrong, rng.randint(5, 40), removes=True)
        tried = {one.argument for one in done(history, "add") if one.type != "fail"}
        reads = [one for one in done(history, "read") if one.type == "ok"]
        missed = {
            e for e in tried for one in reads if e not in one.answer and not may_be(history, one, e, present=False)
        }
        back = sum(
            not may_be(history, one, e, present=True)
            for one in reads
            for e in set(one.answer)
            if e in tried and next(a.call for a in done(history, "add") if a.argument == e) < one.ret
        )
        strange, repeated = phantoms(history)
        verdict = Elements(linearizable=True).check(history, Budget())
        kinds = Counter({"resurrected": back, "phantom": strange, "duplicated": repeated})
        assert verdict.total == len(missed) + sum(kinds.values()), list(history.events())
        found = {anomaly.kind for anomaly in verdict.anomalies}
        assert found - {"lost", "stale"} == {kind for kind, number in kinds.items() if number}
        assert bool(found & {"lost", "stale"}) == bool(missed)
        assert wrong or not verdict.total
        seen.update(found)
    assert not wrong or set(seen) == {"lost", "stale", "resurrected", "phantom", "duplicated"}


@pytest.mark.parametrize("wrong", [0.0, 0.25])
def test_in_the_end_each_node_must_have_what_is_known(wrong: float) -> None:
    rng = random.Random(f"final/{wrong}")
    seen: Counter[str] = Counter()
    for _ in range(CASES):
        history = random_set(rng, wrong, rng.randint(20, 60), removes=True, finals=True)
        adds = {one.argument: one for one in done(history, "add") if one.type != "fail"}
        removes = [one for one in done(history, "remove") if one.type != "fail"]
        regular = [one for one in done(history, "members") if one.type == "ok"]
        last = {one.node: one for one in done(history, "members-local") if one.type == "ok"}
        shown = [*regular, *last.values()]
        lost, back, strange, repeated = set(), 0, 0, 0
        for one in last.values():
            for element, add in adds.items():
                known = min(
                    [add.ret if add.type == "ok" else FOREVER, *(r.ret for r in regular if element in r.answer)]
                )
                removed = any(r.argument == element and r.call < one.ret for r in removes)
                if known < one.call and not removed and element not in one.answer:
                    lost.add((element, one.node))
            for element in set(one.answer):
                if element not in adds or adds[element].call > one.ret:
                    continue
                for r in removes:
                    heard = [s.ret for s in regular if s.node == r.node and element in s.answer]
                    if adds[element].type == "ok" and adds[element].node == r.node:
                        heard.append(adds[element].ret)
                    if (
                        r.argument == element
                        and r.type == "ok"
                        and r.ret < one.call
                        and min(heard, default=FOREVER) < r.call
                    ):
                        back += 1
                        break
        for one in shown:
            strange += sum(e not in adds or adds[e].call > one.ret for e in one.answer)
            repeated += sum(times > 1 and e in adds for e, times in Counter(one.answer).items())
        verdict = Elements("members-local").check(history, Budget())
        assert verdict.total == len(lost) + back + strange + repeated, list(history.events())
        assert wrong or not verdict.total
        seen.update(anomaly.kind for anomaly in verdict.anomalies)
    assert not wrong or set(seen) == {"lost", "resurrected", "phantom", "duplicated"}
