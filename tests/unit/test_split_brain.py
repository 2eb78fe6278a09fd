"""Two primaries at once: facts against their definitions, planted ones, and correct stores that are left in peace."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from harness.checkers import split_brain
from harness.checkers.availability import longest_outage
from harness.checkers.branches import Branches
from harness.checkers.episodes import Side, side_line
from harness.checkers.reigns import merged, overlaps, reigns
from harness.checkers.split_brain import SplitBrain
from harness.checkers.terms import claims, late, spells
from harness.columns import NOTHING
from harness.console.verdict import print_verdict
from harness.history import History, from_events
from harness.operation import LEADERSHIP, MONITOR, NEMESIS, ROLE, Event, ServedBy
from harness.plugins import load, names
from harness.roles import Answer, sightings
from harness.verdict import Budget, Verdict, combine
from harness.workload import Workload
from harness.writes import acknowledged_writes, only_reads
from tests.random_runs import CASES, cases

SECOND = 1_000_000_000


class Wrote(NamedTuple):
    """A write that ``by`` acknowledged in ``term``."""

    call: int
    ret: int
    by: str
    term: int | None = None


def write(process: int, wrote: Wrote, key: str = "k", f: str = "write") -> list[Event]:
    served = ServedBy(wrote.by, wrote.term)
    return [
        Event(0, wrote.call, process, "invoke", f, key, process),
        Event(0, wrote.ret, process, "ok", f, key, process, served_by=served),
    ]


def role(node: str, start: int, end: int, role: str | None = "primary", term: int | None = None) -> Event:
    """A node said the same from ``start`` to ``end``."""
    return Event(0, end + 1, MONITOR, "info", ROLE, None, Answer(role, end, end + 1, term, start), node)


def history_of(events: Sequence[Event], leadership: str = "primary") -> History:
    told = Event(0, 0, MONITOR, "info", LEADERSHIP, value=leadership)
    ordered = [told, *sorted(events, key=lambda event: event.time)]
    # As a file has it.
    return from_events(msgspec.json.decode(msgspec.json.encode(ordered), type=list[Event]))


def check(events: Sequence[Event], leadership: str = "primary") -> Verdict:
    return SplitBrain().check(history_of(events, leadership), Budget())


def of_writes(writes: Sequence[Wrote]) -> list[Event]:
    return [event for process, wrote in enumerate(writes) for event in write(process, wrote)]


@st.composite
def some_writes(draw: st.DrawFn) -> list[Wrote]:
    size = draw(st.integers(1, 8))
    moments = draw(st.permutations(range(1, 2 * size + 1)))
    terms = st.sampled_from([None, 1, 1, 2, 3])
    return [
        Wrote(min(both), max(both), draw(st.sampled_from(["n1", "n2", "n3"])), draw(terms))
        for both in zip(moments[::2], moments[1::2], strict=True)
    ]


@settings(max_examples=cases(1000), deadline=None)
@given(some_writes())
def test_facts_about_terms_are_what_their_definitions_say(writes: list[Wrote]) -> None:
    operations = history_of(of_writes(writes)).operations()
    rows = acknowledged_writes(operations)
    behind = {
        wrote
        for wrote in writes
        for other in writes
        if wrote.term is not None and other.term is not None and other.term > wrote.term and other.ret < wrote.call
    }
    lagging = {
        int(operations.process[row]) for lag in late(operations, rows, operations.term[rows]) for row in lag.writes
    }
    assert {writes[process] for process in lagging} == behind
    for lag in late(operations, rows, operations.term[rows]):
        for higher, lower in zip(lag.rows[::2], lag.writes, strict=True):
            assert operations.ret[higher] < operations.call[lower]
            assert operations.term[higher] == lag.higher > lag.term == operations.term[lower]
    shared = {(a.term, b.term) for a in writes for b in writes if a.by < b.by and a.term == b.term is not None}
    in_order = spells(operations, rows, operations.term[rows], [])
    assert {(claim.term, claim.term) for claim in claims(in_order)} == shared
    guilty = bool(behind or shared)
    verdict = check(of_writes(writes))
    assert (verdict.validity == "invalid") == guilty
    told = " ".join(
        fact for one in ("episodes", "term_conflicts") for a in verdict.evidence[one] for fact in a["facts"]
    )
    for term in {term for term, _ in shared}:
        assert f"claimed term {term}" in told
    for late_one in behind:
        assert re.search(f"{late_one.by} acknowledged .* in term {late_one.term}", told)


@settings(max_examples=cases(500), deadline=None)
@given(some_writes())
def test_reigns_overlap_only_where_each_has_a_sign_before_and_behind(writes: list[Wrote]) -> None:
    operations = history_of(of_writes(writes)).operations()
    meeting = overlaps(reigns(operations, acknowledged_writes(operations), []))
    for overlap in meeting:
        assert overlap.start < overlap.end
        for node in overlap.nodes:
            mine = [w for w in writes if w.by == node]
            assert any(w.ret <= overlap.start for w in mine)
            assert any(w.call >= overlap.end for w in mine)
    for whole in merged(meeting):
        # By the half of a moment: two reigns at least begin or end at whole ones.
        at_once = [
            {node for one in meeting if 2 * one.start < half < 2 * one.end for node in one.nodes}
            for half in range(2 * whole.start + 1, 2 * whole.end, 2)
        ]
        assert whole.shared == sum(map(bool, at_once))
        assert whole.all_at_once == all(nodes == whole.nodes for nodes in at_once)
        assert whole.nodes == set().union(*at_once)


def correct(rng: random.Random, functions: Sequence[str] = ("append",)) -> list[Event]:
    """A store with one primary at a time, whose operations take effect at one moment of a reign; the former primary may
    believe to be one for a while, and answer what it has done. Terms are known, or not, or told by roles alone.
    """
    events: list[Event] = []
    now, term, process = SECOND, 0, 0
    told = rng.choice(("served", "roles", "never", "either"))
    node = "n1"
    ends: list[tuple[str, int, int, int]] = []
    for _ in range(rng.randint(1, 5)):
        term += rng.randint(1, 2)
        node = rng.choice([name for name in ("n1", "n2", "n3") if name != node or rng.random() < 0.2])
        start = now
        for _ in range(rng.randint(0, 12)):
            now += rng.randrange(1, SECOND // 3)
            known = told == "served" or (told == "either" and rng.random() < 0.5)
            # It may have been invoked, and may be answered, in another's reign.
            wrote = Wrote(
                max(now - rng.randrange(SECOND), 1), now + rng.randrange(SECOND), node, term if known else None
            )
            process += 1
            key = f"k{rng.randrange(3)}"
            events += write(process, wrote, key, rng.choice(functions))
        ends.append((node, term, start, now))
        now += rng.randrange(1, SECOND)
    for at, (name, its_term, start, end) in enumerate(ends if told != "never" else ()):
        # Who is elected again knows that.
        again = min((other[2] for other in ends[at + 1 :] if other[0] == name), default=100 * SECOND)
        believes = min(end + rng.choice((0, 0, rng.randrange(3 * SECOND))), again - 1)
        if believes > start:
            events.append(role(name, start, believes, "primary", its_term if told != "served" else None))
    lists: dict[str, list[int]] = {}
    for event in sorted((e for e in events if e.type == "ok" and e.f == "append"), key=lambda e: e.time):
        lists.setdefault(event.key, []).append(event.value)
    now += 10 * SECOND
    for key, held in lists.items():
        process += 1
        events.append(Event(0, now, process, "invoke", "read-list", key))
        events.append(Event(0, now + 1, process, "ok", "read-list", key, held, served_by=ServedBy(node, term)))
    return events


def test_no_correct_store_is_accused() -> None:
    rng = random.Random(11)
    overlapping = 0
    for seed in range(CASES):
        events = correct(rng)
        verdict = check(events)
        assert verdict.validity == "valid", (seed, verdict.reason, verdict.anomalies)
        overlapping += verdict.evidence["episodes_found"]
    assert overlapping > CASES // 30  # harmless ones are seen all the same


WORKLOADS: Mapping[str, type[Workload]] = {name: load("workloads", name) for name in names("workloads")}
WRITES = sorted({f for w in WORKLOADS.values() for f in (w.functions or ()) if f not in w.reads})
"""All functions of the bundled workloads that change something."""
IDLE: Mapping[str, bool | None] = {"acquire": False, "renew": False, "dequeue": None}
"""What they answer when there was nothing to be done."""


def test_no_correct_store_is_accused_whatever_its_clients_do() -> None:
    rng = random.Random(12)
    overlapping = 0
    for seed in range(cases(1000)):
        events = correct(rng, WRITES)
        # Who tells that nothing was to be done may have been succeeded long ago, and have told its term before.
        idle = [(f, nothing, at) for f, nothing in IDLE.items() for at in range(3)]
        for process, (f, nothing, at) in enumerate(idle):
            stale, call = ServedBy("n1", 1), (20 + at) * SECOND + process
            events.append(Event(0, call, 500 + process, "invoke", f, "k0"))
            events.append(Event(0, call + SECOND, 500 + process, "ok", f, "k0", nothing, served_by=stale))
        verdict = check(events)
        assert verdict.validity == "valid", (seed, verdict.reason, verdict.anomalies)
        overlapping += verdict.evidence["episodes_found"]
    assert overlapping > cases(1000) // 10


def moments(
    node: str, start: float, end: float, term: int | None, first: int, f: str = "append", key: str = "x"
) -> list[Event]:
    """Ten writes a second of one node."""
    events: list[Event] = []
    for at in range(int((end - start) * 10)):
        call = int((start + at / 10) * SECOND)
        events += write(first + at, Wrote(call, call + SECOND // 20, node, term), key, f)
    return events


def split(term: tuple[int | None, int | None] = (None, None)) -> list[Event]:
    """n1 goes on for two seconds after n3 has begun; in the end n3's is there."""
    first, second = moments("n1", 1, 5, term[0], 100), moments("n3", 3, 8, term[1], 200)
    begun = [e.value for e in first if e.type == "ok" and e.time < 3 * SECOND]
    n1 = [e.value for e in first if e.type == "ok"]
    n3 = begun + [e.value for e in second if e.type == "ok"]
    events = [*first, *second]
    for process, (node, at, held) in enumerate((("n1", 6, n1), ("n3", 20, n3))):
        events.append(Event(0, at * SECOND, process, "invoke", "read-list", "x"))
        events.append(Event(0, at * SECOND + 1, process, "ok", "read-list", "x", held, served_by=ServedBy(node)))
    return [*events, Event(0, 10 * SECOND, NEMESIS, "ok", "heal")]


