from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from harness.checkers.evidence import _LEAST_OF_ALL, Evidence
from harness.experiment import Experiment
from harness.history import from_events
from harness.nemesis import Proof
from harness.operation import MONITOR, NEMESIS, Event, EventType
from harness.run_directory import junit
from harness.summary import evidence_lines
from harness.verdict import Budget, Verdict, combine

PLANNED = {"asked": ["kill"], "faults": [{"name": "kill", "start": 0, "stop": 1}]}
SEEN = Proof("the process table", ["redis"], [], True)


def run(
    *,
    outcome: EventType = "ok",
    injected: EventType | None = "ok",
    proved: EventType | None = "ok",
    recovered: bool = True,
    planned: Any = PLANNED,
) -> Verdict:
    events = [Event(0, 1, MONITOR, "info", "planned", value=planned)]
    if injected is not None:
        error = None if injected == "ok" else "nobody is there"
        events.append(Event(0, 5, NEMESIS, "invoke", "start-kill", value={"aim": "one"}))
        events.append(Event(0, 10, NEMESIS, injected, "start-kill", value={"said": "n1"}, error=error))
        if proved is not None and injected == "ok":
            error = None if proved == "ok" else "it still runs"
            events.append(Event(0, 15, NEMESIS, proved, "prove-kill", value=SEEN, error=error))
    for process in range(3):
        events.append(Event(0, 20 + process, process, "invoke", "write", "k", process))
    for process in range(3):
        events.append(Event(0, 30 + process, process, outcome, "write", "k", process))
    events.append(Event(0, 40, NEMESIS, "ok", "heal"))
    events.append(Event(0, 50, MONITOR, "info", "recovered", error=None if recovered else "no"))
    return Evidence().check(from_events(events), Budget())


def test_a_run_that_put_the_store_to_the_test_counts() -> None:
    verdict = run()
    assert verdict.validity == "valid"
    assert verdict.evidence["most_concurrent_on_one_key"] == 3
    assert verdict.evidence["faults"]["kill"] == {
        "planned": 1,
        "injected": 1,
        "refused": 0,
        "proved": 1,
        "ok_operations_during": 3,
        "mixed": False,
        "weak": False,
        "refusals": {},
    }
    assert "kill: 1 planned, 1 injected, 1 proved; 3 operations succeeded meanwhile" in evidence_lines(verdict.evidence)


def test_a_run_that_tested_nothing_is_vacuous() -> None:
    wrong = {
        "no operation succeeded": run(outcome="fail"),
        "kill was asked for and never injected (nobody is there)": run(injected="fail"),
        "start-kill did not do what it should (nobody is there)": run(injected="info"),
        "kill was asked for, injected and never proved (it still runs)": run(proved="fail"),
        "kill was asked for, injected and never proved": run(proved=None),
        "kill was asked for and never injected": run(injected=None),
        "did not come back": run(recovered=False),
        "pause was asked for and had no turn": run(planned={**PLANNED, "asked": ["kill", "pause"]}),
    }
    for reason, verdict in wrong.items():
        assert reason in verdict.reason
        assert verdict.validity == "unknown"


def test_of_chaos_half_must_be_proved_and_what_was_not_is_named() -> None:
    verdict = run(planned={"asked": [], "mixed": ["kill", "pause"], "faults": PLANNED["faults"]})
    assert (verdict.validity, verdict.reason) == ("valid", "not tested by pause")
    verdict = run(planned={"asked": [], "mixed": ["clock", "disk", "kill", "pause"], "faults": PLANNED["faults"]})
    assert "of the 4 nemeses of chaos only kill" in verdict.reason
    assert verdict.validity == "unknown"


def test_a_proof_that_could_not_be_had_is_none() -> None:
    assert run(proved="info").validity == "unknown"


def test_a_fault_under_which_hardly_anything_succeeded_is_weak_evidence_and_said_to_be() -> None:
    events = [
        Event(0, 1, MONITOR, "info", "planned", value=PLANNED),
        Event(0, 2, 0, "invoke", "write", "k", 1),
        Event(0, 3, 0, "ok", "write", "k", 1),
        Event(0, 5, NEMESIS, "invoke", "start-kill", value={}),
        Event(0, 6, NEMESIS, "ok", "start-kill", value={}),
        Event(0, 7, NEMESIS, "ok", "prove-kill", value=SEEN),
        Event(0, 8, 1, "invoke", "write", "k", 2),
        Event(0, 9, 1, "fail", "write", "k", 2),
        Event(0, 10, NEMESIS, "invoke", "stop-kill"),
        Event(0, 11, NEMESIS, "ok", "stop-kill"),
    ]
    verdict = Evidence().check(from_events(events), Budget())
    assert verdict.validity == "valid"
    assert verdict.evidence["faults"]["kill"]["weak"]
    assert any("weak evidence" in line for line in evidence_lines(verdict.evidence))


