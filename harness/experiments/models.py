"""The strongest model of consistency that a history of registers does not refute, from the top of a ladder down.

Linearizability is decided for reads and writes as they are. For what is below each of them is a transaction of one
operation, in a session, and without real time. A session is all that one client did, one operation after another, also
after one of unknown outcome, from which on its operations stand under the number of another process. Such a write may
still be under way while its client goes on: it comes after what that had done before, and before what it does next only
where answers say so, as when the client itself has read it since.

- *sequential*: one order of all operations explains every answer, and keeps to that of each session. For transactions
  of one operation that is strong session serializability.
- *causal*: who has seen something has also seen what its writer had seen and done before.
- *read your writes*: who has written something does not find anything older there afterwards. For transactions of one
  operation that is read atomicity in sessions.
- *eventual*: none of these, but all nodes hold the same in the end.

What is not refuted need not be promised: a history only ever refutes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace as replaced
from typing import Final, NamedTuple

from msgspec.structs import replace

from harness import session
from harness.history import from_events
from harness.operation import Event
from harness.verdict import Budget

LINEARIZABLE: Final = "linearizable"
EVENTUAL: Final = "eventual"
DIVERGENT: Final = "none"
"""Nodes do not hold the same in the end."""
UNASKED: Final = "-"
"""A read may find several values, so that it is no register's, and no model of registers was asked."""
_BELOW: Final = (
    ("sequential", "strong-session-serializable"),
    ("causal", "causal"),
    ("read your writes", "read-atomic"),
)
"""What the ladder calls a model, and what transactions of one operation are held against."""
LADDER: Final = (LINEARIZABLE, *(name for name, _ in _BELOW), EVENTUAL, DIVERGENT)
"""All models, the strongest first."""
_BUDGET: Final = Budget(seconds=60.0)


class Strongest(NamedTuple):
    """The strongest model that is not refuted, why the next stronger one is, and whether a decision was left open."""

    model: str
    why_not_stronger: str
    unknown: str


def strongest(operations: Iterable[Event], clients: int, *, convergent: bool) -> Strongest:
    """The strongest model of reads and writes of registers by so many clients.

    ``convergent``: whether nodes held the same in the end.
    """
    events = [event for event in operations if event.f in ("read", "write")]
    verdict = session.check(from_events(events), "register", budget=_BUDGET)
    if verdict.validity == "valid":
        return Strongest(LINEARIZABLE, "", "")
    unknown = "" if verdict.validity == "invalid" else f"{LINEARIZABLE}: {verdict.reason}"
    why = _why(LINEARIZABLE, verdict.anomalies[0].text if verdict.anomalies else verdict.reason)
    transactions = replaced(from_events(_transaction(event, clients) for event in events), timeless=True)
    for name, level in _BELOW:
        verdict = session.check(transactions, level, workload="rw-register", budget=_BUDGET)
        if verdict.validity == "valid":
            return Strongest(name, why, unknown)
        if verdict.validity == "unknown":
            unknown = unknown or f"{name}: {verdict.reason}"
        why = _why(name, verdict.anomalies[0].text if verdict.anomalies else verdict.reason)
    return Strongest(EVENTUAL if convergent else DIVERGENT, why, unknown)


def _why(model: str, text: str) -> str:
    """What was found; without the level of transactions that it also refutes, which nobody has asked for."""
    return f"not {model}: {' '.join(text.partition(' No store that is ')[0].split())}"


def _transaction(event: Event, clients: int) -> Event:
    """The operation as a transaction of its own, in the session of its client."""
    f = "r" if event.f == "read" else "w"
    value = event.value if f == "w" or event.type == "ok" else None
    client = int(event.process) % clients  # processes that follow one another are so many apart
    return replace(event, process=client, f="txn", key=None, value=[[f, event.key, value]])
