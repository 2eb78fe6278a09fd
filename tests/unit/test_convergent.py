"""The checkers of what nodes hold in the end: planted violations are found, and what is allowed is not."""

from __future__ import annotations

from typing import Any

import pytest

from harness.checkers.branches import Branches
from harness.checkers.convergence import Convergence
from harness.checkers.elements import Elements
from harness.checkers.overwritten import Overwritten
from harness.checkers.total import Total
from harness.history import from_events
from harness.operation import Event
from harness.verdict import Budget, Checker, Verdict

Step = tuple[int, str, Any, Any, str]
"""Process (on node n1 for 0 and 10, n2 for 1, ...), function, argument, result, outcome."""


def judge(checker: Checker, *steps: Step, keys: str = "") -> Verdict:
    """``keys`` has the key of each step, a letter; they are all of one where it is empty."""
    events = []
    for number, (process, f, argument, result, outcome) in enumerate(steps):
        node = f"n{process % 10 + 1}"
        key, now = (keys or "k" * len(steps))[number], number * 1000
        events.append(Event(0, now, process, "invoke", f, key, argument, node))
        events.append(Event(0, now + 10, process, outcome, f, key, result, node))  # type: ignore[arg-type]
    return checker.check(from_events(events), Budget())


def write(process: int, value: int, outcome: str = "ok") -> Step:
    return (process, "write", value, value, outcome)


def read(process: int, value: Any) -> Step:
    return (process, "read", None, value, "ok")


def last(process: int, value: Any, f: str = "read-local") -> Step:
    return (process, f, None, value, "ok")


def kinds(verdict: Verdict) -> set[str]:
    return {anomaly.kind for anomaly in verdict.anomalies}


def test_nodes_that_agree_converge() -> None:
    assert judge(Convergence(), write(0, 1), last(0, 1), last(1, 1)).validity == "valid"
    assert judge(Convergence(), write(0, 1, "info"), last(0, None), last(1, None)).validity == "valid"
    assert judge(Convergence(), last(0, [3, 4]), last(1, [3, 4])).validity == "valid"


def test_nodes_that_disagree_do_not() -> None:
    verdict = judge(Convergence(), write(0, 1), write(1, 2), last(0, 1), last(1, 2))
    assert (verdict.validity, kinds(verdict)) == ("invalid", {"diverged"})
    assert "n1 holds 1, n2 holds 2" in verdict.anomalies[0].text


def test_only_the_last_answer_of_a_node_counts() -> None:
    assert judge(Convergence(), write(0, 1), last(0, None), last(1, 1), last(0, 1)).validity == "valid"


@pytest.mark.parametrize(
    ("steps", "validity"),
    [
        ([write(0, 1), write(0, 2, "info"), last(0, 1), last(1, 2)], "unknown"),
        ([write(0, 1), write(0, 2, "info"), last(0, [1]), last(1, [2]), last(2, [1])], "unknown"),
        ([write(0, 1), write(0, 2), write(0, 3, "info"), last(0, 1), last(1, 2), last(2, 3)], "invalid"),
        ([write(0, 1), (0, "delete", None, None, "info"), last(0, 1), last(1, None)], "unknown"),
        ([write(0, 1), write(0, 2, "info"), last(0, 1), last(1, None)], "invalid"),
        ([(0, "increment", 5, 5, "info"), (0, "increment", -2, -2, "info"), last(0, 5), last(1, -2)], "unknown"),
        ([(0, "increment", 5, 5, "info"), (0, "increment", 2, 2, "ok"), last(0, 2), last(1, 8)], "invalid"),
    ],
)
def test_nodes_may_differ_by_what_may_take_effect_between_their_reads(steps: list[Step], validity: str) -> None:
    assert judge(Convergence(), *steps).validity == validity


def test_sets_may_differ_by_elements_that_may_come_or_go_between_their_reads() -> None:
    steps = [add(0, 1), add(0, 2, "info"), add(0, 3), remove(0, 3, "info")]
    convergence = Convergence("members-local")
    assert judge(convergence, *steps, members(0, 1, 3), members(1, 1, 2)).validity == "unknown"
    assert judge(convergence, *steps, members(0, 1, 3), members(1, 2)).validity == "invalid"
    assert judge(convergence, add(0, 1), members(0, 1), members(1)).validity == "invalid"


def test_what_nobody_wrote_is_invented() -> None:
    assert kinds(judge(Convergence(), write(0, 1), last(0, 9), last(1, 9))) == {"invented"}
    assert kinds(judge(Convergence(), write(0, 9, "fail"), last(0, 9), last(1, 9))) == {"invented"}


def test_without_two_nodes_to_compare_nothing_is_known() -> None:
    assert judge(Convergence(), write(0, 1), last(0, 1)).validity == "unknown"


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([write(0, 1), write(0, 2), last(0, 1)], "lost update"),
        ([write(1, 1), read(0, 1), write(0, 2), last(0, 1)], "lost update"),
        ([write(0, 1), (0, "delete", None, None, "ok"), last(1, 1)], "resurrected"),
        ([write(0, 1), write(0, 2), last(0, [1, 2])], "lost update"),
        ([write(0, 1), read(0, 7), write(0, 2), last(0, 1)], "lost update"),
        ([write(0, 1), last(0, None)], "lost write"),
    ],
)
def test_what_was_replaced_must_not_return(steps: list[Step], found: str) -> None:
    assert kinds(judge(Overwritten(), *steps)) == {found}