def test_refusals_are_listed() -> None:
    lines = evidence_lines(run(injected="fail").evidence)
    assert (
        "kill: 1 planned, 0 injected, 1 refused (nobody is there), 0 proved; 0 operations succeeded meanwhile" in lines
    )


def test_an_empty_history_is_never_a_pass() -> None:
    assert Evidence().check(from_events([]), Budget()).validity == "unknown"


def test_verdicts_combine_by_the_worst() -> None:
    valid, unknown, invalid = Verdict("valid"), Verdict("unknown", "time"), Verdict("invalid", "stale")
    assert combine({"a": valid, "b": valid}).validity == "valid"
    assert combine({"a": valid, "b": unknown}).exit_code == 3
    assert combine({"a": invalid, "b": unknown}).exit_code == 1


def test_junit_has_a_case_for_each_nemesis_and_a_missing_one_is_an_error() -> None:
    verdict = combine({"evidence": run(planned={**PLANNED, "asked": ["kill", "pause"]})})
    suite = ElementTree.fromstring(junit(verdict, Experiment("reference", nemeses=("kill", "pause")), 1.0))
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert cases["kill"].find("error") is None
    assert "1 proved" in str(cases["kill"].findtext("system-out"))
    error = cases["pause"].find("error")
    assert error is not None
    assert "never proved" in str(error.get("message"))
    assert (suite.get("tests"), suite.get("errors")) == ("3", "2")


def test_what_an_experiment_asks_for_counts_even_where_the_history_says_nothing_of_it() -> None:
    events = [Event(0, 1, 0, "invoke", "write", "k", 1), Event(0, 2, 0, "ok", "write", "k", 1)]
    assert Evidence().check(from_events(events), Budget()).validity == "valid"
    verdict = Evidence(["clock"]).check(from_events(events), Budget())
    assert "clock was asked for and had no turn" in verdict.reason


def test_a_primary_that_is_seen_again_or_was_silent_is_no_change() -> None:
    def seen(time: int, node: str, role: str | None, term: int | None = None) -> Event:
        return Event(
            0, time, MONITOR, "info", "role", value={"role": role, "term": term, "asked": 0, "answered": 1}, node=node
        )

    said = [
        ("n1", "primary", 1),
        ("n1", "primary", None),
        ("n2", "replica", 1),
        ("n1", None, None),
        ("n1", "primary", 1),
    ]
    calm = [seen(at, *one) for at, one in enumerate(said, 10)]
    assert Evidence().check(from_events(calm), Budget()).evidence["role_changes"] == 0
    changed = [*calm, seen(20, "n2", "primary", 2), seen(21, "n1", "replica", 2), seen(22, "n1", "primary", 3)]
    assert Evidence().check(from_events(changed), Budget()).evidence["role_changes"] == 2


def test_operations_are_counted_by_their_ends_and_by_how_many_were_open_at_once() -> None:
    def done(process: int, key: str, call: int, ret: int, kind: EventType) -> list[Event]:
        ends: tuple[tuple[int, EventType], ...] = ((call, "invoke"), (ret, kind))
        return [Event(0, time, process, what, "write", key, process) for time, what in ends]

    def evidence(*operations: list[Event]) -> dict[str, Any]:
        events = sorted((event for one in operations for event in one), key=lambda event: event.time)
        return Evidence().check(from_events(events), Budget()).evidence

    found = evidence(
        done(0, "x", 1, 9, "ok"), done(1, "x", 2, 5, "fail"), done(2, "x", 6, 8, "fail"), done(3, "y", 3, 7, "ok"),
        done(4, "x", 4, 10, "info"), done(5, "y", 20, 30, "fail"),
    )  # fmt: skip
    counted = ("operations", "ok", "fail", "info", "most_concurrent_on_one_key")
    assert [found[name] for name in counted] == [6, 2, 3, 1, 2]
    assert evidence(done(0, "x", 1, 9, "info"))["most_concurrent_on_one_key"] == 0


def test_a_share_of_all_operations_must_succeed_and_half_of_chaos_be_proved() -> None:
    def verdict(ok: int) -> Verdict:
        events = []
        for number in range(100):
            ends: tuple[EventType, EventType] = ("invoke", "ok" if number < ok else "fail")
            events += [Event(0, 2 * number + place, 0, kind, "write", "k", number) for place, kind in enumerate(ends)]
        return Evidence().check(from_events(events), Budget())

    least = round(100 * _LEAST_OF_ALL)
    assert (verdict(least).validity, verdict(least - 1).validity) == ("valid", "unknown")
    for names, validity in ((["kill", "pause"], "valid"), (["disk", "kill", "pause"], "unknown")):
        planned = {"asked": [], "mixed": names, "faults": PLANNED["faults"]}
        assert run(planned=planned).validity == validity


