"""Two primaries at once: facts against their definitions, planted ones, and correct stores that are left in peace."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from harness.checkers.availability import longest_outage
from harness.checkers.branches import Branches
from harness.checkers.reigns import acknowledged_writes, overlaps, reigns
from harness.checkers.split_brain import SplitBrain, claims, late
from harness.columns import NOTHING
from harness.console.verdict import print_verdict
from harness.history import History, from_events
from harness.operation import LEADERSHIP, MONITOR, NEMESIS, ROLE, Event, ServedBy
from harness.roles import Answer, sightings
from harness.verdict import Budget, Verdict, combine

SECOND = 1_000_000_000


class Wrote(NamedTuple):
    """A write that ``by`` acknowledged in ``term``."""

    call: int
    ret: int
    by: str
    term: int | None = None


def write(process: int, one: Wrote, key: str = "k", f: str = "write") -> list[Event]:
    served = ServedBy(one.by, one.term)
    return [
        Event(0, one.call, process, "invoke", f, key, process),
        Event(0, one.ret, process, "ok", f, key, process, served_by=served),
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
    return [event for process, one in enumerate(writes) for event in write(process, one)]


@st.composite
def some_writes(draw: st.DrawFn) -> list[Wrote]:
    size = draw(st.integers(1, 8))
    moments = draw(st.permutations(range(1, 2 * size + 1)))
    terms = st.sampled_from([None, 1, 1, 2, 3])
    return [
        Wrote(*sorted(moments[2 * at : 2 * at + 2]), draw(st.sampled_from(["n1", "n2", "n3"])), draw(terms))
        for at in range(size)
    ]


@settings(max_examples=1000, deadline=None)
@given(some_writes())
def test_facts_about_terms_are_what_their_definitions_say(writes: list[Wrote]) -> None:
    operations = history_of(of_writes(writes)).operations()
    rows = acknowledged_writes(operations)
    behind = {
        one
        for one in writes
        for other in writes
        if one.term is not None and other.term is not None and other.term > one.term and other.ret < one.call
    }
    found = {
        int(operations.process[row]) for one in late(operations, rows, operations.term[rows]) for row in one.writes
    }
    assert {writes[process] for process in found} == behind
    for one in late(operations, rows, operations.term[rows]):
        for higher, lower in zip(one.rows[::2], one.writes, strict=True):
            assert operations.ret[higher] < operations.call[lower]
            assert operations.term[higher] == one.higher > one.term == operations.term[lower]
    shared = {(a.term, b.term) for a in writes for b in writes if a.by < b.by and a.term == b.term is not None}
    assert {(one.term, one.term) for one in claims(operations, rows, [])} == shared
    guilty = bool(behind or shared)
    assert (check(of_writes(writes)).validity == "invalid") == guilty


@settings(max_examples=500, deadline=None)
@given(some_writes())
def test_reigns_overlap_only_where_each_has_a_sign_before_and_behind(writes: list[Wrote]) -> None:
    operations = history_of(of_writes(writes)).operations()
    found = overlaps(reigns(operations, acknowledged_writes(operations), []))
    for one in found:
        assert one.start < one.end
        for node in one.nodes:
            mine = [w for w in writes if w.by == node]
            assert any(w.ret <= one.start for w in mine)
            assert any(w.call >= one.end for w in mine)


def correct(rng: random.Random) -> list[Event]:
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
            one = Wrote(max(now - rng.randrange(SECOND), 1), now + rng.randrange(SECOND), node, term if known else None)
            process += 1
            key = f"k{rng.randrange(3)}"
            events += write(process, one, key, "append")
        ends.append((node, term, start, now))
        now += rng.randrange(1, SECOND)
    for at, (name, its_term, start, end) in enumerate(ends if told != "never" else ()):
        # Who is elected again knows that.
        again = min((other[2] for other in ends[at + 1 :] if other[0] == name), default=100 * SECOND)
        believes = min(end + rng.choice((0, 0, rng.randrange(3 * SECOND))), again - 1)
        if believes > start:
            events.append(role(name, start, believes, "primary", its_term if told != "served" else None))
    lists: dict[str, list[int]] = {}
    for event in sorted((e for e in events if e.type == "ok"), key=lambda e: e.time):
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
    for seed in range(3000):
        events = correct(rng)
        verdict = check(events)
        assert verdict.validity == "valid", (seed, verdict.reason, verdict.anomalies)
        overlapping += verdict.evidence["episodes_found"]
    assert overlapping > 100  # harmless ones are seen all the same


def moments(node: str, start: float, end: float, term: int | None, first: int) -> list[Event]:
    """Ten writes a second of one node."""
    found: list[Event] = []
    for at in range(int((end - start) * 10)):
        call = int((start + at / 10) * SECOND)
        found += write(first + at, Wrote(call, call + SECOND // 20, node, term), "x", "append")
    return found


def split(term: tuple[int | None, int | None] = (None, None)) -> list[Event]:
    """n1 goes on for two seconds after n3 has begun; in the end n3's is there."""
    one, other = moments("n1", 1, 5, term[0], 100), moments("n3", 3, 8, term[1], 200)
    begun = [e.value for e in one if e.type == "ok" and e.time < 3 * SECOND]
    n1 = [e.value for e in one if e.type == "ok"]
    n3 = begun + [e.value for e in other if e.type == "ok"]
    events = [*one, *other]
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
    lost = [one for one in episode["writes"] if one["fate"] == "lost"]
    assert {one["value"] for one in lost} == set(range(121, 140))
    assert {one["node"] for one in lost} == {"n1"}
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
    first, sides, fork, found = capsys.readouterr().out.splitlines()
    assert first == "invalid: split brain: n1 and n3 were both primary for 1.9 s (3.05 s to 4.95 s)"
    assert sides.startswith("  n1 (term 4) acknowledged 19 writes: all lost")
    assert " forked after 119: n1 went on with 120 " in fork
    assert found == "3 anomalies: 1 of split-brain, 2 of branches"
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


