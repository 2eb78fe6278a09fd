"""Acknowledged transactions of which the final reads know nothing."""

from __future__ import annotations

from typing import Any

import pytest

from harness.checkers.lost_transactions import LostTransactions
from harness.history import from_events
from harness.judging import judge
from harness.operation import Event, EventType, ServedBy
from harness.verdict import Budget, Verdict

Steps = list[list[Any]]
Transaction = tuple[EventType, Steps]


def verdict(*transactions: Transaction, healed: int = -1, open_: bool = False) -> Verdict:
    """One after the other; ``healed`` is before which of them all faults were over, ``open_`` whether all overlap."""
    events: list[Event] = []
    ends: list[Event] = []
    for at, (kind, steps) in enumerate(transactions):
        if at == healed:
            events += [Event(0, 0, "nemesis", "invoke", "heal"), Event(0, 0, "nemesis", "ok", "heal")]
        asked = [[function, key, None if function == "r" else value] for function, key, value in steps]
        answer = steps if kind == "ok" else asked
        events.append(Event(0, 0, at, "invoke", "txn", None, asked, f"n{at}"))
        ends.append(Event(0, 0, at, kind, "txn", None, answer, f"n{at}", served_by=ServedBy(f"n{at}")))
        if not open_:
            events += ends
            ends = []
    events += ends
    for at, event in enumerate(events):
        event.index, event.time = at, at * 1_000_000_000
    return judge(from_events(events), {"lost": LostTransactions()}, Budget())


def ok(*steps: list[Any]) -> Transaction:
    return "ok", list(steps)


def read(key: int, value: Any) -> Transaction:
    return ok(["r", key, value])


TWO = ok(["append", 1, 1], ["append", 2, 1])


@pytest.mark.parametrize(
    "transactions",
    [
        [TWO, read(1, [1]), read(2, [1])],
        # What is not there in one of the reads may have been behind.
        [TWO, read(1, None), read(1, [1]), read(2, [1])],
        # Nobody was promised anything.
        [TWO, ("info", [["append", 1, 2]]), ("fail", [["append", 1, 3]]), read(1, [1]), read(2, [1])],
    ],
)
def test_what_is_there_in_the_end_is_not_lost(transactions: list[Transaction]) -> None:
    found = verdict(*transactions)
    assert (found.validity, found.anomalies) == ("valid", []), found


@pytest.mark.parametrize(
    ("transactions", "lost"),
    [
        ([TWO, read(1, None), read(1, None), read(2, [1])], [{"index": 1, "by": "n0", "appends": [[1, 1]]}]),
        ([TWO, read(1, [2]), read(2, [])], [{"index": 1, "by": "n0", "appends": [[1, 1], [2, 1]]}]),
    ],
)
def test_what_no_final_read_knows_of_is_lost(transactions: list[Transaction], lost: list[Any]) -> None:
    found = verdict(*transactions)
    assert found.validity == "invalid"
    part = found.parts["lost"]
    assert part.evidence["lost"] == lost
    (one,) = part.anomalies
    assert one.kind == "lost write"
    assert f"was acknowledged by {lost[0]['by']}" in one.text
    assert part.evidence["transactions_lost"] == 1


def test_only_reads_after_all_faults_and_all_writes_count() -> None:
    assert verdict(TWO, read(1, None), read(2, None), open_=True).validity == "unknown"
    early = [TWO, read(1, None), read(2, None), read(1, [1]), read(2, [1])]
    assert verdict(*early, healed=3).validity == "valid"
    assert verdict(*early[:3], healed=2).validity == "invalid"
    assert verdict(*early[:3], healed=1).validity == "invalid"
    assert verdict(*early[:2], ok(["append", 3, 1]), healed=2).validity == "unknown"
    missing = verdict(TWO, read(1, [1]))
    assert (missing.validity, missing.parts["lost"].reason) == (
        "unknown",
        "1 list with acknowledged appends was not read in the end",
    )