def test_a_run_whose_plan_cannot_be_read_is_no_evidence_whatever_else_it_shows() -> None:
    for planned in (None, "foreign", {"asked": ["kill"]}, {**PLANNED, "faults": [None]}):
        verdict = run(planned=planned)
        assert verdict.validity == "unknown"
        assert "nobody knows which faults were to come" in verdict.reason
        assert verdict.evidence["faults"]["kill"]["proved"] == 1


def test_an_experiment_s_own_evidence_knows_what_was_asked_for() -> None:
    events = [Event(0, 1, 0, "invoke", "write", "k", 1), Event(0, 2, 0, "ok", "write", "k", 1)]
    verdict = Evidence.of_run(["clock"], 5.0).check(from_events(events), Budget())
    assert "clock was asked for" in verdict.reason


def test_evidence_is_weak_up_to_one_success_in_twenty_of_what_was_begun_under_the_fault() -> None:
    """What came back at the very moment of the fault's end counts."""

    def fault(tried: int, ok: int) -> dict[str, Any]:
        events = [
            Event(0, 1, MONITOR, "info", "planned", value=PLANNED),
            Event(0, 5, NEMESIS, "invoke", "start-kill", value={}),
            Event(0, 6, NEMESIS, "ok", "start-kill", value={}),
            Event(0, 7, NEMESIS, "ok", "prove-kill", value=SEEN),
        ]
        for number in range(tried - 1):
            kind: EventType = "ok" if number < ok - 1 else "fail"
            events.append(Event(0, 10 + 2 * number, number, "invoke", "write", "k", number))
            events.append(Event(0, 11 + 2 * number, number, kind, "write", "k", number))
        events += [
            Event(0, 900, 998, "invoke", "write", "k", 998),
            Event(0, 1000, 998, "ok", "write", "k", 998),
            Event(0, 1000, NEMESIS, "ok", "stop-kill"),
        ]
        found = Evidence().check(from_events(events), Budget()).evidence["faults"]["kill"]
        assert found["ok_operations_during"] == ok
        return dict(found)

    assert [fault(tried, 2)["weak"] for tried in (39, 40)] == [False, True]


def test_an_operation_that_begins_at_a_fault_s_first_moment_counts() -> None:
    events = [
        Event(0, 5, 0, "invoke", "write", "k", 1),
        Event(0, 5, NEMESIS, "invoke", "start-kill", value={}),
        Event(0, 6, NEMESIS, "ok", "start-kill", value={}),
        Event(0, 7, NEMESIS, "ok", "prove-kill", value=SEEN),
        Event(0, 10, 0, "ok", "write", "k", 1),
        Event(0, 20, NEMESIS, "ok", "heal"),
    ]
    found = Evidence().check(from_events(events), Budget()).evidence
    assert found["faults"]["kill"]["ok_operations_during"] == 1


def test_an_operation_that_begins_at_a_fault_s_last_moment_was_tried_under_it() -> None:
    events = [
        Event(0, 5, NEMESIS, "invoke", "start-kill", value={}),
        Event(0, 6, NEMESIS, "ok", "start-kill", value={}),
        Event(0, 7, NEMESIS, "ok", "prove-kill", value=SEEN),
    ]
    for number in range(20):
        kind: EventType = "ok" if number == 0 else "fail"
        last = number == 19
        events.append(Event(0, 100 if last else 10 + 2 * number, number, "invoke", "write", "k", number))
        if last:
            events.append(Event(0, 100, NEMESIS, "ok", "stop-kill"))
        events.append(Event(0, 101 if last else 11 + 2 * number, number, kind, "write", "k", number))
    fault = Evidence().check(from_events(events), Budget()).evidence["faults"]["kill"]
    assert (fault["ok_operations_during"], fault["weak"]) == (1, True)


def test_the_most_that_were_open_at_once_may_be_on_any_key() -> None:
    events = []
    for number, key in enumerate("axyy"):
        events.append(Event(0, number, number, "invoke", "write", key, 1))
        events.append(Event(0, 9 + number, number, "ok", "write", key, 1))
    events.sort(key=lambda event: event.time)
    found = Evidence().check(from_events(events), Budget()).evidence
    assert found["most_concurrent_on_one_key"] == 2
    assert (found["ok"], found["fail"], found["info"]) == (4, 0, 0)
