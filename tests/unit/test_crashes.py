"""Servers that end, and what they print: which of it is a crash, and which a fault's doing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import pytest

from harness.checkers.crashes import Crashes
from harness.cluster import Cluster
from harness.environments.base import Environment, Node
from harness.errors import NodeError, UsageError
from harness.history import History, from_events
from harness.operation import MONITOR, NEMESIS, PRINTED, SERVER, Event
from harness.plugins import load
from harness.surviving import Surviving, compiled
from harness.target import LOG_PATTERNS, Target
from harness.verdict import Budget, Verdict
from tests.own.lamp import Lamp

S = 1_000_000_000


def fault(name: str, start: float, end: float | None, done: Any, kind: Any = "ok") -> list[Event]:
    """A fault that is healed at ``end``, or not at all."""
    found = [
        Event(0, int(start * S), NEMESIS, "invoke", f"start-{name}", value={"order": ["n1", "n2", "n3"]}),
        Event(0, int(start * S) + 1, NEMESIS, kind, f"start-{name}", value=done),
    ]
    if end is not None:
        found += [Event(0, int(end * S), NEMESIS, one, f"stop-{name}") for one in ("invoke", "ok")]
    return found


def ended(node: str, since: float, at: float) -> Event:
    value = {"server": "db", "runs": False, "since": int(since * S), "last": "good bye"}
    return Event(0, int(at * S), MONITOR, "info", SERVER, value=value, node=node)


def printed(node: str, since: float, at: float, kind: str = "panic") -> Event:
    value = {"server": "db", "kind": kind, "line": "panic: oops", "since": int(since * S)}
    return Event(0, int(at * S), MONITOR, "info", PRINTED, value=value, node=node)


def judged(*events: Event, how: dict[str, str] | None = None) -> Verdict:
    runs = [Event(0, 0, MONITOR, "info", SERVER, value={"server": "db", "runs": True}, node=f"n{n}") for n in (1, 2, 3)]
    planned = Event(0, 0, MONITOR, "info", "planned", value={"asked": [], "faults": [], "ends_servers": how or {}})
    return Crashes().check(history(planned, *runs, *events), Budget())


def history(*events: Event) -> History:
    return from_events(sorted(events, key=lambda event: event.time))


def test_a_server_that_ends_by_itself_is_an_anomaly() -> None:
    verdict = judged(ended("n2", 3, 5))
    assert (verdict.validity, verdict.reason) == ("invalid", "1 crash (server ended by itself)")
    assert verdict.anomalies[0].text == ("db on n2 ended between 3.00 s and 5.00 s; the last that it printed: good bye")
    assert verdict.evidence["crashes"] == {"servers": 3, "explained": 0, "by_faults": []}


def test_what_a_server_prints_is_an_anomaly_of_its_kind() -> None:
    verdict = judged(*(printed("n1", 3, 5 + n, kind) for n in range(20) for kind in ("panic", "data race")))
    assert (verdict.validity, verdict.found) == ("invalid", 40)
    assert [one.kind for one in verdict.anomalies].count("data race") == 10
    assert verdict.anomalies[0].text == "db on n1 printed until 5.00 s: panic: oops"


KILLED = {"said": "one: n1", "killed": {"n1": ["db"]}}


@pytest.mark.parametrize(
    ("how", "start", "end", "event", "validity"),
    [
        ("itself", 4, 9, ended("n1", 3, 5), "valid"),
        ("itself", 4, 9, ended("n2", 3, 5), "invalid"),  # another node
        ("itself", 4, 9, ended("n1", 10, 12), "invalid"),  # it had been started again, and ran
        ("itself", 6, 9, ended("n1", 3, 5), "invalid"),  # before the fault
        ("itself", 4, 9, printed("n1", 3, 5), "invalid"),  # SIGKILL makes nobody panic
        ("meanwhile", 4, 9, printed("n1", 3, 5), "valid"),
        ("meanwhile", 4, 9, ended("n1", 10, 12), "invalid"),
        ("meanwhile", 4, None, ended("n1", 10, 12), "valid"),  # it was never healed
        ("ever", 4, 9, ended("n1", 10, 12), "valid"),
        ("ever", 4, 9, printed("n1", 10, 12, "corrupt file"), "valid"),
        ("ever", 4, 9, printed("n3", 10, 12, "corrupt file"), "invalid"),
        ("never", 4, 9, ended("n1", 5, 7), "invalid"),
    ],
)
def test_what_a_fault_explains_is_no_crash(
    how: str, start: float, end: float | None, event: Event, validity: str
) -> None:
    verdict = judged(*fault("harm", start, end, KILLED), event, how={"harm": how})
    assert verdict.validity == validity
    crashes = verdict.evidence["crashes"]
    assert crashes["explained"] == (validity == "valid")
    assert bool(crashes["by_faults"]) == (validity == "valid" and how != "itself")


def test_a_fault_that_could_not_be_injected_may_have_ended_servers_while_it_was_tried() -> None:
    tried = fault("harm", 4, None, None, "fail")
    tried[1].time = 6 * S
    assert judged(*tried, ended("n1", 3, 5)).validity == "valid"
    assert judged(*tried, ended("n1", 7, 9), how={"harm": "itself"}).validity == "invalid"


def test_a_fault_that_names_no_node_or_of_which_nothing_is_known_explains_everything() -> None:
    assert judged(*fault("harm", 4, 9, {"said": "done"}), ended("n3", 10, 12)).validity == "valid"


def test_the_heal_of_all_ends_every_fault() -> None:
    healed = [Event(0, 9 * S, NEMESIS, kind, "heal") for kind in ("invoke", "ok")]
    began = fault("harm", 4, None, KILLED)
    assert judged(*began, *healed, ended("n1", 10, 12), how={"harm": "meanwhile"}).validity == "invalid"


def test_a_fault_may_begin_while_the_one_before_it_is_still_being_ended() -> None:
    first, second = fault("kill", 2, None, KILLED), fault("kill", 6, 12, KILLED)
    slow = [Event(0, 5 * S, NEMESIS, "invoke", "stop-kill"), Event(0, 7 * S, NEMESIS, "ok", "stop-kill")]
    how = {"kill": "itself"}
    assert judged(*first, *second, *slow, ended("n1", 8, 9), how=how).validity == "valid"
    assert judged(*first, *second, *slow, ended("n1", 13, 14), how=how).validity == "invalid"
    assert judged(*first, *slow, ended("n1", 8, 9), how=how).validity == "invalid"


def test_what_a_fault_is_made_of_is_not_told_as_what_another_has_left_behind() -> None:
    faults = [*fault("spoil", 1, 2, KILLED), *fault("kill", 4, 9, KILLED)]
    verdict = judged(*faults, ended("n1", 3, 5), how={"kill": "itself"})
    assert verdict.evidence["crashes"] == {"servers": 3, "explained": 1, "by_faults": []}


def test_a_history_without_servers_has_no_crashes() -> None:
    verdict = Crashes().check(history(), Budget())
    assert (verdict.validity, verdict.evidence["crashes"]["servers"]) == ("valid", 0)


class Box:
    """A node whose servers and logs are what is said here."""

    def __init__(self) -> None:
        self.name = "n1"
        self.lives = {"db": True}
        self.text = "hello\n"
        self.broken = False

    async def running(self) -> dict[str, bool]:
        if self.broken:
            raise NodeError("no answer")
        return dict(self.lives)

    async def log(self, name: str) -> str:
        return self.text


def watched(*steps: Any) -> list[Event]:
    """What is recorded of a node when it is looked at after each of these steps, a second apart."""
    box, events, now = Box(), list[Event](), [0]
    cluster = Cluster(cast(Environment, None), [cast(Node, box)], 0)
    surviving = Surviving(cluster, compiled(cast(Target, Lamp)), lambda: now[0] * S, events.append)

    async def look() -> None:
        over = asyncio.Event()
        over.set()
        for step in (lambda box: None, *steps):
            step(box)
            await surviving.until(over)
            now[0] += 1

    asyncio.run(look())
    return events


def test_who_ends_and_is_there_again_is_recorded_with_when_it_lived_and_what_it_said_last() -> None:
    def end(box: Box) -> None:
        box.lives["db"], box.text = False, "hello\nbye bye\n\n"

    def again(box: Box) -> None:
        box.lives["db"] = True

    first, second, third = watched(lambda box: None, end, lambda box: None, again)
    assert first.value == {"server": "db", "runs": True}
    assert second.value == {"server": "db", "runs": False, "since": S, "last": "bye bye"}
    assert (third.value["runs"], third.time, third.node) == (True, 4 * S, "n1")


def test_a_line_is_recorded_once_with_its_kind_and_not_for_ever() -> None:
    def say(*lines: str) -> Any:
        return lambda box: setattr(box, "text", "\n".join(lines))

    _, one = watched(say("hello", "panic: oo"), say("hello", "panic: oops"))
    assert one.value == {"server": "db", "kind": "panic", "line": "panic: oo", "since": 0}
    assert len(watched(say(*(f"panic: {n:03}" for n in range(99))))) == 21


def test_a_node_that_cannot_be_asked_is_told_once() -> None:
    def fail(box: Box) -> None:
        box.broken = True

    assert [one.error for one in watched(fail, fail)] == [None, "no answer"]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("panic: runtime error: index out of range [3]", "panic"),
        ("fatal error: concurrent map writes", "panic"),
        ("thread 'main' panicked at src/main.rs:3:5:", "panic"),
        ('{"level":"panic","ts":"2026","msg":"tocommit(4) is out of range"}', "panic"),
        ("db: store.c:10: put: Assertion `n > 0' failed.", "failed assertion"),
        ("=== ASSERTION FAILED ===", "failed assertion"),
        ("WARNING: DATA RACE", "data race"),
        ("==1==ERROR: AddressSanitizer: heap-use-after-free", "memory error"),
        ("fatal error: runtime: out of memory", "panic"),
        ("# Out Of Memory allocating 1024 bytes!", "out of memory"),
        ("the disk is corrupt: line 18 of the journal", "corrupt file"),
        ("wal: crc mismatch", "corrupt file"),
        ("120 pages read, 0 corrupt, no corruption found", None),
        ("policy when out of memory: evict", None),
        ("Out of memory: cannot allocate 4096 bytes", "out of memory"),
        # What sound servers print.
        ('{"level":"info","initial-corrupt-check":false,"compact-check-time-enabled":false}', None),
        ('{"level":"info","corrupt-check-time-interval":"0s"}', None),
        ("# WARNING Memory overcommit must be enabled! Without it, a background save may fail", None),
        ("* Background saving terminated with success", None),
        ("n2 serves clients at 10.66.0.2:6400", None),
    ],
)
def test_lines_are_told_apart(line: str, kind: str | None) -> None:
    found = [name for name, pattern in compiled(cast(Target, Lamp)).items() if pattern.search(line)]
    assert (found[0] if found else None) == kind


def test_bundled_stores_say_it_in_words_of_their_own() -> None:
    said = {"etcd": "2026-11-27 12:08:00.992444 C | mvcc: cannot commit tx", "redis": "=== REDIS BUG REPORT START: Cut"}
    for name, line in said.items():
        assert any(pattern.search(line) for pattern in compiled(cast(Target, load("targets", name))).values())


def test_a_target_has_patterns_of_its_own_which_must_be_regular_expressions() -> None:
    class Odd(Lamp):
        log_patterns: ClassVar[Mapping[str, str]] = {**LOG_PATTERNS, "odd": "(("}

    with pytest.raises(UsageError, match="the target lamp has '\\(\\(' in log_patterns"):
        compiled(Odd(Lamp.Options()))