def test_a_split_brain_is_told_in_a_few_lines() -> None:
    verdict = check(split((4, 5)))
    assert verdict.validity == "invalid"
    assert verdict.reason == "n1 and n3 were both primary for 1.9 s (3.05 s to 4.95 s)"
    (anomaly,) = verdict.anomalies
    first, sides, fork = anomaly.text.splitlines()
    assert first == verdict.reason
    assert sides == (
        "n1 (term 4) acknowledged 19 writes: all lost (and 1 before that, lost as well); "
        "n3 (term 5) acknowledged 20 writes: all kept"
    )
    assert fork == (
        "x forked after 119: n1 went on with 120 121 122 123 and 16 more (lost), "
        "n3 with 200 201 202 203 and 46 more (kept)"
    )
    (episode,) = verdict.evidence["episodes"]
    assert episode["nodes"] == ["n1", "n3"]
    assert [side["fates"]["lost"] for side in episode["sides"]] == [19, 0]
    lost = [write for write in episode["writes"] if write["fate"] == "lost"]
    assert [write["value"] for write in lost] == list(range(120, 140))
    assert [write.get("outside") for write in lost] == ["before", *[None] * 19]
    assert {(write["node"], write["term"], write["f"], write["key"]) for write in lost} == {("n1", 4, "append", "x")}
    assert [write["value"] for write in episode["writes"][20:]] == list(range(200, 220))
    assert episode["writes_left_out"] == verdict.evidence["episodes_left_out"] == 0
    assert "n1 acknowledged 19 writes in term 4, invoked after n3 had acknowledged one in term 5" in episode["facts"]


