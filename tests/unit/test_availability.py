"""How available a store was: each figure against its definition, operation by operation."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from harness.availability import availability_lines
from harness.checkers.availability import Availability, Available, Return
from harness.experiment import Experiment
from harness.history import History, from_events
from harness.operation import NEMESIS, Declined, Event
from harness.periods import fault_periods
from harness.run_directory import junit
from harness.verdict import Budget, combine

S = 1_000_000_000
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}

Row = tuple[int, int, bool, str | None, str]
"""An operation: its moments, whether it was served, its node, its function."""


def run(
    *operations: tuple[float, float, str],
    faults: Sequence[tuple[float, float]] = (),
    error: str = "no",
    functions: Sequence[str] = ("write",),
) -> History:
    """Operations from one second to another with their outcomes, each of a process of its own, and faults."""
    events = []
    for process, (call, ret, kind) in enumerate(operations):
        f = functions[process % len(functions)]
        events.append(Event(0, int(call * S), process, "invoke", f, "k", process, node=f"n{process % 3}"))
        if kind != "open":
            said = None if kind == "ok" else error
            events.append(Event(0, int(ret * S), process, kind, f, "k", process, node="n1", error=said))  # type: ignore[arg-type]
    for start, end in faults:
        for name, at in (("start", start), ("stop", end)):
            events.append(Event(0, int(at * S), NEMESIS, "invoke", f"{name}-kill"))
            events.append(Event(0, int(at * S), NEMESIS, "ok", f"{name}-kill", value={"said": "n1"}))
    return from_events(sorted(events, key=lambda event: event.time))


def measured(history: History) -> Available:
    verdict = Availability().check(history, Budget())
    assert verdict.validity == "valid"
    return msgspec.convert(verdict.evidence["availability"], Available)


def steady(outage: tuple[float, float]) -> list[tuple[float, float, str]]:
    """An operation every tenth of a second, for 20 s; those of the outage fail."""
    moments = [round(n * 0.1, 3) for n in range(200)]
    return [(at, at + 0.01, "fail" if outage[0] <= at < outage[1] else "ok") for at in moments]


def test_the_time_to_the_first_success_and_to_full_service() -> None:
    found = measured(run(*steady((5.0, 8.0)), faults=[(4.95, 12.0)]))
    (fault,) = found.faults
    # The first second of which nine tenths are served begins with the last operation that failed.
    assert fault.from_fault == Return(first_served=3_060_000_000, full_service=2_950_000_000)
    assert fault.from_heal == Return(first_served=10_000_000, full_service=0)
    assert fault.before.served == fault.before.operations > 0
    assert (fault.during.served, fault.during.operations) == (41, 71)
    assert (found.before.operations, found.during.operations, found.after.operations) == (50, 71, 79)


def test_an_outage_that_outlives_its_fault() -> None:
    found = measured(run(*steady((5.0, 14.0)), faults=[(4.95, 12.0)]))
    (fault,) = found.faults
    assert fault.from_fault == Return(first_served=9_060_000_000, full_service=None)
    assert fault.from_heal == Return(first_served=2_010_000_000, full_service=1_900_000_000)
    assert found.clauses == ["writes failed for 9.1 s at most"]


def test_what_is_too_short_to_tell_is_not_told() -> None:
    found = measured(run(*steady((5.0, 8.0)), faults=[(4.95, 5.5), (5.8, 9.0)]))
    assert found.faults[0].from_fault == Return(3_060_000_000, None, known=False)
    assert found.faults[0].from_heal == Return(2_510_000_000, None, known=False)
    assert found.worst["kill"][0] == 2
    assert found.worst["kill"][1] == Return(3_060_000_000, found.faults[1].from_fault.full_service)


def test_what_the_store_declined_was_served() -> None:
    found = measured(run((0, 1, "ok"), (2, 4, "fail"), error=str(Declined("the value was another one"))))
    assert (found.total.served, found.total.latency and found.total.latency.max, found.reasons) == (2, 2 * S, [])


def test_failures_are_counted_by_what_was_said() -> None:
    history = run((0, 1, "ok"), (1, 2, "fail"), (2, 3, "info"), (3, 4, "open"), error="port 6379 is shut")
    reasons = {(one.type, one.error): one.operations for one in measured(history).reasons}
    assert reasons == {
        ("fail", "port # is shut"): 1,
        ("info", "port # is shut"): 1,
        ("info", "no answer before the end"): 1,
    }


def test_nothing_can_be_said_of_no_operation() -> None:
    assert Availability().check(run(), Budget()).validity == "unknown"
    assert Availability().check(run((0, 1, "fail")), Budget()).validity == "valid"


@pytest.mark.parametrize("seed", range(40))
def test_every_figure_is_what_its_definition_says(seed: int) -> None:
    rng = random.Random(seed)
    operations = []
    for _ in range(rng.randrange(1, 200)):
        call = rng.uniform(0, 20)
        kind = rng.choices(["ok", "fail", "info", "open"], [6, 2, 1, 1])[0]
        operations.append((call, call + rng.uniform(0.001, 1.5), kind))
    faults, at = [], 0.0
    while (at := at + rng.uniform(0.5, 6)) < 18:
        faults.append((at, at + rng.uniform(0.1, 5)))
        at = faults[-1][1]
    functions = (("write",), ("read", "write"), ("read", "cas", "write", "read"), ("read",))[seed % 4]
    history = run(*operations, faults=faults, functions=functions)
    found = measured(history)
    rows = _rows(history)
    periods = fault_periods(history)
    first = min((one.start for one in periods), default=math.inf)

    def is_active(moment: int) -> bool:
        return any(one.start <= moment <= one.end for one in periods)

    _same(found.total, rows)
    _same(found.before, [one for one in rows if one[0] < first])
    _same(found.during, [one for one in rows if is_active(one[0])])
    _same(found.after, [one for one in rows if one[0] > first and not is_active(one[0])])
    for name, service in found.nodes.items():
        _same(service, [one for one in rows if one[3] == name])
    for period, fault in zip(periods, found.faults, strict=True):
        following = min((one.start for one in periods if one.start > period.end), default=10**15)
        _same(fault.during, [one for one in rows if period.start <= one[0] <= period.end])
        mixed = len({one[4] == "read" for one in rows}) == 2
        assert fault.from_fault == _return(rows, first, period.start, period.end + 1, mixed=mixed)
        assert fault.from_heal == _return(rows, first, period.end, following, mixed=mixed)
        for by, parts in ((4, fault.functions), (3, fault.nodes)):
            assert parts.keys() == {one[by] for one in rows}
            for name, part in parts.items():
                mine = [one for one in rows if one[by] == name]
                meanwhile = [one[2] for one in mine if period.start <= one[0] <= period.end]
                assert (part.operations, part.served) == (len(meanwhile), sum(meanwhile))
                assert (part.after_fault, part.after_heal) == (_served(mine, period.start), _served(mine, period.end))


def _rows(history: History) -> list[Row]:
    operations = history.operations()
    return [
        (
            int(operations.call[row]),
            int(operations.ret[row]),
            bool(operations.type[row] == 1),
            operations.node_name(row),
            str(history.functions[operations.f[row]]),
        )
        for row in range(len(operations))
    ]


def _same(found: Any, rows: list[Row]) -> None:
    times = sorted(ret - call for call, ret, good, *_ in rows if good)
    assert (found.operations, found.served) == (len(rows), len(times))
    if not times:
        assert found.latency is None
    for name, share in QUANTILES.items() if times else ():
        # The smallest of all values that at least so many do not exceed.
        value = next(one for one in times if sum(other <= one for other in times) >= share * len(times))
        assert getattr(found.latency, name) == value


def _served(rows: list[Row], moment: int) -> int | None:
    """The time to the first that was invoked from a moment on and served."""
    served = min((ret for call, ret, good, *_ in rows if call >= moment and good), default=None)
    return None if served is None else served - moment


def _return(rows: list[Row], first: float, moment: int, until: int, *, mixed: bool) -> Return:
    served = _served(rows, moment)
    write = _served([one for one in rows if one[4] != "read"], moment) if mixed else msgspec.UNSET
    base = [good for call, _, good, *_ in rows if call < first]
    begins = [call for call, *_ in rows if moment <= call < until - S]
    if not any(base) or not begins:
        return Return(served, None, known=False, first_write=write)

    def is_full(start: int) -> bool:
        inside = [good for call, _, good, *_ in rows if start <= call < start + S]
        return 10 * sum(inside) * len(base) >= 9 * sum(base) * len(inside)

    worse = next((start for start in begins if not is_full(start)), None)
    if worse is None:
        return Return(served, 0, first_write=write)
    again = next((start for start in begins if start > worse and is_full(start)), None)
    return Return(served, None if again is None else again - moment, first_write=write)


def test_writes_that_fail_while_reads_are_served_are_told() -> None:
    """A store without a primary may still answer reads."""
    operations = [
        (at, ret, "ok" if number % 2 == 0 or ret > 12.1 else kind)
        for number, (at, ret, kind) in enumerate(steady((5.0, 11.0)))
    ]
    history = run(*operations, faults=[(4.95, 12.0)], functions=("read", "write"))
    verdict = combine({"availability": Availability().check(history, Budget())})
    (line,) = (line for line in availability_lines(verdict.evidence) if line.startswith("kill:"))
    assert line.startswith("kill: served again after 60 ms, writes after 6.2 s, ")
    (fault,) = measured(history).faults
    assert fault.functions["read"].after_fault == 60_000_000
    assert fault.functions["write"].after_fault == 6_160_000_000
    assert fault.functions["read"].served > fault.functions["write"].served > 0
    suite = ElementTree.fromstring(junit(verdict, Experiment("reference"), 1.0))
    properties = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert properties["availability.kill.first_write_after_fault"] == "6.160000000"


def test_a_few_lines_say_it_and_junit_has_properties() -> None:
    operations = [
        (at, at + 0.01, "fail") if kind == "fail" else (at, ret, kind) for at, ret, kind in steady((5.0, 8.0))
    ]
    verdict = combine({"availability": Availability().check(run(*operations, faults=[(4.95, 12.0)]), Budget())})
    lines = availability_lines(verdict.evidence)
    assert len(lines) <= 8
    assert lines[1].split() == ["before", "faults", "100.0", "%", *["10", "ms"] * 5]
    assert "kill: served again after 3.1 s, full service after 3.0 s, after the heal full service all the time" in lines
    assert lines[-1] == "not served: 30 no; writes failed for 3.1 s at most"
    suite = ElementTree.fromstring(junit(verdict, Experiment("reference"), 1.0))
    properties = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert properties["availability.total.served"] == "0.850000"
    assert properties["availability.before.p99"] == "0.010000000"
    assert properties["availability.kill.full_service_after_fault"] == "2.950000000"
    assert availability_lines({}) == []


def test_the_lines_stay_few_whatever_has_happened() -> None:
    faults = [(2.0 + n / 10, 3.0 + n / 10) for n in range(100)]
    events = list(run(*steady((5.0, 8.0)), faults=faults).events())
    for event in events:
        if event.process == NEMESIS:
            event.f = event.f.replace("kill", f"kill{event.time % 7}")
        elif event.error:
            event.error = "x" * 300 + chr(97 + event.time % 23)
    evidence = Availability().check(from_events(events), Budget()).evidence
    lines = availability_lines(evidence)
    assert len(lines) <= 8
    assert max(map(len, lines)) < 250
