from __future__ import annotations

from checkers.evidence import Evidence
from harness.history import from_events
from harness.operation import MONITOR, NEMESIS, Event
from harness.verdict import Budget, Verdict, combine


def run(*, outcome: str = "ok", proved: bool = True, recovered: bool = True, faults: bool = True) -> Verdict:
    events = [Event(0, 5, NEMESIS, "invoke", "start-kill", value={"aim": "one"})]
    kind, error = ("ok", None) if proved else ("info", "nothing died")
    events.append(Event(0, 10, NEMESIS, kind, "start-kill", value={"said": "n1"}, error=error))  # type: ignore[arg-type]
    for process in range(3):
        events.append(Event(0, 20 + process, process, "invoke", "write", "k", process))
    for process in range(3):
        events.append(Event(0, 30 + process, process, outcome, "write", "k", process))  # type: ignore[arg-type]
    events.append(Event(0, 40, NEMESIS, "ok", "heal"))
    events.append(Event(0, 50, MONITOR, "info", "recovered", error=None if recovered else "no"))
    return Evidence(faults=faults).check(from_events(events), Budget())


def test_a_run_that_put_the_store_to_the_test_counts() -> None:
    verdict = run()
    assert verdict.validity == "valid"
    assert verdict.evidence["most_concurrent_on_one_key"] == 3
    assert verdict.evidence["faults"] == {"kill": {"times": 1, "proved": 1, "ok_operations_during": 3}}


def test_a_run_that_tested_nothing_is_vacuous() -> None:
    assert "no operation succeeded" in run(outcome="fail").reason
    assert "nothing died" in run(proved=False).reason
    assert "did not come back" in run(recovered=False).reason
    assert "none was seen to take effect" in run(proved=False).reason
    for wrong in (run(outcome="fail"), run(proved=False), run(recovered=False)):
        assert wrong.validity == "unknown"


def test_an_empty_history_is_never_a_pass() -> None:
    assert Evidence().check(from_events([]), Budget()).validity == "unknown"


def test_verdicts_combine_by_the_worst() -> None:
    valid, unknown, invalid = Verdict("valid"), Verdict("unknown", "time"), Verdict("invalid", "stale")
    assert combine({"a": valid, "b": valid}).validity == "valid"
    assert combine({"a": valid, "b": unknown}).exit_code == 3
    assert combine({"a": invalid, "b": unknown}).exit_code == 1