def test_a_split_brain_without_terms_is_found_by_its_fork_and_its_losses() -> None:
    (episode,) = check(split()).evidence["episodes"]
    assert episode["facts"] == [
        "1 list forked between them",
        "19 writes that one acknowledged while another did, too, are lost",
    ]


def test_a_run_prints_it_so_that_it_can_be_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    events = [event if event.f != "append" else replace(event, key="x\x1b[31m") for event in split((4, 5))]
    events = [event if event.f != "read-list" else replace(event, key="x\x1b[31m") for event in events]
    verdict = combine({"split-brain": check(events), "branches": Branches().check(history_of(events), Budget())})
    print_verdict(verdict, Console(highlight=False, width=60))
    first, sides, fork, numbers = capsys.readouterr().out.splitlines()
    assert first == "invalid: split brain: n1 and n3 were both primary for 1.9 s (3.05 s to 4.95 s)"
    assert sides.startswith("  n1 (term 4) acknowledged 19 writes: all lost")
    assert " forked after 119: n1 went on with 120 " in fork
    assert numbers == "3 anomalies: 1 of split-brain, 2 of branches"
    assert "\x1b" not in fork


@pytest.mark.parametrize("leadership", ["none", "forwarded"])
def test_where_acknowledging_is_no_claim_the_same_is_no_split_brain(leadership: str) -> None:
    verdict = check(split(), leadership)
    assert verdict.validity == "valid"
    assert verdict.evidence["episodes_found"] == (1 if leadership == "none" else 0)


