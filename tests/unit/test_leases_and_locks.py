"""Leases, locks and banks by hand: what a store that keeps its promise may show, and what none may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from harness.checkers.bank import Bank
from harness.checkers.lease import Lease
from harness.checkers.lock import Lock
from harness.errors import HistoryError
from harness.history import from_events
from harness.operation import MONITOR, NEMESIS, PROLONGS_LEASES, ROLE, Event
from harness.roles import Answer
from harness.verdict import Budget, Checker, Verdict

SECOND = 1_000_000_000


class Did(NamedTuple):
    """One operation; moments in seconds."""

    f: str
    argument: Any
    answer: Any
    call: float
    ret: float
    process: int = 0
    type: str = "ok"


def ns(seconds: float) -> int:
    return round(seconds * SECOND)


def judge(checker: Checker, operations: Sequence[Did], *others: Event) -> Verdict:
    events = list(others)
    for number, one in enumerate(operations):
        # Two that are open at once are those of two processes.
        process = one.process or 10 + number
        events.append(Event(0, ns(one.call), process, "invoke", one.f, "k", one.argument))
        events.append(Event(0, ns(one.ret), process, one.type, one.f, "k", one.answer))  # type: ignore[arg-type]
    return checker.check(from_events(sorted(events, key=lambda event: event.time)), Budget())


def kinds(verdict: Verdict) -> set[str]:
    return {anomaly.kind for anomaly in verdict.anomalies}


def fault(name: str, start: float, end: float) -> list[Event]:
    moments = ((start, "invoke", "start"), (start, "ok", "start"), (end, "invoke", "stop"), (end, "ok", "stop"))
    return [Event(0, ns(at), NEMESIS, kind, f"{what}-{name}") for at, kind, what in moments]  # type: ignore[arg-type]


def primary(node: str, start: float, end: float, term: int) -> Event:
    said = Answer("primary", ns(end), ns(end) + 1, term, ns(start))
    return Event(0, ns(end) + 2, MONITOR, "info", ROLE, None, said, node)


def look(at: float, found: bool) -> Did:
    return Did("look", None, found, at, at + 0.01)


GRANTED = Did("grant", 3, 3, 0, 0.01)
REVOKED = Did("revoke", None, None, 1, 1.01)
PROLONGS = Event(0, 0, MONITOR, "info", PROLONGS_LEASES)
LATE = [GRANTED, look(5.5, True)]
EARLY = [GRANTED, look(1, False)]


def test_a_lease_is_there_for_its_time() -> None:
    assert kinds(judge(Lease(1.0), LATE)) == {"outlived"}
    assert kinds(judge(Lease(1.0), EARLY)) == {"gone early"}
    assert judge(Lease(1.0), [GRANTED, look(2, True), look(3.9, True), look(5, False)]).validity == "valid"


def test_a_change_of_primary_or_a_fault_prolongs_leases_where_the_store_says_so() -> None:
    change = [primary("n1", 0, 4, 1), primary("n2", 4.5, 9, 2)]
    same = [primary("n1", 0, 4, 1), primary("n1", 4.5, 9, 1)]
    for others, prolongs in ((change, True), (fault("pause", 2, 4), True), (same, False), (fault("kill", 7, 8), False)):
        assert kinds(judge(Lease(1.0), LATE, *others)) == {"outlived"}
        verdict = judge(Lease(1.0), LATE, PROLONGS, *others)
        assert kinds(verdict) == (set() if prolongs else {"outlived"})
        assert verdict.evidence.get("lease_looks_prolonged", 0) == prolongs
    gone = [GRANTED, REVOKED, look(5.5, True)]
    assert kinds(judge(Lease(1.0), gone, PROLONGS, *change)) == {"outlived"}
    assert kinds(judge(Lease(1.0), [look(5.5, True)], PROLONGS, *change)) == {"outlived"}


@pytest.mark.parametrize("operations", [EARLY, LATE])
def test_while_a_clock_is_wrong_nobody_can_tell_how_long_a_lease_is(operations: list[Did]) -> None:
    verdict = judge(Lease(1.0), operations, *fault("clock", 0.5, 0.9))
    assert (verdict.validity, verdict.evidence["lease_looks_by_wrong_clocks"]) == ("unknown", 1)
    assert judge(Lease(1.0), operations, *fault("clock", 6, 7)).validity == "invalid"
    assert judge(Lease(1.0), operations, *fault("pause", 0.5, 0.9)).validity == "invalid"


def test_times_that_step_back_say_nothing_of_leases() -> None:
    at = iter((5.0, 5.01, 1.0, 1.01))
    steps = (("grant", "invoke", 3), ("grant", "ok", 3), ("look", "invoke", None), ("look", "ok", False))
    events = [Event(0, ns(next(at)), 0, kind, f, "k", value) for f, kind, value in steps]  # type: ignore[arg-type]
    verdict = Lease().check(from_events(events), Budget())
    assert (verdict.validity, verdict.reason) == (
        "unknown",
        "the recorded time steps back, and leases are judged by it",
    )


def test_slack_is_for_the_time_of_a_lease_and_not_for_what_is_exact() -> None:
    assert kinds(judge(Lease(1.0), [GRANTED, REVOKED, look(1.9, True)])) == {"outlived"}
    assert kinds(judge(Lease(1.0), [GRANTED, look(3.1, False), look(3.2, True)])) == {"came back"}
    renewed = Did("renew", 3, True, 3.2, 3.21)
    assert kinds(judge(Lease(1.0), [GRANTED, look(3.1, False), renewed])) == {"came back"}
    again = Did("grant", 3, 3, 3.05, 3.3)
    assert judge(Lease(1.0), [GRANTED, look(3.1, False), again, look(3.2, True)]).validity == "valid"


def acquire(process: int, at: float, ttl: float | None, answer: Any = True) -> Did:
    return Did("acquire", ttl, answer, at, at + 0.01, process)


def test_a_lock_is_held_no_longer_than_it_was_given_for_or_its_holder_goes_on_writing() -> None:
    silent = [acquire(1, 0, 2), acquire(2, 2.5, 2)]
    assert judge(Lock(), silent).validity == "valid"
    assert kinds(judge(Lock(), [acquire(1, 0, 2), acquire(2, 1.5, 2)])) == {"held together"}
    assert kinds(judge(Lock(), [acquire(1, 0, None), acquire(2, 2.5, None)])) == {"held together"}
    wrote = Did("write-held", [1, 7], [1, 7], 3, 3.01, 1)
    assert kinds(judge(Lock(), [*silent, wrote])) == {"held together"}
    assert judge(Lock(), [*silent, wrote._replace(call=2.2, ret=2.21)]).validity == "valid"
    assert judge(Lock(), [silent[0], wrote._replace(call=1, ret=4), silent[1]]).validity == "valid"
    assert judge(Lock(), [*silent, wrote._replace(type="fail")]).validity == "valid"
    assert judge(Lock(exclusive=False), [*silent, wrote._replace(type="fail")]).evidence["held_together"] == 1
    others = wrote._replace(process=2)
    assert judge(Lock(), [*silent, others]).validity == "valid"


HUGE = 10**30


@pytest.mark.parametrize(
    "seconds", [HUGE, 10**400, 1e300, 2**62, 10**9], ids=lambda seconds: f"of {len(str(seconds))} digits"
)
def test_a_lease_of_ages_is_there_for_good(seconds: float) -> None:
    granted = Did("grant", seconds, seconds, 0, 0.01)
    assert judge(Lease(), [granted, look(5, True)]).validity == "valid"
    verdict = judge(Lease(), [granted, look(5, False)])
    assert kinds(verdict) == {"gone early"}
    assert ", for good. Yet" in verdict.anomalies[0].text
    # Of a short one any number of renewals may have come through.
    asked = [Did("renew", seconds, None, 0.1 * n, 0.1 * n + 0.01, type="info") for n in range(1, 30)]
    short = Did("grant", 1, 1, 0, 0.01)
    assert judge(Lease(), [short, *asked, look(50, True)]).validity == "valid"
    assert kinds(judge(Lease(), [short, look(50, True)])) == {"outlived"}


@pytest.mark.parametrize("odd", [-5, "x", [1, [2, [3]]], True, None])
def test_a_lease_of_no_time_is_refused_in_a_sentence(odd: Any) -> None:
    with pytest.raises(HistoryError, match="a lease is granted for a number of seconds"):
        judge(Lease(), [Did("grant", odd, odd, 0, 0.01), look(5, True)])


def test_tokens_may_be_as_large_as_they_like() -> None:
    def given(*tokens: int) -> list[Did]:
        return [acquire(n, n, 0.5, token) for n, token in enumerate(tokens, 1)]

    def wrote(*tokens: int) -> list[Did]:
        return [Did("write-fenced", [token, n], None, n, n + 0.1, n) for n, token in enumerate(tokens, 1)]

    for low, high in ((1, HUGE), (HUGE, HUGE + 1), (-HUGE, 5), (2**62, 2**63)):
        assert judge(Lock(), given(low, high)).validity == "valid"
        assert kinds(judge(Lock(), given(high, low))) == {"token went back"}
        assert kinds(judge(Lock(), given(high, high))) == {"token given twice"}
        assert judge(Lock(), wrote(low, high, high)).validity == "valid"
        verdict = judge(Lock(), wrote(low, high, low))
        assert kinds(verdict) == {"stale write"}
        assert f"with token {high}. Later" in verdict.anomalies[0].text
        assert f"with token {low}, which is older" in verdict.anomalies[0].text
    for ttl in (HUGE, 10**400, 1e300):
        assert kinds(judge(Lock(), [acquire(1, 0, ttl), acquire(2, 50, ttl)])) == {"held together"}
    assert judge(Lock(), [acquire(1, 0, -HUGE), acquire(2, 50, 1)]).validity == "valid"


BEFORE = Did("balances", None, {}, 0, 0.1)
OPENED = Did("init", {"a": 5, "b": 5}, {"a": 5, "b": 5}, 0.05, 0.2)


def test_a_bank_has_no_accounts_before_it_was_opened() -> None:
    full = Did("balances", None, {"a": 5, "b": 5}, 1, 1.1)
    assert judge(Bank(), [BEFORE, OPENED, BEFORE._replace(call=0.15, ret=0.3), full]).validity == "valid"
    assert judge(Bank(), [BEFORE, OPENED._replace(type="info"), full]).validity == "valid"
    after = BEFORE._replace(call=1, ret=1.1)
    assert kinds(judge(Bank(), [OPENED, after])) == {"wrong total", "wrong accounts"}
    assert kinds(judge(Bank(10), [BEFORE])) == {"wrong total"}


def test_a_transfer_that_is_lost_whole_is_found_by_the_accounts() -> None:
    moved = Did("transfer", {"from": "a", "to": "b", "amount": 3}, None, 0.3, 0.4)
    shown = Did("balances", None, {"a": 5, "b": 5}, 1, 1.1)
    verdict = judge(Bank(), [OPENED, moved, shown])
    assert kinds(verdict) == {"wrong balance"}
    assert "account a holds 5. It held 5 at first" in verdict.anomalies[0].text
    assert judge(Bank(), [OPENED, moved._replace(type="info"), shown]).validity == "valid"
    assert judge(Bank(), [OPENED, moved, shown._replace(answer={"a": 2, "b": 8})]).validity == "valid"
    assert judge(Bank(10), [moved, shown]).validity == "valid"
