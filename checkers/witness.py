"""Anomalies, and the operations that witness them: as data, and as a clause of a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.history import History, Operations
from harness.periods import Period, active
from harness.verdict import Anomaly, Edge, Order, Witness
from harness.witness import witness
from harness.words import count, named, operation, show, whereabouts


class Clock:
    """Times of a history as a person reads them: seconds, or plain numbers where there are no real times."""

    def __init__(self, history: History) -> None:
        self.numbered = history.index is not None
        """Whether the file numbers its events itself: then operations are named by that."""
        self._real = len(history) > 0 and int(history.time[-1]) > 2 * len(history)

    def at(self, time: int) -> str:
        """A moment (ns), as a sentence says it: in seconds, or in steps of a history without real times."""
        return f"{time / 1e9:.4f} s" if self._real else f"step {time}"

    def between(self, start: int, end: int) -> str:
        """How long it is from one moment to another (ns), as a sentence says it."""
        if not self._real:
            return count(end - start, "step")
        seconds = (end - start) / 1e9
        return f"{seconds:.3f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def anomaly(
    operations: Operations,
    periods: Sequence[Period],
    kind: str,
    text: str,
    rows: Iterable[int],
    *,
    key: Any = None,
    during: tuple[int, int] | None = None,
    edges: Sequence[Edge] = (),
    completed: bool = False,
    orders: Sequence[Order] = (),
    possible: Sequence[Any] = (),
) -> Anomaly:
    """The anomaly that the operations of these rows show; each stands in it once, in the order of their invocations.

    Its faults are those of ``periods`` that were active between the first and the last of these operations, or
    ``during`` another time (ns): what nodes hold in the end comes of faults that are long over. ``completed`` has
    operations numbered as their completions are; so are those of ``edges`` and ``orders``. These,
    and what was ``possible``, are taken as they come.
    """
    each = (witness(operations, int(row), completed=completed) for row in dict.fromkeys(rows))
    witnesses = sorted(each, key=lambda op: op.call)
    if during is None and witnesses:
        during = witnesses[0].call, max(op.call if op.ret is None else op.ret for op in witnesses)
    faults = active(periods, *during) if during is not None else []
    return Anomaly(kind, text, witnesses, key, faults, edges, orders, possible)


def about(key: Any) -> str:
    """The beginning of a text that is about one key; empty in a history without keys."""
    return f"Key {named(key)}: " if key is not None else ""


def sentence(op: Witness, clock: Clock) -> str:
    """One operation as a clause: "process 4 on n2 read 17 from 12.301 s to 12.304 s"."""
    if op.f in ("read", "get"):
        did = f"read {show(op.value)}" if op.type == "ok" else "tried to read"
    elif op.f == "write":
        did = f"wrote {show(op.value)}"
    elif op.f == "cas" and isinstance(op.value, list | tuple) and len(op.value) == 2:
        did = f"replaced {show(op.value[0])} by {show(op.value[1])}"
    else:
        did = f"did {operation(op.f, op.value, answered=op.type == 'ok')}"
    where = whereabouts(op.node, op.server, "on")
    until = "without ever learning the outcome" if op.ret is None else f"to {clock.at(op.ret)}"
    number = f" (index {op.index})" if clock.numbered else ""
    return f"process {op.process}{where} {did}{number} from {clock.at(op.call)} {until}"