def test_a_term_that_goes_back_is_wrong_behind_any_node() -> None:
    behind = [Wrote(at * SECOND, at * SECOND + 1, "n2", 4) for at in (3, 4)]
    events = of_writes([Wrote(SECOND, 2 * SECOND, "n1", 5), *behind])
    assert check(events, "forwarded").validity == "invalid"
    assert check(events, "none").validity == "valid"


def test_who_passes_writes_on_may_tell_an_older_term_once_or_than_it_knew_itself() -> None:
    first, again = (Wrote(at * SECOND, at * SECOND + 1, "n2", 4) for at in (3, 4))
    for newest in ([Wrote(1, 2, "n1", 5)], [Wrote(1, 2, "n2", 5), again]):
        events = of_writes([*newest, first])
        assert check(events, "forwarded").validity == "valid"
        assert check(events, "primary").validity == "invalid"


def test_what_was_lost_later_in_a_reign_is_listed_too() -> None:
    """n3 goes on for three seconds after n1 has ended, and n1 has won in the end."""
    events = [event for event in split((4, 5)) if event.f == "append"]
    held = [event.value for event in events if event.type == "ok" and event.served_by == ServedBy("n1", 4)]
    events.append(Event(0, 20 * SECOND, 0, "invoke", "read-list", "x"))
    events.append(Event(0, 20 * SECOND + 1, 0, "ok", "read-list", "x", held, served_by=ServedBy("n1")))
    verdict = check([*events, Event(0, 10 * SECOND, NEMESIS, "ok", "heal")])
    (episode,) = verdict.evidence["episodes"]
    after = [write["value"] for write in episode["writes"] if write.get("outside") == "after"]
    assert after == list(range(220, 250))
    assert [side["lost_after"] for side in episode["sides"]] == [0, 30]
    assert "n3 (term 5) acknowledged 20 writes: all lost (and 30 after that, lost as well)" in verdict.anomalies[0].text


def test_who_acknowledges_nothing_any_more_may_have_lost_what_it_acknowledged_before() -> None:
    events = [*moments("n1", 1, 2, None, 100), *moments("n3", 3, 5, None, 200)]
    events += [role("n1", SECOND, 6 * SECOND, term=4), role("n3", 3 * SECOND, 6 * SECOND, term=5)]
    held = list(range(200, 220))
    events.append(Event(0, 20 * SECOND, 0, "invoke", "read-list", "x"))
    events.append(Event(0, 20 * SECOND + 1, 0, "ok", "read-list", "x", held))
    (episode,) = check(events).evidence["episodes"]
    assert (episode["sides"][0]["acknowledged"], episode["sides"][0]["lost_before"]) == (0, 10)
    assert [write["value"] for write in episode["writes"] if write.get("outside")] == list(range(100, 110))
    assert side_line(msgspec.convert(episode["sides"][0], Side)) == (
        "n1 (term 4) acknowledged no write (but 10 before that, lost now)"
    )


def test_what_is_too_much_to_be_listed_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_brain, "_WRITES", 25)
    (episode,) = check(split((4, 5))).evidence["episodes"]
    assert [write["fate"] for write in episode["writes"]] == ["lost"] * 20 + ["kept"] * 5
    assert episode["writes_left_out"] == 15
    monkeypatch.setattr(split_brain, "_WRITES_IN_ALL", 3)
    (episode,) = check(split((4, 5))).evidence["episodes"]
    assert (len(episode["writes"]), episode["writes_left_out"]) == (3, 37)


def test_of_many_episodes_those_that_are_wrong_are_listed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_brain, "_EPISODES", 2)
    monkeypatch.setattr(split_brain, "_WRITES_IN_ALL", 45)
    events: list[Event] = []
    for number, terms in enumerate([(None, None), (None, None), (None, None), (4, 5)]):
        start = 10.0 * number
        events += moments("n1", start + 1, start + 3, terms[0], 100 * number, "increment")
        events += moments("n2", start + 1, start + 3, terms[1], 100 * number + 50, "increment")
    verdict = check(events)
    assert (verdict.evidence["episodes_found"], verdict.evidence["episodes_left_out"]) == (4, 2)
    harmless, wrong = verdict.evidence["episodes"]
    assert wrong["facts"]
    assert not harmless["facts"]
    acknowledged = [sum(side["acknowledged"] for side in episode["sides"]) for episode in (harmless, wrong)]
    assert (len(wrong["writes"]), wrong["writes_left_out"]) == (acknowledged[1], 0)
    assert len(harmless["writes"]) == 45 - acknowledged[1] > 0
    assert harmless["writes_left_out"] == acknowledged[0] - len(harmless["writes"]) > 0