@pytest.mark.parametrize(
    "steps",
    [
        [write(0, 1), write(1, 2), last(0, 1)],
        [write(0, 1), write(0, 2, "info"), last(0, 1)],
        [write(0, 1), write(0, 2, "fail"), last(0, 1)],
        [write(0, 1), (1, "delete", None, None, "info"), last(0, None)],
        [write(0, 1), write(0, 2), last(0, 2)],
    ],
)
def test_what_may_have_won_may_be_there(steps: list[Step]) -> None:
    assert judge(Overwritten(), *steps).validity == "valid"


def add(process: int, value: int, outcome: str = "ok") -> Step:
    return (process, "add", value, value, outcome)


def remove(process: int, value: int, outcome: str = "ok") -> Step:
    return (process, "remove", value, value, outcome)


def members(process: int, *values: int, f: str = "members-local") -> Step:
    return (process, f, None, list(values), "ok")


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([add(0, 1), add(0, 2), members(0, 2)], {"lost"}),
        ([add(0, 1), members(0, 1, 9)], {"phantom"}),
        ([add(0, 1), remove(0, 1), members(1, 1)], {"resurrected"}),
        ([add(0, 1), members(1, 1, f="members"), remove(1, 1), members(0, 1)], {"resurrected"}),
        ([add(0, 1), remove(1, 1), members(0, 1)], set()),
        ([add(0, 1), remove(0, 1, "info"), members(0)], set()),
        ([add(0, 1, "info"), members(0)], set()),
        ([add(0, 1, "info"), members(0, 1)], set()),
        ([add(0, 1, "fail"), members(0, 1)], {"phantom"}),
        ([add(0, 1), add(0, 2, "info"), members(0, 1, 2), members(1, 1)], set()),
        ([add(0, 1), add(0, 2, "info"), members(0, 1, 2, f="members"), members(1, 1)], {"lost"}),
    ],
)
def test_elements(steps: list[Step], found: set[str]) -> None:
    assert kinds(judge(Elements("members-local"), *steps)) == found


@pytest.mark.parametrize(("total", "validity"), [(4, "invalid"), (5, "valid"), (7, "valid"), (8, "invalid")])
def test_totals_lie_between_two_bounds(total: int, validity: str) -> None:
    steps = [(0, "increment", 5, 5, "ok"), (0, "increment", 2, 2, "info"), (10, "increment", 9, 9, "fail")]
    assert judge(Total("read-local", linearizable=False), *steps, last(1, total)).validity == validity


def test_an_anomaly_carries_its_operations_in_order_and_the_faults_meanwhile() -> None:
    """What nodes hold in the end comes of faults that are long over, so that those of the whole run are told."""
    events = [
        Event(0, 10, "nemesis", "invoke", "start-kill", value={}),
        Event(0, 20, "nemesis", "ok", "start-kill", value={"said": "n2"}),
        Event(0, 30, "nemesis", "ok", "stop-kill"),
    ]
    for process, time in ((1, 500), (0, 400)):
        events += [
            Event(0, time, process, "invoke", "read-local", "k", None, f"n{process + 1}"),
            Event(0, time + 10, process, "ok", "read-local", "k", process, f"n{process + 1}"),
        ]
    events.sort(key=lambda event: event.time)
    (anomaly,) = Convergence().check(from_events(events), Budget()).anomalies
    assert (anomaly.key, anomaly.faults) == ("k", ["kill (n2)"])
    assert [one.call for one in anomaly.operations] == [400, 500]


def test_faults_that_were_over_before_the_operations_of_an_anomaly_are_not_told_with_it() -> None:
    events = [
        Event(0, 10, "nemesis", "invoke", "start-kill", value={}),
        Event(0, 30, "nemesis", "ok", "stop-kill"),
        Event(0, 40, "nemesis", "invoke", "start-pause", value={}),
    ]
    for time, f, value in ((50, "write", 1), (60, "write", 2), (70, "read-local", 1)):
        events += [Event(0, time, 0, "invoke", f, "k", value, "n1"), Event(0, time + 5, 0, "ok", f, "k", value, "n1")]
    (anomaly,) = Overwritten().check(from_events(events), Budget()).anomalies
    assert (anomaly.kind, anomaly.faults) == ("lost update", ["pause"])
    assert [one.call for one in anomaly.operations] == [50, 60, 70]


@pytest.mark.parametrize(
    ("checker", "change", "held"),
    [
        (Elements("members-local"), add(0, 1), members(0, 1)),
        (Total("read-local", linearizable=False), (0, "increment", 1, 1, "ok"), last(0, 1)),
        (Branches(), (0, "append", 1, 1, "ok"), last(0, [1], "read-list")),
    ],
)
def test_a_key_that_nobody_read_in_the_end_leaves_it_open(checker: Checker, change: Step, held: Step) -> None:
    verdict = judge(checker, change, change, held, keys="klk")
    assert (verdict.validity, verdict.reason) == (
        "unknown",
        "1 key with acknowledged changes was not read in the end",
    )
    assert judge(checker, change, change, held, held, keys="klkl").validity == "valid"
    unsure = (*change[:4], "info")
    assert judge(checker, change, unsure, held, keys="klk").validity == "valid"
