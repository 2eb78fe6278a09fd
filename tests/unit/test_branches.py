"""Lists: the checker against its definition, written down as it is; violations that are planted; correct histories."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkers.branches import Branches, forks_of, tree, wrong_elements
from harness.checkers.lists import Lists
from harness.history import History, from_events
from harness.operation import NEMESIS, Event, ServedBy
from harness.verdict import Budget, Verdict
from harness.workloads.append import Append
from tests.random_runs import CASES, cases


class Did(NamedTuple):
    """One operation: an append of an element, or a read of a list; ``ret`` is None for one that never returned."""

    f: str
    key: str
    value: Any
    call: int
    ret: int | None
    type: str = "ok"
    by: str | None = None


def append(key: str, value: Any, call: int, ret: int | None, kind: str = "ok", by: str | None = None) -> Did:
    return Did("append", key, value, call, ret, kind, by)


def read(key: str, value: Any, call: int, ret: int, by: str | None = None) -> Did:
    return Did("read-list", key, value, call, ret, "ok", by)


def events_of(operations: Sequence[Did]) -> list[Event]:
    events = []
    for process, one in enumerate(operations):
        argument = one.value if one.f == "append" else None
        served = None if one.by is None else ServedBy(one.by)
        events.append((one.call, Event(0, one.call, process, "invoke", one.f, one.key, argument)))
        if one.ret is not None:
            done = Event(0, one.ret, process, one.type, one.f, one.key, one.value, served_by=served)  # type: ignore[arg-type]
            events.append((one.ret, done))
    return [event for _, event in sorted(events, key=lambda pair: pair[0])]


def history_of(operations: Sequence[Did]) -> History:
    return from_events(events_of(operations))


def check(operations: Sequence[Did]) -> Verdict:
    return Branches(linearizable=True).check(history_of(operations), Budget())


# What the words mean


def continues(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return list(one[: len(other)]) == list(other)


def defined(operations: Sequence[Did], healed: int = -1) -> set[tuple[Any, ...]]:
    """All anomalies, by their definitions."""
    found: set[tuple[Any, ...]] = set()
    for key in {one.key for one in operations}:
        appends = [one for one in operations if one.f == "append" and one.key == key]
        reads = [one for one in operations if one.f == "read-list" and one.key == key and one.type == "ok"]
        for one, other in combinations(reads, 2):
            if not continues(one.value, other.value) and not continues(other.value, one.value):
                agreed = next(at for at in range(len(one.value)) if one.value[at] != other.value[at])
                found.add(("fork", key, tuple(one.value[:agreed])))
        for one in reads:
            for element in one.value:
                if list(one.value).count(element) > 1:
                    found.add(("duplicate", key, element))
                by = [a for a in appends if a.value == element]
                tried = [a for a in by if a.type != "fail"]
                if by and not tried:
                    found.add(("failed append", key, element))
                elif not any(a.call < one.ret for a in tried):  # type: ignore[operator]
                    found.add(("phantom", key, element))
        over = max([a.ret for a in appends if a.ret is not None and a.type != "info"], default=-1)
        final = [one for one in reads if one.call > max(over, healed)]
        last = max(final, key=lambda one: one.call, default=None)
        for a in appends if last is not None else ():
            assert last is not None
            read_before = any(a.value in one.value and one.ret < last.call for one in reads)  # type: ignore[operator]
            if (a.type == "ok" or (a.type == "info" and read_before)) and a.value not in last.value:
                found.add(("lost", key, a.value))
        # Of what is on one path only: where the list has forked, in the read that was last, or else in the longest.
        trunk = max(final or reads, key=lambda one: (len(one.value), one.call), default=None)
        held = [] if trunk is None else list(trunk.value)
        by_element = {a.value: a for a in appends if a.type != "fail"}
        for at, element in enumerate(held):
            if stands := by_element.get(element):
                behind = [by_element[other] for other in held[at:] if other in by_element]
                if any(other.type == "ok" and other.ret < stands.call for other in behind):  # type: ignore[operator]
                    found.add(("out of order", key, element))
    return found


def told(operations: Sequence[Did], history: History | None = None) -> set[tuple[Any, ...]]:
    """All anomalies that the checker finds, in the same words."""
    lists = Lists((history or history_of(operations)).operations())
    names = lists.operations.history.keys
    found: set[tuple[Any, ...]] = set()
    for key in lists.forked:
        found |= {("fork", names[key], tuple(map(lists.name, fork.prefix))) for fork in forks_of(lists, key)}
    found |= {(one.kind, names[one.key], lists.name(one.element)) for one in wrong_elements(lists)}
    for kind, which in (("lost", lists.lost.nonzero()[0]), ("out of order", lists.disordered)):
        for at in which.tolist():
            found.add((kind, names[lists.append_key[at]], lists.name(int(lists.appended[at]))))
    return found


@st.composite
def anything(draw: st.DrawFn) -> list[Did]:
    """A small history in which everything may be wrong; elements are unique in their list, moments everywhere."""
    size = draw(st.integers(1, 10))
    moments = draw(st.permutations(range(2 * size)))
    elements: list[Any] = draw(st.sampled_from([[1, 2, 3, 4], ["a", "b", 3, [4]]]))
    unused = {key: list(elements) for key in "xy"}
    operations = []
    for at in range(size):
        call, ret = sorted(moments[2 * at : 2 * at + 2])
        key = draw(st.sampled_from("xxxy"))
        if draw(st.booleans()) and unused[key]:
            kind = draw(st.sampled_from(["ok", "ok", "ok", "fail", "info"]))
            element = unused[key].pop(0)
            if kind == "fail" and draw(st.booleans()):
                unused[key].insert(0, element)  # it may be tried again
            operations.append(append(key, element, call, ret, kind))
        else:
            value = draw(st.lists(st.sampled_from(elements), max_size=4))
            operations.append(read(key, value, call, ret))
    return operations


def hashed(found: Iterable[tuple[Any, ...]]) -> set[str]:
    return {repr(one) for one in found}


@settings(max_examples=cases(1500), deadline=None)
@given(anything())
def test_what_is_found_is_what_the_definitions_say(operations: list[Did]) -> None:
    frozen = [one._replace(value=as_tuples(one.value)) for one in operations]
    said, meant = told(operations), defined(frozen)
    assert hashed(as_tuples(list(said))) == hashed(as_tuples(list(meant)))
    verdict = check(operations)
    assert (verdict.validity == "invalid") == bool(meant)
    kinds = {one[0] for one in meant}
    assert {anomaly.kind for anomaly in verdict.anomalies} == kinds
    lists_lost = {one[1] for one in meant if one[0] == "lost"}
    assert verdict.total == len([one for one in meant if one[0] != "lost"]) + len(lists_lost)


def as_tuples(value: Any) -> Any:
    return tuple(map(as_tuples, value)) if isinstance(value, list | tuple) else value


@settings(max_examples=cases(300), deadline=None)
@given(anything(), st.integers(0, 20))
def test_final_reads_are_those_after_the_heal(operations: list[Did], healed: int) -> None:
    operations = [one._replace(call=2 * one.call + 1, ret=2 * (one.ret or 0) + 1) for one in operations]
    events = [*events_of(operations), Event(0, 2 * healed, NEMESIS, "ok", "heal")]
    history = from_events(sorted(events, key=lambda event: event.time))
    frozen = [one._replace(value=as_tuples(one.value)) for one in operations]
    meant = defined(frozen, 2 * healed)
    assert hashed(as_tuples(list(told(operations, history)))) == hashed(as_tuples(list(meant)))


@settings(max_examples=cases(300), deadline=None)
@given(anything())
def test_the_tree_holds_every_read_and_nothing_else(operations: list[Did]) -> None:
    lists = Lists(history_of(operations).operations())
    for key in set(lists.key.tolist()):
        paths: set[Any] = {()}

        def grow(node: Any, before: tuple[Any, ...], paths: set[Any] = paths) -> None:
            for element in node.elements:
                before = (*before, as_tuples(element))
                paths.add(before)
            for branch in node.branches:
                grow(branch, before)

        grow(tree(lists, key), ())
        reads = [one.value for one in operations if one.key == lists.operations.history.keys[key] and one.f != "append"]
        assert paths == {tuple(map(as_tuples, value[:end])) for value in reads for end in range(len(value) + 1)}


@settings(max_examples=cases(500), deadline=None)
@given(anything())
def test_a_read_is_as_stale_as_the_oldest_acknowledged_append_that_it_should_have_seen(operations: list[Did]) -> None:
    lists = Lists(history_of(operations).operations())
    for at, row in enumerate(lists.reads.tolist()):
        key = lists.operations.key_name(row)
        finals = [r for r in range(len(lists.reads)) if lists.final[r] and lists.key[r] == lists.key[at]]
        stale = 0
        if finals:
            trunk = lists.path(int(lists.trunk[lists.key[at]]))
            mine = lists.path(at)
            common = next((n for n, (a, b) in enumerate(zip(trunk, mine, strict=False)) if a != b), None)
            common = min(len(trunk), len(mine)) if common is None else common
            missing = [lists.name(element) for element in trunk[common:]]
            done = [
                a.ret
                for a in operations
                if (a.f, a.key, a.type) == ("append", key, "ok") and as_tuples(a.value) in missing
            ]
            stale = max([int(lists.operations.call[row]) - ret for ret in done if ret is not None] + [0])
        assert lists.staleness[at] == stale


# Correct stores


def correct(rng: random.Random) -> list[Did]:
    """What clients of a correct store may see: each operation takes effect at one moment, or never if it is unknown."""
    lists: dict[str, list[int]] = {"x": [], "y": []}
    planned = []
    for number in range(rng.randint(1, 30)):
        at = rng.random() * 100
        call, ret = at - rng.random() * 5, at + rng.random() * 5
        planned.append((at, call, ret, number))
    operations = []
    for _, call, ret, number in sorted(planned):
        key = rng.choice("xy")
        begin, end = int(1e6 * call) + 10**7, int(1e6 * ret) + 10**7
        if rng.random() < 0.5:
            kind = rng.choice(["ok", "ok", "ok", "fail", "info"])
            if kind == "ok" or (kind == "info" and rng.random() < 0.5):
                lists[key].append(number)
            operations.append(append(key, number, begin, end, kind))
        else:
            # Stale reads are on the path as well.
            stale = rng.choice((0, 0, 0, 1, 2))
            value = lists[key][: max(len(lists[key]) - stale, 0)]
            operations.append(read(key, value, begin, end))
    operations += [read(key, list(held), 10**9 + n, 10**9 + n + 10) for n, (key, held) in enumerate(lists.items())]
    return operations


def test_no_correct_history_is_called_wrong() -> None:
    rng = random.Random(7)
    for _ in range(CASES):
        operations = correct(rng)
        verdict = check(operations)
        assert verdict.validity != "invalid", (operations, verdict)
        assert verdict.evidence["appends_lost"] == 0


# Planted


FORK = [
    append("k3", 41, 0, 10, by="n1"),
    append("k3", 42, 20, 30, by="n1"),
    append("k3", 44, 40, 50, by="n1"),
    append("k3", 43, 45, 55, by="n3"),
    read("k3", [41, 42, 44], 60, 70, by="n1"),
    append("k3", 47, 72, 74, by="n1"),
    read("k3", [41, 43], 62, 72, by="n3"),
    append("k3", 45, 80, 90, by="n3"),
    read("k3", [41, 42, 44, 47], 85, 94, by="n1"),
    read("k3", [41, 43, 45], 100, 110, by="n3"),
]


def test_a_fork_is_told_as_it_was_seen() -> None:
    verdict = check(FORK)
    assert verdict.validity == "invalid"
    assert verdict.reason == "1 list has forked, 3 acknowledged appends are lost"
    fork, lost = verdict.anomalies
    assert fork.kind == "fork"
    assert fork.text.startswith("k3 forked after 41: n1 went on with 42 44 47 (lost), n3 with 43 45 (kept). ")
    assert [one.value for one in fork.operations] == [42, 43, [41, 42, 44], [41, 43]]
    assert lost.text == "3 appends to k3 were acknowledged by n1, and the last read does not have them: 42 44 47."
    assert verdict.evidence["trees"] == {
        "k3": {
            "elements": [41],
            "by": ["n1"],
            "survived": True,
            "branches": [
                {"elements": [42, 44, 47], "by": ["n1"], "lost": [42, 44, 47], "survived": False},
                {"elements": [43, 45], "by": ["n3"], "survived": True},
            ],
        }
    }


@pytest.mark.parametrize(
    ("operations", "kind", "said"),
    [
        ([append("k", 1, 0, 1), read("k", [1, 1], 2, 3)], "duplicate", "has 1 twice"),
        ([append("k", 1, 0, 1), read("k", [1, 9], 2, 3)], "phantom", "nobody has ever appended 9"),
        ([read("k", [1], 0, 1), append("k", 1, 2, 3), read("k", [1], 4, 5)], "phantom", "only after it had been read"),
        ([append("k", 1, 0, 1, "fail"), read("k", [1], 2, 3)], "failed append", "had certainly failed"),
        ([append("k", 1, 0, 1), read("k", [1], 2, 3)], None, ""),
        (
            [append("k", 1, 0, 1), read("k", [1], 2, 3), read("k", [], 4, 5)],
            "lost",
            "the last read does not have it: 1",
        ),
        ([append("k", 1, 0, None), read("k", [1], 2, 3), read("k", [], 4, 5)], "lost", "acknowledged or read"),
        (
            [append("k", 1, 0, 1), append("k", 2, 2, 3), read("k", [2, 1], 4, 5)],
            "out of order",
            "Yet 2 stands before it",
        ),
        ([append("k", 1, 0, 1, "fail"), append("k", 1, 2, 3), read("k", [1], 4, 5)], None, ""),
        ([append("k", 1, 0, 1), append("k", 2, 0, 2), read("k", [1], 4, 5)], "lost", "was acknowledged"),
        ([append("j", 1, 0, 1), read("j", [1], 1, 2), read("k", [1], 2, 3)], "phantom", "nobody has ever appended 1"),
    ],
)
def test_each_kind_is_named(operations: list[Did], kind: str | None, said: str) -> None:
    verdict = check(operations)
    assert [anomaly.kind for anomaly in verdict.anomalies] == ([kind] if kind else [])
    assert verdict.validity == ("invalid" if kind else "valid")
    assert all(said in anomaly.text for anomaly in verdict.anomalies)


def test_an_append_of_unknown_outcome_may_be_there_or_not() -> None:
    assert check([append("k", 1, 0, None), append("k", 2, 5, 6), read("k", [2, 1], 7, 8)]).validity == "valid"
    assert check([append("k", 1, 0, None), append("k", 2, 5, 6), read("k", [2], 7, 8)]).validity == "valid"


def test_appends_out_of_order_are_evidence_where_no_order_is_promised() -> None:
    operations = [append("k", 1, 0, 1), append("k", 2, 2, 3), read("k", [2, 1], 4, 5)]
    verdict = Branches().check(history_of(operations), Budget())
    assert (verdict.validity, verdict.evidence["appends_out_of_order"]) == ("valid", 1)
    assert check(operations).reason == "1 append is out of order"


def test_what_could_not_have_been_wrong_is_no_pass() -> None:
    assert check([append("k", 1, 0, 10), read("k", [], 2, 3)]).validity == "unknown"
    assert check([append("k", 1, 0, 10), read("k", [1], 2, 3)]).reason == "no list was read after the last append to it"
    repeated = check([append("k", 1, 0, 1), append("k", 1, 2, 3), read("k", [1, 1], 4, 5)])
    assert (repeated.validity, repeated.reason) == ("unknown", "elements must be unique, but k is to hold 1 twice")


def test_all_is_counted_where_only_the_first_are_explained() -> None:
    operations = [
        one._replace(key=f"k{n}", call=200 * n + one.call, ret=200 * n + (one.ret or 0))
        for n in range(300)
        for one in FORK
    ]
    verdict = check(operations)
    assert verdict.total == 600
    assert len(verdict.anomalies) == 20
    assert len(verdict.evidence["trees"]) == 10


def test_lists_stay_short_and_all_of_them_are_read_in_the_end() -> None:
    workload = Append(Append.Options(keys=2, length=3))
    from harness.generator import Context, Step

    rng = random.Random(1)
    generator, appended = workload.generator(rng), dict[Any, list[Any]]()
    for now in range(200):
        step, generator = generator.next(Context(now, [0], [0]))  # type: ignore[misc]
        assert isinstance(step, Step)
        if step.operation.f == "append":
            appended.setdefault(step.operation.key, []).append(step.operation.value)
    assert max(map(len, appended.values())) == 3
    elements = [element for held in appended.values() for element in held]
    assert len(elements) == len(set(elements))
    final, seen, failing = workload.final(), [], {"k2"}
    now = 0
    while (found := final.next(Context(now, [0], [0]))) is not None:
        step, final = found
        now += 1
        assert isinstance(step, Step)
        seen.append(step.operation.key)
        outcome = "fail" if step.operation.key in failing and now < 100 + len(appended) * 3 else "ok"
        final = final.update(Event(0, now, 0, outcome, "read-list", step.operation.key, []))  # type: ignore[arg-type]
    assert set(seen) >= set(appended)
    assert seen.count("k2") > 3 >= seen.count("k1")