def test_what_was_passed_on_is_listed_by_who_acknowledged_it() -> None:
    behind = [Wrote(at * SECOND, at * SECOND + 1, "n2", 4) for at in (3, 4)]
    evidence = check(of_writes([Wrote(SECOND, 2 * SECOND, "n1", 5), *behind]), "forwarded").evidence
    (conflict,) = evidence["term_conflicts"]
    assert [(write["node"], write["term"]) for write in conflict["writes"]] == [("n1", 5), ("n2", 4), ("n2", 4)]
    assert evidence["episodes_found"] == 0


@pytest.mark.parametrize("name", WORKLOADS)
def test_it_is_known_of_every_function_whether_it_only_reads(name: str) -> None:
    workload = WORKLOADS[name]
    assert workload.functions
    assert {f for f in workload.functions if only_reads(f)} == workload.reads


@pytest.mark.parametrize("name", sorted(set(WORKLOADS) - {"converge"}))
def test_every_workload_on_a_store_with_a_primary_has_it_judged(name: str) -> None:
    judges = WORKLOADS[name](WORKLOADS[name].Options()).checkers()
    assert isinstance(judges["split-brain"], SplitBrain)


def test_who_had_nothing_to_do_has_acknowledged_no_write() -> None:
    def answered(process: int, f: str, value: Any) -> list[Event]:
        served = ServedBy("n1")
        return [
            Event(0, 1, process, "invoke", f, "k", None),
            Event(0, 2, process, "ok", f, "k", value, served_by=served),
        ]

    idle = [event for process, (f, nothing) in enumerate(IDLE.items()) for event in answered(process, f, nothing)]
    busy = {"acquire": 7, "renew": 3, "dequeue": 0, "delete": None, "release": False, "generate": 0}
    events = idle + [
        event for process, (f, value) in enumerate(busy.items()) for event in answered(9 + process, f, value)
    ]
    operations = history_of(events).operations()
    assert [operations.name(row) for row in acknowledged_writes(operations).tolist()] == list(busy)


def test_a_transaction_that_only_reads_is_no_write() -> None:
    def done(process: int, value: list[Any]) -> list[Event]:
        asked = [[f, key, None if f == "r" else content] for f, key, content in value]
        served = ServedBy("n1")
        return [
            Event(0, 1, process, "invoke", "txn", value=asked),
            Event(0, 2, process, "ok", "txn", value=value, served_by=served),
        ]

    values: list[list[Any]] = [[["r", "x", [1]]], [["r", "x", [1]], ["append", "x", 2]], [["w", "y", 3]], []]
    operations = history_of([event for at, value in enumerate(values) for event in done(at, value)]).operations()
    assert acknowledged_writes(operations).tolist() == [1, 2]


@pytest.mark.parametrize("f", [f for f in WRITES if f not in ("append", "write", "cas", "add")])
def test_two_primaries_are_named_whatever_their_clients_do_and_no_fate_is_made_up(f: str) -> None:
    events = [*moments("n1", 1, 5, 4, 100, f), *moments("n3", 3, 8, 5, 200, f)]
    read = [Event(0, 20 * SECOND, 0, "invoke", "read", "x"), Event(0, 20 * SECOND + 1, 0, "ok", "read", "x", 777)]
    verdict = check([*events, *read])
    assert verdict.reason == "n1 and n3 were both primary for 1.9 s (3.05 s to 4.95 s)"
    (episode,) = verdict.evidence["episodes"]
    assert {write["fate"] for write in episode["writes"]} == {"unknown"}
    assert "n1 (term 4) acknowledged 19 writes: all of unknown fate" in verdict.anomalies[0].text
    assert check([*events, *read], "none").validity == "valid"
    # Without terms nothing shows that the two did harm.
    harmless = check([*moments("n1", 1, 5, None, 100, f), *moments("n3", 3, 8, None, 200, f), *read])
    assert (harmless.validity, harmless.evidence["episodes_found"]) == ("valid", 1)


