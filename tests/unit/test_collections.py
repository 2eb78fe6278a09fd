"""Checkers of sets, counters, queues, identifiers, banks, locks and leases: one planted violation of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.history import History, from_events
from harness.judging import judge
from harness.operation import Event, EventType
from harness.plugins import load
from harness.verdict import Budget, Verdict

Step = tuple[int, EventType, str, Any]
"""Process, kind of event, function, value."""


def history(*steps: Step) -> History:
    return from_events(
        [
            Event(0, at * 1_000_000_000, process, kind, f, "k", value)
            for at, (process, kind, f, value) in enumerate(steps)
        ]
    )


def ok(process: int, f: str, argument: Any, answer: Any = ...) -> tuple[Step, Step]:
    return (process, "invoke", f, argument), (process, "ok", f, argument if answer is ... else answer)


def verdict(checker: str, *operations: tuple[Step, ...]) -> Verdict:
    steps = [step for operation in operations for step in operation]
    return judge(history(*steps), {checker: load("checkers", checker)()}, Budget())


def info(process: int, f: str, argument: Any) -> tuple[Step, Step]:
    return (process, "invoke", f, argument), (process, "info", f, argument)


def told(*values: int, at: int, since: int | None = None, process: int = 1) -> tuple[Step, Step]:
    return ok(process, "watch", since, {"events": list(values), "next": at})


LATE = ((1, "invoke", "watch", None),), ((1, "ok", "watch", {"events": [1, 3], "next": 4}),)
PUT = [ok(0, "put", 1), ok(0, "put", 2)]
INIT = ok(0, "init", {"a": 10, "b": 0})
TEN = {"account": "a", "amount": 10}


@pytest.mark.parametrize(
    ("checker", "operations", "kind", "said"),
    [
        ("elements", [ok(0, "add", 1), ok(1, "read", None, [])], "lost", "No later read has it"),
        ("elements", [ok(0, "add", 1), ok(1, "read", None, [1, 2])], "phantom", "no add of it took effect"),
        ("elements", [ok(1, "read", None, [1]), ok(0, "add", 1)], "phantom", "before that"),
        ("elements", [ok(0, "add", 1), ok(1, "read", None, [1, 1])], "duplicated", "more than once"),
        ("total", [ok(0, "add", 1), ok(1, "read", None, 0)], "wrong total", "it must have been there"),
        ("total", [info(0, "add", 5), ok(1, "read", None, 3)], "wrong total", "from 0 to 5, and a sum of these"),
        ("total", [info(0, "add", 5), ok(1, "read", None, 5), ok(1, "read", None, 0)], "went down", "ever subtracted"),
        ("queue", [ok(0, "enqueue", 1), ok(1, "dequeue", None, None)], "lost", "it is lost"),
        ("queue", [ok(1, "dequeue", None, 1)], "phantom", "Nobody enqueued 1"),
        (
            "queue",
            [ok(0, "enqueue", 1), ok(1, "dequeue", None, 1), ok(1, "drain", None, [1])],
            "duplicated",
            "once only",
        ),
        (
            "queue",
            [ok(0, "enqueue", 1), ok(0, "enqueue", 2), ok(1, "dequeue", None, 2), ok(1, "dequeue", None, 1)],
            "reordered",
            "2 has overtaken 1",
        ),
        ("queue", [ok(0, "enqueue", 1), ok(0, "enqueue", 2), ok(1, "drain", None, [2, 1])], "reordered", "overtaken 1"),
        (
            "queue",
            [ok(0, "enqueue", 1), ok(1, "dequeue", None, None), ok(1, "dequeue", None, 1)],
            "falsely empty",
            "something was in it: 1",
        ),
        ("unique-ids", [ok(0, "generate", None, 7), ok(1, "generate", None, 7)], "duplicated", "given 2 times"),
        ("bank", [INIT, ok(0, "read", None, {"a": 10, "b": 1})], "wrong total", "it must still hold as much"),
        ("bank", [INIT, ok(0, "read", None, {"a": -1, "b": 11})], "overdraft", "less than nothing"),
        ("bank", [INIT, ok(0, "read", None, {"a": 10})], "wrong accounts", "['b'] is missing"),
        ("bank", [INIT, ok(0, "withdraw", TEN), ok(1, "withdraw", TEN)], "overdraft", "Yet 20 were taken"),
        (
            "bank",
            [INIT, *(ok(n, "withdraw", {**TEN, "amount": 4}, {**TEN, "amount": 4, "balance": 6}) for n in (0, 1))],
            "spent twice",
            "one balance was spent twice",
        ),
        ("lock", [ok(0, "acquire", None, 1), ok(1, "acquire", None, 2)], "held together", "two held it at one moment"),
        (
            "lock",
            [ok(0, "acquire", None, 2), ok(0, "release", None), ok(1, "acquire", None, 1)],
            "token went back",
            "an older token",
        ),
        (
            "lock",
            [ok(0, "acquire", None, 1), ok(0, "release", None), ok(1, "acquire", None, 1)],
            "token given twice",
            "the same token",
        ),
        ("lock", [ok(0, "write", [2, 1]), ok(1, "write", [1, 2])], "stale write", "wrote over its successor"),
        ("lease", [ok(0, "grant", 9), ok(1, "look", None, False)], "gone early", "before its time"),
        ("lease", [ok(0, "grant", 0.5), ok(1, "look", None, True)], "outlived", "after the last moment"),
        ("lease", [ok(0, "grant", 9), ok(0, "revoke", None), ok(1, "renew", 9, True)], "outlived", "after the last"),
        ("lease", [ok(1, "look", None, True)], "outlived", "nobody had granted it"),
        ("causal-reverse", [ok(0, "write", 1), ok(0, "read", None, [1, 5])], "phantom", "nobody wrote it"),
        ("causal-reverse", [ok(0, "read", None, [1]), ok(0, "write", 1)], "phantom", "by then"),
        (
            "causal-reverse",
            [ok(0, "write", 1), ok(1, "write", 2), ok(0, "read", None, [2])],
            "reversed",
            "it shows 2 without 1",
        ),
        ("watch", [*PUT, told(1, 2, 7, at=4)], "phantom", "told of 7, which nobody has put"),
        ("watch", [*PUT, told(1, 2, 3, at=4), ok(0, "put", 3)], "phantom", "and only then"),
        ("watch", [*PUT, told(1, 2, 2, at=3)], "duplicated", "told of 2 twice"),
        ("watch", [*PUT, told(1, 2, at=3), told(2, since=3, at=4)], "replayed", "told of 2 once more"),
        ("watch", [ok(0, "put", 1), told(1, at=2), told(5, at=9, since=2, process=2)], "phantom", "told of 5"),
        (
            "watch",
            [ok(0, "put", 1), told(1, at=2), ok(0, "put", 2), told(2, at=3, since=2), told(at=2, since=2)],
            "missing",
            "never told of 2",
        ),
        (
            "watch",
            [ok(0, "put", 1), LATE[0], ok(0, "put", 2), ok(0, "put", 3), LATE[1]],
            "gap",
            "told of 3 and not of 2",
        ),
        (
            "watch",
            [*PUT, info(2, "put", 8), info(3, "put", 9), told(2, 8, at=7, since=6), told(2, 9, at=8, since=6)],
            "gap",
            "not of 8, the other",
        ),
        ("watch", [*PUT, told(1, at=2)], "missing", "never told of 2"),
        ("watch", [*PUT, told(1, at=2), told(2, since=2, at=3)], "late", "only later told of 2"),
        ("watch", [*PUT, told(2, 1, at=3)], "reordered", "told of 2 before 1"),
        (
            "watch",
            [info(2, "put", 8), info(3, "put", 9), told(8, 9, at=3), told(9, 8, at=3)],
            "reordered",
            "there is no one order",
        ),
        ("watch", [info(2, "put", 8), info(3, "put", 9), told(8, 9, at=3), told(9, at=3)], "gap", "not told of 8"),
        ("watch", [info(2, "put", 8), info(3, "put", 9), told(8, at=2), told(9, at=2)], "gap", "not of 8, the other"),
    ],
)
def test_every_kind_is_named_and_told(checker: str, operations: list[tuple[Step, ...]], kind: str, said: str) -> None:
    found = verdict(checker, *operations)
    assert found.validity == "invalid"
    assert kind in {anomaly.kind for anomaly in found.anomalies}
    (anomaly, *_) = (anomaly for anomaly in found.anomalies if anomaly.kind == kind)
    assert said in anomaly.text
    assert anomaly.operations


@pytest.mark.parametrize(
    ("checker", "operations"),
    [
        ("elements", [ok(0, "add", 1), ok(1, "read", None, [1]), info(0, "add", 2)]),
        ("total", [info(0, "add", 5), ok(1, "read", None, 0), ok(1, "read", None, 5)]),
        ("queue", [ok(0, "enqueue", 1), info(2, "dequeue", None), ok(1, "dequeue", None, None)]),
        ("queue", [ok(0, "enqueue", 1), info(2, "drain", None), ok(1, "dequeue", None, None)]),
        ("queue", [ok(0, "enqueue", 1), ok(0, "enqueue", 2), info(2, "dequeue", None), ok(1, "dequeue", None, 2)]),
        ("unique-ids", [ok(0, "generate", None, 1), ok(1, "generate", None, True)]),
        ("bank", [INIT, info(0, "withdraw", TEN), ok(1, "read", None, {"a": 0, "b": 0})]),
        (
            "bank",
            [
                INIT,
                ok(0, "withdraw", TEN),
                ok(1, "deposit", TEN),
                ok(1, "withdraw", TEN),
                ok(1, "read", None, {"a": 0, "b": 0}),
            ],
        ),
        ("lock", [ok(0, "acquire", None, 1), info(0, "write", [1, 1]), ok(1, "acquire", None, 2)]),
        ("lock", [ok(0, "acquire", None, None), ok(0, "release", None), ok(1, "acquire", None, None)]),
        (
            "lock",
            [ok(0, "acquire", None, 1), ok(1, "acquire", None, False), ok(0, "release", 1), ok(1, "acquire", None, 2)],
        ),
        ("lease", [ok(0, "grant", 9), info(0, "revoke", None), ok(1, "look", None, False)]),
        ("lease", [ok(0, "grant", 1.5), info(0, "renew", 1.5), ok(1, "look", None, True)]),
        ("lease", [info(0, "grant", 0.1), ok(1, "grant", 0.1), ok(1, "look", None, True)]),
        ("causal-reverse", [ok(0, "write", 1), ok(1, "write", 2), ok(0, "read", None, [1])]),
        ("causal-reverse", [info(0, "write", 1), ok(1, "write", 2), ok(1, "write", 3), ok(1, "read", None, [2, 3])]),
        ("watch", [info(2, "put", 9), told(9, at=3), told(9, at=3)]),
        ("watch", [((1, "invoke", "put", 1), (1, "fail", "put", 1)), *PUT, told(1, 2, at=3)]),
        ("watch", [*PUT, ok(1, "watch", None, {"events": [1], "next": 2, "more": True}), told(2, at=3, since=2)]),
        ("watch", [*PUT, told(2, at=3, since=2), ok(0, "put", 3), told(3, at=4, since=3)]),
        ("watch", [*PUT, info(2, "put", 3), told(1, 2, at=3), told(3, since=3, at=4), told(1, 2, 3, at=4)]),
        ("watch", [info(2, "put", 3), *PUT, told(1, 3, 2, at=4), told(1, 3, 2, at=4), told(at=4, since=4)]),
    ],
)
def test_what_is_possible_is_no_anomaly(checker: str, operations: list[tuple[Step, ...]]) -> None:
    found = verdict(checker, *operations)
    assert not found.anomalies
    assert found.validity == "valid" or "left in it" in found.reason


@pytest.mark.parametrize(
    ("checker", "operations", "why"),
    [
        ("elements", [ok(0, "add", 1)], "no element was read"),
        ("total", [ok(0, "add", 1)], "no counter was read"),
        ("queue", [ok(0, "enqueue", 1)], "1 element may be left in it"),
        ("queue", [info(0, "enqueue", 1), ok(1, "enqueue", 2)], "may be left"),
        ("unique-ids", [ok(0, "generate", None, 1)], "fewer than two"),
        ("bank", [INIT], "no balances were read"),
        ("lock", [ok(0, "acquire", None, 1)], "no lock was acquired twice"),
        ("lease", [ok(0, "grant", 1)], "no lease was granted and looked at"),
        ("causal-reverse", [ok(0, "write", 1), ok(1, "write", 2), ok(1, "read", None, [])], "nothing that was"),
        ("watch", PUT, "nobody watched"),
        ("watch", [told(at=1)], "nothing was put"),
        ("watch", [*PUT, ok(1, "watch", None, [1, 2])], "this is no history for the checker watch: line 6: a watch is"),
        ("watch", [*PUT, ok(2, "put", 1), told(1, 2, at=3)], "1 is put twice"),
        ("total", [ok(0, "add", "five"), ok(1, "read", None, 5)], "a change of a counter is a whole number"),
        ("bank", [INIT, ok(0, "read", None, [1, 2])], "a bank has a map from accounts to whole numbers"),
    ],
)
def test_what_shows_nothing_is_unknown(checker: str, operations: list[tuple[Step, ...]], why: str) -> None:
    found = verdict(checker, *operations)
    assert found.validity == "unknown"
    assert why in found.reason


def test_a_stale_read_is_told_and_an_anomaly_where_it_is_asked_for() -> None:
    from harness.checkers.elements import Elements

    steps = [*ok(0, "add", 1), *ok(1, "read", None, []), *ok(1, "read", None, [1])]
    told = Elements().check(history(*steps), Budget())
    assert (told.validity, told.evidence["elements_stale"], told.evidence["longest_stale"]) == ("valid", 1, "1.000 s")
    strict = Elements(linearizable=True).check(history(*steps), Budget())
    assert [anomaly.kind for anomaly in strict.anomalies] == ["stale"]
    assert "1.000 s after it was known" in strict.anomalies[0].text


def test_a_hundred_thousand_violations_are_counted_and_a_few_told() -> None:
    steps = [step for n in range(50_000) for step in ok(n % 5, "generate", None, n // 2)]
    found = judge(history(*steps), {"ids": load("checkers", "unique-ids")()}, Budget())
    assert (found.total, len(found.anomalies)) == (25_000, 10)


def test_a_plain_history_is_judged_by_a_checker(tmp_path: Path, splitbrain: Callable[..., Any]) -> None:
    steps = [*ok(0, "add", 1), *ok(1, "read", None, [])]
    lines = [
        {"index": at, "time": at, "process": process, "type": kind, "f": f, "value": value}
        for at, (process, kind, f, value) in enumerate(steps)
    ]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = splitbrain("check", "set.jsonl", "--checker", "elements", "--format", "json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert [anomaly["kind"] for anomaly in said["parts"]["elements"]["anomalies"]] == ["lost"]
    assert splitbrain("check", "set.jsonl", "--checker", "elements,queue").returncode == 1
    (tmp_path / "queue.edn").write_text(
        "{:process 0 :type :invoke :f :enqueue :value 1}\n{:process 0 :type :ok :f :enqueue :value 1}\n"
        "{:process 1 :type :invoke :f :dequeue :value nil}\n{:process 1 :type :ok :f :dequeue :value 1}\n"
    )
    done = splitbrain("check", "queue.edn", "--checker", "queue")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "valid")


@pytest.mark.parametrize("options", [["--model", "set"], ["--initial", "0"], ["--executor", "threads:2"]])
def test_what_is_of_linearizability_does_not_go_with_a_checker(
    options: list[str], tmp_path: Path, splitbrain: Callable[..., Any]
) -> None:
    (tmp_path / "one.jsonl").write_text('{"index":0,"time":0,"process":0,"type":"invoke","f":"read"}\n')
    done = splitbrain("check", "one.jsonl", "--checker", "elements", *options)
    assert done.returncode == 2
    assert "leave them out with --checker" in " ".join(done.stderr.split())