def test_looks_and_balances_are_no_writes() -> None:
    names = enumerate(("look", "balances", "read-list"))
    events = [event for process, f in names for event in write(process, Wrote(1, 2, "n1"), "k", f)]
    assert len(acknowledged_writes(history_of(events).operations())) == 0


def test_who_said_the_same_before_and_after_a_write_was_in_that_term() -> None:
    writes = of_writes([Wrote(SECOND, 2 * SECOND, "n3"), Wrote(3 * SECOND, 4 * SECOND, "n1")])
    n3 = role("n3", SECOND // 2, 5 * SECOND, term=1)
    assert check([*writes, n3, role("n1", SECOND // 2, 5 * SECOND, term=0)]).validity == "invalid"
    # It may have become primary again, in a term that nobody has heard of yet.
    assert check([*writes, n3, role("n1", SECOND // 2, 7 * SECOND // 2, term=0)]).validity == "valid"
    assert check([*writes, n3, role("n1", SECOND // 2, 5 * SECOND)]).validity == "valid"


def test_one_term_of_two_nodes_is_wrong_as_they_say_it_themselves() -> None:
    verdict = check([role("n1", 0, SECOND, term=3), role("n2", 5 * SECOND, 6 * SECOND, term=3)])
    assert verdict.validity == "invalid"
    assert verdict.evidence["episodes"][0]["facts"] == ["n1 and n2 both claimed term 3"]
    assert check([role("n1", 0, SECOND, term=3), role("n2", 5 * SECOND, 6 * SECOND, "replica", 3)]).validity == "valid"


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
    busy = [event for n, one in enumerate(own) for event in write(900 + n, one, "other", "write")]
    roles = [role("n1", 0, 200 * SECOND), role("n2", 0, 200 * SECOND)]
    (episode,) = check([*events, *busy, *roles]).evidence["episodes"]
    return {one["value"]: one["fate"] for one in episode["writes"]}


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


def test_what_nodes_said_comes_back_as_it_was_written() -> None:
    history = history_of([role("n1", 3, 9, term=2), role("n2", 1, 2, None)])
    one, other = sightings(history)
    assert (other.node, other.role, other.term, other.start, other.end, other.lasting) == (
        "n1",
        "primary",
        2,
        3,
        9,
        True,
    )
    assert (one.node, one.role) == ("n2", None)
    assert NOTHING not in history.term[history.server > 0]
