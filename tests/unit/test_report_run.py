"""The run in the report: what its charts count, which operations are drawn, and what faults, nodes and failures say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from harness.checkers.availability import Availability
from harness.experiment import Experiment
from harness.history import History, from_events
from harness.operation import Event, EventType
from harness.report import charts, fault_charts, latency, node_charts, traffic
from harness.report.minimap import minimap
from harness.report.picture import embedded
from harness.report.run import Run, run
from harness.report.story import Story
from harness.report.vega import as_svg
from harness.run_directory import RunDirectory
from harness.verdict import Budget, Verdict

SECOND = 1_000_000_000
MS = 1_000_000


def story(history: History, evidence: dict[str, Any] | None = None) -> Story:
    return Story(
        RunDirectory(Path("nowhere")), Experiment("reference"), Verdict("valid", evidence=evidence or {}), history
    )


def measured(history: History) -> charts.Measured:
    columns = charts.measured(story(history))
    assert columns is not None
    return columns


def done(*operations: tuple[int, int | None, EventType, str | None]) -> History:
    """Operations from a call to an end (ns), each of a process of its own; None has no completion."""
    events = []
    for process, (call, end, kind, error) in enumerate(operations):
        events.append(Event(0, call, process, "invoke", "write", "x", process, "n1"))
        if end is not None:
            events.append(Event(0, end, process, kind, "write", "x", process, "n1", error))
    return from_events(sorted(events, key=lambda event: event.time))


def many(number: int, *, every: int = 0) -> History:
    """Operations one after the other, a millisecond each, later ones longer; of so many the last one fails."""
    kinds: list[EventType] = ["fail" if every and at % every == every - 1 else "ok" for at in range(number)]
    return done(*((at * MS, at * MS + 1000 + at, kinds[at], None) for at in range(number)))


def fault(name: str, start: int, end: int, *, proved: bool, deed: str = "it") -> list[Event]:
    proof = {"means": "a look", "before": {"open": "a->b"}, "during": {"open": ""}, "holds": proved}
    return [
        Event(0, start, "nemesis", "invoke", f"start-{name}", value={}),
        Event(0, start + 1, "nemesis", "ok", f"start-{name}", value={"said": deed}),
        Event(0, start + 2, "nemesis", "ok" if proved else "fail", f"prove-{name}", value=proof),
        Event(0, end, "nemesis", "ok", f"stop-{name}", value={}),
    ]


def drawn(picture: Any, layer: int = 0) -> list[dict[str, Any]]:
    """The values of a layer that is not of faults behind."""
    own = [part for part in picture.specification["layer"] if part.get("mark", {}).get("opacity") != 0.1]
    values: list[dict[str, Any]] = own[layer]["data"]["values"]
    return values


def test_operations_are_told_apart_by_what_came_of_them() -> None:
    history = done(
        (0, 10, "ok", None),
        (1, 20, "fail", "declined: it holds 7"),
        (2, 30, "fail", "no primary"),
        (3, 40, "info", "timed out"),
        (4, None, "info", None),
        (5, SECOND, "ok", None),
    )
    columns = measured(history)
    assert [charts.OUTCOMES[code] for code in columns.outcome.tolist()] == [
        "ok",
        "declined",
        "fail",
        "info",
        "info",
        "ok",
    ]
    assert columns.served.tolist() == [True, True, False, False, False, True]
    assert (columns.took * 1e9).round().tolist() == [10, 19, 28, 37, SECOND - 4, SECOND - 5]


@pytest.mark.parametrize("seconds", [1e-9, 0.003, 1, 7.3, 60, 61.2, 3600, 86400])
def test_steps_of_time_are_equal_and_few(seconds: float) -> None:
    columns = measured(done((0, int(seconds * 1e9), "ok", None)))
    assert (columns.edges[0], columns.edges[-1]) == (0, columns.end)
    assert np.allclose(np.diff(columns.edges), columns.length)
    assert 1 <= len(columns.edges) - 1 <= 101
    assert columns.step_of(np.array([0, columns.end])).tolist() == [0, len(columns.edges) - 2]


def test_throughput_counts_every_operation_once() -> None:
    columns = measured(many(5000, every=7))
    per_second = np.array(traffic.completions(columns))
    counts = per_second.sum(axis=1) * columns.length
    assert counts.round(6).tolist() == [5000 - 5000 // 7, 0, 5000 // 7, 0]
    bars = drawn(traffic.throughput(story(many(5000, every=7)), columns))
    assert sum((bar["high"] - bar["low"]) * columns.length for bar in bars) == pytest.approx(5000, rel=1e-4)
    stacked = {bar["at"]: bar["high"] for bar in bars if bar["outcome"] == "ok"}
    assert all(bar["low"] == stacked[bar["at"]] for bar in bars if bar["outcome"] == "fail")


def test_what_was_done_at_the_last_moment_counts() -> None:
    columns = measured(done((5, None, "info", None), (5, None, "info", None), (5, None, "info", None)))
    per_second = np.array(traffic.completions(columns))
    assert (per_second.sum(axis=1) * columns.length).round(6).tolist() == [0, 0, 0, 3]


def test_the_share_served_is_cut_off_and_only_where_something_was_asked() -> None:
    operations: list[tuple[int, int | None, EventType, str | None]] = [(at, at + 1, "ok", None) for at in range(99_999)]
    history = done(*operations, (99_999, 100_000, "fail", "no"), (50 * SECOND, 100 * SECOND, "fail", "no"))
    steps = traffic.shares(measured(history))
    assert [(step["share"], step["served"], step["of"]) for step in steps] == [(0.9999, 99_999, 100_000), (0, 0, 1)]


def test_quantiles_are_by_nearest_rank_of_what_was_served() -> None:
    slow: list[tuple[int, int | None, EventType, str | None]] = [(SECOND, SECOND + 90 * SECOND, "fail", "too late")]
    history = done(
        *((at, at + (at + 1) * MS, "ok", None) for at in range(100)), *slow, (99 * SECOND, 100 * SECOND, "ok", None)
    )
    figures = latency.quantiles_of(measured(history))
    first = {figure["quantile"]: figure["ms"] for figure in figures if figure["at"] < 1}
    assert first == {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert {figure["stretch"] for figure in figures} == {0, 1}, "a line runs over a time in which nothing was served"
    assert {figure["of"] for figure in figures} == {100, 1}


@pytest.mark.parametrize("every", [0, 100, 3, 1])
def test_what_failed_and_the_slowest_are_drawn_first(every: int) -> None:
    history = many(20_000, every=every)
    columns = measured(history)
    chosen = latency.sample(columns)
    assert len(chosen) == len(set(chosen.tolist())) <= 4000
    assert chosen.tolist() == sorted(chosen.tolist())
    assert np.array_equal(chosen, latency.sample(columns))
    failed = np.flatnonzero(~columns.served)
    assert np.isin(failed, chosen).sum() >= min(len(failed), 2000)
    served = np.flatnonzero(columns.served)
    assert np.isin(served[-1000:], chosen).all()
    words = latency.scatter(story(history), columns).words
    assert f"Drawn: {len(chosen):,} of 20,000" in words
    assert ("all 200 that were not served" in words) is (every == 100)
    assert ("2,000 of the 6,666 that were not served" in words) is (every == 3)


def test_how_long_an_operation_took_is_of_the_times_that_were_recorded() -> None:
    times = [(50, "invoke", 0), (90, "ok", 0), (10, "invoke", 1), (40, "ok", 1)]
    events = [Event(0, at * MS, process, kind, "write", "x", 1, "n1") for at, kind, process in times]  # type: ignore[arg-type]
    mine = measured(from_events(events))
    assert (mine.took * 1e3).round(3).tolist() == [40, 30]
    assert (mine.call * 1e3).round(3).tolist() == [50, 10]


def test_the_slowest_are_only_said_to_be_drawn_where_others_are_not() -> None:
    kinds: list[EventType] = ["ok" if at < 300 else "fail" for at in range(10_000)]
    history = done(*((at * MS, at * MS + 1000, kind, None) for at, kind in enumerate(kinds)))
    words = latency.scatter(story(history), measured(history)).words
    assert "Drawn: 4,000 of 10,000: 3,700 of the 9,700 that were not served; all 300 that were." in words
    words = latency.scatter(story(many(9000)), measured(many(9000))).words
    assert "Drawn: 4,000 of 9,000: of the 9,000 that were, the 1,000 slowest" not in words
    assert "Drawn: 4,000 of 9,000: the 1,000 slowest, and others by chance." in words


def test_operations_without_an_answer_are_said_to_count_at_the_end() -> None:
    history = done((0, 10, "ok", None), (5, None, "info", None), (6, None, "info", None), (7, SECOND, "ok", None))
    words = traffic.throughput(story(history), measured(history)).words
    assert words.endswith("2 operations without an answer count at the end of the run.")
    assert "without an answer" not in traffic.throughput(story(many(5)), measured(many(5))).words


def test_times_that_are_all_the_same_are_drawn() -> None:
    for took in (0, 1, 2 * MS):
        history = done(*((at * SECOND, at * SECOND + took, "ok", None) for at in range(5)))
        picture = latency.scatter(story(history), measured(history))
        scale = picture.specification["layer"][0]["encoding"]["y"]["scale"]
        assert 0 < scale["domainMin"] < scale["domainMax"]
        assert [point["ms"] for point in drawn(picture)] == [took / 1e6] * 5
        assert "NaN" not in as_svg(picture)


def test_few_operations_are_all_drawn_and_lead_to_their_place_in_the_history() -> None:
    history = many(10)
    points = drawn(latency.scatter(story(history), measured(history)))
    invoked = [row for row in range(len(history)) if history.type[row] == 0]
    assert [point["op"] for point in points] == invoked
    assert [point["ms"] for point in points] == [(1000 + at) / 1e6 for at in range(10)]


def test_faults_have_a_row_for_each_family_and_are_listed_with_their_proof() -> None:
    events = [Event(0, 0, 0, "invoke", "read", "x"), Event(0, 5, 0, "ok", "read", "x", 1)]
    events += fault("partition", 10, 100, proved=True, deed="n1 | n2")
    events += fault("kill", 200, 300, proved=False, deed="</script>\x1b[2J")
    events += fault("partition", 400, 500, proved=True)
    mine = story(from_events(events))
    picture = fault_charts.lanes(mine, fault_charts.faults(mine))
    assert picture is not None
    bars = picture.specification["layer"][-1]["data"]["values"]
    assert [bar["family"] for bar in bars] == ["partition", "kill", "partition"]
    assert len({bar["colour"] for bar in bars}) == 2
    assert "1 with a dashed outline" in picture.words
    first, second, _ = fault_charts.faults(mine)
    assert (first.deed, first.means, first.before, first.during) == ("n1 | n2", "a look", "open: a->b", "open: ")
    assert (second.proved, second.means) == (False, "not proved")
    assert second.deed == "</script>\\x1b[2J"
    assert "</script" not in embedded(picture.specification)
    bands = charts.bands(mine.periods)["data"]["values"]
    assert [band["fault"] for band in bands][1] == "kill (</script>\\x1b[2J)"


def test_of_many_faults_those_that_are_drawn_are_said() -> None:
    events = [Event(0, 0, 0, "invoke", "read", "x"), Event(0, 5, 0, "ok", "read", "x", 1)]
    for number in range(1200):
        events += fault("kill", 1000 * number + 10, 1000 * number + 100 + number, proved=number != 1100)
    events += fault("pause", 10**7, 10**7 + 5, proved=True)
    mine = story(from_events(events))
    picture = fault_charts.lanes(mine, fault_charts.faults(mine))
    assert picture is not None
    assert "1,201 faults, 2 families, a row for each. 1 with a dashed outline" in picture.words
    assert "Drawn: the first 1,000." in picture.words
    assert "As bands behind the charts: the 200 longest of 1,201 faults." in picture.words
    assert len(charts.bands(mine.periods)["data"]["values"]) == 200
    assert len(minimap(mine, measured(mine.history)).faults) == 200


def test_names_of_faults_stay_within_their_bars() -> None:
    names = ["partition", "membership", "kill", "clock", "disk", "netem", "pause", "restart", "squeeze", "storage"]
    events = [Event(0, 0, 0, "invoke", "read"), Event(0, 10, 0, "ok", "read")]
    for number, name in enumerate(names * 3):
        events += fault(name, 100 + number * 17, 116 + number * 17, proved=True, deed=f"a long story of {name}")
    mine = story(from_events(sorted(events, key=lambda event: event.time)))
    picture = fault_charts.lanes(mine, fault_charts.faults(mine))
    assert picture is not None
    group = picture.specification["layer"][-1]
    assert len(group["layer"][0]["encoding"]["y"]["scale"]["domain"]) == len(names)
    text = group["layer"][1]["mark"]
    assert text["limit"]["expr"].startswith("max((min(scale('x', datum.until), width)")
    assert "? 0 : 1" in text["opacity"]["expr"]
    assert "membership" in as_svg(picture)


def test_what_nodes_said() -> None:
    events = [Event(0, 0, 0, "invoke", "read", "x"), Event(0, 5, 0, "ok", "read", "x", 1)]
    for at, node, role, term in ((1, "n1", "primary", 1), (2, "n2", None, None), (3, "n1", "replica", 2)):
        value = {"role": role, "asked": at * SECOND, "answered": at * SECOND + 9, "term": term}
        events.append(Event(0, at * SECOND + 9, "monitor", "info", "role", value=value, node=node))
    events.append(Event(0, 4 * SECOND, "monitor", "info", "clock", value={"n1": 0.0, "n2": -60.0}))
    events.append(Event(0, 5 * SECOND, "monitor", "info", "clock", value={"n1": "nonsense"}))
    series = {"n1": {"series": [[SECOND, 0], [2 * SECOND, 7 * MS], [9 * SECOND, 0]]}, "n2": {"series": []}}
    mine = story(from_events(events), {"replication": {"nodes": series}})
    roles, lag, clocks = node_charts.roles(mine), node_charts.lag(mine), node_charts.clocks(mine)
    assert roles is not None
    assert lag is not None
    assert clocks is not None
    answers = [(value["node"], value["role"], value.get("term")) for value in drawn(roles)]
    assert answers == [("n1", "primary", 1), ("n2", "no answer", None), ("n1", "replica", 2)]
    assert [(value["behind"], value["stretch"]) for value in drawn(lag)] == [(0, 0), (0.007, 0), (0, 1)]
    assert "n1, 7 ms behind at 2.0 s" in lag.words
    assert [(value["node"], value["ahead"]) for value in drawn(clocks)] == [("n1", 0), ("n2", -60)]
    assert "2 measurements, the worst -60 s of n2 at 4.0 s" in clocks.words


def of(history: History, names: Sequence[str]) -> Run:
    evidence = Availability().check(history, Budget()).evidence
    section = run(story(history, msgspec.to_builtins(evidence)))
    assert section is not None
    assert [picture.name for picture in section.pictures] == names
    for picture in section.pictures:
        assert picture.words
        assert as_svg(picture).startswith("<svg")
    return section


def test_failures_and_recoveries_are_listed() -> None:
    events = [*many(3000).events()]
    for event in events:
        if event.type == "ok" and SECOND <= event.time < 2 * SECOND:
            event.type, event.error = "fail", f"the port {event.index} is shut"
    events += fault("kill", SECOND, 2 * SECOND, proved=True)
    history = from_events(sorted(events, key=lambda event: event.time))
    section = of(history, ["lanes", "latency", "quantiles", "throughput", "availability"])
    assert [(reason.outcome, reason.words, reason.operations) for reason in section.reasons] == [
        ("fail", "the port # is shut", 1000)
    ]
    (recovery,) = section.recoveries
    assert (recovery.what, recovery.before, recovery.during) == ("kill (it)", "100.0 %", "0.0 %")
    assert recovery.again == "after 1.0 s"
    assert section.minimap is not None
    assert len(section.minimap.faults) == 1


def test_a_history_of_other_tools_shows_what_it_has() -> None:
    of(many(50), ["latency", "quantiles", "throughput", "availability"])
    only_completions = [Event(0, at * MS, at % 3, "ok", "txn", None, [["r", 1, None]]) for at in range(50)]
    section = run(story(from_events(only_completions)))
    assert section is not None
    assert [picture.name for picture in section.pictures] == ["throughput", "availability"]
    assert run(story(from_events([]))) is None
    timeless = many(50)
    timeless.timeless = True
    assert run(story(timeless)) is None


def test_the_minimap_is_an_outline_as_high_as_the_picture() -> None:
    history = many(100)
    small = minimap(story(history), measured(history))
    assert small.done.startswith(f"M0 {small.height}V")
    assert small.done.endswith("Z")
    assert "V0.0" in small.done