@pytest.mark.parametrize("f", ["append", "write", "add"])
def test_nothing_is_told_of_a_key_that_is_changed_in_other_ways_too(f: str) -> None:
    """Somebody clears it: what is missing then need not be lost."""
    answers: Mapping[str, tuple[str, Any]] = {
        "append": ("read-list", []),
        "write": ("read", None),
        "add": ("members-local", []),
    }
    reads, nothing = answers[f]
    at = 50 * SECOND
    read = [Event(0, at, 90, "invoke", reads, "k"), Event(0, at + 1, 90, "ok", reads, "k", nothing)]
    added = write(1, Wrote(1, 2, "n1"), "k", f)
    clear = [Event(0, 5, 80, "invoke", "clear", "k"), Event(0, 6, 80, "info", "clear", "k")]
    assert fate_of([*added, *read])[1] == "lost"
    assert fate_of([*added, *read, *clear])[1] == "unknown"
    refused = [event if event.type == "invoke" else replace(event, type="fail") for event in clear]
    assert fate_of([*added, *read, *refused])[1] == "lost"


def test_who_said_the_same_before_and_after_a_write_was_in_that_term() -> None:
    writes = of_writes([Wrote(SECOND, 2 * SECOND, "n3"), Wrote(3 * SECOND, 4 * SECOND, "n1")])
    n3 = role("n3", SECOND // 2, 5 * SECOND, term=1)
    assert check([*writes, n3, role("n1", SECOND // 2, 5 * SECOND, term=0)]).validity == "invalid"
    # It may have become primary again, in a term that nobody has heard of yet.
    assert check([*writes, n3, role("n1", SECOND // 2, 7 * SECOND // 2, term=0)]).validity == "valid"
    assert check([*writes, n3, role("n1", SECOND // 2, 5 * SECOND)]).validity == "valid"


def test_one_term_of_two_nodes_is_wrong_as_they_say_it_themselves() -> None:
    at_once = check([role("n1", 0, 5 * SECOND, term=3), role("n2", 4 * SECOND, 6 * SECOND, term=3)])
    assert at_once.validity == "invalid"
    assert at_once.evidence["episodes"][0]["facts"] == ["n1 and n2 both claimed term 3"]
    assert at_once.evidence["term_conflicts_found"] == 0
    verdict = check([role("n1", 0, SECOND, term=3), role("n2", 5 * SECOND, 6 * SECOND, term=3)])
    assert verdict.validity == "invalid"
    assert verdict.reason == "n1 and n2 both claimed term 3: n1 from 0.00 s to 1.00 s, n2 from 5.00 s to 6.00 s"
    assert verdict.evidence["episodes_found"] == 0
    (conflict,) = verdict.evidence["term_conflicts"]
    assert conflict["spells"] == [
        {"node": "n1", "term": 3, "start": 0, "end": SECOND},
        {"node": "n2", "term": 3, "start": 5 * SECOND, "end": 6 * SECOND},
    ]
    assert check([role("n1", 0, SECOND, term=3), role("n2", 5 * SECOND, 6 * SECOND, "replica", 3)]).validity == "valid"


def test_who_claims_a_term_after_another_was_primary_at_once_with_a_third_was_not_in_that() -> None:
    """n4 and n5 are primary at once; half a second later n1 begins in the term of n5."""
    roles = [
        role("n4", 0, 4 * SECOND, term=3),
        role("n5", 2 * SECOND, 4 * SECOND, term=4),
        role("n1", 9 * SECOND // 2, 8 * SECOND, term=4),
    ]
    verdict = check([*roles, *of_writes([Wrote(3 * SECOND, 3 * SECOND + 1, "n5", 4)])])
    assert verdict.reason == "n5 and n1 both claimed term 4: n5 from 2.00 s to 4.00 s, n1 from 4.50 s to 8.00 s"
    (anomaly,) = verdict.anomalies
    assert verdict.evidence["term_conflicts"][0]["kind"] == "term claimed twice"
    assert anomaly.text.splitlines() == [
        verdict.reason,
        "n5 (term 4) acknowledged 1 write: of unknown fate; n1 (term 4) acknowledged no write",
    ]
    assert [(op.node, op.value) for op in anomaly.operations] == [(None, 0)]
    (episode,) = verdict.evidence["episodes"]
    assert (episode["nodes"], episode["start"], episode["end"]) == (["n4", "n5"], 2 * SECOND, 4 * SECOND)
    assert episode["facts"] == []


def test_an_episode_begins_when_the_second_one_is_primary() -> None:
    """n4 is primary from 1 s on, in term 8; n2 goes on in term 6, but shows itself from 3 s on only."""
    higher = moments("n4", 1, 6, 8, 100, "increment")
    lower = moments("n2", 3, 4, 6, 200, "increment")
    verdict = check([*higher, *lower])
    assert verdict.reason == "n2 and n4 were both primary for 0.9 s (3.05 s to 3.95 s)"
    (episode,) = verdict.evidence["episodes"]
    assert episode["facts"] == ["n2 acknowledged 10 writes in term 6, invoked after n4 had acknowledged one in term 8"]
    # Once n4 is silent nobody knows whether it still was.
    verdict = check([*moments("n4", 1, 2, 8, 100, "increment"), *lower])
    assert verdict.evidence["episodes_found"] == 0
    assert [anomaly.text.splitlines() for anomaly in verdict.anomalies] == [
        [
            "n2 acknowledged 10 writes in term 6 (from 3.05 s to 3.95 s), invoked after n4 had acknowledged one in "
            "term 8 (at 1.05 s)",
            "n4 (term 8) acknowledged 10 writes: all of unknown fate; n2 (term 6) acknowledged 10 writes: all of "
            "unknown fate",
        ]
    ]


def test_of_three_it_is_said_whether_all_were_primary_at_once_and_for_how_long() -> None:
    def reason(*times: tuple[str, float, float], more: Sequence[Event] = ()) -> str:
        lists = of_writes([Wrote(1, 2, "n9", 9)])  # what nobody of a lower term may follow
        roles = [role(node, int(a * SECOND), int(b * SECOND), term=1) for node, a, b in times]
        return check([*lists, *roles, *more]).reason

    assert reason(("n1", 1, 5), ("n2", 1, 5)) == "n1 and n2 were both primary for 4.0 s (1.00 s to 5.00 s)"
    between = role("n2", int(2.2 * SECOND), int(2.6 * SECOND), "replica")
    two = reason(("n1", 1, 9), ("n2", 1, 2), ("n2", 2.8, 4), more=[between])
    assert two == "n1 and n2 were both primary for 2.2 s in all (1.00 s to 4.00 s)"
    three = reason(("n1", 1, 5), ("n2", 1, 5), ("n3", 1, 5))
    assert three == "n1, n2 and n3 were primary at once for 4.0 s (1.00 s to 5.00 s)"
    chain = reason(("n1", 1, 3), ("n2", 2, 5), ("n3", 3.8, 7))
    assert chain == "two or more of n1, n2 and n3 were primary at once for 2.2 s in all (2.00 s to 5.00 s)"


def test_reads_and_silence_are_no_claims() -> None:
    silent = [role("n1", 0, 9 * SECOND, term=1), role("n2", 0, 9 * SECOND, None)]
    assert check(silent).evidence["episodes_found"] == 0
    reads = [event for event in split() if event.f == "read-list"]
    assert check(reads).evidence["episodes_found"] == 0


def test_who_was_a_replica_meanwhile_or_silent_for_long_has_two_reigns() -> None:
    writes = of_writes([Wrote(SECOND, SECOND + 5, "n1"), Wrote(2 * SECOND, 2 * SECOND + 5, "n1")])
    other = of_writes([Wrote(int(1.2e9), int(1.21e9), "n2"), Wrote(int(1.7e9), int(1.71e9), "n2")])
    for event in other:
        event.process += 10  # type: ignore[operator]
    between = role("n1", int(1.3e9), int(1.4e9), "replica")
    assert check([*writes, *other]).evidence["episodes_found"] == 1
    assert check([*writes, *other, between]).evidence["episodes_found"] == 0
    late_again = of_writes([Wrote(SECOND, SECOND + 5, "n1"), Wrote(9 * SECOND, 9 * SECOND + 5, "n1")])
    assert check([*late_again, *other]).evidence["episodes_found"] == 0


def fate_of(events: list[Event]) -> dict[Any, str]:
    """The fates that an episode tells, by value."""
    own = [Wrote(100 * SECOND, 101 * SECOND, "n1"), Wrote(100 * SECOND, 101 * SECOND, "n2")]
    busy = [event for n, wrote in enumerate(own) for event in write(900 + n, wrote, "other", "write")]
    roles = [role("n1", 0, 200 * SECOND), role("n2", 0, 200 * SECOND)]
    (episode,) = check([*events, *busy, *roles]).evidence["episodes"]
    return {acknowledged["value"]: acknowledged["fate"] for acknowledged in episode["writes"]}


def test_the_fate_of_a_register_is_told_only_where_it_is_certain() -> None:
    def events(*writes: Wrote, final: int | None) -> list[Event]:
        last = 50 * SECOND
        read = [Event(0, last, 90, "invoke", "read", "k"), Event(0, last + 1, 90, "ok", "read", "k", final)]
        return [*of_writes(writes), *read]

    first, second, other = Wrote(1, 2, "n1"), Wrote(3, 4, "n1"), Wrote(5, 6, "n2")
    assert fate_of(events(first, second, final=1))[0] == "overwritten"
    assert fate_of(events(first, second, final=1))[1] == "kept"
    assert fate_of(events(first, second, final=0))[1] == "lost"
    assert fate_of(events(first, other, final=1))[0] == "unknown"
    assert fate_of(of_writes([first, second]))[0] == "unknown"


def test_a_register_that_goes_back_has_lost_a_write_whatever_else_is_open() -> None:
    never = [Event(0, 1, 80, "invoke", "write", "k", 7), Event(0, 2, 80, "info", "write", "k", 7)]

    def fate(final: int | None, *more: Event) -> str:
        read = [
            Event(0, 50 * SECOND, 90, "invoke", "read", "k"),
            Event(0, 50 * SECOND + 1, 90, "ok", "read", "k", final),
        ]
        writes = of_writes([Wrote(1, 2, "n1"), Wrote(3, 4, "n2")])
        return fate_of([*writes, *never, *more, *read])[1]

    assert fate(0) == "lost"
    assert fate(None) == "lost"
    assert fate(7) == "unknown"
    again = [Event(0, 5, 81, "invoke", "write", "k", 0), Event(0, 6, 81, "info", "write", "k", 0)]
    assert fate(0, *again) == "unknown"
    deleted = [Event(0, 5, 82, "invoke", "delete", "k"), Event(0, 6, 82, "info", "delete", "k")]
    assert fate(None, *deleted) == "unknown"


def test_whose_branches_they_are_is_decided_in_the_episode() -> None:
    """n1 goes on with the branch of n3 once that is over, and had a branch of its own while both were primary."""
    later = moments("n1", 9, 9.2, None, 300)
    events = [*split(), *later]
    (last,) = (e for e in events if e.f == "read-list" and e.type == "ok" and e.time > 10 * SECOND)
    last.value.extend(e.value for e in later if e.type == "ok")
    assert "1 list forked between them" in check(events).evidence["episodes"][0]["facts"]


def test_the_fate_of_an_element_of_a_set() -> None:
    def held(node: str, process: int, members: list[int]) -> list[Event]:
        at = 50 * SECOND
        return [
            Event(0, at, process, "invoke", "members-local", "k", node=node),
            Event(0, at + 1, process, "ok", "members-local", "k", members, node=node),
        ]

    added = [event for n in range(4) for event in write(n, Wrote(10 * n + 1, 10 * n + 2, "n1"), "k", "add")]
    removed = [Event(0, 60, 70, "invoke", "remove", "k", 3), Event(0, 61, 70, "info", "remove", "k", 3)]
    fates = fate_of([*added, *removed, *held("n1", 80, [0, 1]), *held("n2", 81, [0])])
    assert fates == fates | {0: "kept", 1: "unknown", 2: "lost", 3: "unknown"}


def test_an_outage_is_between_two_writes_and_has_one_that_failed() -> None:
    writes = of_writes([Wrote(1, 10, "n1"), Wrote(90, 100, "n1"), Wrote(300, 400, "n1")])
    assert longest_outage(history_of(writes).operations()) == 0
    failed = [Event(0, 20, 9, "invoke", "write", "k", 9), Event(0, 30, 9, "fail", "write", "k", 9)]
    assert longest_outage(history_of([*writes, *failed]).operations()) == 90


def test_an_outage_that_never_ends_lasts_until_the_last_write_that_failed() -> None:
    writes = of_writes([Wrote(1, 10, "n1"), Wrote(90, 100, "n1")])
    failed = [Event(0, 700, 9, "invoke", "write", "k", 9), Event(0, 900, 9, "info", "write", "k", 9)]
    assert longest_outage(history_of([*writes, *failed]).operations()) == 800


def test_what_nodes_said_comes_back_as_it_was_written() -> None:
    history = history_of([role("n1", 3, 9, term=2), role("n2", 1, 2, None)])
    silent, primary = sightings(history)
    assert (primary.node, primary.role, primary.term, primary.start, primary.end, primary.lasting) == (
        "n1",
        "primary",
        2,
        3,
        9,
        True,
    )
    assert (silent.node, silent.role) == ("n2", None)
    assert NOTHING not in history.term[history.server > 0]
