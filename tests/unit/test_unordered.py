"""Writes that nobody has read: they have an order all the same, and sometimes none is possible."""

from __future__ import annotations

from typing import Any

import pytest

from harness.checkers.transactions import Transactional
from harness.history import History, from_events
from harness.operation import Event
from harness.verdict import Budget


def _at_once(*transactions: list[Any]) -> History:
    """Transactions of processes of their own, which all overlap."""
    asked = [[[f, k, None if f == "r" else v] for f, k, v in one] for one in transactions]
    calls = [Event(at, at, at, "invoke", "txn", value=value) for at, value in enumerate(asked)]
    done = [
        Event(at, at, at - len(asked), "ok", "txn", value=value) for at, value in enumerate(transactions, len(asked))
    ]
    return from_events([*calls, *done])


TWO = ([["r", "y", []], ["append", "x", 1]], [["r", "x", []], ["append", "y", 1], ["append", "x", 2]])


@pytest.mark.parametrize(
    "model", ["snapshot-isolation", "strong-snapshot-isolation", "strong-session-snapshot-isolation"]
)
def test_two_writes_of_a_key_neither_of_which_can_have_been_the_first(model: str) -> None:
    verdict = Transactional(models=[model]).check(_at_once(*TWO), Budget())
    assert verdict.validity == "invalid"
    assert [anomaly.kind for anomaly in verdict.anomalies] == [
        {"snapshot-isolation": "PL-SI", "strong-snapshot-isolation": "strong-snapshot-isolation"}.get(
            model, "strong-session-snapshot-isolation"
        )
        + "-cycle-exists"
    ]
    assert "both wrote x" in verdict.anomalies[0].text


def test_write_skew_without_a_common_key_is_snapshot_isolation() -> None:
    skew = ([["r", "y", []], ["append", "x", 1]], [["r", "x", []], ["append", "y", 1]])
    verdict = Transactional(models=["snapshot-isolation"]).check(_at_once(*skew), Budget())
    assert verdict.validity == "valid"
